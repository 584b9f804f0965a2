"""Options of sources: every spelling that is taken, and what is said about the others."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.options import OptionReader


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(CacheError) as caught:
        call()
    assert caught.value.kind is ErrorKind.INVALID
    return str(caught.value)


@pytest.mark.parametrize(("text", "value"), [("30", 30.0), ("30s", 30.0), ("500ms", 0.5), ("5m", 300.0), (" 1.5 ", 1.5)])
def test_seconds(text: str, value: float) -> None:
    assert OptionReader("x", {"k": text}).seconds("k", 1.0) == value


@pytest.mark.parametrize(
    ("text", "value"), [("512", 512), ("512k", 512 << 10), ("8MiB", 8 << 20), ("1Gi", 1 << 30), ("2MB", 2 << 20)]
)
def test_size(text: str, value: int) -> None:
    assert OptionReader("x", {"k": text}).size("k", 1) == value


@pytest.mark.parametrize(("text", "value"), [("true", True), ("", True), ("ON", True), ("0", False), ("no", False)])
def test_boolean(text: str, value: bool) -> None:
    assert OptionReader("x", {"k": text}).boolean("k", not value) is value


@pytest.mark.parametrize("text", ["soon", "-1", "0", "nan", "inf", "1e9", ""])
def test_no_seconds(text: str) -> None:
    assert "duration" in refused(lambda: OptionReader("x", {"k": text}).seconds("k", 1.0))


@pytest.mark.parametrize("text", ["1.5Gi", "-1", "0", "many", "", "k"])
def test_no_size(text: str) -> None:
    assert "size" in refused(lambda: OptionReader("x", {"k": text}).size("k", 1))


def test_bounds_and_choices_are_named() -> None:
    assert "from 1 to 9" in refused(lambda: OptionReader("x", {"k": "10"}).integer("k", 1, 1, 9))
    assert "one of a, b" in refused(lambda: OptionReader("x", {"k": "c"}).choice("k", "a", ("a", "b")))


def test_defaults_and_the_first_spelling_given() -> None:
    reader = OptionReader("x", {"nfsvers": "4"})
    assert reader.text("vers", "nfsvers") == "4"
    assert reader.integer("port", 2049) == 2049
    reader.reject_unknown()


def test_unknown_keys_name_the_nearest_known_one() -> None:
    reader = OptionReader("nfs", {"timout": "3"})
    reader.seconds("timeout", 1)
    reader.integer("port", 1)
    assert "did you mean 'timeout'?" in refused(reader.reject_unknown)
    other = OptionReader("nfs", {"zzz": "3"})
    other.text("port")
    assert "known options: port" in refused(other.reject_unknown)
