"""Node and controller as programs of their own, with kubelet's registration, gRPC health, metrics and JSON logs."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from csi.stubs import csi_pb2, pluginregistration_pb2, pluginregistration_pb2_grpc
from tests.support.csi_driver import CsiDriver
from tests.support.mounted import ROOT, kill, wait_until
from tests.support.seaweed import Seaweed

pytestmark = [pytest.mark.fuse, pytest.mark.root, pytest.mark.slow]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def controller(disk_path: Path, seaweed: Seaweed) -> Iterator[CsiDriver]:
    arguments = ["controller", "--node", "node-1", "--node", "node-2"]
    with CsiDriver(disk_path / "c", seaweed.client_environment(), mode=arguments) as driver:
        yield driver


def test_a_volume_from_controller_to_node(
    disk_path: Path, controller: CsiDriver, seaweed: Seaweed, parameters: dict[str, str]
) -> None:
    registry = disk_path / "registry"
    registry.mkdir()
    port = free_port()
    arguments = ["node", "--node-id", "node-1", "--plugins-registry", str(registry), "--metrics", f"127.0.0.1:{port}"]
    arguments += ["--log-format", "json"]
    with CsiDriver(disk_path / "n", seaweed.client_environment(), mode=arguments) as node:
        services = {
            one.service.type
            for one in controller.identity.GetPluginCapabilities(csi_pb2.GetPluginCapabilitiesRequest()).capabilities
            if one.HasField("service")
        }
        assert services == {csi_pb2.PluginCapability.Service.CONTROLLER_SERVICE}
        here = node.identity.GetPluginCapabilities(csi_pb2.GetPluginCapabilitiesRequest()).capabilities
        assert not any(one.HasField("service") for one in here)
        with pytest.raises(grpc.RpcError) as failed:
            node.controller.ListVolumes(csi_pb2.ListVolumesRequest(), timeout=5)
        assert failed.value.code() is grpc.StatusCode.UNIMPLEMENTED
        with pytest.raises(grpc.RpcError) as failed:
            controller.node.NodeGetInfo(csi_pb2.NodeGetInfoRequest(), timeout=5)
        assert failed.value.code() is grpc.StatusCode.UNIMPLEMENTED
        volume = controller.create("claim", {**parameters, "tiers": "mem:16Mi,ssd:64Mi"})
        with pytest.raises(grpc.RpcError) as failed:  # the node would not get to know it
            controller.controller.ControllerModifyVolume(
                csi_pb2.ControllerModifyVolumeRequest(volume_id=volume.volume_id, mutable_parameters={"ttl": "9s"}), timeout=5
            )
        assert failed.value.code() is grpc.StatusCode.UNIMPLEMENTED
        staging = node.stage(volume)
        target = node.publish(volume, staging, "pod")
        subprocess.run(["timeout", "-s", "KILL", "20", "cp", "/etc/passwd", str(target / "f")], check=True)
        (record,) = node.records()
        tiers = json.loads((Path(record.run_dir) / "spec.json").read_text())["tiers"]
        assert [(tier["medium"], tier["quota_bytes"]) for tier in tiers] == [("MEM", 16 << 20), ("SSD", 64 << 20)]
        size = Path("/etc/passwd").stat().st_size
        request = csi_pb2.NodeGetVolumeStatsRequest(volume_id=volume.volume_id, volume_path=str(target))
        assert wait_until(lambda: [one.used for one in node.node.NodeGetVolumeStats(request).usage] == [size, 1], 10.0)

        def metrics() -> str:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()

        assert wait_until(lambda: "fusecache_csi_custody_descriptors 4.0" in metrics(), 10.0)
        text = metrics()
        assert 'fusecache_csi_calls_total{code="OK",method="NodeStageVolume"} 1.0' in text
        assert "fusecache_csi_datasets 1.0" in text
        assert "fusecache_csi_publications 1.0" in text
        node.unpublish(volume, target)
        node.unstage(volume, staging)
        controller.delete(volume)
        assert not Path(tiers[0]["path"]).exists(), "the memory of the tier is not given back"
        assert node.leftovers() == []
        lines = [json.loads(line) for line in node.log().splitlines()]
    calls = [line for line in lines if line.get("method") == "NodePublishVolume"]
    assert [(line["code"], line["volume"], line["level"]) for line in calls] == [("OK", volume.volume_id, "INFO")]
    assert len({line["request"] for line in lines if "request" in line}) > 3


def test_kubelet_finds_the_driver_again_and_again(disk_path: Path, seaweed: Seaweed) -> None:
    """We are kubelet: it looks into the directory, asks, tells; started again, it does that again, or empties it first."""
    registry = disk_path / "registry"
    registry.mkdir()
    path = registry / "csi.fusecache.io-reg.sock"
    arguments = ["node", "--node-id", "node-1", "--plugins-registry", str(registry), "--kubelet-endpoint", "/kubelet/csi.sock"]
    with CsiDriver(disk_path / "n", seaweed.client_environment(), mode=arguments) as node:

        def register() -> None:
            assert wait_until(path.exists, 10.0)
            with grpc.insecure_channel(f"unix://{path}") as channel:
                stub = pluginregistration_pb2_grpc.RegistrationStub(channel)
                info = stub.GetInfo(pluginregistration_pb2.InfoRequest(), timeout=5)
                assert (info.type, info.name, info.endpoint) == ("CSIPlugin", "csi.fusecache.io", "/kubelet/csi.sock")
                assert list(info.supported_versions) == ["1.0.0"]
                stub.NotifyRegistrationStatus(pluginregistration_pb2.RegistrationStatus(plugin_registered=True), timeout=5)

        register()
        register()
        for entry in registry.iterdir():
            entry.unlink()
        register()
        shutil.rmtree(registry)
        time.sleep(1.5)
        registry.mkdir()
        register()
        assert node.log().count("kubelet has registered the driver") == 4
        node.stop()
        assert not path.exists()


def test_health_says_what_probe_says(disk_path: Path, seaweed: Seaweed) -> None:
    """Not ready while custody, which somebody else runs, is away."""
    root = disk_path / "custody"
    root.mkdir()
    command = [sys.executable, "-P", "-m", "fusecache.custody.keeper", "--root", str(root)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def run_custody() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)

    custody = run_custody()
    arguments = ["node", "--node-id", "node-1", "--custody", str(root)]
    try:
        with CsiDriver(disk_path / "n", seaweed.client_environment(), mode=arguments) as node:
            stub = health_pb2_grpc.HealthStub(node.channel)

            def status() -> int:
                return int(stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status)

            def is_ready() -> bool:
                return bool(node.identity.Probe(csi_pb2.ProbeRequest(), timeout=15).ready.value)

            assert wait_until(lambda: status() == health_pb2.HealthCheckResponse.SERVING, 10.0)
            kill(custody.pid)
            custody.wait(10)
            assert wait_until(lambda: not is_ready(), 15.0)
            assert wait_until(lambda: status() == health_pb2.HealthCheckResponse.NOT_SERVING, 15.0)
            custody = run_custody()
            assert wait_until(lambda: is_ready() and status() == health_pb2.HealthCheckResponse.SERVING, 15.0)
    finally:
        custody.terminate()
        custody.wait(10)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--endpoint", "unix:///s"], "--standalone, node, controller"),
        (["node", "--standalone", "--node-id", "n"], "--standalone, node, controller"),
        (["controller"], "--node NAME"),
        (["node"], "--node-id"),
        (["--standalone", "--node-id", "n", "--daemon-user", "nobody"], "in numbers"),
        (["--standalone", "--node-id", "n", "--metrics", "9810"], "ADDRESS:PORT"),
        (["--standalone", "--node-id", "n", "--log-format", "xml"], "json"),
        (["--standalone", "--node-id", "n", "--daemons", "pods"], "say node"),
        (["node", "--node-id", "n", "--daemons", "others"], "pods"),
    ],
)
def test_bad_arguments_are_named(arguments: list[str], words: str, capfd: pytest.CaptureFixture[str]) -> None:
    from csi.settings import parse

    with pytest.raises(SystemExit) as ended:
        parse(["--endpoint", "unix:///s", "--state-dir", "/nowhere", *arguments])
    assert ended.value.code == 2
    assert words in capfd.readouterr().err
