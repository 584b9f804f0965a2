"""The two images, built from their Dockerfiles, and the daemon's as a pod runs it: no privileges at all (figure 30)."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from fusecache.contract.keeping import MOUNTS_DIR
from tests.stress.conftest import make_files
from tests.support.built_images import BUILD_SECONDS, ImagesMissingError, built_images
from tests.support.keeper import Keeper
from tests.support.mounted import wait_until
from tests.support.readers import Readers
from tests.support.seaweed import ADMIN, Seaweed, free_ports
from tests.support.stored_truth import upload

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.requires("buildah", "debootstrap", "podman", "runc"),
]

UID = 65534
CGROUP = f"fusecache-test-{os.getpid()}"
PROBE = """
import importlib.util, fusecache.fetch.process, csi.program
print(importlib.util.find_spec("setuptools"), importlib.util.find_spec("pip"))
"""


class Podman:
    """Podman on the storage that the images were built in, and nowhere else."""

    def __init__(self, storage: Path) -> None:
        self._options = ["--root", str(storage / "storage"), "--runroot", str(storage / "run")]
        self._options += ["--cgroup-manager", "cgroupfs", "--runtime", "runc"]
        # The limits of podman's own configuration may be higher than ours, which even root may not raise everywhere.
        self._run = ["--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096", "--cgroup-parent", f"/{CGROUP}"]

    def __call__(self, *arguments: str, check: bool = True) -> str:
        first, *rest = arguments
        command = ["podman", *self._options, first, *(self._run if first == "run" else []), *rest]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    try:
        with built_images() as directory:
            yield Podman(directory)
    except ImagesMissingError as missing:
        pytest.skip(str(missing))
    finally:
        remove_cgroups()


def remove_cgroups() -> None:
    """Podman leaves the parent that it was given, one in each hierarchy."""
    for cgroup in sorted(Path("/sys/fs/cgroup").glob(f"**/{CGROUP}/**/"), reverse=True):
        cgroup.rmdir()


def run(podman: Podman, image: str, *command: str, options: Sequence[str] = ()) -> str:
    return podman("run", "--rm", "--network", "none", *options, f"localhost/fusecache-{image}", *command)


@pytest.mark.timeout(BUILD_SECONDS + 100)
def test_what_is_in_the_images(podman: Podman) -> None:
    assert "--standalone" in run(podman, "csi", "--help")
    python = ["--entrypoint", "/opt/fusecache/bin/python3"]
    assert run(podman, "fuse", "-c", "import os; print(os.getuid())", options=python).strip() == str(UID)
    for image in ("csi", "fuse"):
        assert run(podman, image, "-c", PROBE, options=python).strip() == "None None", "what builds is not in the image"
        sizes = json.loads(podman("image", "inspect", f"localhost/fusecache-{image}", "--format", "{{json .Size}}"))
        base = json.loads(podman("image", "inspect", "localhost/fusecache-base", "--format", "{{json .Size}}"))
        print(f"fusecache-{image}: {(sizes - base) >> 20} MiB over its base of {base >> 20} MiB")


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def descendants(pid: int) -> list[int]:
    children = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*children, *(one for child in children for one in descendants(child))]


@pytest.mark.timeout(BUILD_SECONDS + 100)
def test_the_daemon_as_a_restricted_pod_runs_it(
    podman: Podman, disk_path: Path, promise: Callable[[str, str, str, str], None]
) -> None:
    """uid 65534, no capabilities, root read-only, seccomp default, no_new_privs: passthrough works through custody."""
    truth = disk_path / "truth"
    make_files(truth, small=20, large=3, large_bytes=6 << 20)
    keeper = Keeper(disk_path)
    custody, cache = keeper.root / MOUNTS_DIR / "one", disk_path / "cache"
    (port,) = free_ports(1)
    with Seaweed() as server:
        upload(server, "images", truth)
        etc = write_config(disk_path / "etc", server.endpoint_url)
        for directory in (cache, cache / "blocks"):
            directory.mkdir()
            os.chown(directory, UID, UID)
        keeper.start()
        name = f"fusecache-test-{os.getpid()}"
        try:
            assert "device" in keeper.mount(uid=UID, tiers=[str(cache / "blocks")])
            mounts = {f"{etc}": "/etc/fusecache:ro", f"{cache}": "/cache", f"{custody}": "/custody"}
            podman(
                "run", "--detach", "--name", name, "--network", "host", "--read-only",
                "--read-only-tmpfs=false", "--cap-drop", "all", "--security-opt", "no-new-privileges",
                "--env", "AWS_EC2_METADATA_DISABLED=true",
                *(word for here, there in mounts.items() for word in ("--volume", f"{here}:{there}")),
                "localhost/fusecache-fuse", "--address", "127.0.0.1", "--port", str(port),
            )  # fmt: skip
            assert wait_until(lambda: is_healthy(port), 30.0), podman("logs", name, check=False)
            pod = int(podman("inspect", name, "--format", "{{.State.Pid}}"))
            statuses = [status_of(pid) for pid in (pod, *descendants(pod))]
            seen = Readers(keeper.mountpoint, truth, 4.0, ["random", "walk"], drop_caches=0.05).collect()
            log = podman("logs", name, check=False)
            access = json.loads((custody / "mount.json").read_text())["access"]
            written = subprocess.run(
                ["nsenter", "--target", str(pod), "--mount", "touch", "/tmp/x"], capture_output=True, check=False
            )
        finally:
            podman("rm", "--force", "--time", "5", name, check=False)
            keeper.close()
    seen.assert_clean()
    assert access == "passthrough"
    assert "no passthrough" not in log
    assert len(statuses) >= 4, "pod, supervisor, fetch, serve; spares come later"
    for status in statuses:
        assert (status["Uid"].split(), status["Gid"].split()) == ([str(UID)] * 4, [str(UID)] * 4)
        assert {status[one] for one in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert b"Read-only file system" in written.stderr
    promise(
        "30c",
        "the image of cache pods as a container: read-only root, default seccomp, no capabilities",
        f"{len(statuses)} processes as uid {UID}, 0 capabilities, seccomp filter, no_new_privs; passthrough, {seen.reads} reads: "
        f"{seen.failed} failed, {seen.wrong} wrong",
        "restricted, and as fast",
    )


def is_healthy(port: int) -> bool:
    with contextlib.suppress(OSError):
        return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5).read() == b"serving\n")
    return False


def write_config(etc: Path, endpoint_url: str) -> Path:
    """Write what the operator gives a cache pod."""
    (etc / "credentials").mkdir(parents=True)
    source = {
        "url": "s3://images", "place": "", "options": {"endpoint_url": endpoint_url},
        "secret_options": {"access_key": "0.access_key", "secret_key": "0.secret_key"},
    }  # fmt: skip
    config = {
        "version": 1, "namespace": "team", "name": "demo", "dataset_id": "one", "sources": [source], "read_write": False,
        "tiers": [{"directory": "blocks", "medium": "SSD", "quota_bytes": 1 << 30, "high": 0.95, "low": 0.7}],
        "settings": {"access": "passthrough"},
    }  # fmt: skip
    (etc / "dataset.json").write_text(json.dumps(config))
    (etc / "credentials" / "0.access_key").write_text(ADMIN.access_key)
    (etc / "credentials" / "0.secret_key").write_text(ADMIN.secret_key)
    for path in (etc, *etc.rglob("*")):
        os.chown(path, UID, UID)
    return etc
