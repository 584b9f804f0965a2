"""What published manifests come to as objects of Kubernetes. `python -m tests.support.rendered_manifests` writes it anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from csi.operator.model.data_load import DataLoad
from csi.operator.model.dataset import Dataset
from csi.operator.model.parsing import parse
from csi.operator.render.credentials import Tokens, collect, token_secret
from csi.operator.render.everything import render
from csi.operator.render.loader import loader
from csi.operator.render.surroundings import Identity, Installation
from csi.operator.resolve.allowed_roots import AllowedRoots
from csi.operator.resolve.load import resolve_load
from csi.operator.resolve.resolution import Surroundings, resolve
from csi.operator.resolved import Resolved
from csi.operator.resolved_load import ResolvedLoad
from tests.support.resolving import MANIFESTS

GOLDEN = Path(__file__).parents[1] / "unit/operator/render/golden"
INSTALLATION = Installation("registry.example.com/fusecache:1.0", priority_class="fusecache-node")
IDENTITY = Identity("00000000-0000-4000-8000-000000000001")
OF_LOAD = Identity("00000000-0000-4000-8000-000000000002")
# Dataset, and a DataLoad on it; the namespace they are applied to.
_PUBLISHED = {
    "spark-webufs-alluxio": ("spark-dataload-subdir", "development"),
    "cross-namespace-reference": ("", "production"),
    "jindo-oss-serverless": ("jindo-oss-dataload", "default"),
    "pvc-alluxio-rwx": ("pvc-alluxio-dataload", "wz"),
    "efc-nfs": ("", "default"),
}
_PLACES = {"<nas_url>:<nas_dir>": "nas.example.com:/share"}


class _Dumper(yaml.SafeDumper):
    """Without anchors, texts of several lines as they are."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def golden_files() -> dict[str, str]:
    """Return the text of each file by its name."""
    return {f"{name}.yaml": _rendered(name, load, namespace) for name, (load, namespace) in _PUBLISHED.items()}


def resolved_manifest(name: str, namespace: str) -> Resolved:
    dataset, *runtimes = _objects(name, namespace)
    assert isinstance(dataset, Dataset)
    roots = AllowedRoots(cache=("/ssd",))
    found = resolve(dataset, runtimes[0] if runtimes else None, Surroundings(roots=roots))
    assert isinstance(found, Resolved), found
    return found


def _rendered(name: str, load_name: str, namespace: str) -> str:
    resolved = resolved_manifest(name, namespace)
    values = collect(resolved, lambda place: f"<{place.secret} {place.key}>", lambda place: None)
    assert isinstance(values, dict)
    objects = render(resolved, values, INSTALLATION, IDENTITY)
    if not resolved.reference:
        objects.append(token_secret(resolved, Tokens("<token>", "<own>"), IDENTITY))
    if load_name:
        (load,) = _objects(load_name, namespace)
        assert isinstance(load, DataLoad)
        resolved_load = resolve_load(load, resolved)
        assert isinstance(resolved_load, ResolvedLoad), resolved_load
        objects.append(loader(resolved_load, INSTALLATION, OF_LOAD))
    return "---\n".join(yaml.dump(each, Dumper=_Dumper, sort_keys=False, width=130) for each in objects)


def _objects(name: str, namespace: str) -> list[Any]:
    text = (MANIFESTS / f"{name}.yaml").read_text()
    for placeholder, example in _PLACES.items():
        text = text.replace(placeholder, example)
    found = []
    for raw in yaml.safe_load_all(text):
        raw["metadata"].setdefault("namespace", namespace)
        found.append(parse(raw))
    return found


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for file_name, text in golden_files().items():
        (GOLDEN / file_name).write_text(text)
