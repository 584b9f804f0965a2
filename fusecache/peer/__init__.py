"""Other nodes' caches of the same Dataset: who owns which blocks, and how they are asked for. It asks no store."""
