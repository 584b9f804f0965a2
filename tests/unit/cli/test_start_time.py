"""`fusecache mount` loads little: what it imports is waited for before the supervisor can start."""

from __future__ import annotations

import subprocess
import sys

_HEAVY = (
    "aiohttp",
    "asyncio",
    "fsspec",
    "http.client",
    "lmdb",
    "obstore",
    "rich",
    "s3fs",
    "ssl",
    "subprocess",
    "trio",
    "urllib.request",
    "xxhash",
    "yaml",
)


def test_mount_imports_no_store_and_no_display() -> None:
    code = "import sys, fusecache.cli.commands, fusecache.cli.mount_command; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "fusecache.cli.mount_command" in loaded
    assert [name for name in _HEAVY if name in loaded] == []


def test_the_supervisor_is_started_before_the_command_line_is_imported() -> None:
    code = "import sys, fusecache.cli.main, fusecache.cli.early_supervisor; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "fusecache.cli.early_supervisor" in loaded
    assert [name for name in ("click", "json", "logging", "fusecache.cli.commands") if name in loaded] == []


_INTERRUPTED_IMPORT = """
import sys

class Finder:
    def find_spec(self, name, path, target=None):
        if name == "fusecache.cli.commands":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Finder())
from fusecache.cli.main import main
main()
"""


def test_an_interrupt_while_the_command_line_is_imported_is_one_line() -> None:
    ended = subprocess.run([sys.executable, "-c", _INTERRUPTED_IMPORT], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (130, "fusecache: interrupted\n")
