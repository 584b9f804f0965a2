"""What is generated of the model: definitions for a cluster in deploy/crds, docs/api-reference.md for people. `make crds`."""
