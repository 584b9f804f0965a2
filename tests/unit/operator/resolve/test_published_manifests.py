"""Manifests of articles come to what the articles mean."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from csi.operator.model.data_load import DataLoad
from csi.operator.model.dataset import Dataset
from csi.operator.model.parsing import parse
from csi.operator.resolve.allowed_roots import AllowedRoots
from csi.operator.resolve.load import resolve_load
from csi.operator.resolve.resolution import Surroundings, resolve
from csi.operator.resolved import Reference, Remark, Resolved, ResolvedSource, ResolvedTier, SecretKey
from csi.operator.resolved_load import LoadTarget, ResolvedLoad
from fusecache.base.units import GIB
from fusecache.contract.mount_spec import Medium
from tests.support.resolving import MANIFESTS, published

ROOT_OWNER = {"gid": "0", "uid": "0"}
IN_MEMORY = "mem-0850a74c"  # of /dev/shm


def outcome(name: str, namespace: str = "default") -> Resolved:
    dataset, *runtimes = published(name, namespace)
    assert isinstance(dataset, Dataset)
    found = resolve(dataset, runtimes[0] if runtimes else None, Surroundings(roots=AllowedRoots(cache=("/ssd",))))
    assert isinstance(found, Resolved), found
    return found


def load_of(name: str, resolved: Resolved, namespace: str = "default") -> ResolvedLoad:
    (load,) = published(name, namespace)
    assert isinstance(load, DataLoad)
    found = resolve_load(load, resolved)
    assert isinstance(found, ResolvedLoad), found
    return found


def test_web_directory_in_memory() -> None:
    spark = outcome("spark-webufs-alluxio.yaml")
    assert spark == Resolved(
        namespace="development",
        name="spark",
        runtime_kind="AlluxioRuntime",
        sources=(ResolvedSource("https://mirrors.bit.edu.cn/apache/spark/", read_only=True),),
        tiers=(ResolvedTier(IN_MEMORY, Medium.MEM, 4 * GIB, 0.95, 0.7, is_empty_dir=True),),
        settings=ROOT_OWNER,
        replicas=1,
    )
    assert spark.capacity_bytes == 4 * GIB
    assert load_of("spark-dataload-subdir.yaml", spark).targets == (LoadTarget("spark-3.3.1"),)


def test_a_reference_into_another_namespace() -> None:
    assert outcome("cross-namespace-reference.yaml") == Resolved(
        namespace="production",
        name="spark",
        runtime_kind="ThinRuntime",
        reference=Reference("development", "spark"),
        replicas=0,
    )


def test_oss_with_keys_in_a_secret() -> None:
    model = outcome("jindo-oss-serverless.yaml")
    assert model == Resolved(
        namespace="default",
        name="serverless-data",
        runtime_kind="JindoRuntime",
        sources=(
            ResolvedSource(
                "oss://large-model-sh",
                options={"endpoint_url": "oss-cn-beijing-internal.aliyuncs.com"},
                secrets={
                    "access_key": SecretKey("access-key", "fs.oss.accessKeyId"),
                    "secret_key": SecretKey("access-key", "fs.oss.accessKeySecret"),
                },
            ),
        ),
        tiers=(ResolvedTier(IN_MEMORY, Medium.MEM, 10 * GIB, 0.95, 0.7, is_empty_dir=True),),
        settings=ROOT_OWNER,
        replicas=1,
    )
    load = load_of("jindo-oss-dataload.yaml", model)
    assert (load.targets, load.refresh, load.name) == ((LoadTarget(""),), False, "serverless-data-warmup")


def test_a_claim_that_is_read_and_written() -> None:
    data = outcome("pvc-alluxio-rwx.yaml", "wz")
    assert data == Resolved(
        namespace="wz",
        name="polefs-acc",
        runtime_kind="AlluxioRuntime",
        sources=(ResolvedSource("file:///claims/polefs", options={"all_squash": "true"}, claim="polefs"),),
        tiers=(ResolvedTier("ssd-8526298f", Medium.SSD, 50 * GIB, 0.99, 0.7, "/ssd"),),
        settings={**ROOT_OWNER, "dir_mode": "0777", "file_mode": "0666"},
        read_write=True,
        access_modes=("ReadWriteMany",),
        replicas=3,
        remarks=(Remark("FieldIgnored", "without effect here: spec.master.jvmOptions", on_runtime=True),),
    )
    assert data.capacity_bytes == 150 * GIB
    assert load_of("pvc-alluxio-dataload.yaml", data, "wz").targets == (LoadTarget("data/test/images"),)


def test_nfs_with_the_places_filled_in() -> None:
    text = (MANIFESTS / "efc-nfs.yaml").read_text().replace("<nas_url>:<nas_dir>", "nas.example.com:/share/data")
    dataset, runtime = (
        parse({**raw, "metadata": {**raw["metadata"], "namespace": "default"}}) for raw in yaml.safe_load_all(text)
    )
    assert isinstance(dataset, Dataset)
    data = resolve(dataset, runtime)
    assert data == Resolved(
        namespace="default",
        name="efc-demo",
        runtime_kind="EFCRuntime",
        sources=(ResolvedSource("nfs://nas.example.com/share/data", options=ROOT_OWNER),),
        tiers=(ResolvedTier(IN_MEMORY, Medium.MEM, 15 * GIB, 0.95, 0.7, is_empty_dir=True),),
        settings=ROOT_OWNER,
        replicas=3,
    )


def test_nfs_as_it_is_printed() -> None:
    dataset, runtime = published("efc-nfs.yaml")
    assert isinstance(dataset, Dataset)
    (problem,) = resolve(dataset, runtime)  # type: ignore[misc]
    assert problem.message == "spec.mounts[0].mountPoint is no NFS export: write nfs://server:/directory"


@pytest.mark.parametrize("path", sorted(MANIFESTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_manifest_is_here(path: Path) -> None:
    ours = [raw for raw in yaml.safe_load_all(path.read_text()) if raw["apiVersion"].startswith("data.fluid.io/")]
    assert not ours or path.name in Path(__file__).read_text()
