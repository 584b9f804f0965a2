"""The native engine: the FUSE wire protocol over /dev/fuse from plain Python."""
