"""The loader against real cache pods: what it has them load, how far it says it is, who dies, and what it leaves behind."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.exit_status import ExitStatus
from fusecache.pod import loader as loader_module
from tests.csi.conftest import Pods
from tests.stress.conftest import make_files
from tests.support.cache_pod import TOKEN, CachePod
from tests.support.csi_driver import CsiDriver
from tests.support.loading import LoaderProcess, cached_bytes, plan_of, run_loader, size_of
from tests.support.mounted import wait_until
from tests.support.s3_bucket import S3Bucket
from tests.support.seaweed import Seaweed
from tests.support.stored_truth import upload

pytestmark = [pytest.mark.fuse, pytest.mark.root, pytest.mark.slow, pytest.mark.requires("unshare", "setpriv")]

Load = Callable[..., LoaderProcess]


@pytest.fixture
def load(disk_path: Path) -> Iterator[Load]:
    """Starts loaders."""
    with ExitStack() as stack:
        number = iter(range(100))

        def start(plan: dict[str, Any]) -> LoaderProcess:
            made = LoaderProcess(disk_path / f"loader-{next(number)}", plan)
            stack.callback(made.close)
            return made

        yield start


@pytest.fixture
def pod(pods: Pods, truth: Path) -> Iterator[CachePod]:
    """A pod that knows what is there, and does not ask again by itself."""
    made = pods("a", settings={"ttl": "1h"})
    made.start()
    made.wait_serving()
    yield made
    if made.process is not None:
        made.end()
    made.unpublish()


def test_a_directory_and_then_everything(pod: CachePod, truth: Path, load: Load) -> None:
    part = size_of(truth / "dir1")
    status, words, figures = load(plan_of(pod.port, "dir1")).wait()
    assert (status, figures["files"], figures["bytes"], figures["workers"]) == (0, 8, part, 1)
    assert words.startswith("8 files with ")
    assert wait_until(lambda: cached_bytes(pod) == part, 5.0)
    status, _, figures = load(plan_of(pod.port)).wait()
    assert (status, figures["files"], figures["files_total"], figures["failures"]) == (0, 82, 82, 0)
    assert figures["bytes"] == figures["bytes_total"] == size_of(truth)
    assert wait_until(lambda: cached_bytes(pod) == size_of(truth), 5.0)


def test_what_a_plan_chooses(pod: CachePod, truth: Path, load: Load) -> None:
    status, words, figures = load(plan_of(pod.port, dry_run=True)).wait()
    assert (status, figures["files"], figures["files_total"], figures["bytes_total"]) == (0, 1, 82, size_of(truth)), (
        "one is empty"
    )
    assert "82 files with" in words
    assert "would be loaded" in words
    status, _, figures = load(plan_of(pod.port, metadata_only=True)).wait()
    assert (status, figures["files"]) == (0, 82)
    assert cached_bytes(pod) == 0
    status, _, figures = load(plan_of(pod.port, "dir*", name_filter="small-000?", parallel=2)).wait()
    wanted = list(truth.glob("dir*/small-000?"))
    assert (status, figures["files"]) == (0, len(wanted))
    assert wait_until(lambda: cached_bytes(pod) == sum(path.stat().st_size for path in wanted), 5.0)


def test_a_target_that_is_not_there_is_named(pod: CachePod, load: Load) -> None:
    status, words, _ = load(plan_of(pod.port, "dir1", "nowhere/at/all")).wait()
    assert status == ExitStatus.NOT_FOUND
    assert "'nowhere/at/all' is not in the dataset" in words


def test_what_is_newer_than_the_cache_knows_is_found(pod: CachePod, load: Load, bucket: S3Bucket) -> None:
    pod_knows = json.loads(pod.get("/status", TOKEN)[1])
    assert pod_knows["sources"]
    assert load(plan_of(pod.port)).wait()[0] == 0
    bucket.put(b"fresh/file", b"bytes")
    status, _, figures = load(plan_of(pod.port, "fresh")).wait()
    assert (status, figures["files"], figures["bytes"]) == (0, 1, 5)
    bucket.put(b"fresh/file", b"other bytes")
    assert load(plan_of(pod.port, "fresh")).wait()[2]["bytes"] == 5
    assert load(plan_of(pod.port, "fresh", refresh=True)).wait()[2]["bytes"] == 11


def test_a_loader_waits_for_the_pod_and_tells_how_far_it_is(pods: Pods, truth: Path, load: Load) -> None:
    pod = pods("a")
    loading = load(plan_of(pod.port))
    assert wait_until(lambda: loading.status()[0] == 200, 10.0)
    assert loading.status()[1]["workers"] == 0
    assert loading.status("wrong")[0] == 401
    time.sleep(1.0)
    assert loading.process.poll() is None
    pod.start()
    status, _, figures = loading.wait()
    assert (status, figures["files"]) == (0, 82)
    pod.end()
    pod.unpublish()


def test_a_loader_that_is_told_to_end_says_so(pods: Pods, truth: Path, load: Load) -> None:
    pod = pods("a")
    loading = load(plan_of(pod.port))
    assert wait_until(lambda: loading.status()[0] == 200, 10.0)
    loading.process.send_signal(signal.SIGTERM)
    status, words, _ = loading.wait()
    assert status == ExitStatus.INTERRUPTED
    assert "told to end" in words
    pod.unpublish()


def test_a_pod_that_dies_meanwhile_is_asked_again(
    pods: Pods, load: Load, disk_path: Path, seaweed: Seaweed, bucket: S3Bucket
) -> None:
    directory = disk_path / "many"
    make_files(directory, small=1500, large=0, large_bytes=0)
    upload(seaweed, bucket.bucket, directory)
    pod = pods("a")
    pod.start()
    pod.wait_serving()
    loading = load(plan_of(pod.port, parallel=1))
    assert wait_until(lambda: 0 < loading.status()[1].get("files", 0) < 1500, 20.0, 0.02)
    pod.end(signal.SIGKILL)
    assert loading.process.poll() is None
    pod.start()
    status, _, figures = loading.wait()
    assert (status, figures["files"], figures["bytes"]) == (0, 1500, size_of(directory))
    pod.end()
    pod.unpublish()


def test_a_pod_that_stands_by_is_left_alone(pod: CachePod, pods: Pods, tmp_path: Path) -> None:
    other = pods("b")
    other.start()
    other.wait_standby()
    outcome = run_loader(tmp_path / "token", plan_of(0), pod, other)
    assert (outcome.status, outcome.figures.files, outcome.figures.workers) == (0, 82, 1)
    other.end()
    other.unpublish()


def test_every_worker_loads_everything_where_nodes_do_not_share(
    pod: CachePod, source: dict[str, Any], disk_path: Path, tmp_path: Path
) -> None:
    """On another node, which is another driver with a cache of its own."""
    (disk_path / "node-2").mkdir()
    with CsiDriver(disk_path / "node-2", {}, mode=("node", "--node-id", "node-2", "--daemons", "pods")) as second:
        other = CachePod(second, "b", [source])
        try:
            other.publish()
            other.start()
            other.wait_serving()
            outcome = run_loader(tmp_path / "token", plan_of(0, "dir1", "dir2"), pod, other)
            assert (outcome.status, outcome.figures.files, outcome.figures.workers) == (0, 16, 2)
            assert wait_until(lambda: cached_bytes(pod) == cached_bytes(other) == outcome.figures.bytes, 5.0)
            other.end()
            other.unpublish()
        finally:
            other.close()


def test_patience_ends(pods: Pods, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader_module, "PATIENCE_SECONDS", 1.0)
    pod = pods("a")
    with pytest.raises(CacheError, match=r"do not load, for 1 s: .* cannot be reached") as failed:
        run_loader(tmp_path / "token", plan_of(0), pod)
    assert failed.value.kind is ErrorKind.UNAVAILABLE
    with pytest.raises(CacheError, match="there are none"):
        run_loader(tmp_path / "token", plan_of(0))
    pod.unpublish()
