"""Fixtures of the stress scenarios: their length, their data, and where they record what they counted."""

from __future__ import annotations

import datetime
import os
import platform
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import promises
from tests.support.seaweed import Seaweed

ROOT = Path(__file__).parent.parent.parent
DOCUMENT = ROOT / "docs" / "promises.md"


@pytest.fixture(scope="session")
def _records(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("promises") / "records"
    path.touch()
    yield path
    if _is_complete(request.config) and request.session.testsfailed == 0 and path.stat().st_size:
        machine = f"{os.cpu_count()} cores, kernel {platform.release()}"
        DOCUMENT.write_text(promises.render(path, machine, datetime.date.today().isoformat()))


def _is_complete(config: pytest.Config) -> bool:
    """Whether all scenarios run at full length: a part of them must not replace the document of all."""
    option = config.option
    is_selected = option.keyword or option.deselect or not all(Path(argument).is_dir() for argument in config.args)
    return bool(option.full_length and not is_selected)


@pytest.fixture
def promise(_records: Path) -> Callable[[str, str, str, str], None]:
    """`promise(figure, what, counted, promise)`: print and keep what a scenario counted."""

    def keep(figure: str, what: str, counted: str, text: str) -> None:
        print(f"\nfigure {figure}: {what}: {counted}")
        promises.record(_records, promises.Promise(figure, what, counted, text))

    return keep


@pytest.fixture(scope="session")
def seaweed() -> Iterator[Seaweed]:
    """One S3 server for all scenarios that leave its identities alone; each makes a bucket of its own."""
    with Seaweed() as server:
        yield server


def make_files(directory: Path, *, small: int, large: int, large_bytes: int, seed: int = 1) -> int:
    """Write random files below a directory: `small` of up to 300 KiB in 10 directories, `large` of about `large_bytes`; return
    the bytes."""
    source = random.Random(seed)
    total = 0
    for number in range(small):
        path = directory / f"dir{number % 10}" / f"small-{number:04}"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = 0 if number == 0 else min(300_000, int(source.lognormvariate(10.6, 1.0)))
        path.write_bytes(source.randbytes(size))
        total += size
    for number in range(large):
        path = directory / f"large-{number}"
        size = large_bytes + source.randrange(-1000, 1000)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.randbytes(size))
        total += size
    return total
