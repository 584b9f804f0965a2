"""Names that a cluster sees of this operator: the API group, finalizers, what marks our definitions."""

from __future__ import annotations

GROUP = "data.fluid.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
CATEGORY = "fluid"  # `kubectl get fluid` lists what belongs to it

OWN_DOMAIN = "fusecache.io"

# On every CustomResourceDefinition of ours. Whoever installs definitions looks for DEFINITION_LABEL: one cluster serves the
# kinds of the group from one set of definitions only, and those of somebody else are not overwritten unasked.
DEFINITION_LABEL = f"{OWN_DOMAIN}/definition"
DEFINITION_LABELS = {"app.kubernetes.io/part-of": "fusecache", DEFINITION_LABEL: "true"}
# Changes whenever the definition does: an operator that meets a cluster with older definitions can say so.
DIGEST_ANNOTATION = f"{OWN_DOMAIN}/definition-digest"

# On a Dataset that was made for a claim of a StorageClass: the claim's name. Its volume is there: the operator makes no other.
CLAIM_ANNOTATION = f"{OWN_DOMAIN}/claim"


def finalizer(kind: str) -> str:
    """Return our finalizer on objects of a kind."""
    return f"{OWN_DOMAIN}/{kind.lower()}"
