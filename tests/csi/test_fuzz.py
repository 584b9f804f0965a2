"""The gRPC surface under fire: requests with the right types and wild values, made from the .proto itself (figure 23).

Whatever is asked: no INTERNAL, no UNKNOWN, no crash, and at the end nothing that should not be there. Values are often nearly
right, as wild ones alone come no further than the first check. Nothing names a store but our own.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from csi.stubs import csi_pb2
from fusecache.custody.mountinfo import read_mountinfo
from tests.support.csi_driver import CsiDriver

pytestmark = [pytest.mark.fuse, pytest.mark.root, pytest.mark.slow]

SERVICES = ("Identity", "Controller", "Node")
FORBIDDEN = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
CALL_SECONDS = 30.0
SHORT, LONG = 300, 10_000


def messages(descriptor: Any, likely: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Return messages of a type. `likely`: values for fields by their names."""
    parts = {field.name: fields(field, likely) for field in descriptor.fields}
    kind = getattr(csi_pb2, descriptor.name, None) if descriptor.containing_type is None else None

    def build(chosen: dict[str, Any]) -> Any:
        message = kind() if kind is not None else descriptor._concrete_class()
        for name, value in chosen.items():
            field = descriptor.fields_by_name[name]
            if field.message_type is not None and field.message_type.GetOptions().map_entry:
                getattr(message, name).update(value)
            elif field.is_repeated:
                getattr(message, name).extend(value)
            elif field.message_type is not None:
                getattr(message, name).CopyFrom(value)
            else:
                setattr(message, name, value)
        return message

    return st.fixed_dictionaries({}, optional=parts).map(build)


def fields(field: Any, likely: dict[str, Any]) -> st.SearchStrategy[Any]:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        wild = st.dictionaries(st.text(max_size=20), st.text(max_size=50), max_size=3)
        return wild | st.just(likely[field.name]) if field.name in likely else wild
    one = scalars(field, likely) if field.message_type is None else messages(field.message_type, likely)
    return st.lists(one, max_size=2) if field.is_repeated else one


def scalars(field: Any, likely: dict[str, Any]) -> st.SearchStrategy[Any]:
    if field.type == FieldDescriptor.TYPE_ENUM:
        return st.sampled_from([value.number for value in field.enum_type.values] * 5 + [77, -1])
    wild: st.SearchStrategy[Any] = {
        FieldDescriptor.TYPE_BOOL: st.booleans(),
        FieldDescriptor.TYPE_BYTES: st.binary(max_size=100),
        FieldDescriptor.TYPE_STRING: st.text(max_size=40)
        | st.sampled_from(["\0", "../..", "/", "/etc/passwd", "x" * 129, "x" * LONG, "a/b", "%s%n", "\u202e"]),
    }.get(field.type, st.integers(-(1 << 31), (1 << 31) - 1))
    if field.name in likely:
        return st.sampled_from(likely[field.name] if isinstance(likely[field.name], list) else [likely[field.name]]) | wild
    return wild


@pytest.mark.timeout(900)
def test_wild_requests(
    driver: CsiDriver,
    parameters: dict[str, str],
    full_length: bool,
    disk_path: Path,
    promise: Callable[[str, str, str, str], None],
) -> None:
    """A thread swaps one of the paths for a symbolic link to a directory outside of what is allowed, all the time."""
    volume = driver.create("fuzzed", parameters)
    outside = disk_path / "outside"
    (outside / "parent").mkdir(parents=True)
    paths = [str(driver.pods / name) for name in ("one", "two", "missing/parent", "raced", "raced/parent")]
    likely: dict[str, Any] = {
        "volume_id": [volume.volume_id, "other"],
        "name": ["fuzzed", "fuzzed-2"],
        "node_id": ["node-1"],
        "parameters": parameters,
        "volume_context": dict(volume.volume_context),
        "mutable_parameters": {"ttl": "30s"},
        "staging_target_path": paths,
        "target_path": paths,
        "volume_path": paths,
        "volume_publish_path": paths,
        "secrets": {},
        "fs_type": ["", "ext4"],
        "mount_flags": ["ro", "suid"],
        "volume_mount_group": [""],
    }
    methods = [(service, method) for service in SERVICES for method in csi_pb2.DESCRIPTOR.services_by_name[service].methods]
    requests = st.sampled_from(methods).flatmap(lambda one: st.tuples(st.just(one), messages(one[1].input_type, likely)))
    codes: dict[str, int] = {}
    bad: list[str] = []
    stubs = {"Identity": driver.identity, "Controller": driver.controller, "Node": driver.node}
    numbers = itertools.count()

    @seed(20261127)
    @settings(max_examples=LONG if full_length else SHORT, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(requests)
    def ask(one: tuple[tuple[str, Any], Any]) -> None:
        (service, method), request = one
        next(numbers)
        try:
            getattr(stubs[service], method.name)(request, timeout=CALL_SECONDS)
            code = grpc.StatusCode.OK
        except grpc.RpcError as error:
            code = error.code()
            if code in FORBIDDEN:
                bad.append(f"{method.name}: {error.details()}: {str(request)[:300]}")
        codes[code.name] = codes.get(code.name, 0) + 1

    with swapping(driver.pods / "raced", outside):
        ask()
    asked = next(numbers)
    print(f"{asked} requests: {codes}")
    assert [path.relative_to(outside) for path in outside.rglob("*")] == [Path("parent")], "something was made outside"
    assert not [entry for entry in read_mountinfo() if entry.mountpoint.startswith(str(outside))], "mounted outside"
    assert not bad, bad[:5]
    assert codes.get("OK", 0) > 20
    assert codes.get("INVALID_ARGUMENT", 0) > 20
    for path in paths:
        for name in (volume.volume_id, "other"):
            try:
                driver.node.NodeUnpublishVolume(
                    csi_pb2.NodeUnpublishVolumeRequest(volume_id=name, target_path=path), timeout=CALL_SECONDS
                )
            except grpc.RpcError:
                continue
    for name in (volume.volume_id, "other"):
        request = csi_pb2.NodeUnstageVolumeRequest(volume_id=name, staging_target_path=paths[0])
        driver.node.NodeUnstageVolume(request, timeout=CALL_SECONDS)
    assert driver.leftovers() == []
    promise(
        "23",
        "requests of the CSI services with wild values, a racing thread swaps paths for symbolic links",
        f"{asked} requests ({', '.join(f'{name} {count}' for name, count in sorted(codes.items()))}): 0 INTERNAL, 0 crashes, "
        "0 paths outside touched, 0 left over",
        "0",
    )


@contextlib.contextmanager
def swapping(path: Path, outside: Path) -> Iterator[None]:
    """Let `path` be a directory, and a symbolic link to `outside`, in turn; what it was as a directory lies beside it."""
    aside = path.with_name("aside")
    path.mkdir()
    ended = threading.Event()

    def swap() -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError):
                path.rename(aside)
                path.symlink_to(outside)
            time.sleep(0.0005)
            with contextlib.suppress(OSError):
                path.unlink()
                aside.rename(path)
            time.sleep(0.0005)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
