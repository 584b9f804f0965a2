"""Documents say what is true: targets they name exist, links lead somewhere, nobody's machine is mentioned."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
COMMAND = re.compile(r"(?:^\$ |`)make ((?:[A-Z]+=\S+ )*)([a-z][a-z-]*(?: [a-z][a-z-]*)*)", re.MULTILINE)


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


def named_targets(text: str) -> set[str]:
    return {target for _, targets in COMMAND.findall(text) for target in targets.split()}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_named_targets_exist(document: Path) -> None:
    assert named_targets(document.read_text()) <= make_targets()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    links = [link for link in LINK.findall(document.read_text()) if "://" not in link]
    missing = {
        str((document.parent / link).resolve().relative_to(ROOT)) for link in links if not (document.parent / link).exists()
    }
    assert not missing


def test_every_target_has_a_help_text_and_is_phony() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) == make_targets()


def test_readme_names_the_two_commands_and_ci_runs_the_suite() -> None:
    assert named_targets((ROOT / "README.md").read_text()) >= {"demo", "test"}
    assert re.search(r"^make test$", (ROOT / ".ci/run").read_text(), re.MULTILINE)


def test_contributing_names_every_marker() -> None:
    markers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["markers"]
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert [marker for marker in markers if re.split(r"[(:]", marker)[0] not in text] == []
