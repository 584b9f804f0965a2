"""Custody: the privileged side of a mount, which keeps the FUSE descriptors and replaces daemons that die."""
