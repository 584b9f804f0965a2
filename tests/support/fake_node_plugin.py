"""The smallest CSI node plugin that a kubelet takes: volumes are directories with one file, and nothing is mounted.

Owns a gRPC server in this process; its socket lies in the directory of a node that the kubelet watches. Use as a context manager:
at the end the socket is gone, and the kubelet forgets the driver.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from csi.stubs import csi_pb2, csi_pb2_grpc, pluginregistration_pb2, pluginregistration_pb2_grpc

REGISTRY = "/var/lib/kubelet/plugins_registry"


class FakeNodePlugin(
    pluginregistration_pb2_grpc.RegistrationServicer,
    csi_pb2_grpc.IdentityServicer,
    csi_pb2_grpc.NodeServicer,
):
    """Serves one node. A volume's file is called "published" and holds the volume's context.

    Attributes:
        registered: set once the kubelet says that it took the driver.
        published, unpublished: target paths, as the kubelet named them.
    """

    def __init__(self, name: str, node: str, root: Path) -> None:
        """Args: root: of the node, as this process sees it."""
        self.name = name
        self.node = node
        self.root = root
        self.registered = threading.Event()
        self.registration_error = ""
        self.published: list[str] = []
        self.unpublished: list[str] = []
        self._socket = root / REGISTRY.lstrip("/") / f"{name}.sock"
        self._server = grpc.server(ThreadPoolExecutor(4))

    def __enter__(self) -> Self:
        pluginregistration_pb2_grpc.add_RegistrationServicer_to_server(self, self._server)
        csi_pb2_grpc.add_IdentityServicer_to_server(self, self._server)
        csi_pb2_grpc.add_NodeServicer_to_server(self, self._server)
        self._server.add_insecure_port(f"unix://{self._socket}")
        self._server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.stop(None).wait()
        self._socket.unlink(missing_ok=True)

    # -- registration

    def GetInfo(self, request: Any, context: Any) -> Any:
        return pluginregistration_pb2.PluginInfo(
            type="CSIPlugin", name=self.name, endpoint=f"{REGISTRY}/{self._socket.name}", supported_versions=["1.0.0"]
        )

    def NotifyRegistrationStatus(self, request: Any, context: Any) -> Any:
        self.registration_error = request.error
        if request.plugin_registered:
            self.registered.set()
        return pluginregistration_pb2.RegistrationStatusResponse()

    # -- identity, node

    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return csi_pb2.GetPluginInfoResponse(name=self.name, vendor_version="1")

    def NodeGetInfo(self, request: Any, context: Any) -> Any:
        return csi_pb2.NodeGetInfoResponse(node_id=self.node)

    def NodeGetCapabilities(self, request: Any, context: Any) -> Any:
        return csi_pb2.NodeGetCapabilitiesResponse()

    def NodePublishVolume(self, request: Any, context: Any) -> Any:
        target = self.root / request.target_path.lstrip("/")
        target.mkdir(parents=True, exist_ok=True)
        (target / "published").write_text(repr(sorted(request.volume_context.items())))
        self.published.append(request.target_path)
        return csi_pb2.NodePublishVolumeResponse()

    def NodeUnpublishVolume(self, request: Any, context: Any) -> Any:
        target = self.root / request.target_path.lstrip("/")
        (target / "published").unlink(missing_ok=True)
        if target.exists():
            target.rmdir()
        self.unpublished.append(request.target_path)
        return csi_pb2.NodeUnpublishVolumeResponse()
