"""What is generated of the model is what lies in the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from csi.operator.crds.files import CHART_DEFINITIONS, DEFINITIONS, OPTIONS, REFERENCE, generated, write
from csi.operator.model.kinds import KINDS

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def files() -> dict[Path, str]:
    return generated()


def test_files_are_as_the_model_says(files: dict[Path, str]) -> None:
    assert len(files) == 2 * len(KINDS) + 2
    assert [str(path) for path, text in files.items() if (ROOT / path).read_text() != text] == [], "run `make crds`"


def test_there_are_no_others(files: dict[Path, str]) -> None:
    found = {path.relative_to(ROOT) for directory in (DEFINITIONS, CHART_DEFINITIONS) for path in (ROOT / directory).iterdir()}
    assert found == files.keys() - {REFERENCE, OPTIONS}


def test_the_chart_has_the_same_definitions_and_says_that_they_stay(files: dict[Path, str]) -> None:
    keep = "    helm.sh/resource-policy: keep\n"
    for kind in KINDS.values():
        ours, of_chart = (files[directory / f"{kind.plural}.yaml"] for directory in (DEFINITIONS, CHART_DEFINITIONS))
        assert keep not in ours
        assert of_chart.count(keep) == 1
        assert of_chart.replace(keep, "") == ours


@pytest.mark.parametrize("directory", [DEFINITIONS, CHART_DEFINITIONS])
def test_writing_removes_definitions_of_former_kinds(tmp_path: Path, directory: Path) -> None:
    former, kept = tmp_path / directory / "former.yaml", directory / "kept.yaml"
    former.parent.mkdir(parents=True)
    former.write_text("")
    write(tmp_path, {kept: "a", REFERENCE: "b"})
    assert not former.exists()
    assert ((tmp_path / kept).read_text(), (tmp_path / REFERENCE).read_text()) == ("a", "b")
