"""What a figure depends on beside the code: processor, memory, kernel, versions. Stateless; reads /proc and asks programs."""

from __future__ import annotations

import datetime
import os
import platform
import re
import subprocess
from pathlib import Path

from fusecache.base.units import format_size


def describe_machine() -> list[tuple[str, str]]:
    """Return names and values for the document, in order."""
    return [
        ("date", datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")),
        ("processor", f"{_cpu_model()}, {os.cpu_count()} cores"),
        ("memory", format_size(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))),
        ("kernel", platform.release()),
        ("system", _system()),
        ("Python", platform.python_version()),
    ]


def seaweed_version(weed: str) -> str:
    text = subprocess.run([weed, "version"], capture_output=True, text=True, check=False, timeout=30).stdout
    found = re.search(r"\d+\.\d+", text)
    return found[0] if found else "?"


def available_memory_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 0


def on_disk(directory: Path) -> Path | None:
    """Return the directory if it exists and lies on a disk; None if it is in memory."""
    text = subprocess.run(
        ["stat", "--file-system", "--format=%T", str(directory)], capture_output=True, text=True, check=False, timeout=30
    ).stdout.strip()
    return directory if text and text not in ("tmpfs", "ramfs") else None


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.machine()


def _system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return platform.system()
