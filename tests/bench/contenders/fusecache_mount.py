"""fusecache itself, mounted by its command line as a user would, with one tier on tmpfs."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from fusecache.contract.mount_spec import Engine, MountSpec
from tests.bench.columns import FASTEST_ONLY, OURS_ONLY, all_but
from tests.bench.contenders.contender import MOUNT_SECONDS, MountContender, Setup, UnavailableError
from tests.bench.dataset import WRITES, Dataset
from tests.bench.store import BUCKET
from tests.support.seaweed import Seaweed


class FusecacheMount(MountContender):
    """One engine of it. Each part is a mount of its own, which chooses its access mode by its files' sizes."""

    def __init__(
        self,
        server: Seaweed,
        dataset: Dataset,
        directory: Path,
        engine: Engine,
        quota_bytes: int,
        more: Sequence[str] = (),
        disk: Path | None = None,
    ) -> None:
        self.name = "fusecache" if engine is Engine.NATIVE else "fusecache-pyfuse3"
        self.title = f"fusecache ({engine})"
        absent = () if disk else ("disk",)
        self.columns = all_but(*absent) if engine is Engine.NATIVE else all_but(*OURS_ONLY, *FASTEST_ONLY, "names", "writes")
        self.once = engine is Engine.PYFUSE3  # a fallback; the time goes to what is compared
        super().__init__(server, dataset, directory, disk)
        self._engine = engine
        self._quota_bytes = quota_bytes
        self._more = tuple(more)

    def prepare(self) -> None:
        super().prepare()
        if self._engine is Engine.PYFUSE3 and not _has_pyfuse3():
            raise UnavailableError("the pyfuse3 engine is not installed: scripts/pyfuse3.sh compiles it")

    def mount(self, part: str, cache: Path, setup: Setup) -> None:
        self.run([*_COMMAND, *self._arguments(part, cache, setup)], MOUNT_SECONDS + 10)

    def _arguments(self, part: str, cache: Path, setup: Setup) -> list[str]:
        arguments = ["mount", f"s3://{setup.bucket or f'{BUCKET}/{part}'}", str(self.mountpoint)]
        arguments += ["--tier", f"{cache}:{self._quota_bytes}", "--engine", self._engine.value]
        arguments += ["-o", f"endpoint_url={setup.endpoint_url or self.server.endpoint_url}", "-o", f"cache_dir={cache}/state"]
        arguments += ["--ttl", "3600", "--timeout", str(MOUNT_SECONDS)]
        if setup.bucket:
            arguments += ["--read-write", "--write-mode", "back" if setup.write_back else "through"]
        if setup.serve_processes:
            arguments += ["--serve-processes", str(setup.serve_processes)]
        if not setup.list_ahead:
            arguments += ["-o", "sync_listing=false"]
        if setup.check_every_byte:
            arguments += ["-o", "verify=always"]
        for option in self._more:
            arguments += ["-o", option]
        return arguments

    def unmount(self, mountpoint: Path) -> None:
        self.run([*_COMMAND, "umount", "--lazy", str(mountpoint)], 30)

    def warm_command(self, part: str) -> list[str]:
        return [*_COMMAND, "warm", "--quiet", str(self.mountpoint)]

    def workers(self) -> set[int]:
        """Return fetch and serve, as `status` names them."""
        status = json.loads(self.run([*_COMMAND, "status", "--json", str(self.mountpoint)], 30))[0]
        return {pid for pid in (status["pids"]["fetch"], *status["pids"]["serve"]) if pid}

    def environment(self) -> dict[str, str]:
        run = self.directory / "run"
        run.mkdir(mode=0o700, parents=True, exist_ok=True)
        return {**super().environment(), "XDG_RUNTIME_DIR": str(run), "PYTHONPATH": str(_ROOT)}

    def version(self) -> str:
        return "this tree"

    def options(self) -> str:
        more = "".join(f" -o {one}" for one in self._more)
        serve = next(field.default for field in dataclasses.fields(MountSpec) if field.name == "serve_processes")
        write = " --read-write" if WRITES in self.dataset.parts else ""
        return (
            f"`fusecache mount s3://... --tier /dev/shm/...:QUOTA --ttl 3600{write}{more}`, serve processes by default: {serve}"
        )


_ROOT = Path(__file__).parents[3]
_COMMAND = (sys.executable, "-P", "-m", "fusecache.cli")


def _has_pyfuse3() -> bool:
    return all(importlib.util.find_spec(name) for name in ("pyfuse3", "fusecache.fuse.pyfuse3.engine"))
