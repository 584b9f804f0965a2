"""What becomes of a CreateVolume call in a cluster."""

from __future__ import annotations

from typing import Any

import pytest

from csi.cluster.manifests import CLAIM_KEY, NAMESPACE_KEY, Manifests, manifests
from csi.errors import RpcError
from csi.operator.model.dataset import Dataset
from csi.operator.model.parsing import parse
from csi.operator.resolve.resolution import resolve
from csi.operator.resolved import Resolved
from csi.stubs import csi_pb2
from csi.volumes import create_request, dataset_reference, provisioned
from fusecache.contract.errors import CacheError

Mode = csi_pb2.VolumeCapability.AccessMode.Mode
NAME = "pvc-0dbc34ed-6432-491a-b013-b2556778c3ca"
GOOD = {"source": "s3://bucket/claims/", "endpoint_url": "http://s3", NAMESPACE_KEY: "team", CLAIM_KEY: "mine"}
KEYS = {"AccessKeyId": "id", "AccessKeySecret": "secret"}


def made(more: dict[str, str] | None = None, *modes: Any, name: str = NAME, secrets: dict[str, str] | None = None) -> Manifests:
    capabilities = [
        csi_pb2.VolumeCapability(
            mount=csi_pb2.VolumeCapability.MountVolume(), access_mode=csi_pb2.VolumeCapability.AccessMode(mode=mode)
        )
        for mode in modes or (Mode.MULTI_NODE_MULTI_WRITER,)
    ]
    given = {key: value for key, value in {**GOOD, **(more or {})}.items() if value}
    request = csi_pb2.CreateVolumeRequest(name=name, parameters=given, volume_capabilities=capabilities, secrets=secrets or {})
    return manifests(create_request.read(request))


def outcome(found: Manifests) -> Resolved:
    dataset = parse(found.dataset)
    assert isinstance(dataset, Dataset)
    resolved = resolve(dataset, parse(found.runtime))
    assert isinstance(resolved, Resolved)
    return resolved


def test_cache_pods_look_where_the_directory_is_made() -> None:
    found = made(secrets=KEYS)
    (source,) = outcome(found).sources
    where = found.directory
    assert f"{where.source}/{where.directory}" == source.url == f"s3://bucket/claims/team-mine-{NAME}"
    assert where.options == source.options == {"endpoint_url": "http://s3"}
    assert found.secret == {"access_key": "id", "secret_key": "secret"}
    assert {place.secret for place in source.secrets.values()} == {f"{NAME}-source"}  # type: ignore[union-attr]
    assert "secret" not in str(found.directory.to_context())
    assert outcome(found).has_own_volume


def test_a_bucket_without_a_prefix_and_a_store_with_another_name() -> None:
    assert made({"source": "minio://bucket", "endpoint_url": "", "minio-url": "http://m"}).directory == (
        provisioned.ProvisionedDirectory("s3://bucket", f"team-mine-{NAME}", {"endpoint_url": "http://m"})
    )


def test_what_the_controller_keeps_in_a_volume_is_no_matter_of_nodes() -> None:
    found = made()
    context = {**dataset_reference.DatasetReference("team", NAME).to_context(), **found.directory.to_context()}
    assert provisioned.parse(context) == found.directory
    assert dataset_reference.parse(context) == dataset_reference.DatasetReference("team", NAME)
    assert provisioned.parse({"fusecache.io/namespace": "team", "fusecache.io/dataset": "data"}) is None


@pytest.mark.parametrize(
    ("modes", "access_modes", "is_written"),
    [
        ((Mode.MULTI_NODE_MULTI_WRITER,), ("ReadWriteMany",), True),
        ((Mode.MULTI_NODE_READER_ONLY,), ("ReadOnlyMany",), False),
        ((Mode.MULTI_NODE_READER_ONLY, Mode.SINGLE_NODE_MULTI_WRITER), ("ReadWriteOnce",), True),
        ((Mode.SINGLE_NODE_SINGLE_WRITER,), ("ReadWriteOncePod",), True),
        ((Mode.SINGLE_NODE_WRITER, Mode.MULTI_NODE_MULTI_WRITER), ("ReadWriteMany", "ReadWriteOnce"), True),
    ],
)
def test_access_modes(modes: tuple[int, ...], access_modes: tuple[str, ...], is_written: bool) -> None:
    resolved = outcome(made(None, *modes))
    assert resolved.access_modes == access_modes
    assert resolved.read_write is is_written


@pytest.mark.parametrize(
    ("more", "settings"),
    [
        ({}, {"uid": "0", "gid": "0", "file_mode": "0666", "dir_mode": "0777"}),
        ({"uid": "7"}, {"uid": "7", "gid": "0"}),
        ({"uid": "7", "gid": "8", "override_owner": "yes"}, {"uid": "7", "gid": "8", "override_owner": "true"}),
        ({"sync_listing": "false", "gid": "8"}, {"uid": "0", "gid": "8", "sync_listing": "false"}),
        ({"uid": "7", "write_mode": "back", "ttl": "1m"}, {"uid": "7", "gid": "0", "write_mode": "back", "ttl": "60"}),
    ],
)
def test_settings(more: dict[str, str], settings: dict[str, str]) -> None:
    assert outcome(made(more)).settings == settings


def test_tiers() -> None:
    found = outcome(made({"tiers": "ssd:1Gi:0.9:0.5,mem:64Mi"})).tiers
    assert [(tier.medium.value, tier.quota_bytes, tier.high, tier.low, tier.is_empty_dir) for tier in found] == [
        ("MEM", 64 << 20, 0.95, 0.7, True),
        ("SSD", 1 << 30, 0.9, 0.5, False),
    ]
    assert [tier.medium.value for tier in outcome(made()).tiers] == ["MEM"]


@pytest.mark.parametrize(
    ("more", "arguments", "words"),
    [
        ({CLAIM_KEY: ""}, {}, "--extra-create-metadata"),
        ({}, {"name": "pvc-" + "x" * 60}, "--volume-name-prefix"),
        ({"allow_other": "false"}, {}, "allow_other"),
        ({"regoin": "x"}, {}, "regoin"),
        ({"source": "pvc://claim/x"}, {"secrets": KEYS}, "no store that the controller reaches"),
        ({"source": "local:///data"}, {}, "no store that the controller reaches"),
        ({"source": "dataset://a/b"}, {}, "no store that the controller reaches"),
        ({"source": "ftp9://x/y"}, {}, "unknown scheme"),
        ({"source": "oss://bucket", "endpoint_url": ""}, {}, "endpoint"),
        ({}, {"secrets": {"access_key": "id"}}, "give both"),
        ({}, {"secrets": {"token": "t", **KEYS}}, "is called session_token"),
    ],
)
def test_what_cannot_be(more: dict[str, str], arguments: dict[str, Any], words: str) -> None:
    with pytest.raises((RpcError, CacheError), match=words):
        made(more, **arguments)
