"""Where the directory of a volume lies that was made for a claim in a cluster: kept in the attributes of its PV. Stateless.

There nobody can change it: who removes the directory does so with the credentials of the StorageClass, and has to know that no
user of a namespace said where. `fusecache.io/provisioned-source` is the store with its prefix as a source of ours has it,
`-directory` the name below it, `-options` a JSON object of the source's options. No secret is among them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

PREFIX = "fusecache.io/provisioned-"
_SOURCE, _DIRECTORY, _OPTIONS = f"{PREFIX}source", f"{PREFIX}directory", f"{PREFIX}options"


@dataclass(frozen=True, slots=True)
class ProvisionedDirectory:
    source: str
    directory: str
    options: Mapping[str, str]

    def to_context(self) -> dict[str, str]:
        options = json.dumps(dict(self.options), sort_keys=True, separators=(",", ":"))
        return {_SOURCE: self.source, _DIRECTORY: self.directory, _OPTIONS: options}


def parse(context: Mapping[str, str]) -> ProvisionedDirectory | None:
    """Return what `to_context` was made of, None for volumes that were not made for a claim."""
    if not (_SOURCE in context and _DIRECTORY in context):
        return None
    return ProvisionedDirectory(context[_SOURCE], context[_DIRECTORY], json.loads(context.get(_OPTIONS, "{}")))
