"""Volumes of a cluster, as its controller sees them: Datasets, PVs and nodes are the record, nothing is kept here."""
