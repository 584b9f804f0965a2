"""`make bench`: compares the mount with other clients of the same store, in one run, over the same bytes."""
