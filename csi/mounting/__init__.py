"""What a node mounts: one FUSE mount for each dataset, and bind mounts of it where volumes are published."""
