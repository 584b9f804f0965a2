"""What the driver remembers: files that survive its death, and the calls under way that do not."""
