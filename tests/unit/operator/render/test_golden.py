"""Objects for published manifests are as they were, to the letter; whoever changes them reads the difference."""

from __future__ import annotations

import pytest

from tests.support.rendered_manifests import GOLDEN, golden_files


@pytest.mark.parametrize("name", sorted(golden_files()))
def test_objects(name: str) -> None:
    assert golden_files()[name] == (GOLDEN / name).read_text(), "`python -m tests.support.rendered_manifests` writes them anew"


def test_there_are_no_others() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == golden_files().keys()
