"""docs/operations.md names every setting, exit status, field and command there is."""

from __future__ import annotations

import re
from pathlib import Path

from fusecache.base.settings import SETTINGS
from fusecache.cli import commands
from fusecache.contract.control import Status
from fusecache.contract.exit_status import ExitStatus

_ROOT = Path(__file__).resolve().parents[3]
_TEXT = (_ROOT / "docs" / "operations.md").read_text()


def test_every_setting_is_described() -> None:
    assert [name for name in SETTINGS if f"`{name}`" not in _TEXT] == []


def test_every_exit_status_is_described() -> None:
    assert [status for status in ExitStatus if f"| {int(status)} |" not in _TEXT] == []


def test_every_field_of_the_status_is_described() -> None:
    assert [name for name in Status.__annotations__ if f"`{name}`" not in _TEXT] == []


def test_messages_that_are_described_are_those_of_the_code() -> None:
    """Each piece of a message, between the dots and without its list of alternatives, must be in the code as it stands."""
    code = "".join(path.read_text() for path in sorted((_ROOT / "fusecache").rglob("*.py")))
    code = re.sub(r"[\"']\s*\n\s*f?[\"']", "", code)  # strings that go on in the next line
    described = re.findall(r"^\| (?!message)([^|]+) \| [^|]+ \|$", _TEXT[_TEXT.index("## Error messages") :], re.MULTILINE)
    pieces = {
        piece.strip(" :;,()") for cell in described for piece in re.split(r"\.\.\.|; |\bN\b|PID NAME| \(a warning\)| \(", cell)
    }
    assert len(described) > 60
    assert sorted(piece for piece in pieces if len(piece) > 3 and piece not in code) == []


def test_every_command_is_described() -> None:
    assert [name for name in commands._COMMANDS if f"| `{name}` |" not in _TEXT] == []
