"""The generated files: their places in the repository, and their text. Nobody edits them by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from csi.operator.crds.definition import definition
from csi.operator.crds.reference import reference
from csi.operator.model.kinds import KINDS
from csi.operator.resolve.options_reference import options_reference

DEFINITIONS = Path("deploy/crds")
# The same once more in the chart: a chart can contain nothing that lies outside of it.
CHART_DEFINITIONS = Path("deploy/helm/fusecache/definitions")
REFERENCE = Path("docs/api-reference.md")
OPTIONS = Path("docs/options.md")
_HEAD = "# Generated from csi/operator/model by `make crds`: do not edit.\n"
# Definitions outlive the release: with them Kubernetes would delete every Dataset of the cluster.
_KEPT_BY_HELM = {"helm.sh/resource-policy": "keep"}


class _Dumper(yaml.SafeDumper):
    """Writes what occurs twice twice: anchors are no help to readers."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def generated() -> dict[Path, str]:
    """Return text by path, relative to the repository."""
    files = {REFERENCE: reference(), OPTIONS: options_reference()}
    for kind in KINDS.values():
        made = definition(kind)
        files[DEFINITIONS / f"{kind.plural}.yaml"] = _HEAD + _yaml(made)
        made["metadata"]["annotations"] |= _KEPT_BY_HELM
        files[CHART_DEFINITIONS / f"{kind.plural}.yaml"] = _HEAD + _yaml(made)
    return files


def write(root: Path, files: Mapping[Path, str]) -> None:
    """Write files below a directory, and remove definitions of kinds that are no more."""
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    for directory in (DEFINITIONS, CHART_DEFINITIONS):
        for found in (root / directory).glob("*.yaml"):
            if found.relative_to(root) not in files:
                found.unlink()


def _yaml(data: Any) -> str:
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
