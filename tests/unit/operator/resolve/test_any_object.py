"""Whatever parses is resolved, or refused in words: nothing raises, and no credential gets anywhere it can be read."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from csi.operator.crds.definition import definition
from csi.operator.model.cache_runtime_class import CacheRuntimeClass
from csi.operator.model.data_load import DataLoad
from csi.operator.model.dataset import Dataset
from csi.operator.model.kinds import KINDS
from csi.operator.model.object import Object
from csi.operator.model.parsing import parse
from csi.operator.model.thin_runtime_profile import ThinRuntimeProfile
from csi.operator.resolve.clear_text import written_value
from csi.operator.resolve.load import OPTIONS, resolve_load
from csi.operator.resolve.mount_point import scheme_of
from csi.operator.resolve.option_row import Effect, Table
from csi.operator.resolve.options_reference import TABLES
from csi.operator.resolve.resolution import Surroundings, resolve
from csi.operator.resolved import ClearText, Problem, Resolved, ResolvedSource
from csi.operator.resolved_load import ResolvedLoad
from fusecache.base.settings import SETTINGS, parse_setting
from fusecache.contract.errors import CacheError
from fusecache.source import http, nfs
from fusecache.source.file import path_of
from fusecache.source.oss_options import parse_oss_options
from fusecache.source.s3_options import parse_s3_options

HUSH = "hUsH-0f8e"  # a credential; of letters that fit into hosts, names and numbers alike
RUNTIMES = [kind for kind in KINDS if kind.endswith("Runtime")]
OPTION_MAPS = ("options", "sharedOptions", "properties")
ALL_TABLES: tuple[Table, ...] = (*TABLES, OPTIONS)
ROWS = [(key, row) for table in ALL_TABLES for row in table.rows for key in row.keys]
CREDENTIAL_KEYS = sorted({key.replace("*", "a") for key, row in ROWS if row.effect is Effect.SECRET})
OTHER_KEYS = sorted({key.replace("*", "a") for key, row in ROWS if row.effect is not Effect.SECRET} - set(CREDENTIAL_KEYS))
MOUNT_POINTS = (
    "s3://bucket/a/../b", "s3://b", "minio://b", "oss://b/", "cosn://b-1", "obs://b", "gs://b", "wasb://c@a.b/d", "az://c",
    "nfs://s:/d", "nfs://[::1]:1/d", "nfs://s:99999/d", "https://h/d/", "http://h:x/", "pvc://c/d", "pvc://a", "local:///d",
    "local://", "dataset://a/b", "dataset://a/b/c", "dataset://", "juicefs:///d", "hdfs://n/d", "odd://x", "://", "s3://\x00\n",
    f"s3://user:{HUSH}@b", f"https://user:{HUSH}@h/", f"nfs://{HUSH}@s:/d", "local:///\udcff", "nfs://s:/\udcff",
)  # fmt: skip
TEXTS = (
    "", "a", "0", "-1", "1", "1Gi", "1e3", "/a", "/a,/b", "/a/../b", "0.5", "95%", "true", "30s", "*", "9" * 40, "١", "\udcff",
    "Cron", "http://h/b", "s3", "oss", "ReadWriteMany", "fuse", "-oro,uid=1", "OnDemand", "NO_CACHE", "ONCE", "\x00", "v4",
)  # fmt: skip
A_MAP = st.dictionaries(
    st.sampled_from((*OTHER_KEYS, "odd", "fs.oss.bucket.b.endpoint")), st.sampled_from(TEXTS), max_size=4
)  # fmt: skip
PAIRS = st.sampled_from(
    [
        {},
        {"access_key": HUSH, "secret_key": HUSH},
        {"fs.oss.accessKeyId": HUSH, "fs.oss.accessKeySecret": HUSH, "fs.oss.securityToken": HUSH},
        {"user": "me", "password": HUSH},
    ]
)
SINGLE_CREDENTIALS = st.dictionaries(
    st.sampled_from((*CREDENTIAL_KEYS, "fs.oss.bucket.b.accessKeyId")), st.just(HUSH), max_size=2
)
CREDENTIALS = SINGLE_CREDENTIALS | PAIRS
OPTION_MAP = st.builds(lambda some, secret: {**some, **secret}, A_MAP, CREDENTIALS)
SIMPLE_MOUNTS = st.builds(
    lambda point, options, path: {"mountPoint": point, "path": path, "options": {"fs.oss.endpoint": "e.com", **options}},
    st.sampled_from(("s3://b", "oss://b/", "https://h/d/", "nfs://s:/d", "pvc://c/d")),
    PAIRS | OPTION_MAP,
    st.sampled_from(("/", "/a", "/b")),
)
KUBERNETES = st.recursive(
    st.sampled_from(("a", 1, True)),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(("name", "mountPath", "nodeSelectorTerms")), inner)
    ),
    max_leaves=3,
)


def values(node: dict[str, Any], key: str = "") -> st.SearchStrategy[Any]:
    """Return values of a schema, in words that mean something to us where there are any."""
    if key in OPTION_MAPS:
        return OPTION_MAP
    if key == "mountPoint":
        return st.sampled_from(MOUNT_POINTS)
    if "enum" in node:
        return st.sampled_from(node["enum"])
    if node.get("x-kubernetes-int-or-string"):
        return st.sampled_from(("1Gi", "0", "-1", "1", "64Mi", "9E", 3))
    match node["type"]:
        case "object" if "additionalProperties" in node:
            return st.dictionaries(st.sampled_from(("a", "fusecache.io/x")), values(node["additionalProperties"]), max_size=2)
        case "object" if node.get("properties"):
            return objects(node)
        case "object":
            return st.dictionaries(st.sampled_from(("nodeSelectorTerms", "emptyDir", "a")), KUBERNETES, max_size=2)
        case "array":
            return st.lists(values(node["items"], "mountPoint" if key == "mountPoints" else ""), max_size=3)
        case "string":
            return st.sampled_from((*TEXTS, *CREDENTIAL_KEYS, *OTHER_KEYS) if key == "name" else TEXTS)
        case "integer":
            return st.sampled_from((0, 1, 3, -1, 2**31 - 1))
    return st.booleans()


def objects(node: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    required = set(node.get("required", ()))
    given = {key: values(inner, key) for key, inner in node["properties"].items()}
    return st.fixed_dictionaries(
        {key: strategy for key, strategy in given.items() if key in required},
        optional={key: strategy for key, strategy in given.items() if key not in required},
    )


def raw_objects(kind: str, name: str) -> st.SearchStrategy[dict[str, Any]]:
    schema = definition(KINDS[kind])["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    part = {key: node for key, node in schema["properties"].items() if key not in ("apiVersion", "kind", "metadata", "status")}
    head = {"apiVersion": "data.fluid.io/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": "lab"}}
    required = [key for key in schema.get("required", ()) if key in part]
    return objects({"properties": part, "required": required}).map(lambda body: {**head, **body})


def parsed(raw: dict[str, Any]) -> Object | None:
    try:
        return parse(raw)
    except CacheError:
        return None


def check_source(source: ResolvedSource) -> None:
    """The code that opens sources takes it."""
    options = {**source.options, **{f"{target}_file": "/x" for target in source.secrets}}
    scheme, _, rest = source.url.partition("://")
    match scheme:
        case "s3":
            parse_s3_options("s3", options, {})
        case "oss":
            parse_oss_options(rest.partition("/")[0], options, {})
        case "http" | "https":
            http.open_source(source.url, options, {}).close()
        case "nfs":
            with patch.object(nfs, "load"), patch.object(nfs, "NfsSource"):
                nfs.open_source(source.url, options, {})
        case "file":
            path_of(source.url)
        case "gs":
            assert not options
        case _:
            assert scheme == "abfs"


def check(outcome: Resolved | list[Problem], raw_dataset: dict[str, Any], raw_runtime: dict[str, Any]) -> None:
    assert HUSH not in repr(outcome)
    if isinstance(outcome, list):
        assert outcome
        assert all(problem.message and problem.reason.isalnum() and len(problem.message) < 1000 for problem in outcome)
        return
    for name, value in outcome.settings.items():
        assert name in SETTINGS
        parse_setting(name, value)
    assert len({tier.directory for tier in outcome.tiers}) == len(outcome.tiers)
    assert all(tier.quota_bytes > 0 and 0 < tier.low <= tier.high <= 1 for tier in outcome.tiers)
    assert len({source.place for source in outcome.sources}) == len(outcome.sources)
    assert all(len(remark.message) <= 1024 for remark in outcome.remarks)
    assert not (outcome.read_write and "ReadOnlyMany" in outcome.access_modes)
    for source in outcome.sources:
        check_source(source)
        for place in source.secrets.values():
            if isinstance(place, ClearText):
                assert written_value(place, raw_dataset, raw_runtime, None) == HUSH


@pytest.mark.slow
@pytest.mark.parametrize("kind", RUNTIMES)
def test_any_dataset_with_any_runtime(kind: str) -> None:
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    @given(
        raw_objects("Dataset", "data"),
        raw_objects(kind, "data"),
        raw_objects("ThinRuntimeProfile", "a"),
        raw_objects("CacheRuntimeClass", "a"),
    )
    def run(
        raw_dataset: dict[str, Any], raw_runtime: dict[str, Any], raw_profile: dict[str, Any], raw_class: dict[str, Any]
    ) -> None:
        dataset, runtime = parsed(raw_dataset), parsed(raw_runtime)
        if not isinstance(dataset, Dataset) or runtime is None:
            return
        profile, runtime_class = parsed(raw_profile), parsed(raw_class)
        surroundings = Surroundings(
            profile if isinstance(profile, ThinRuntimeProfile) else None,
            runtime_class if isinstance(runtime_class, CacheRuntimeClass) else None,
            raw_dataset,
            raw_runtime,
        )
        check(resolve(dataset, runtime, surroundings), raw_dataset, raw_runtime)
        check(resolve(dataset, runtime), raw_dataset, raw_runtime)

    run()


@pytest.mark.slow
def test_any_mounts_with_a_plain_runtime() -> None:
    """Most random objects are refused for one reason or another; these have few reasons."""
    seen: set[type] = set()
    clear: set[str] = set()
    schema = definition(KINDS["Dataset"])["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    mount = schema["properties"]["spec"]["properties"]["mounts"]["items"]

    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    @given(
        st.lists(objects(mount) | SIMPLE_MOUNTS, min_size=1, max_size=2),
        CREDENTIALS,
        st.sampled_from(("JindoRuntime", "AlluxioRuntime")),
    )
    def run(mounts: list[dict[str, Any]], properties: dict[str, str], kind: str) -> None:
        head = {"apiVersion": "data.fluid.io/v1alpha1", "metadata": {"name": "data", "namespace": "lab"}}
        raw_dataset = {**head, "kind": "Dataset", "spec": {"mounts": mounts, "accessModes": ["ReadWriteMany"]}}
        raw_runtime = {**head, "kind": kind, "spec": {"properties": properties}}
        dataset, runtime = parsed(raw_dataset), parsed(raw_runtime)
        if isinstance(dataset, Dataset):
            found = resolve(dataset, runtime)
            seen.add(type(found))
            sources = found.sources if isinstance(found, Resolved) else ()
            clear.update(scheme_of(source.url) for source in sources if ClearText in map(type, source.secrets.values()))
            check(found, raw_dataset, raw_runtime)

    run()
    assert seen == {Resolved, list}
    assert clear


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
@given(raw_objects("DataLoad", "load"))
def test_any_load(raw: dict[str, Any]) -> None:
    load = parsed(raw)
    if isinstance(load, DataLoad):
        found = resolve_load(load, Resolved("lab", "data", "AlluxioRuntime"))
        assert HUSH not in repr(found)
        if isinstance(found, ResolvedLoad):
            assert not any(".." in target.path.split("/") for target in found.targets)
