"""Runtimes of every kind come to the same things: nodes, settings, pods; each in its own words."""

from __future__ import annotations

from typing import Any

import pytest

from csi.operator.resolved import PodOptions, Resolved
from tests.support.resolving import LEVEL, mounted, problems, resolved

MOUNTS = {"mounts": [{"mountPoint": "s3://bucket"}]}
STORE = {"tieredstore": {"levels": [LEVEL]}}
OWNER = {"uid": 1000, "gid": 100, "user": "a", "group": "b"}
KINDS = ("AlluxioRuntime", "JindoRuntime", "EFCRuntime", "JuiceFSRuntime", "GooseFSRuntime", "ThinRuntime")
WITH_PROPERTIES = ("AlluxioRuntime", "JindoRuntime", "GooseFSRuntime")
PLAIN_OWNER = {"gid": "0", "uid": "0"}


def settings(runtime: dict[str, Any], kind: str = "AlluxioRuntime", **dataset: Any) -> dict[str, str]:
    """Return what is set beside the owner."""
    found = resolved({**MOUNTS, **dataset}, {**STORE, **runtime}, kind).settings
    return {key: value for key, value in found.items() if PLAIN_OWNER.get(key) != value}


def ignored(data: Resolved, reason: str = "OptionIgnored") -> list[str]:
    return [remark.message.removeprefix("without effect here: ") for remark in data.remarks if remark.reason == reason]


# --- all kinds -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_number_of_nodes(kind: str) -> None:
    def replicas(**spec: Any) -> int:
        return resolved(MOUNTS, {**STORE, **spec}, kind).replicas

    assert [replicas(), replicas(replicas=3), replicas(replicas=0), replicas(worker={"replicas": 2})] == [1, 3, 0, 2]
    both = resolved(MOUNTS, {**STORE, "replicas": 3, "worker": {"replicas": 2}}, kind)
    assert both.replicas == 3
    assert ignored(both, "FieldIgnored") == ["spec.worker.replicas"]


@pytest.mark.parametrize("kind", ["JindoRuntime", "EFCRuntime"])
def test_a_disabled_worker_is_no_cache(kind: str) -> None:
    assert resolved(MOUNTS, {"replicas": 3, "worker": {"disabled": True}}, kind).replicas == 0


def test_a_disabled_mount() -> None:
    assert not resolved(MOUNTS, {"fuse": {"disabled": True}}, "JindoRuntime").has_mount
    assert resolved(MOUNTS, {}, "JindoRuntime").has_mount


@pytest.mark.parametrize("kind", KINDS)
def test_clean_policy(kind: str) -> None:
    assert resolved(MOUNTS, {}, kind).clean_policy == "OnRuntimeDeleted"
    assert resolved(MOUNTS, {"fuse": {"cleanPolicy": "OnFuseChanged"}}, kind).clean_policy == "OnFuseChanged"
    (problem,) = problems(MOUNTS, {"fuse": {"cleanPolicy": "Never"}}, kind)
    assert (problem.reason, problem.on_runtime) == ("ErrorValidateSpecFields", True)


@pytest.mark.parametrize("kind", ["AlluxioRuntime", "JuiceFSRuntime", "ThinRuntime"])
def test_listing_can_be_switched_off(kind: str) -> None:
    data = resolved(MOUNTS, {"management": {"metadataSyncPolicy": {"autoSync": False}}}, kind)
    assert (data.lists_everything, data.settings["sync_listing"]) == (False, "false")
    assert "sync_listing" not in resolved(MOUNTS, {}, kind).settings


def test_what_is_cached_stays_on_nodes_and_that_is_said() -> None:
    policy = {"gracePeriodSeconds": 5, "maxRetryAttempts": 1}
    for kind, where, spec in (
        ("AlluxioRuntime", "management.cleanCachePolicy", {"management": {"cleanCachePolicy": policy}}),
        ("JindoRuntime", "cleanCachePolicy", {"cleanCachePolicy": policy}),
    ):
        assert ignored(resolved(MOUNTS, {**STORE, **spec}, kind), "FieldIgnored") == [
            ", ".join(f"spec.{where}.{field}" for field in ("gracePeriodSeconds", "maxRetryAttempts"))
        ]


def test_scraping() -> None:
    assert resolved(MOUNTS, {}).is_scraped
    assert not resolved(MOUNTS, {"disablePrometheus": True}).is_scraped
    scraped = resolved(MOUNTS, {"fuse": {"metrics": {"enabled": True, "scrapeTarget": "Sidecar, MountPod"}}}, "JindoRuntime")
    assert scraped.fuse.annotations == {"prometheus.fuse.fluid.io/scrape": "true"}
    assert resolved(MOUNTS, {"fuse": {"metrics": {"enabled": True}}}, "JindoRuntime").fuse.annotations == {}


def test_a_runtime_needs_mounts() -> None:
    (problem,) = problems({}, {})
    assert problem.message.startswith("spec.mounts is missing")
    assert resolved({}, {"runtimeClassName": "default"}, "CacheRuntime", runtime_class={"fileSystemType": "x"}).sources == ()


def test_without_a_runtime_it_waits() -> None:
    (problem,) = problems(MOUNTS)
    assert (problem.reason, problem.heals, problem.on_runtime) == ("ErrorCreateDataset", True, False)


def test_another_kind_is_no_runtime() -> None:
    (problem,) = problems(MOUNTS, {"dataset": {"name": "data"}}, "DataLoad")
    assert (problem.reason, problem.on_runtime) == ("ErrorProcessRuntime", True)


# --- pods ------------------------------------------------------------------------------------------------------------------


def test_what_is_passed_on_to_pods() -> None:
    runtime = {
        **STORE,
        "podMetadata": {"labels": {"all": "1", "both": "1"}, "annotations": {"note": "1"}},
        "volumes": [{"name": "v", "emptyDir": {}}],
        "imagePullSecrets": [{"name": "pull"}],
        "worker": {
            "podMetadata": {"labels": {"both": "2"}},
            "env": {"A": "1"},
            "resources": {"requests": {"cpu": "1"}},
            "nodeSelector": {"disk": "ssd"},
            "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            "networkMode": "HostNetwork",
        },
        "fuse": {"imagePullPolicy": "Always", "nodeSelector": {"zone": "a"}, "resources": {"limits": {"memory": "1Gi"}}},
    }
    data = resolved({**MOUNTS, "tolerations": [{"key": "k"}]}, runtime)
    common = {
        "annotations": {"note": "1"},
        "tolerations": ({"key": "k"},),
        "volumes": ({"name": "v", "emptyDir": {}},),
        "image_pull_secrets": ({"name": "pull"},),
    }
    assert data.worker == PodOptions(
        labels={"all": "1", "both": "2"},
        env=({"name": "A", "value": "1"},),
        resources={"requests": {"cpu": "1"}},
        node_selector={"disk": "ssd"},
        volume_mounts=({"name": "v", "mountPath": "/v"},),
        host_network=True,
        **common,  # type: ignore[arg-type]
    )
    assert data.fuse == PodOptions(
        labels={"all": "1", "both": "1"},
        resources={"limits": {"memory": "1Gi"}},
        node_selector={"zone": "a"},
        image_pull_policy="Always",
        **common,  # type: ignore[arg-type]
    )
    assert data.mount_node_selector == {"zone": "a"}


def test_labels_of_ours_cannot_be_set() -> None:
    (problem,) = problems(MOUNTS, {"podMetadata": {"labels": {"fusecache.io/dataset": "other"}}})
    assert problem.message == "podMetadata: the label fusecache.io/dataset is ours to set: leave it out"


def test_two_forms_of_labels_in_one_jindo_runtime() -> None:
    runtime = {"labels": {"a": "b"}, "fuse": {"podMetadata": {"labels": {"c": "d"}}}}
    (problem,) = problems(MOUNTS, runtime, "JindoRuntime")
    assert (problem.reason, problem.on_runtime) == ("ErrorValidateSpecFields", True)
    assert resolved(MOUNTS, {"labels": {"a": "b"}, "worker": {"labels": {"a": "c"}}}, "JindoRuntime").worker.labels == {"a": "c"}


def test_network_of_a_jindo_runtime() -> None:
    data = resolved(MOUNTS, {"networkmode": "HostNetwork"}, "JindoRuntime")
    assert data.worker.host_network
    assert data.fuse.host_network


# --- access ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("modes", "is_written"),
    [
        ([], False),
        (["ReadOnlyMany"], False),
        (["ReadWriteMany", "ReadOnlyMany"], False),
        (["ReadWriteMany"], True),
        (["ReadWriteOnce"], True),
        (["ReadWriteOncePod"], True),
    ],
)
def test_access_modes(modes: list[str], is_written: bool) -> None:
    data = resolved({**MOUNTS, "accessModes": modes}, STORE)
    assert data.access_modes == (tuple(modes) or ("ReadOnlyMany",))
    assert data.read_write is is_written
    assert (data.settings.get("file_mode"), data.settings.get("dir_mode")) == (("0666", "0777") if is_written else (None, None))


def test_unknown_access_mode() -> None:
    (problem,) = problems({**MOUNTS, "accessModes": ["ReadWrite"]}, {})
    assert problem.message.startswith("spec.accessModes has an unknown mode")


def test_read_only_mounts() -> None:
    data = resolved({"mounts": [{"mountPoint": "s3://b", "readOnly": True}], "accessModes": ["ReadWriteMany"]}, STORE)
    assert (data.read_write, data.sources[0].read_only) == (True, True)
    runtime = {**STORE, "properties": {"alluxio.master.mount.table.root.readonly": "true"}}
    mounts = [{"mountPoint": "s3://a", "path": "/"}, {"mountPoint": "s3://b", "path": "/b"}]
    data = resolved({"mounts": mounts, "accessModes": ["ReadWriteMany"]}, runtime)
    assert [source.read_only for source in data.sources] == [True, False]


@pytest.mark.parametrize(
    ("kind", "runtime"),
    [
        ("AlluxioRuntime", {"fuse": {"args": ["fuse", "--fuse-opts=ro,kernel_cache"]}}),
        ("JindoRuntime", {"fuse": {"args": ["-okernel_cache", "-oro"]}}),
        ("JindoRuntime", {"properties": {"fs.jindocache.read.only.enable": "true"}}),
        ("JuiceFSRuntime", {"fuse": {"options": {"read-only": ""}}}),
    ],
)
def test_runtimes_that_make_a_dataset_read_only(kind: str, runtime: dict[str, Any]) -> None:
    data = resolved({**MOUNTS, "accessModes": ["ReadWriteMany"]}, {**STORE, **runtime}, kind)
    assert (data.read_write, data.access_modes) == (False, ("ReadWriteMany",))
    assert [remark.on_runtime for remark in data.remarks] == [True]


def test_rw_lifts_nothing() -> None:
    assert not resolved(MOUNTS, {**STORE, "fuse": {"args": ["-o", "rw"]}}).read_write


def test_owner() -> None:
    dataset = {**MOUNTS, "owner": OWNER, "accessModes": ["ReadWriteMany"]}
    expected = {"uid": "1000", "gid": "100", "override_owner": "true"}
    other = {**OWNER, "uid": 5}
    assert settings({"runAs": other, "fuse": {"args": ["-ouid=7"]}}, owner=OWNER) == expected
    assert settings({"fuse": {"args": ["-ouid=7"]}, "runAs": other}) == {"uid": "7", "override_owner": "true"}
    assert settings({"runAs": OWNER}) == {"uid": "1000", "gid": "100"}
    assert resolved(dataset, STORE).settings == expected
    assert settings({"fuse": {"args": ["-oumask=027"]}}) == {"file_mode": "0440", "dir_mode": "0550"}
    with_umask = settings({"fuse": {"args": ["-oumask=0002"]}}, accessModes=["ReadWriteMany"])
    assert with_umask == {"file_mode": "0664", "dir_mode": "0775"}
    (problem,) = problems({**MOUNTS, "owner": {**OWNER, "uid": -1}}, {})
    assert problem.message.startswith("spec.owner: uid and gid")


def test_size_of_the_volume() -> None:
    annotation = "pvc.fluid.io/resources.requests.storage"
    assert resolved(MOUNTS, {}).storage_size == "100Gi"
    assert resolved(MOUNTS, {}, metadata={"annotations": {annotation: "2Ti"}}).storage_size == "2Ti"
    for wrong in ("much", "0", "-1Gi"):
        assert annotation in problems(MOUNTS, {}, metadata={"annotations": {annotation: wrong}})[0].message


def test_placement() -> None:
    def is_exclusive(placement: str, shares_nodes: bool) -> bool:
        return resolved({**MOUNTS, "placement": placement}, {}, shares_nodes=shares_nodes).is_exclusive

    assert [is_exclusive(placement, True) for placement in ("", "Shared", "Exclusive")] == [False, False, True]
    assert [is_exclusive(placement, False) for placement in ("", "Shared", "Exclusive")] == [True, False, True]


def test_node_affinity() -> None:
    terms = [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]
    assert resolved({**MOUNTS, "nodeAffinity": {"required": {"nodeSelectorTerms": terms}}}, {}).node_affinity == tuple(terms)
    assert "nodeSelectorTerms" in problems({**MOUNTS, "nodeAffinity": {"required": {"nodeSelectorTerms": "a"}}}, {})[0].message


# --- settings in the words of engines ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "runtime", "expected"),
    [
        ("AlluxioRuntime", {"properties": {"alluxio.user.file.metadata.sync.interval": "-1"}}, {"ttl": "31536000"}),
        ("AlluxioRuntime", {"properties": {"alluxio.user.file.metadata.sync.interval": "0"}}, {"ttl": "0"}),
        ("AlluxioRuntime", {"properties": {"alluxio.user.file.metadata.sync.interval": "5min"}}, {"ttl": "300"}),
        ("AlluxioRuntime", {"properties": {"alluxio.user.file.metadata.sync.interval": "30000"}}, {"ttl": "30"}),
        ("GooseFSRuntime", {"properties": {"goosefs.user.file.metadata.sync.interval": "30s"}}, {"ttl": "30"}),
        ("AlluxioRuntime", {"properties": {"alluxio.user.block.size.bytes.default": "256MB"}}, {"block_size": "67108864"}),
        ("AlluxioRuntime", {"properties": {"alluxio.user.block.size.bytes.default": "1"}}, {"block_size": "131072"}),
        ("AlluxioRuntime", {"properties": {"alluxio.user.streaming.data.timeout": "300sec"}}, {"deadline": "300"}),
        ("AlluxioRuntime", {"worker": {"properties": {"alluxio.user.streaming.data.timeout": "9sec"}}}, {"deadline": "9"}),
        ("AlluxioRuntime", {"fuse": {"args": ["fuse", "--fuse-opts=attr_timeout=7200,entry_timeout=60.5"]}}, {"ttl": "60.5"}),
        ("JindoRuntime", {"fuse": {"args": ["-oattr_timeout=30", "-onegative_timeout=2"]}}, {"ttl": "30", "negative_ttl": "2"}),
        ("JindoRuntime", {"properties": {"fs.jindofsx.meta.cache.enable": "false"}}, {"ttl": "0"}),
        ("JuiceFSRuntime", {"fuse": {"options": {"attr-cache": "10", "entry-cache": "5"}}}, {"ttl": "5"}),
        (
            "JuiceFSRuntime",
            {"fuse": {"options": {"buffer-size": "300", "prefetch": "0"}}},
            {"fetch_memory": "314572800", "prefetch": "false"},
        ),
        (
            "AlluxioRuntime",
            {"properties": {"fusecache.write_mode": "back", "fusecache.ttl": "5m"}},
            {"ttl": "300", "write_mode": "back"},
        ),
        ("ThinRuntime", {"fuse": {"options": {"fusecache.block_size": "2Mi"}}}, {"block_size": "2Mi"}),
        ("EFCRuntime", {"fuse": {"properties": {"fusecache.prefetch": "false"}}}, {"prefetch": "false"}),
    ],
)
def test_settings(kind: str, runtime: dict[str, Any], expected: dict[str, str]) -> None:
    data = resolved(MOUNTS, {**STORE, **runtime}, kind)
    assert data.settings == {**PLAIN_OWNER, **expected}
    assert data.remarks == ()


def test_the_freshest_of_several_times_holds() -> None:
    runtime = {"properties": {"alluxio.user.file.metadata.sync.interval": "30s"}, "fuse": {"args": ["-oattr_timeout=7200"]}}
    assert settings(runtime) == {"ttl": "30"}


@pytest.mark.parametrize(
    ("kind", "runtime"),
    [
        ("AlluxioRuntime", {"properties": {"alluxio.user.file.readtype.default": "NO_CACHE"}}),
        ("GooseFSRuntime", {"properties": {"goosefs.user.file.readtype.default": "NO_CACHE"}}),
        ("JindoRuntime", {"properties": {"jindocache.data.cache.enable": "false"}}),
        ("JuiceFSRuntime", {"worker": {"options": {"cache-size": "0"}}, "tieredstore": {}}),
    ],
)
def test_without_a_cache(kind: str, runtime: dict[str, Any]) -> None:
    assert resolved(MOUNTS, {**STORE, **runtime}, kind).tiers == ()


def test_tiers_in_the_words_of_juicefs() -> None:
    options = {"cache-size": "1024", "cache-dir": "/dev/shm/jfs:/ssd"}
    memory, disk = resolved(MOUNTS, {"worker": {"options": options}}, "JuiceFSRuntime").tiers
    assert (memory.medium, memory.quota_bytes, disk.medium, disk.host_path) == ("MEM", 512 << 20, "SSD", "/ssd")
    assert "absolute" in problems(MOUNTS, {"worker": {"options": {**options, "cache-dir": "ssd"}}}, "JuiceFSRuntime")[0].message
    assert len(resolved(MOUNTS, {**STORE, "worker": {"options": options}}, "JuiceFSRuntime").tiers) == 1


@pytest.mark.parametrize(
    ("kind", "runtime", "words"),
    [
        ("AlluxioRuntime", {"properties": {"alluxio.user.file.create.ttl.action": "DELETE"}}, "deleted at the store"),
        ("AlluxioRuntime", {"properties": {"alluxio.security.authorization.permission.enabled": "true"}}, "permissions"),
        ("GooseFSRuntime", {"properties": {"goosefs.security.authentication.type": "KERBEROS"}}, "permissions"),
        ("AlluxioRuntime", {"properties": {"alluxio.user.file.metadata.sync.interval": "soon"}}, "must be a duration"),
        ("AlluxioRuntime", {"properties": {"fusecache.write_mode": "odd"}}, "must be through or back"),
        ("JuiceFSRuntime", {"configs": ["trash-days=0", "encrypt-rsa-key=/k"]}, "spec.configs[1]: encrypt-rsa-key"),
        ("JuiceFSRuntime", {"configs": ["compress=lz4"]}, "compress"),
    ],
)
def test_refused_words(kind: str, runtime: dict[str, Any], words: str) -> None:
    (problem,) = problems(MOUNTS, {**STORE, **runtime}, kind)
    assert words in problem.message
    assert problem.on_runtime
    assert problem.reason == "ErrorValidateSpecFields"


@pytest.mark.parametrize(
    ("kind", "runtime", "message"),
    [
        (
            "AlluxioRuntime",
            {"properties": {"alluxio.user.file.writetype.default": "ASYNC_THROUGH", "alluxio.worker.allocator.class": "x"}},
            "spec.properties['alluxio.user.file.writetype.default'] (writes are synchronous: they reach the store before close "
            "and fsync return), spec.properties['alluxio.worker.allocator.class']",
        ),
        (
            "AlluxioRuntime",
            {"fuse": {"args": ["fuse", "--odd=hush", "-odirect_io"]}},
            "spec.fuse.args.--odd, spec.fuse.args.direct_io",
        ),
        (
            "JuiceFSRuntime",
            {"fuse": {"options": {"writeback": ""}}},
            "spec.fuse.options.writeback (writes are synchronous: they reach the store before close and fsync return)",
        ),
        ("EFCRuntime", {"worker": {"properties": {"g_tier_a": "1"}}}, "spec.worker.properties.g_tier_a (tieredstore says it)"),
    ],
)
def test_words_without_effect(kind: str, runtime: dict[str, Any], message: str) -> None:
    assert ignored(resolved(MOUNTS, {**STORE, **runtime}, kind)) == [message]


@pytest.mark.parametrize(
    ("options", "ttl"), [({"metaPolicy": "ALWAYS"}, "0"), ({"metaPolicy": "ONCE", "cacheStrategy": "DHT"}, "31536000")]
)
def test_options_of_mounts_with_jindo(options: dict[str, str], ttl: str) -> None:
    data = mounted("s3://b", STORE, "JindoRuntime", options=options)
    assert data.settings == {**PLAIN_OWNER, "ttl": ttl}
    assert data.remarks == ()


@pytest.mark.parametrize(
    "options", [{"metaPolicy": "TWICE"}, {"writePolicy": "CACHE_ONLY"}, {"readCacheReplica": "x"}, {"cacheStrategy": "x"}]
)
def test_refused_options_of_mounts_with_jindo(options: dict[str, str]) -> None:
    (problem,) = problems({"mounts": [{"mountPoint": "s3://b", "options": options}]}, STORE, "JindoRuntime")
    assert not problem.on_runtime


def test_fields_that_cannot_be_followed_yet_are_named() -> None:
    data = resolved(MOUNTS, {**STORE, "data": {"replicas": 2, "pin": True}, "alluxioVersion": {"image": "x"}})
    assert ignored(data, "FieldIgnored") == ["spec.alluxioVersion.image, spec.data.pin, spec.data.replicas"]


# --- thin runtimes, cache runtimes -----------------------------------------------------------------------------------------


def test_a_thin_runtime_with_a_profile() -> None:
    profile = {
        "fileSystemType": "fuse",
        "fuse": {
            "image": "x",
            "options": {"fusecache.ttl": "9", "fusecache.prefetch": "false"},
            "env": [{"name": "A", "value": "profile"}, {"name": "B", "value": "profile"}],
            "cleanPolicy": "OnDemand",
        },
        "volumes": [{"name": "v", "emptyDir": {}}],
    }
    fuse = {"options": {"fusecache.ttl": "7"}, "env": [{"name": "A", "value": "own"}]}
    data = resolved(MOUNTS, {"profileName": "profile", "fuse": fuse}, "ThinRuntime", profile=profile)
    assert data.settings == {**PLAIN_OWNER, "prefetch": "false", "ttl": "7"}
    assert data.fuse.env == ({"name": "A", "value": "own"}, {"name": "B", "value": "profile"})
    assert data.fuse.volumes == ({"name": "v", "emptyDir": {}},)
    assert (data.clean_policy, data.replicas, data.tiers) == ("OnDemand", 0, ())
    assert resolved(MOUNTS, {"profileName": "profile", "replicas": 2}, "ThinRuntime", profile=profile).replicas == 2


def test_what_a_runtime_names_has_to_be_there() -> None:
    for runtime, kind in (({"profileName": "gone"}, "ThinRuntime"), ({"runtimeClassName": "gone"}, "CacheRuntime")):
        (problem,) = problems(MOUNTS, runtime, kind)
        assert (problem.reason, problem.on_runtime, problem.heals) == ("ErrorProcessRuntime", True, True)
        assert "gone" in problem.message


def test_a_mount_that_only_an_image_could_serve() -> None:
    (problem,) = problems({"mounts": [{"mountPoint": "lustre://x/y"}]}, {}, "ThinRuntime")
    assert "unknown scheme" in problem.message


def test_a_cache_runtime_with_a_class() -> None:
    runtime_class = {
        "fileSystemType": "x",
        "topology": {
            "worker": {
                "options": {"ttl": "9", "prefetch": "no"},
                "template": {
                    "metadata": {"labels": {"l": "class"}},
                    "spec": {
                        "nodeSelector": {"disk": "ssd"},
                        "containers": [{"name": "c", "image": "x", "resources": {"requests": {"cpu": "1"}}}],
                    },
                },
            }
        },
    }
    runtime = {
        "runtimeClassName": "default",
        "options": {"ttl": "8"},
        "worker": {"resources": {"requests": {"memory": "1Gi"}}},
        "client": {"cleanPolicy": "OnDemand", "disabled": True},
    }
    data = resolved(MOUNTS, runtime, "CacheRuntime", runtime_class=runtime_class)
    assert data.settings == {**PLAIN_OWNER, "prefetch": "no", "ttl": "8"}
    assert data.worker.resources == {"requests": {"cpu": "1", "memory": "1Gi"}}
    assert (data.worker.labels, data.worker.node_selector) == ({"l": "class"}, {"disk": "ssd"})
    assert (data.clean_policy, data.has_mount, data.replicas) == ("OnDemand", False, 1)
