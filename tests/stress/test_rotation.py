"""Credentials are replaced under readers, and are found nowhere they do not belong (figures 20 and 21)."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.stress.conftest import make_files
from tests.support.mounted import CommandFailedError, Mounted, wait_until
from tests.support.plain_store import PlainStore
from tests.support.readers import Readers
from tests.support.s3_bucket import S3Bucket
from tests.support.seaweed import ADMIN, Identity, Seaweed
from tests.support.secret_search import core_limit, texts_below, texts_of_process
from tests.support.stored_truth import upload
from tests.support.writers import Writers

pytestmark = [pytest.mark.stress, pytest.mark.fuse, pytest.mark.root]

MODES = ["random", "random", "sequential", "walk"]
PICK_UP_SECONDS = 10.0
READING = ("Read", "List")
WRITING = ("Read", "List", "Write", "Tagging")


def make_identity(name: str, actions: tuple[str, ...] = READING) -> Identity:
    """Keys that occur nowhere else on this machine."""
    return Identity(name, f"AKIA{name.upper()}{secrets.token_hex(8).upper()}", f"canary-{name}-{secrets.token_hex(16)}", actions)


class Files(NamedTuple):
    """Where a mount reads its keys from."""

    access_key: Path
    secret_key: Path

    def write(self, who: Identity) -> None:
        """By rename, as Kubernetes and vaults do; the pair is not atomic."""
        for path, value in zip(self, (who.access_key, who.secret_key), strict=True):
            scratch = path.with_suffix(".new")
            scratch.write_text(value + "\n")
            scratch.chmod(0o600)
            scratch.rename(path)


class Store(NamedTuple):
    server: Seaweed
    truth: Path
    old: Identity
    new: Identity


@pytest.fixture
def store(disk_path: Path) -> Iterator[Store]:
    """A server of its own: identities come and go."""
    old, new = make_identity("old"), make_identity("new")
    truth = disk_path / "truth"
    make_files(truth, small=120, large=2, large_bytes=6 << 20)
    with Seaweed(disk_path / "weed", (ADMIN, old, new)) as server:
        upload(server, "rotated", truth)
        yield Store(server, truth, old, new)


def mount_with_files(disk_path: Path, store: Store, files: Files, arguments: Sequence[str] = (), **options: str) -> Mounted:
    environment = {"AWS_ENDPOINT_URL": store.server.endpoint_url, "AWS_REGION": "us-east-1"}
    named = {"access_key_file": str(files.access_key), "secret_key_file": str(files.secret_key)}
    return Mounted(disk_path, ["s3://rotated"], environment=environment, options={**named, **options}, arguments=arguments)


def is_refused(store: Store, who: Identity, key: bytes = b"large-0") -> bool:
    with S3Bucket(store.server.endpoint_url, "rotated", who.access_key, who.secret_key) as bucket:
        return not bucket.may_read(key)


def test_keys_in_files_are_replaced_under_readers(
    disk_path: Path, full_length: bool, promise: Callable[[str, str, str, str], None], store: Store
) -> None:
    """The old key is revoked a while after the new one was written, and then used by nobody: whoever did would fail."""
    seconds, rounds = (56.0, 4) if full_length else (7.0, 1)
    files = Files(disk_path / "access", disk_path / "secret")
    old, new = store.old, store.new
    files.write(old)
    revoked = 0
    with mount_with_files(disk_path, store, files, ttl="1") as mounted:
        fetch = mounted.pid("fetch")
        readers = Readers(mounted.mountpoint, store.truth, seconds, MODES, drop_caches=0.05)
        try:
            end = time.monotonic() + seconds
            for _ in range(rounds):
                read_cold_until(mounted, time.monotonic() + (2.0 if not full_length else 3.0))
                files.write(new)
                read_cold_until(mounted, time.monotonic() + (3.0 if not full_length else PICK_UP_SECONDS - 1))
                # SeaweedFS keeps identities that its file does not name any more, but takes another secret for one.
                store.server.set_identities((ADMIN, dataclasses.replace(old, secret_key=secrets.token_hex(16)), new))
                assert wait_until(lambda who=old: is_refused(store, who), 10.0), "the old key could not be revoked"
                revoked += 1
                old, new = new, make_identity(f"next{revoked}")
                store.server.set_identities((ADMIN, old, new))
            read_cold_until(mounted, end)
            seen = readers.collect()
        finally:
            readers.kill()
        status = mounted.status()
        assert mounted.pid("fetch") == fetch
    promise(
        "21",
        f"keys in files replaced {revoked} times under {len(MODES)} readers, the old ones revoked",
        f"{seen.reads} reads, {status['remote_requests']} requests of the store: {seen.failed} failed, {seen.wrong} wrong; "
        f"restarts {status['restarts']}",
        f"0 failed; new keys used within {PICK_UP_SECONDS:.0f} s, without a restart",
    )
    assert revoked == rounds
    assert status["remote_requests"] > 50
    assert status["restarts"] == 0
    assert status["errors"] == 0
    seen.assert_clean()


@pytest.mark.parametrize("mode", ["through", "back"])
def test_keys_in_files_are_replaced_under_writers(
    disk_path: Path, full_length: bool, promise: Callable[[str, str, str, str], None], mode: str
) -> None:
    """As under readers: what is acknowledged arrives, though the key that it began with is revoked meanwhile."""
    if not full_length and mode == "back":
        pytest.skip("runs with --full-length")
    rounds, between = (3, 3.0) if full_length else (1, 2.0)
    files = Files(disk_path / "access", disk_path / "secret")
    old, new = make_identity("old", WRITING), make_identity("new", WRITING)
    files.write(old)
    with Seaweed(disk_path / "weed", (ADMIN, old, new)) as server:
        with S3Bucket(server.endpoint_url, "rotated", ADMIN.access_key, ADMIN.secret_key) as bucket:
            bucket.create().put(b"probe", b"for is_refused")
        keys = {"access_key": ADMIN.access_key, "secret_key": ADMIN.secret_key}
        plain = PlainStore("s3://rotated", {"endpoint_url": server.endpoint_url, **keys})
        store = Store(server, disk_path, old, new)
        options = {"write_mode": mode, "write_back_delay": "300ms"}
        mounted = mount_with_files(disk_path, store, files, arguments=["--read-write"], **options)
        with mounted:
            writers = Writers(mounted.mountpoint, rounds * 2 * between)
            try:
                for number in range(rounds):
                    time.sleep(between)
                    files.write(new)
                    time.sleep(between)
                    server.set_identities((ADMIN, dataclasses.replace(old, secret_key=secrets.token_hex(16)), new))
                    assert wait_until(lambda who=old: is_refused(store, who, b"probe"), 10.0), "the old key could not be revoked"
                    old, new = new, make_identity(f"next{number}", WRITING)
                    server.set_identities((ADMIN, old, new))
                written = writers.collect()
            finally:
                writers.kill()
            status = mounted.status()
            mounted.umount()
        lost = written.lost(plain.read)
        plain.close()
    written.assert_clean()
    assert lost == []
    assert (status["restarts"], status["kept_files"]) == (0, 0)
    promise(
        "21w" if mode == "through" else "21wb",
        f"keys in files replaced {rounds} times under writers, the old ones revoked, writing {mode}",
        f"{written.calls} steps of writers, {len(written.files)} files at the end: 0 lost, 0 wrong, 0 calls failed; restarts 0",
        "0 lost, 0 failed, without a restart",
    )


def read_cold_until(mounted: Mounted, end: float) -> None:
    """Drop the cache again and again, so that readers need the store."""
    while time.monotonic() < end:
        mounted.run("drop", str(mounted.mountpoint))
        time.sleep(0.3)


@pytest.fixture(params=["rest", "obstore", "s3fs"])
def backend(request: pytest.FixtureRequest, full_length: bool) -> str:
    """Asked for before `store`, so that what is skipped starts no server."""
    if not full_length and request.param != "rest":
        pytest.skip("runs with --full-length")
    return str(request.param)


def test_a_secret_is_found_nowhere(
    backend: str, disk_path: Path, promise: Callable[[str, str, str, str], None], store: Store
) -> None:
    """Searched: every process of the mount (arguments, environment, mounts, core limit), run and state directory with log and
    index, tiers, and what the commands wrote. With a wrong secret, too: errors are where secrets slip out."""
    files = Files(disk_path / "access", disk_path / "secret")
    wrong = Identity("wrong", store.old.access_key, f"canary-wrong-{secrets.token_hex(16)}", ())
    canaries = [store.old.access_key, store.old.secret_key, wrong.secret_key]
    texts: dict[str, bytes] = {}
    files.write(store.old)
    with mount_with_files(disk_path, store, files, log_level="DEBUG", backend=backend, ttl="1", deadline="2") as mounted:
        mounted.run("warm", str(mounted.mountpoint / "dir1"))
        files.write(wrong)
        time.sleep(6.0 if backend == "obstore" else 1.5)  # obstore keeps keys for up to 5 s
        for number in range(2):
            with contextlib.suppress(CommandFailedError):
                mounted.read_bytes(f"large-{number}")
        commands = [
            ["status", str(mounted.mountpoint)],
            ["status", "--json", str(mounted.mountpoint)],
            ["doctor"],
            ["warm", str(mounted.mountpoint)],
            ["refresh", str(mounted.mountpoint)],
        ]
        for command in commands:
            done = mounted.run(*command, check=False)
            texts[f"output of {command[0]}"] = (done.stdout + done.stderr).encode()
        record = mounted.record()
        pids = [process.pid for process in (record.supervisor, *record.daemons)]
        for pid in pids:
            texts.update(texts_of_process(pid))
            assert core_limit(pid) == ("0", "0"), f"process {pid} may dump its memory"
        for directory in (Path(record.run_dir), Path(record.state_dir), disk_path / "tier", disk_path / "cache"):
            texts.update(texts_below(directory))
        shared = texts_below(Path("/dev/shm"))
        texts.update({path: text for path, text in shared.items() if record.dataset_id in path})
        assert b"DEBUG" in texts[f"{record.run_dir}/log"], "the log is not at its most verbose"
        assert "access" in mounted.log().lower() or "denied" in mounted.log().lower(), "the wrong secret went unnoticed"
    found = [(where, canary) for where, text in texts.items() for canary in canaries[1:] if canary.encode() in text]
    # An access key is no secret, and errors name it; but it has no business anywhere else.
    excused = ("output of", f"{record.run_dir}/log")
    keys = [where for where, text in texts.items() if canaries[0].encode() in text and not where.startswith(excused)]
    promise(
        "20" if backend == "rest" else f"20{backend[0]}",
        f"canary secrets in files, log at DEBUG, right and wrong ones used ({backend})",
        f"{len(found)} of {len(canaries) - 1} secrets found in {len(texts)} texts of {sum(map(len, texts.values())) >> 10} KiB "
        f"({len(pids)} processes); access key outside of error messages: {len(keys)}; core limit 0 for all",
        "0 found (the environment of the processes holds what the user put there himself, and nothing else)",
    )
    assert len(texts) >= 30
    assert not found
    assert not keys
