"""Generated of the model by `make crds`: definitions in deploy/crds and in the chart, docs/api-reference.md for people."""
