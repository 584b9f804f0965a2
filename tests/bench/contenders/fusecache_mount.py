"""fusecache itself, mounted by its command line as a user would, with one tier on tmpfs."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from fusecache.contract.mount_spec import Engine
from tests.bench.contenders.contender import MOUNT_SECONDS, MountContender, UnavailableError, part_directory
from tests.bench.dataset import Dataset
from tests.bench.store import BUCKET
from tests.support.seaweed import Seaweed


class FusecacheMount(MountContender):
    """One engine of it. The store's two prefixes are two mounts: each chooses its access mode by its files' sizes."""

    def __init__(
        self, server: Seaweed, dataset: Dataset, directory: Path, engine: Engine, quota_bytes: int, more: Sequence[str] = ()
    ) -> None:
        self.name = "fusecache" if engine is Engine.NATIVE else "fusecache-pyfuse3"
        self.title = f"fusecache ({engine})"
        super().__init__(server, dataset, directory)
        self._engine = engine
        self._quota_bytes = quota_bytes
        self._more = tuple(more)

    def prepare(self) -> None:
        super().prepare()
        if self._engine is Engine.PYFUSE3 and not _has_pyfuse3():
            raise UnavailableError("the pyfuse3 engine is not installed: scripts/pyfuse3.sh compiles it")

    def mount(self, part: str, mountpoint: Path, cache: Path, *, list_ahead: bool) -> None:
        self.run([*_COMMAND, *self._arguments(part, mountpoint, cache, list_ahead)], MOUNT_SECONDS + 10)

    def _arguments(self, part: str, mountpoint: Path, cache: Path, list_ahead: bool) -> list[str]:
        arguments = ["mount", f"s3://{BUCKET}/{part_directory(part)}", str(mountpoint)]
        arguments += ["--tier", f"{cache}:{self._quota_bytes}", "--engine", self._engine.value]
        arguments += ["-o", f"endpoint_url={self.server.endpoint_url}", "-o", f"cache_dir={cache}/state"]
        arguments += ["--ttl", "3600", "--timeout", str(MOUNT_SECONDS)]
        for option in (*self._more, *(() if list_ahead else ("sync_listing=false",))):
            arguments += ["-o", option]
        return arguments

    def unmount(self, mountpoint: Path) -> None:
        self.run([*_COMMAND, "umount", "--lazy", str(mountpoint)], 30)

    def environment(self) -> dict[str, str]:
        run = self.directory / "run"
        run.mkdir(mode=0o700, parents=True, exist_ok=True)
        return {**super().environment(), "XDG_RUNTIME_DIR": str(run), "PYTHONPATH": str(_ROOT)}

    def version(self) -> str:
        return "this tree"

    def options(self) -> str:
        more = "".join(f" -o {one}" for one in self._more)
        return f"`fusecache mount s3://... --tier /dev/shm/...:QUOTA --ttl 3600{more}`"


_ROOT = Path(__file__).parents[3]
_COMMAND = (sys.executable, "-P", "-m", "fusecache.cli")


def _has_pyfuse3() -> bool:
    return all(importlib.util.find_spec(name) for name in ("pyfuse3", "fusecache.fuse.pyfuse3.engine"))
