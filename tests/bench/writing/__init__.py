"""What is measured of mounts that programs write to."""
