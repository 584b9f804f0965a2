"""docs/operations.md names every setting, exit status, field and command there is."""

from __future__ import annotations

from pathlib import Path

from fusecache.cli import main
from fusecache.cli.exit_status import ExitStatus
from fusecache.cli.settings import SETTINGS
from fusecache.contract.control import Status

_TEXT = (Path(__file__).resolve().parents[3] / "docs" / "operations.md").read_text()


def test_every_setting_is_described() -> None:
    assert [name for name in SETTINGS if f"`{name}`" not in _TEXT] == []


def test_every_exit_status_is_described() -> None:
    assert [status for status in ExitStatus if f"| {int(status)} |" not in _TEXT] == []


def test_every_field_of_the_status_is_described() -> None:
    assert [name for name in Status.__annotations__ if f"`{name}`" not in _TEXT] == []


def test_every_command_is_described() -> None:
    assert [name for name in main._COMMANDS if f"| `{name}` |" not in _TEXT] == []
