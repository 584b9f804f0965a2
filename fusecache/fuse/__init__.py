"""FUSE engines: they turn kernel messages into calls of one `Filesystem` (filesystem_protocol.py)."""
