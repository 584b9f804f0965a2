"""Parameters, secrets, capacities and capabilities of volumes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import grpc
import pytest

from csi.errors import RpcError
from csi.stubs import csi_pb2
from csi.volumes import fields, parameters, secrets
from csi.volumes.records import Volume, VolumeRecords, volume_id_of
from fusecache.base.confinement import User

GOOD = {"source": "s3://bucket/claims", "endpoint_url": "http://s3", "ttl": "30s", "csi.storage.k8s.io/pvc/name": "claim"}


def test_settings_options_and_context() -> None:
    parsed = parameters.parse(GOOD)
    assert (parsed.source, dict(parsed.options), dict(parsed.settings)) == (
        "s3://bucket/claims", {"endpoint_url": "http://s3"}, {"ttl": "30s"},
    )  # fmt: skip
    assert parameters.parse(parsed.to_context()) == parsed


@pytest.mark.parametrize(
    "more",
    [
        {"source": ""}, {"ttl": "soon"}, {"cache_dir": "/etc"}, {"read_write": "true"}, {"secret_key": "canary"},
        {"directory": "../x"}, {"directory": "/x"}, {"directory": "a//b"}, {"aws_session_token": "canary"},
    ],
)  # fmt: skip
def test_what_cannot_be_a_parameter(more: dict[str, str]) -> None:
    with pytest.raises(RpcError) as caught:
        parameters.parse({**GOOD, **more})
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "canary" not in str(caught.value)


def test_directories_of_volumes_are_told_apart() -> None:
    claim = {"csi.storage.k8s.io/pvc/namespace": "team", "csi.storage.k8s.io/pvc/name": "data"}
    assert parameters.directory_for("pvc-1", {}) == "pvc-1"
    assert parameters.directory_for("pvc-1", claim) == "team-data-pvc-1"
    names = ["a/b", "a-b", "a b", "..", "x" * 128, "x" * 127 + "y", "\u00e4"]
    found = [parameters.directory_for(name, {}) for name in names]
    assert len(set(found)) == len(names)
    assert all(0 < len(one) <= parameters.MAX_DIRECTORY_BYTES and "/" not in one and one[0] not in ".-" for one in found)


def test_keys_of_secrets(tmp_path: Path) -> None:
    given = {"AWS_ACCESS_KEY_ID": "id", "secretKey": "canary", "aws-session-token": "t"}
    found = secrets.canonical(given)
    assert found == {"access_key": "id", "secret_key": "canary", "session_token": "t"}
    (tmp_path / "secrets").mkdir()
    options = secrets.write_files(tmp_path / "secrets", found, User(os.getuid(), os.getgid()))
    assert {name: Path(path).read_text() for name, path in options.items()} == {
        "access_key_file": "id", "secret_key_file": "canary", "session_token_file": "t",
    }  # fmt: skip
    assert all(stat.S_IMODE(Path(path).stat().st_mode) == 0o600 for path in options.values())
    assert secrets.identity_of(found) == secrets.identity_of({**found, "secret_key": "rotated"}) != ""
    with pytest.raises(RpcError) as caught:
        secrets.canonical({"nonsense": "canary"})
    assert "canary" not in str(caught.value)


def test_capacities() -> None:
    def wanted(required: int, limit: int = 0) -> csi_pb2.CapacityRange:
        return csi_pb2.CapacityRange(required_bytes=required, limit_bytes=limit)

    assert fields.capacity(wanted(0)) == fields.DEFAULT_CAPACITY_BYTES
    assert fields.capacity(wanted(0, 1 << 30)) == 1 << 30
    assert fields.capacity(wanted(5, 10)) == 5
    assert fields.capacity(wanted(5), at_least=20) == 20
    for bad in (wanted(-1), wanted(10, 5), wanted(1 << 61)):
        with pytest.raises(RpcError):
            fields.capacity(bad)


def test_records_survive(tmp_path: Path) -> None:
    records = VolumeRecords(tmp_path)
    for name in ("b", "a"):
        records.put(Volume(volume_id_of(name), name, records.next_number(), 1, {}, {"source": "s3://b"}, {"node": True}))
    again = VolumeRecords(tmp_path)
    assert [volume.name for volume in again] == ["b", "a"]
    assert again.get(volume_id_of("a")) == records.get(volume_id_of("a"))
    assert again.next_number() == 3
    again.remove(volume_id_of("b"))
    assert [volume.name for volume in VolumeRecords(tmp_path)] == ["a"]
