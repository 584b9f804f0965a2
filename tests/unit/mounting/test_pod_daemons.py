"""What a volume that waits for a cache pod is told, and which mounts are made anew."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from csi.mounting import pod_daemons
from csi.mounting.custody import Custody, Held, MountOrder
from csi.mounting.journal import DatasetMount
from csi.mounting.node_mounts import NodeMounts
from csi.mounting.node_places import NodePlaces
from csi.mounting.paths import Roots
from csi.mounting.plan import NodeDirectories
from csi.mounting.pod_daemons import PodDaemons
from csi.volumes.inline import Directory, InlineVolume, MountAttributes, TierPlace
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.keeping import GRACE_SECONDS
from tests.support.log_check import LogCheck

CONTEXT = {"fusecache.io/namespace": "team", "fusecache.io/dataset": "demo"}
SERVED = Held("/m", "0:40", has_daemon=True, is_held=True, is_initialized=True, is_connected=True)
LOST = replace(SERVED, has_daemon=False, is_held=False, is_initialized=False, is_connected=False)
VOLUME = InlineVolume(Directory.CUSTODY, "team", "demo", MountAttributes(tiers=(TierPlace("blocks"),)))


class FakeCustody(Custody):
    """`held`: of the dataset, or the error that is answered. `refuses`: what a mount is refused with, the first time."""

    def __init__(self, root: Path, held: Held | CacheError | None, refuses: CacheError | None = None) -> None:
        super().__init__(root, None, GRACE_SECONDS)
        self._held = held
        self._refuses = refuses
        self.done: list[str] = []

    async def mounts(self) -> dict[str, Held]:
        if isinstance(self._held, CacheError):
            raise self._held
        return {} if self._held is None else {"team.demo": self._held}

    async def mount(self, order: MountOrder) -> str:
        refuses, self._refuses = self._refuses, None
        if refuses is not None:
            raise refuses
        self.done.append("mount")
        return "0:41"

    async def unmount(self, dataset: str, *, abort: bool = False) -> None:
        self.done.append("abort" if abort else "unmount")


def made(tmp_path: Path, held: Any, refuses: CacheError | None = None) -> tuple[PodDaemons, FakeCustody]:
    custody = FakeCustody(tmp_path / "custody", held, refuses)
    return PodDaemons(NodeDirectories(tmp_path), custody, NodePlaces(NodeDirectories(tmp_path))), custody


@pytest.mark.parametrize(
    ("held", "problem", "words"),
    [
        (None, "", "no cache pod of Dataset team/demo has come to this node"),
        (replace(SERVED, has_daemon=False), "", "has not taken its mount"),
        (replace(SERVED, is_initialized=False), "", "does not answer yet"),
        (replace(SERVED, has_daemon=False), "the bucket\nis gone", "cannot serve: the bucket is gone"),
        (CacheError(ErrorKind.UNAVAILABLE, "custody is away"), "", "custody is away"),
    ],
)
def test_who_waits_is_told_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: Any, problem: str, words: str) -> None:
    monkeypatch.setattr(pod_daemons, "WAIT_SECONDS", 0.15)
    if problem:
        directory = tmp_path / "custody" / "mounts" / "team.demo"
        directory.mkdir(parents=True)
        (directory / "problem").write_text(problem)

    async def run() -> None:
        await made(tmp_path, held)[0].wait_ready(CONTEXT)

    with pytest.raises(CacheError) as failed:
        asyncio.run(run())
    assert failed.value.kind is ErrorKind.TIMEOUT
    assert words in str(failed.value)


def test_a_problem_is_read_from_a_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_daemons, "WAIT_SECONDS", 0.05)
    directory = tmp_path / "custody" / "mounts" / "team.demo"
    directory.mkdir(parents=True)
    (tmp_path / "shadow").write_text("secret")
    (directory / "problem").symlink_to(tmp_path / "shadow")

    async def run() -> None:
        await made(tmp_path, replace(SERVED, has_daemon=False))[0].wait_ready(CONTEXT)

    with pytest.raises(CacheError) as failed:
        asyncio.run(run())
    assert "secret" not in str(failed.value)


def test_many_who_wait_ask_once(tmp_path: Path) -> None:
    asked = 0

    async def run() -> None:
        daemons, custody = made(tmp_path, SERVED)
        real = custody.mounts

        async def mounts() -> dict[str, Held]:
            nonlocal asked
            asked += 1
            return await real()

        custody.mounts = mounts  # type: ignore[method-assign]
        await asyncio.gather(*(daemons.wait_ready(CONTEXT) for _ in range(20)))

    asyncio.run(run())
    assert asked == 1


@pytest.mark.parametrize(
    ("held", "holders", "does", "device"),
    [
        (SERVED, ("pod",), [], None),
        (replace(SERVED, device="0:50"), ("pod",), [], "0:50"),  # somebody else made it anew: it is bound again
        (None, ("pod",), ["mount"], "0:41"),
        (None, (), ["mount"], "0:41"),
        (replace(SERVED, is_connected=False), (), ["abort", "mount"], "0:41"),
        (LOST, ("pod",), ["abort", "mount"], "0:41"),
        (LOST, (), [], None),  # it had no daemon for too long, and no pod comes
    ],
)
def test_what_is_made_anew(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    expect_log: LogCheck,
    held: Held | None,
    holders: tuple[str, ...],
    does: list[str],
    device: str | None,
) -> None:
    if does:
        expect_log("made anew")
    monkeypatch.setattr(pod_daemons, "BRING_BACK_SECONDS", 0.0)

    async def run() -> None:
        daemons, custody = made(tmp_path, held)
        mount = replace(daemons.mount_for_pod(VOLUME), holders=holders, device="0:40")
        served = await daemons.restore(mount)
        assert (None if served is None else served.device) == device
        assert custody.done == does

    asyncio.run(run())


def test_a_daemon_has_time_to_bring_descriptors_back(tmp_path: Path) -> None:
    async def run() -> None:
        daemons, custody = made(tmp_path, LOST)
        assert await daemons.restore(replace(daemons.mount_for_pod(VOLUME), holders=("pod",), device="0:40")) is None
        assert custody.done == []

    asyncio.run(run())


def test_nothing_is_known_of_the_mount_before_there_was_a_pod(tmp_path: Path) -> None:
    async def run() -> None:
        assert await made(tmp_path, None)[0].restore(DatasetMount("team.demo", CONTEXT, read_only=False)) is None

    asyncio.run(run())


@pytest.mark.parametrize("is_used", [True, False])
def test_a_mount_of_another_kind_waits_for_those_who_use_the_old_one(tmp_path: Path, expect_log: LogCheck, is_used: bool) -> None:
    if is_used:
        expect_log("stays as it is")

    async def run() -> None:
        daemons, custody = made(tmp_path, SERVED, CacheError(ErrorKind.EXISTS, "mounted in another way"))
        mount = daemons.mount_for_pod(VOLUME)
        volumes: Any = {"volume": None} if is_used else {}
        served = await daemons.hold(replace(mount, volumes=volumes))
        assert served.device == ("0:40" if is_used else "0:41")
        assert custody.done == ([] if is_used else ["unmount", "mount"])

    asyncio.run(run())


def test_a_pod_that_comes_while_the_last_one_goes_has_a_directory(tmp_path: Path) -> None:
    """What its container got was removed a moment later with the last pod's: it never started, and deletion waited for it."""
    daemons, custody = made(tmp_path, None)
    mounts = NodeMounts(NodeDirectories(tmp_path), Roots((str(tmp_path),)), custody, daemons)
    run_dir = Path(daemons.run_dir(VOLUME.id))
    directories: list[int] = []

    def publish() -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        directories.append(os.open(run_dir, os.O_PATH))

    async def run() -> None:
        ending, may_end = asyncio.Event(), asyncio.Event()

        async def unmount(dataset: str, *, abort: bool = False) -> None:
            ending.set()
            await may_end.wait()

        custody.unmount = unmount  # type: ignore[method-assign]
        await mounts.hold(VOLUME, "/pods/old", publish)
        going = asyncio.create_task(mounts.release("/pods/old"))
        await ending.wait()
        coming = asyncio.create_task(mounts.hold(VOLUME, "/pods/new", publish))
        await asyncio.sleep(0.05)
        may_end.set()
        await asyncio.gather(going, coming)

    try:
        asyncio.run(run())
        assert os.fstat(directories[-1]).st_ino == run_dir.stat().st_ino, "the directory of the path is another one"
        assert os.fstat(directories[-1]).st_nlink > 0
    finally:
        for fd in directories:
            os.close(fd)
