"""What a cache pod runs: the supervisor of one Dataset's mount, and an HTTP server that tells of it."""
