"""The writer process: the only one that lists, fetches, places and evicts."""
