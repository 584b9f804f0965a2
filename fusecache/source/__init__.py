"""The door to the stores: fsspec, obstore and their exceptions do not pass it."""
