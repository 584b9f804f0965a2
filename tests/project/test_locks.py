"""The lock files hold what pyproject.toml asks for, by hash, and point to no index."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = sorted(path.name for path in ROOT.glob("requirements*.lock"))
PINNED = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;]+)", re.MULTILINE)

EXPECTED = {
    "requirements.lock": PROJECT["project"]["dependencies"],
    "requirements-dev.lock": PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"],
    "requirements-build.lock": PROJECT["dependency-groups"]["build"],
    "requirements-bench.lock": PROJECT["dependency-groups"]["bench"],
    "requirements-cluster.lock": PROJECT["dependency-groups"]["cluster"],
    "requirements-pyfuse3.lock": PROJECT["project"]["optional-dependencies"]["pyfuse3"],
}


def pinned(lock: str) -> dict[str, set[str]]:
    """Return name -> versions; more than one where the newest does not run on the oldest Python."""
    versions: dict[str, set[str]] = {}
    for name, version in PINNED.findall((ROOT / lock).read_text()):
        versions.setdefault(canonicalize_name(name), set()).add(version)
    return versions


@pytest.mark.parametrize("lock", LOCKS)
def test_holds_what_is_asked_for(lock: str) -> None:
    versions = pinned(lock)
    for text in EXPECTED[lock]:
        requirement = Requirement(text)
        assert all(requirement.specifier.contains(version) for version in versions[canonicalize_name(requirement.name)]), text


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_a_hash_and_no_line_names_a_place(lock: str) -> None:
    text = (ROOT / lock).read_text()
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) == sum(map(len, pinned(lock).values())) > 0
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []
    assert re.findall(r"\S*://\S*|--(?:extra-)?index-url.*|--find-links.*", text) == []


def test_locks_agree_on_every_version() -> None:
    seen: dict[str, list[set[str]]] = {}
    for lock in LOCKS:
        for name, versions in pinned(lock).items():
            seen.setdefault(name, []).append(versions)
    assert {name: versions for name, versions in seen.items() if any(v != versions[0] for v in versions)} == {}
