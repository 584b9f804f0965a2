"""The two images, built from their Dockerfiles, and the daemon's as a pod runs it: no privileges at all (figure 30)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from fusecache.contract.keeping import MOUNTS_DIR
from fusecache.contract.mount_spec import Access, Medium, MountSpec, SourceSpec, TierSpec
from fusecache.contract.run_files import SPEC
from fusecache.custody.mountinfo import read_mountinfo
from tests.stress.conftest import make_files
from tests.support.keeper import Keeper
from tests.support.mounted import ROOT, wait_until
from tests.support.readers import Readers
from tests.support.seaweed import ADMIN, Seaweed
from tests.support.stored_truth import upload

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.requires("buildah", "debootstrap", "podman", "runc"),
]

UID = 65534
CGROUP = f"fusecache-test-{os.getpid()}"
BUILD_SECONDS = 900.0
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
    """With FUSECACHE_TEST_IMAGES=DIR the images that `scripts/images.sh DIR` has built there are taken."""
    if built := os.environ.get("FUSECACHE_TEST_IMAGES"):
        yield Podman(Path(built))
        return remove_cgroups()
    storage = Path(tempfile.mkdtemp(prefix="fusecache-test-images-", dir="/var/tmp"))
    try:
        done = subprocess.run([ROOT / "scripts" / "images.sh", storage], capture_output=True, text=True, timeout=BUILD_SECONDS)
        if done.returncode == 3:
            pytest.skip(done.stderr.strip())
        assert done.returncode == 0, done.stderr[-4000:]
        assert done.stdout.split() == ["localhost/fusecache-csi", "localhost/fusecache-fuse"]
        yield Podman(storage)
    finally:
        for entry in reversed(read_mountinfo()):  # of the storage driver
            if entry.mountpoint.startswith(f"{storage}/"):
                subprocess.run(["umount", "-l", entry.mountpoint], check=False, timeout=10)
        shutil.rmtree(storage)
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


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.timeout(BUILD_SECONDS + 100)
def test_the_daemon_as_a_restricted_pod_runs_it(
    podman: Podman, disk_path: Path, promise: Callable[[str, str, str, str], None]
) -> None:
    """uid 65534, no capabilities, root read-only, seccomp default, no_new_privs: passthrough works through custody."""
    truth = disk_path / "truth"
    make_files(truth, small=20, large=3, large_bytes=6 << 20)
    keeper = Keeper(disk_path)
    run_dir, cache = disk_path / "run", disk_path / "cache"
    for directory in (run_dir, cache, cache / "blocks"):
        directory.mkdir()
        os.chown(directory, UID, UID)
    with Seaweed() as server:
        upload(server, "images", truth)
        spec = MountSpec(
            dataset_id="one",
            mountpoint=str(keeper.mountpoint),
            sources=(SourceSpec("s3://images", "", {"endpoint_url": server.endpoint_url}),),
            tiers=(TierSpec("/cache/blocks", Medium.SSD, 1 << 30),),
            state_dir="/cache",
            run_dir="/run/fusecache",
            access=Access.PASSTHROUGH,
            uid=0,
            gid=0,
        )
        (run_dir / SPEC).write_text(spec.to_json())
        os.chown(run_dir / SPEC, UID, UID)
        keeper.start()
        name = f"fusecache-test-{os.getpid()}"
        try:
            assert "device" in keeper.mount(uid=UID, tiers=[str(cache / "blocks")])
            mounts = {run_dir: "/run/fusecache", cache: "/cache", keeper.root / MOUNTS_DIR / "one": "/custody"}
            podman(
                "run", "--detach", "--name", name, "--network", "host", "--read-only",
                "--read-only-tmpfs=false", "--cap-drop", "all", "--security-opt", "no-new-privileges",
                "--env", "AWS_EC2_METADATA_DISABLED=true", "--env", f"AWS_ACCESS_KEY_ID={ADMIN.access_key}",
                "--env", f"AWS_SECRET_ACCESS_KEY={ADMIN.secret_key}",
                *(word for here, there in mounts.items() for word in ("--volume", f"{here}:{there}")),
                "localhost/fusecache-fuse", "--spec", f"/run/fusecache/{SPEC}", "--custody", "/custody", "--foreground",
            )  # fmt: skip
            assert wait_until(lambda: is_ready(run_dir), 30.0), podman("logs", name, check=False)
            supervisor = int(podman("inspect", name, "--format", "{{.State.Pid}}"))
            pids = [supervisor, *children(supervisor)]
            statuses = [status_of(pid) for pid in pids]
            seen = Readers(keeper.mountpoint, truth, 4.0, ["random", "walk"], drop_caches=0.05).collect()
            log = podman("logs", name, check=False)
            access = json.loads((run_dir / "mount.json").read_text())["access"]
            written = subprocess.run(
                ["nsenter", "--target", str(supervisor), "--mount", "touch", "/tmp/x"], capture_output=True, check=False
            )
        finally:
            podman("rm", "--force", "--time", "5", name, check=False)
            keeper.close()
    seen.assert_clean()
    assert access == "passthrough"
    assert "no passthrough" not in log
    assert len(statuses) >= 3, "supervisor, fetch, serve; spares come later"
    for status in statuses:
        assert (status["Uid"].split(), status["Gid"].split()) == ([str(UID)] * 4, [str(UID)] * 4)
        assert {status[one] for one in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert b"Read-only file system" in written.stderr
    promise(
        "30c",
        "the daemon's image as a container: read-only root, default seccomp, no capabilities",
        f"{len(statuses)} processes as uid {UID}, 0 capabilities, seccomp filter, no_new_privs; passthrough, {seen.reads} reads: "
        f"{seen.failed} failed, {seen.wrong} wrong",
        "restricted, and as fast",
    )


def is_ready(run_dir: Path) -> bool:
    path = run_dir / "mount.json"
    return path.exists() and json.loads(path.read_text())["state"] == "ready"
