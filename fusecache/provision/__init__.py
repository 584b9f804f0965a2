"""What the CSI controller needs of a store, in a process of its own: directories of volumes are made and removed."""
