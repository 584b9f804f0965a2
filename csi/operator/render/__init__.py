"""From what a Dataset comes to, to the objects of Kubernetes that make it so: pure functions that return plain dicts.

docs/kubernetes-internals.md says how these objects find each other; `everything` has all of them, `loader` those of a DataLoad.
"""
