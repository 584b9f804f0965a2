"""The operator: Datasets, runtimes and operations of a cluster."""
