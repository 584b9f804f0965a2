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
REFERENCE = Path("docs/api-reference.md")
OPTIONS = Path("docs/options.md")
_HEAD = "# Generated from csi/operator/model by `make crds`: do not edit.\n"


class _Dumper(yaml.SafeDumper):
    """Writes what occurs twice twice: anchors are no help to readers."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def generated() -> dict[Path, str]:
    """Return text by path, relative to the repository."""
    files = {DEFINITIONS / f"{kind.plural}.yaml": _HEAD + _yaml(definition(kind)) for kind in KINDS.values()}
    return {**files, REFERENCE: reference(), OPTIONS: options_reference()}


def write(root: Path, files: Mapping[Path, str]) -> None:
    """Write files below a directory, and remove definitions of kinds that are no more."""
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    for found in (root / DEFINITIONS).glob("*.yaml"):
        if found.relative_to(root) not in files:
            found.unlink()


def _yaml(data: Any) -> str:
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
