"""Objects of Kubernetes: restricted pods, names that others compute, credentials in one Secret only."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from csi.operator.names import CLAIM_ANNOTATION
from csi.operator.render.cache_pod import pod_template
from csi.operator.render.credentials import Tokens, collect, token_secret, wanted
from csi.operator.render.everything import daemon_set, render
from csi.operator.render.loader import loader, loader_token_secret
from csi.operator.render.mount_config import digest, mount_config
from csi.operator.render.object_names import loader_name, node_label, service_name, volume_labels, volume_name
from csi.operator.render.pod_role import requested_memory, roles
from csi.operator.render.survey import survey_job
from csi.operator.render.volumes import persistent_volume
from csi.operator.resolved import ClearText, PodOptions, Resolved, ResolvedSource, ResolvedTier, SecretKey
from csi.operator.resolved_load import LoadTarget, ResolvedLoad
from csi.volumes.inline import uid_of
from fusecache.base.units import GIB, MIB
from fusecache.contract.mount_spec import Medium
from tests.support.rendered_manifests import IDENTITY, INSTALLATION
from tests.support.resolving import encrypted, mounted, problems, resolved

INTERNALS = Path(__file__).parents[4] / "docs/kubernetes-internals.md"
MEMORY = ResolvedTier("mem-1", Medium.MEM, GIB, 0.95, 0.7, is_empty_dir=True)
DISK = ResolvedTier("ssd-1", Medium.SSD, GIB, 0.95, 0.7, host_path="/ssd/fast disk")
PASSING = ResolvedTier("ssd-2", Medium.SSD, GIB, 0.95, 0.7, is_empty_dir=True)
PLAIN = Resolved("lab", "data", "AlluxioRuntime", sources=(ResolvedSource("s3://b"),), tiers=(DISK,))
LOAD = ResolvedLoad("lab", "load", "lab", "data", (LoadTarget("a"),))


def objects(data: Resolved, values: dict[str, str] | None = None) -> dict[str, Any]:
    """Return the objects by their kind; the DaemonSet of consumers is called Consumers."""
    return {
        "Consumers" if each["metadata"]["name"].endswith("-consumer") else each["kind"]: each
        for each in render(data, values or {}, INSTALLATION, IDENTITY)
    }


def template_of(data: Resolved, role: int = 0) -> dict[str, Any]:
    return pod_template(data, roles(data)[role], INSTALLATION, IDENTITY, "d")


def pod_spec(data: Resolved, role: int = 0) -> dict[str, Any]:
    """`role`: 0 for workers, 1 for consumers."""
    spec = template_of(data, role)["spec"]
    assert isinstance(spec, dict)
    return spec


def container(data: Resolved, role: int = 0) -> dict[str, Any]:
    (found,) = pod_spec(data, role)["containers"]
    assert isinstance(found, dict)
    return found


def assert_restricted(spec: dict[str, Any]) -> None:
    """The Pod Security Standard `restricted`, and no token of the cluster."""
    pod = spec["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["runAsUser"] > 0
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    assert spec["automountServiceAccountToken"] is False
    for each in spec["containers"]:
        context = each["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["readOnlyRootFilesystem"] is True
        assert not context.get("privileged")
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    assert all((volume.keys() - {"name"}) <= allowed for volume in spec["volumes"])


def test_a_dataset_that_was_made_for_a_claim_gets_no_volume() -> None:
    assert {"PersistentVolume", "PersistentVolumeClaim"} <= objects(PLAIN).keys()
    metadata = {"annotations": {CLAIM_ANNOTATION: "mine"}}
    made = resolved({"mounts": [{"mountPoint": "s3://bucket/x"}]}, {}, metadata=metadata)
    assert made.has_own_volume
    assert objects(made).keys() == objects(PLAIN).keys() - {"PersistentVolume", "PersistentVolumeClaim"}


@pytest.mark.parametrize(
    "data",
    [
        PLAIN,
        replace(PLAIN, tiers=(MEMORY, DISK, PASSING), read_write=True, settings={"verify": "always"}),
        mounted("pvc://claim/dir"),
        mounted("local:///mnt/data"),
        mounted("s3://b", encryptOptions=[encrypted("access_key"), encrypted("secret_key")]),
    ],
)
@pytest.mark.parametrize("role", [0, 1])
def test_pods_are_restricted(data: Resolved, role: int) -> None:
    assert_restricted(pod_spec(data, role))
    volumes, (pod,) = pod_spec(data, role)["volumes"], pod_spec(data, role)["containers"]
    assert sorted(volume["name"] for volume in volumes) == sorted({mount["name"] for mount in pod["volumeMounts"]})
    assert len({mount["mountPath"] for mount in pod["volumeMounts"]}) == len(volumes)
    assert pod_spec(data)["securityContext"]["runAsUser"] == uid_of(data.namespace, data.name)


def test_loaders_are_restricted() -> None:
    assert_restricted(loader(LOAD, INSTALLATION, IDENTITY)["spec"]["template"]["spec"])


def test_a_directory_of_a_node_comes_from_the_node_plugin() -> None:
    data = mounted("local:///mnt/data")
    attributes = {"fusecache.io/directory": "local", "fusecache.io/dataset": "data", "fusecache.io/host-path": "/mnt/data"}
    volume = {"driver": "csi.fusecache.io", "volumeAttributes": attributes, "readOnly": True}
    assert {"name": "fusecache-node-0", "csi": volume} in pod_spec(data)["volumes"]
    (written,) = [one["csi"] for one in pod_spec(replace(data, read_write=True))["volumes"] if one["name"] == "fusecache-node-0"]
    assert written["readOnly"] is False
    assert {"name": "fusecache-node-0", "mountPath": "/local/mnt/data", "readOnly": True} in container(data)["volumeMounts"]
    assert data.sources[0].url == "file:///local/mnt/data"


def test_a_claim_is_mounted_where_its_url_leads() -> None:
    data = mounted("pvc://claim/dir")
    assert {"name": "fusecache-claim-0", "mountPath": "/claims/claim", "readOnly": True} in container(data)["volumeMounts"]
    written = replace(data, read_write=True)
    assert {"name": "fusecache-claim-0", "mountPath": "/claims/claim", "readOnly": False} in container(written)["volumeMounts"]


def test_directories_of_the_driver() -> None:
    data = replace(PLAIN, tiers=(MEMORY, DISK, PASSING), read_write=True, settings={"verify": "always", "serve_processes": "2"})
    volumes = {volume["name"]: volume for volume in pod_spec(data)["volumes"]}
    assert volumes["fusecache-cache"]["csi"] == {
        "driver": "csi.fusecache.io",
        "volumeAttributes": {"fusecache.io/directory": "cache", "fusecache.io/dataset": "data"},
    }
    assert volumes["fusecache-custody"]["csi"]["volumeAttributes"] == {
        "fusecache.io/directory": "custody",
        "fusecache.io/dataset": "data",
        "fusecache.io/read-write": "true",
        "fusecache.io/serve-processes": "2",
        "fusecache.io/verify": "always",
        "fusecache.io/tiers": "ssd-1=/ssd/fast%20disk",
    }
    assert volumes["fusecache-ssd-1"]["csi"]["volumeAttributes"] == {
        "fusecache.io/directory": "tier",
        "fusecache.io/dataset": "data",
        "fusecache.io/tier": "ssd-1",
        "fusecache.io/host-path": "/ssd/fast disk",
    }
    assert {"name": "fusecache-ssd-1", "mountPath": "/cache/ssd-1"} in container(data)["volumeMounts"]
    assert volumes["fusecache-memory"]["emptyDir"] == {"medium": "Memory", "sizeLimit": str(GIB + 64 * MIB)}
    assert {"name": "fusecache-ssd-2", "mountPath": "/cache/ssd-2"} in container(data)["volumeMounts"]
    assert "emptyDir" in volumes["fusecache-ssd-2"]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, {"requests": {"memory": str(1536 * MIB)}}),
        ({"requests": {"memory": "2Gi"}}, {"requests": {"memory": "2Gi"}}),
        ({"requests": {"memory": "256Mi"}}, {"requests": {"memory": str(1280 * MIB)}}),
        ({"limits": {"memory": "512Mi"}}, {"requests": {"memory": str(1536 * MIB)}, "limits": {"memory": str(1536 * MIB)}}),
        ({"limits": {"memory": "4Gi"}}, {"requests": {"memory": str(1536 * MIB)}, "limits": {"memory": "4Gi"}}),
        ({"requests": "odd"}, {"requests": "odd"}),
    ],
)
def test_memory_of_tiers_is_requested(given: dict[str, Any], found: dict[str, Any]) -> None:
    data = replace(PLAIN, tiers=(MEMORY,), worker=PodOptions(resources=given))
    assert container(data)["resources"] == found


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, {"requests": {"memory": str(192 * MIB)}}),
        ({"limits": {"memory": "128Mi"}}, {"requests": {"memory": str(128 * MIB)}, "limits": {"memory": "128Mi"}}),
        ({"requests": {"memory": "1Gi"}}, {"requests": {"memory": "1Gi"}}),
        ({"requests": "odd", "limits": "odd"}, {"requests": "odd", "limits": "odd"}),
    ],
)
def test_a_node_that_only_mounts_is_asked_for_little(given: dict[str, Any], found: dict[str, Any]) -> None:
    data = replace(PLAIN, tiers=(MEMORY,), worker=PodOptions(resources={"requests": {"cpu": "8"}}))
    assert container(replace(data, fuse=PodOptions(resources=given)), 1)["resources"] == found
    assert requested_memory(data, INSTALLATION) == 1536 * MIB


def test_each_role_has_its_pods() -> None:
    data = replace(PLAIN, tiers=(DISK, PASSING), worker=PodOptions(labels={"a": "1"}), fuse=PodOptions(labels={"b": "1"}))
    found = objects(data)
    for kind, role, name, own in (
        ("DaemonSet", "worker", "data-fuse", {"a": "1", "b": "1"}),
        ("Consumers", "consumer", "data-fuse-consumer", {"b": "1"}),
    ):
        pods = found[kind]
        labels = pods["spec"]["template"]["metadata"]["labels"]
        assert pods["metadata"]["name"] == name
        assert pods["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert {key: value for key, value in labels.items() if key in ("a", "b")} == own
        assert labels["fusecache.io/role"] == role
        (term,) = pods["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
            "nodeSelectorTerms"
        ]
        assert term["matchExpressions"] == [{"key": node_label("lab", "data"), "operator": "In", "values": [role]}]
    assert found["Service"]["spec"]["selector"].items() <= found["DaemonSet"]["spec"]["selector"]["matchLabels"].items()
    assert not found["Service"]["spec"]["selector"].items() <= found["Consumers"]["spec"]["selector"]["matchLabels"].items()
    configs = {key: json.loads(text) for key, text in found["ConfigMap"]["data"].items()}
    quotas = {key: [(tier["directory"], tier["quota_bytes"]) for tier in one["tiers"]] for key, one in configs.items()}
    assert quotas == {
        "dataset.json": [("ssd-1", GIB), ("ssd-2", GIB)],
        "consumer.json": [("ssd-1", 128 * MIB), ("ssd-2", 128 * MIB)],
    }
    assert configs["dataset.json"]["sources"] == configs["consumer.json"]["sources"]
    projected = pod_spec(data, 1)["volumes"][0]["projected"]["sources"][0]["configMap"]["items"]
    assert projected == [{"key": "consumer.json", "path": "dataset.json"}]


def test_a_node_that_changes_its_role_keeps_its_mount() -> None:
    """Custody makes a mount anew for an order that differs, and while it is used goes on with the old one."""
    orders = [
        {volume["name"]: volume for volume in pod_spec(PLAIN, role)["volumes"]}["fusecache-custody"]["csi"] for role in (0, 1)
    ]
    assert orders[0] == orders[1]


def test_on_the_network_of_the_node_a_pod_comes_after_the_other() -> None:
    data = resolved({"mounts": [{"mountPoint": "s3://b"}]}, {"worker": {"networkMode": "HostNetwork"}})
    surges = [objects(data)[kind]["spec"]["updateStrategy"]["rollingUpdate"] for kind in ("DaemonSet", "Consumers")]
    assert surges == [{"maxSurge": 0, "maxUnavailable": 1}, {"maxSurge": 1, "maxUnavailable": 0}]
    assert [remark.reason for remark in data.remarks if remark.is_warning] == ["HostNetwork"]


def test_claims_are_read_as_a_member_of_a_group() -> None:
    user = {"uid": 7, "gid": 8, "user": "a", "group": "a"}
    data = mounted("pvc://claim", {"runAs": user})
    assert pod_spec(data)["securityContext"]["supplementalGroups"] == [8]
    assert "RunAsGroupOnly" in {remark.reason for remark in data.remarks}
    root = mounted("pvc://claim", {"runAs": {**user, "gid": 0}})
    assert "supplementalGroups" not in pod_spec(root)["securityContext"]
    assert "RunAsGroupOnly" in {remark.reason for remark in root.remarks}
    assert "supplementalGroups" not in pod_spec(mounted("s3://b", {"runAs": user}))["securityContext"]


def test_what_users_pass_on() -> None:
    worker = PodOptions(
        labels={"mine": "1", "fusecache.io/dataset": "other"},
        env=({"name": "A", "value": "1"}, {"name": "POD_NAME", "value": "no"}),
        volumes=({"name": "v", "emptyDir": {}},),
        volume_mounts=({"name": "v", "mountPath": "/v"},),
        image_pull_secrets=({"name": "pull"},),
        image_pull_policy="Always",
        host_network=True,
    )
    data = replace(PLAIN, worker=worker)
    template = template_of(data)
    assert template["metadata"]["labels"]["mine"] == "1"
    assert template["metadata"]["labels"]["fusecache.io/dataset"] == "data"
    names = [each["name"] for each in container(data)["env"]]
    assert sorted(names) == sorted(set(names))
    assert (container(data)["imagePullPolicy"], template["spec"]["imagePullSecrets"]) == ("Always", [{"name": "pull"}])
    assert (template["spec"]["hostNetwork"], template["spec"]["dnsPolicy"]) == (True, "ClusterFirstWithHostNet")
    assert {"name": "v", "emptyDir": {}} in template["spec"]["volumes"]


@pytest.mark.parametrize("path", ["/", "//", "/cache/x", "/etc/fusecache", "/tmp/../custody/"])
def test_users_cannot_mount_over_the_cache(path: str) -> None:
    runtime = {"worker": {"volumeMounts": [{"name": "v", "mountPath": path}]}}
    assert "mountPath" in problems({"mounts": [{"mountPoint": "s3://b"}]}, runtime)[0].message


def test_names_of_volumes_are_kept_free() -> None:
    runtime = {"volumes": [{"name": "fusecache-cache"}]}
    assert "fusecache-" in problems({"mounts": [{"mountPoint": "s3://b"}]}, runtime)[0].message


def test_a_changed_config_replaces_pods_and_a_changed_secret_does_not() -> None:
    before, after = (daemon_set(PLAIN, roles(PLAIN)[0], INSTALLATION, IDENTITY, digest(text)) for text in ("a", "b"))
    assert before != after
    assert before["spec"]["selector"] == after["spec"]["selector"]
    data = mounted("s3://b", encryptOptions=[encrypted("access_key"), encrypted("secret_key")])
    one, two = (objects(data, {"0.access_key": value, "0.secret_key": value}) for value in ("old", "new"))
    assert one["DaemonSet"] == two["DaemonSet"]
    assert one["Secret"] != two["Secret"]


def test_config_is_as_documented() -> None:
    (example,) = re.findall(r"```json\n(.*?)```", INTERNALS.read_text(), re.DOTALL)
    documented = json.loads(example)
    found = json.loads(mount_config(PLAIN, (DISK,), ()))
    assert found.keys() == documented.keys()
    assert found["sources"][0].keys() == documented["sources"][0].keys()
    assert found["tiers"][0].keys() == documented["tiers"][0].keys()
    assert found["peers"] == {**documented["peers"], "service": "data-fuse.lab.svc"}
    assert json.loads(mount_config(PLAIN, (DISK,), (), owns_blocks=False))["peers"]["owns"] is False
    assert "peers" not in json.loads(mount_config(replace(PLAIN, read_write=True), (DISK,), ()))
    assert (found["version"], found["dataset_id"]) == (documented["version"], "lab.data")


def test_names_are_as_documented() -> None:
    text = INTERNALS.read_text()
    for name in ("NAME-fuse", "NAME-fuse-consumer", "NAME-fuse-credentials", "NAME-fuse-token", "NAME-loader-job"):
        assert f"`{name}`" in text
    assert re.fullmatch(r"fusecache\.io/d-[0-9a-f]{12}", node_label("lab", "data"))
    assert volume_name("a", "b-c") == volume_name("a-b", "c")


def test_long_names_are_called_by_their_uid() -> None:
    assert volume_labels("n" * 40, "d" * 40, IDENTITY)["fluid.io/dataset-id"] == IDENTITY.uid
    assert f"fluid.io/s-{IDENTITY.uid}" in volume_labels("n" * 30, "d" * 30, IDENTITY)


def test_names_that_have_to_be_short_are() -> None:
    long = "d" * 63
    assert len(service_name(long)) == len(loader_name(long)) == 63
    assert len(loader_name(long, is_repeated=True)) == 52
    assert service_name(long) != service_name("d" * 62)
    assert (service_name("data"), loader_name("load", is_repeated=True)) == ("data-fuse", "load-loader-job")


# --- credentials -----------------------------------------------------------------------------------------------------------


def test_credentials_are_in_the_secret_only() -> None:
    source = ResolvedSource(
        "s3://b", secrets={"access_key": SecretKey("keys", "id"), "secret_key": ClearText(("mounts", 0, "options", "x"))}
    )
    data = replace(PLAIN, sources=(source,))
    values = collect(data, lambda place: "from-secret", lambda place: "from-object")
    assert values == {"0.access_key": "from-secret", "0.secret_key": "from-object"}
    found = objects(data, values)
    assert base64.b64decode(found["Secret"]["data"]["0.secret_key"]) == b"from-object"
    encoded = [base64.b64encode(value.encode()).decode() for value in values.values()]
    for kind, each in found.items():
        text = json.dumps(each)
        assert kind == "Secret" or not any(value in text for value in (*values.values(), *encoded))
    projected = pod_spec(data)["volumes"][0]["projected"]["sources"]
    assert {"key": "0.access_key", "path": "credentials/0.access_key"} in projected[-1]["secret"]["items"]


def test_missing_secrets_are_named() -> None:
    data = mounted("s3://b", encryptOptions=[encrypted("access_key"), encrypted("secret_key")])
    found = collect(data, lambda place: "x" if place.key == "access_key" else None, lambda place: None)
    assert isinstance(found, list)
    (problem,) = found
    assert (problem.reason, problem.heals) == ("SecretNotFound", True)
    assert problem.message == "Secret keys or its key secret_key is missing: create it in namespace lab"


def test_an_optional_credential_may_be_missing() -> None:
    data = mounted("oss://b", {"secret": "oss"}, "JindoRuntime", options={"fs.oss.endpoint": "e.com"})
    values = collect(data, lambda place: None if place.is_optional else "x", lambda place: None)
    assert values == {"0.access_key": "x", "0.secret_key": "x"}
    config = json.loads(mount_config(data, (), values))
    assert config["sources"][0]["secret_options"] == {"access_key": "0.access_key", "secret_key": "0.secret_key"}
    assert "session_token" in json.loads(mount_config(data, (), dict(wanted(data))))["sources"][0]["secret_options"]


def test_token() -> None:
    assert token_secret(PLAIN, Tokens("t", "o"), IDENTITY)["metadata"]["name"] == "data-fuse-token"


# --- volumes, loaders ------------------------------------------------------------------------------------------------------


def test_a_reference_is_a_volume_of_its_target() -> None:
    data = resolved({"mounts": [{"mountPoint": "dataset://far/away/sub"}]})
    found = objects(data)
    assert list(found) == ["PersistentVolume", "PersistentVolumeClaim"]
    assert found["PersistentVolume"]["spec"]["csi"]["volumeAttributes"] == {
        "fusecache.io/namespace": "far",
        "fusecache.io/dataset": "away",
        "fusecache.io/path": "sub",
    }
    assert found["PersistentVolumeClaim"]["metadata"]["labels"]["fluid.io/dataset.referring-name"] == "away"


def test_a_volume_goes_where_mounts_may_be() -> None:
    spec = persistent_volume(replace(PLAIN, mount_node_selector={"zone": "a"}), INSTALLATION, IDENTITY)["spec"]
    (term,) = spec["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert term == {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
    assert "PersistentVolume" not in objects(replace(PLAIN, has_mount=False))
    assert spec["csi"]["readOnly"] is True


def test_loaders() -> None:
    job = loader(replace(LOAD, timeout_seconds=1800.0), INSTALLATION, IDENTITY)
    assert (job["kind"], job["metadata"]["name"], job["spec"]["activeDeadlineSeconds"]) == ("Job", "load-loader-job", 1800)
    plan = json.loads(job["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"])
    assert (plan["service"], plan["targets"]) == ("data-fuse.lab.svc", [{"path": "a", "is_pattern": False}])
    cron = loader(replace(LOAD, policy="Cron", schedule="0 * * * *"), INSTALLATION, IDENTITY)
    assert (cron["kind"], cron["spec"]["schedule"], cron["spec"]["concurrencyPolicy"]) == ("CronJob", "0 * * * *", "Forbid")
    assert cron["spec"]["jobTemplate"]["spec"]["template"] == {**job["spec"]["template"]}


def test_a_load_through_a_reference_has_a_token_of_its_own() -> None:
    through = replace(LOAD, dataset_namespace="far", dataset="away")
    assert loader_token_secret(LOAD, "t", IDENTITY) is None
    secret = loader_token_secret(through, "t", IDENTITY)
    assert secret is not None
    (volume,) = loader(through, INSTALLATION, IDENTITY)["spec"]["template"]["spec"]["volumes"]
    assert volume["secret"]["secretName"] == secret["metadata"]["name"] == "load-loader-token"


def test_secrets_that_images_are_pulled_with() -> None:
    """A DataLoad whose image could not be pulled ran for ever: no pod of it ever failed."""
    installation = replace(INSTALLATION, pull_secrets=("registry", "shared"))
    options = PodOptions(image_pull_secrets=({"name": "own"}, {"name": "shared"}))
    expected = [{"name": "own"}, {"name": "shared"}, {"name": "registry"}]
    data = replace(PLAIN, worker=options, fuse=options, replicas=1)
    for role in roles(data):
        assert pod_template(data, role, installation, IDENTITY, "d")["spec"]["imagePullSecrets"] == expected
    job = loader(replace(LOAD, pod=options), installation, IDENTITY)
    assert job["spec"]["template"]["spec"]["imagePullSecrets"] == expected
    assert survey_job(data, {}, installation, IDENTITY)["spec"]["template"]["spec"]["imagePullSecrets"] == expected
    assert "imagePullSecrets" not in loader(LOAD, INSTALLATION, IDENTITY)["spec"]["template"]["spec"]
