"""A link of a known speed and delay between the bench and a store: a network namespace behind a pair of TUN devices."""
