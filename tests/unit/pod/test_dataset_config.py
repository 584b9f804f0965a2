"""What the ConfigMap of a Dataset comes to, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.mount_spec import Medium, MountSpec, PeersSpec, WriteMode
from fusecache.pod.arguments import Arguments
from fusecache.pod.dataset_config import load, parse
from tests.support.log_check import LogCheck

SOURCE = {"url": "s3://bucket", "options": {"region": "r"}, "secret_options": {"access_key": "0.access_key"}}
TIERS = [
    {"directory": "hot", "medium": "MEM", "quota_bytes": 1 << 20, "high": 0.9, "low": 0.5},
    {"directory": "blocks", "medium": "SSD", "quota_bytes": 1 << 30, "high": 0.95, "low": 0.7},
]
CONFIG: dict[str, Any] = {
    "version": 1, "namespace": "team", "name": "demo", "dataset_id": "team.demo", "sources": [SOURCE], "tiers": TIERS,
    "settings": {"ttl": "30s", "uid": "7"}, "read_write": False,
}  # fmt: skip


def text_of(**changed: Any) -> bytes:
    return json.dumps({**CONFIG, **changed}).encode()


def test_where_things_lie() -> None:
    config = parse(text_of(), Arguments())
    spec = config.spec
    assert (spec.dataset_id, spec.state_dir, spec.run_dir, spec.mountpoint) == ("team.demo", "/cache", "/custody", "/team/demo")
    assert [(tier.path, tier.medium) for tier in spec.tiers] == [("/memory/hot", Medium.MEM), ("/cache/blocks", Medium.SSD)]
    assert (spec.ttl_seconds, spec.uid, spec.gid, spec.read_write) == (30.0, 7, 0, False)
    (source,) = spec.sources
    assert source.options == {"region": "r", "access_key_file": "/etc/fusecache/credentials/0.access_key"}
    assert config.missing_secrets == ["/etc/fusecache/credentials/0.access_key"]


def test_several_users_write_to_one_mount() -> None:
    spec = parse(text_of(read_write=True, settings={"write_mode": "back", "file_mode": "0640"}), Arguments()).spec
    assert (spec.read_write, spec.write_mode, spec.file_mode, spec.dir_mode) == (True, WriteMode.BACK, 0o640, 0o777)


def test_other_pods_of_the_dataset(expect_log: LogCheck) -> None:
    peers = {"service": "demo-fuse.team.svc", "port": 9821}
    spec = parse(text_of(peers=peers), Arguments(node="node-1")).spec
    assert spec.peers == PeersSpec("demo-fuse.team.svc", 9821, "node-1", Arguments().own_token)
    assert MountSpec.from_json(spec.to_json()) == spec
    consumer = parse(text_of(peers={**peers, "owns": False}), Arguments(node="node-1")).spec
    assert consumer.peers == PeersSpec("demo-fuse.team.svc", 9821, "node-1", Arguments().own_token, owns=False)
    assert parse(text_of(), Arguments(node="node-1")).spec.peers is None
    assert parse(text_of(peers=peers, read_write=True), Arguments(node="node-1")).spec.peers is None
    assert parse(text_of(peers=peers), Arguments()).spec.peers is None
    expect_log("NODE_NAME")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"version": 2}, "version 2"),
        ({"nonsense": 1}, "'nonsense'"),
        ({"sources": []}, "no source"),
        ({"sources": [{**SOURCE, "place": "../x"}]}, "'../x'"),
        ({"sources": [{**SOURCE, "options": {"secret_key": "x"}}]}, "secret_key"),
        ({"sources": [{**SOURCE, "secret_options": {"access_key": "../../token"}}]}, "no name"),
        ({"sources": [{**SOURCE, "more": 1}]}, "'more'"),
        ({"sources": [{"place": ""}]}, "'url' is missing"),
        ({"tiers": [{**TIERS[0], "directory": ".."}]}, "no name"),
        ({"tiers": [{**TIERS[0], "quota_bytes": "1Gi"}]}, "type int"),
        ({"tiers": [{**TIERS[0], "low": 0.95}]}, "low 0.95"),
        ({"tiers": [{**TIERS[0], "medium": "TAPE"}]}, "TAPE"),
        ({"settings": {"ttl": "soon"}}, "ttl is 'soon'"),
        ({"settings": {"cache_dir": "/"}}, "'cache_dir'"),
        ({"settings": {"uid": 0}}, "type str"),
        ({"read_write": "true"}, "type bool"),
        ({"dataset_id": "a/b"}, "no name"),
        ({"peers": {"service": "x"}}, "'port' is missing"),
        ({"peers": {"service": "", "port": 1}}, "peers are"),
        ({"peers": {"service": "x", "port": 70000}}, "peers are"),
        ({"peers": {"service": "x", "port": 1, "token": "x"}}, "'token'"),
    ],
)
def test_what_is_refused(changed: Mapping[str, Any], words: str) -> None:
    with pytest.raises(CacheError) as failed:
        parse(text_of(**changed), Arguments())
    assert failed.value.kind is ErrorKind.INVALID
    assert words in str(failed.value)


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff", b" " * (1 << 20) + b"{}"])
def test_what_is_no_configuration(text: bytes) -> None:
    with pytest.raises(CacheError) as failed:
        parse(text, Arguments())
    assert failed.value.kind is ErrorKind.INVALID


def test_a_configuration_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CacheError) as failed:
        load(Arguments(config=str(tmp_path / "dataset.json")))
    assert failed.value.kind is ErrorKind.NOT_FOUND
