"""fusecache: local-speed POSIX access to remote datasets."""

__version__ = "0.1.0"
