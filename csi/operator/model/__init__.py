"""The kinds of data.fluid.io/v1alpha1 as Python types: one file a kind, one for each structure that several kinds share.

`structure` says what a field carries besides its type: what it means, what this project does with it (`marks`), its default
and limits. Three things are made of that and of nothing else: the definitions that a cluster is given (`csi.operator.crds`),
`docs/api-reference.md`, and the list of fields that an object has and we ignore (`ignored`).
"""
