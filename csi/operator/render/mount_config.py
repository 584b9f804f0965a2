"""dataset.json: what a cache pod makes its mount from. It is in a ConfigMap, and has no credentials, only names of files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from csi.operator.render.credentials import file_name
from csi.operator.render.object_names import owned, pods_name, service_name
from csi.operator.render.surroundings import PEER_PORT, Identity
from csi.operator.resolved import Resolved, ResolvedTier, SecretKey
from csi.volumes.inline import dataset_id

FILE = "dataset.json"
CONSUMER_FILE = "consumer.json"  # the same for nodes that only mount; their pods see it as dataset.json
_VERSION = 1


def mount_config(resolved: Resolved, tiers: Iterable[ResolvedTier], present: Collection[str], *, owns_blocks: bool = True) -> str:
    """Return the text of dataset.json. `tiers`: of the pods that read it. `present`: names of the credentials that there are;
    optional ones may be missing. `owns_blocks`: other nodes ask these pods for what they own."""
    sources = [
        {
            "url": source.url,
            "place": source.place,
            "options": dict(source.options),
            "secret_options": {
                option: file_name(number, option)
                for option, place in source.secrets.items()
                if not (isinstance(place, SecretKey) and place.is_optional and file_name(number, option) not in present)
            },
            "read_only": source.read_only,
        }
        for number, source in enumerate(resolved.sources)
    ]
    shown = [
        {
            "directory": tier.directory,
            "medium": tier.medium.value,
            "quota_bytes": tier.quota_bytes,
            "high": tier.high,
            "low": tier.low,
        }
        for tier in tiers
    ]
    content = {
        "version": _VERSION,
        "namespace": resolved.namespace,
        "name": resolved.name,
        "dataset_id": dataset_id(resolved.namespace, resolved.name),
        "sources": sources,
        "tiers": shown,
        "settings": dict(resolved.settings),
        "read_write": resolved.read_write,
    }
    if not resolved.read_write:  # what is not in the store yet is on one node only
        service = f"{service_name(resolved.name)}.{resolved.namespace}.svc"
        content["peers"] = {"service": service, "port": PEER_PORT, "owns": owns_blocks}
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def config_map(resolved: Resolved, texts: Mapping[str, str], identity: Identity) -> dict[str, Any]:
    """`texts`: by the keys FILE and CONSUMER_FILE."""
    metadata = owned(resolved, identity, pods_name(resolved.name))
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(texts)}


def digest(text: str) -> str:
    """Return what tells one version of dataset.json from another."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
