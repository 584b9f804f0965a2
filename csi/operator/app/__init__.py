"""The operator at work: what happens in the cluster comes in, what a Dataset needs goes out."""
