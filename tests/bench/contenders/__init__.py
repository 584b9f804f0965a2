"""One file for each client that the bench compares."""
