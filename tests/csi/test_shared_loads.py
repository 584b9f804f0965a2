"""A load of nodes that share their caches: the data is cached once, and counted once, whoever dies or comes meanwhile."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from csi.operator.figures import add_up, cache_states
from csi.operator.formats import format_size
from fusecache.pod import load_shares, loader
from fusecache.pod.load_progress import Figures
from tests.stress.conftest import make_files
from tests.support.fault_proxy import FaultProxy, Plan
from tests.support.loading import LoaderThread, cached_bytes, plan_of, run_loader, size_of
from tests.support.log_check import LogCheck
from tests.support.mounted import wait_until
from tests.support.s3_bucket import S3Bucket
from tests.support.seaweed import Seaweed
from tests.support.sharing_pods import SharingPods
from tests.support.stored_truth import upload

pytestmark = [pytest.mark.fuse, pytest.mark.root, pytest.mark.slow, pytest.mark.requires("unshare", "setpriv")]

SMALL, LARGE, LARGE_BYTES = 60, 3, 20 << 20
FILES = SMALL + LARGE
SLOW = 3 << 18  # bytes a second: a load takes 80 s, and whatever is done in its midst is done long before its end


@pytest.fixture
def size(disk_path: Path, seaweed: Seaweed, bucket: S3Bucket) -> int:
    """Of what is in the store."""
    directory = disk_path / "truth"
    make_files(directory, small=SMALL, large=LARGE, large_bytes=LARGE_BYTES)
    upload(seaweed, bucket.bucket, directory)
    return size_of(directory)


@pytest.fixture
def proxy(seaweed: Seaweed) -> Iterator[FaultProxy]:
    with FaultProxy(seaweed.endpoint_url, Plan()) as proxy:
        yield proxy


@pytest.fixture
def nodes(disk_path: Path, bucket: S3Bucket, proxy: FaultProxy, size: int) -> Iterator[SharingPods]:
    """Up to three; none is there yet."""
    source = {
        "url": f"s3://{bucket.bucket}", "place": "", "options": {"endpoint_url": proxy.url},
        "secret_options": {"access_key": "0.access_key", "secret_key": "0.secret_key"},
    }  # fmt: skip
    with ExitStack() as stack:
        yield SharingPods(disk_path, source, stack, ("a", "b", "c"))


def start(nodes: SharingPods, *names: str) -> None:
    for name in names:
        nodes.add(name)
    nodes.wait()


def cached(nodes: SharingPods, *names: str) -> int:
    return sum(cached_bytes(nodes.pods[name]) for name in names)


def sent(proxy: FaultProxy) -> int:
    return sum(size for path, size in proxy.counts().bytes.items() if "/dir" in path or "/large" in path)


def busiest(nodes: SharingPods) -> str:
    """Who has the largest part, which is under way for longest."""
    parts = {node: list(pod.warm("", owned=True, dry_run=True))[-1]["bytes_total"] for node, pod in nodes.pods.items()}
    return max(parts, key=lambda node: int(parts[node]))


def whole(figures: Figures, size: int) -> bool:
    wanted = (FILES, FILES, size, size, 0)
    return (figures.files, figures.files_total, figures.bytes, figures.bytes_total, figures.failures) == wanted


def test_the_data_is_cached_once(nodes: SharingPods, proxy: FaultProxy, size: int, tmp_path: Path) -> None:
    start(nodes, "a", "b", "c")
    pods = nodes.pods.values()
    counted = run_loader(tmp_path / "token", plan_of(0, dry_run=True), *pods).figures
    assert (counted.files_total, counted.bytes, counted.bytes_total) == (FILES, 0, size)
    assert run_loader(tmp_path / "token", plan_of(0, metadata_only=True), *pods).figures.files == FILES
    outcome = run_loader(tmp_path / "token", plan_of(0), *pods)
    assert whole(outcome.figures, size), outcome
    assert (outcome.status, outcome.figures.workers) == (0, 3)
    assert outcome.words == f"{FILES} files with {format_size(size)} are cached"
    assert sent(proxy) == size
    assert wait_until(lambda: cached(nodes, "a", "b", "c") == size, 5)
    states = cache_states(add_up(nodes.status(node) for node in nodes.pods), 1 << 40, lists_everything=True)
    assert (states["cached"], states["cachedPercentage"]) == (format_size(size), "100.0%")
    assert all(0 < cached(nodes, node) < size for node in nodes.pods), [cached(nodes, node) for node in nodes.pods]
    part = run_loader(tmp_path / "token", plan_of(0, "large-1", "dir*", name_filter="*-1", dry_run=True), *pods).figures
    assert part.files_total == part.files == 1
    refreshed = run_loader(tmp_path / "token", plan_of(0, refresh=True), *pods)
    assert whole(refreshed.figures, size)
    assert sent(proxy) == size, "it is cached, and the same"


def test_a_copy_on_two_of_three(nodes: SharingPods, proxy: FaultProxy, size: int, tmp_path: Path) -> None:
    start(nodes, "a", "b", "c")
    outcome = run_loader(tmp_path / "token", plan_of(0, copies=2), *nodes.pods.values())
    figures = outcome.figures
    assert (outcome.status, figures.files, figures.files_total, figures.failures) == (0, FILES, FILES, 0), outcome
    assert figures.bytes == figures.bytes_total == 2 * size
    assert sent(proxy) == size, "the second one has it from the first"
    assert wait_until(lambda: cached(nodes, "a", "b", "c") == 2 * size, 5)
    assert all(0 < cached(nodes, node) < size for node in nodes.pods), "and no block is on one node twice"
    again = run_loader(tmp_path / "token", plan_of(0, copies=9), *nodes.pods.values()).figures
    assert again.bytes == 3 * size, "there are three nodes"
    assert sent(proxy) == size


def test_what_no_node_knows_yet_is_asked_for_by_each(nodes: SharingPods, size: int, bucket: S3Bucket, tmp_path: Path) -> None:
    start(nodes, "a", "b", "c")
    assert run_loader(tmp_path / "token", plan_of(0, metadata_only=True), *nodes.pods.values()).figures.files == FILES
    bucket.put(b"fresh/file", b"bytes")
    figures = run_loader(tmp_path / "token", plan_of(0, "fresh"), *nodes.pods.values()).figures
    assert (figures.files, figures.bytes, figures.workers) == (1, 5, 3)
    assert wait_until(lambda: cached(nodes, "a", "b", "c") == 5, 5)


def test_nodes_that_start_meanwhile_are_waited_for(nodes: SharingPods, proxy: FaultProxy, size: int, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        nodes.add(name)
    outcome = run_loader(tmp_path / "token", plan_of(0), *nodes.pods.values())
    assert whole(outcome.figures, size), outcome
    assert sent(proxy) == size
    assert wait_until(lambda: cached(nodes, "a", "b", "c") == size, 5)


def start_slowly(nodes: SharingPods, proxy: FaultProxy, token: Path) -> LoaderThread:
    """Return once the first bytes are counted."""
    proxy.set_plan(Plan(bandwidth_bytes_per_second=SLOW))
    loading = LoaderThread(token, plan_of(0), list(nodes.pods.values()))
    wait_until(lambda: loading.figures.bytes > 0, 40)  # large blocks share the line, and all end late
    return loading


def test_a_pod_that_is_killed_midway(
    nodes: SharingPods, proxy: FaultProxy, size: int, tmp_path: Path, expect_log: LogCheck
) -> None:
    start(nodes, "a", "b", "c")
    victim = nodes.pods[busiest(nodes)]
    loading = start_slowly(nodes, proxy, tmp_path / "token")
    try:
        assert loading.figures.bytes_total <= size
        victim.end(signal.SIGKILL)
        victim.start()
        assert 0 < loading.figures.bytes < size
    finally:
        proxy.set_plan(Plan())
        outcome = loading.wait()
    expect_log("it is asked again")
    assert whole(outcome.figures, size), outcome
    assert wait_until(lambda: cached(nodes, "a", "b", "c") >= size, 5)
    assert cached(nodes, "a", "b", "c") < 1.3 * size


def test_a_pod_that_goes_for_good(
    nodes: SharingPods, proxy: FaultProxy, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expect_log: LogCheck
) -> None:
    monkeypatch.setattr(load_shares, "SETTLE_SECONDS", 3.0)
    monkeypatch.setattr(loader, "PENDING_SECONDS", 3.0)
    start(nodes, "a", "b", "c")
    victim = busiest(nodes)
    loading = start_slowly(nodes, proxy, tmp_path / "token")
    try:
        nodes.pods[victim].end(signal.SIGKILL)
        assert 0 < loading.figures.bytes < size
    finally:
        proxy.set_plan(Plan())
        outcome = loading.wait()
    expect_log("it is asked again")
    assert whole(outcome.figures, size), outcome
    assert outcome.figures.workers == 2
    others = [node for node in nodes.pods if node != victim]
    assert wait_until(lambda: cached(nodes, *others) == size, 5)


def test_a_worker_more_midway(nodes: SharingPods, proxy: FaultProxy, size: int, tmp_path: Path) -> None:
    start(nodes, "a", "b")
    loading = start_slowly(nodes, proxy, tmp_path / "token")
    try:
        loading.pods.append(nodes.add("c"))
        nodes.pods["c"].wait_serving(40)
        assert 0 < loading.figures.bytes < size
    finally:
        proxy.set_plan(Plan())
        outcome = loading.wait()
    assert whole(outcome.figures, size), outcome
    assert outcome.figures.workers == 3
    assert cached(nodes, "c") > 0
    assert wait_until(lambda: cached(nodes, "a", "b", "c") >= size, 5)
    assert cached(nodes, "a", "b", "c") <= size + cached(nodes, "c"), "what a and b had before c came is cached there, too"
