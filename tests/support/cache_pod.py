"""A cache pod without a cluster: volumes from the driver, `python -m fusecache.pod` as the Dataset's user, and kubelet's part.

Owns the process, which is the first one of a PID namespace as in a container (all of it ends with it), and its directory.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from csi.stubs import csi_pb2
from csi.volumes import inline
from fusecache.base.confinement import User, shut_out
from fusecache.contract.keeping import MOUNTS_DIR
from tests.support.csi_driver import CALL_SECONDS, CsiDriver, capability
from tests.support.mounted import ROOT, wait_until
from tests.support.seaweed import ADMIN, Identity, free_ports

NAMESPACE, NAME = "team", "demo"
TOKEN, OWN_TOKEN = "token-of-the-tests", "token-of-pods-alone"
QUOTA = 256 << 20
BLOCKS = {"directory": "blocks", "medium": "SSD", "quota_bytes": QUOTA, "high": 0.95, "low": 0.7}
BIND = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from fusecache.custody import kernel
count = int(sys.argv[1])
for number in range(count):
    source, target = sys.argv[2 + 2 * number : 4 + 2 * number]
    os.makedirs(target, exist_ok=True)  # of root, as by a container's runtime
    kernel.mount(source, target, "", 4096, "")  # MS_BIND
os.execvp(sys.argv[2 + 2 * count], sys.argv[2 + 2 * count :])
"""


class CachePod:
    """`pod`: the end of its name. Several pods of one Dataset share cache and mount, as on a node. `places`: directories of the
    node that users named for tiers."""

    def __init__(
        self,
        driver: CsiDriver,
        pod: str,
        sources: Sequence[Mapping[str, Any]],
        *,
        settings: Mapping[str, str] | None = None,
        attributes: Mapping[str, str] | None = None,
        read_write: bool = False,
        tiers: Sequence[Mapping[str, Any]] = (BLOCKS,),
        places: Mapping[str, Path] | None = None,
        identity: Identity = ADMIN,
        peers: Mapping[str, Any] | None = None,
        node: str = "",
    ) -> None:
        self._driver = driver
        self.name = f"{NAME}-fuse-{pod}"
        self.uid = inline.uid_of(NAMESPACE, NAME)
        self.base = driver.base / self.name
        self.base.mkdir()
        self.cache, self.custody = driver.pods / f"{self.name}-cache", driver.pods / f"{self.name}-custody"
        self._attributes = {"fusecache.io/read-write": "true" if read_write else "false", "fusecache.io/tiers": "blocks"}
        self._attributes |= attributes or {}
        self._places = dict(places or {})
        self._tiers = {name: driver.pods / f"{self.name}-{name}" for name in self._places}
        (self.port,) = free_ports(1)
        self.process: subprocess.Popen[bytes] | None = None
        config = {
            "version": 1, "namespace": NAMESPACE, "name": NAME, "dataset_id": inline.dataset_id(NAMESPACE, NAME),
            "sources": list(sources), "settings": dict(settings or {}), "read_write": read_write,
            "tiers": list(tiers),
        }  # fmt: skip
        if peers is not None:
            config["peers"] = dict(peers)
        self._node = node
        (self.base / "memory").mkdir()
        (self.base / "credentials").mkdir()
        (self.base / "dataset.json").write_text(json.dumps(config))
        (self.base / "token").write_text(f"{TOKEN}\n")
        (self.base / "own").write_text(f"{OWN_TOKEN}\n")
        self.put_secret("0.access_key", identity.access_key)
        self.put_secret("0.secret_key", identity.secret_key)
        for path in (self.base, *self.base.rglob("*")):
            os.chown(path, self.uid, self.uid)

    def put_secret(self, name: str, value: str) -> None:
        path = self.base / "credentials" / name
        path.write_text(value)
        os.chown(path, self.uid, self.uid)

    # -- kubelet's part

    def publish(self) -> None:
        """Give it its volumes."""
        attributes = {"cache": {}, "custody": self._attributes}
        for directory, target in (("cache", self.cache), ("custody", self.custody)):
            self._publish(directory, target, attributes[directory])
        for name, target in self._tiers.items():
            self._publish("tier", target, {"fusecache.io/tier": name, "fusecache.io/host-path": str(self._places[name])})

    def _publish(self, directory: str, target: Path, attributes: Mapping[str, str]) -> None:
        context = {
            "csi.storage.k8s.io/ephemeral": "true",
            "csi.storage.k8s.io/pod.name": self.name,
            "csi.storage.k8s.io/pod.namespace": NAMESPACE,
            "csi.storage.k8s.io/serviceAccount.name": f"{NAME}-fuse",
            "fusecache.io/directory": directory,
            "fusecache.io/dataset": NAME,
            **attributes,
        }
        request = csi_pb2.NodePublishVolumeRequest(
            volume_id=f"csi-{target.name}", target_path=str(target), volume_capability=capability(), volume_context=context
        )
        self._driver.node.NodePublishVolume(request, timeout=CALL_SECONDS)

    def unpublish(self) -> None:
        for target in (self.cache, self.custody, *self._tiers.values()):
            request = csi_pb2.NodeUnpublishVolumeRequest(volume_id=f"csi-{target.name}", target_path=str(target))
            self._driver.node.NodeUnpublishVolume(request, timeout=CALL_SECONDS)

    # -- the container

    def start(self, **options: Any) -> None:
        """Run the container, again if it has ended. `options`: of the program, beside those that it always has here."""
        places: dict[str, Any] = {
            "config": self.base / "dataset.json", "credentials": self.base / "credentials", "token": self.base / "token",
            "own_token": self.base / "own",
            "memory": self.base / "memory", "address": "127.0.0.1", "port": self.port, "node": self._node,
            # The index lies where it was in the pod before: in a container that is /cache, whatever it is on the node.
            **{name: str(self._driver.base / "container" / name) for name in ("cache", "custody")},
            **options,
        }  # fmt: skip
        for name in ("cache", "custody"):
            Path(places[name]).mkdir(parents=True, exist_ok=True)
        command = ["unshare", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--propagation", "slave"]
        binds = {self.cache: places["cache"], self.custody: places["custody"]}
        binds |= {target: f"{places['cache']}/{name}" for name, target in self._tiers.items()}
        command += [sys.executable, "-c", BIND, str(len(binds)), *(str(path) for pair in binds.items() for path in pair)]
        if not shut_out(User(self.uid, self.uid), [sys.executable, str(ROOT / "csi"), str(self.cache)]):
            command += ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups", "--bounding-set=-all"]
            command += ["--inh-caps=-all", "--no-new-privs"]
        command += [sys.executable, "-P", "-m", "fusecache.pod"]
        command += [word for name, value in places.items() for word in (f"--{name}", str(value))]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        environment |= {"PYTHONPATH": str(self._driver.package), "AWS_EC2_METADATA_DISABLED": "true", "HOME": "/nonexistent"}
        with (self.base / "log").open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    @property
    def pid(self) -> int:
        """Of the container's first process. Raises: IndexError, if there is none."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait until nothing of it is left, and return the exit status."""
        assert self.process is not None
        os.kill(self.pid, number)
        status = self.process.wait(20)
        self.process = None
        return status

    def log(self) -> str:
        path = self.base / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def close(self) -> None:
        if self.process is not None:
            with contextlib.suppress(IndexError, OSError):  # the user it became is not told when its parent ends
                os.kill(self.pid, signal.SIGKILL)
            self.process.kill()
            self.process.wait(20)
            self.process = None
        print(f"{self.name}:\n{self.log()[-6000:]}")  # seen where a test fails

    # -- clients

    def get(self, path: str, token: str = "") -> tuple[int, str]:
        """Return status and body; 0 if nobody listens."""
        return self.request("GET", path, b"", token)

    def request(self, method: str, path: str, body: bytes, token: str = "") -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body or None, {"Authorization": f"Bearer {token}"} if token else {})
            with connection.getresponse() as response:
                return response.status, response.read().decode()
        except ConnectionError:
            return 0, ""
        finally:
            connection.close()

    def warm(self, *paths: str, refresh: bool = False, owned: bool = False, dry_run: bool = False) -> Iterator[dict[str, Any]]:
        """Yield the lines of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            body = json.dumps({"paths": list(paths), "refresh": refresh, "owned": owned, "dry_run": dry_run})
            connection.request("POST", "/warm", body, {"Authorization": f"Bearer {TOKEN}"})
            with connection.getresponse() as response:
                assert response.status == 200, response.read()
                for line in response:
                    yield json.loads(line)
        finally:
            connection.close()

    def is_serving(self) -> bool:
        return self.get("/healthz") == (200, "serving\n")

    def is_standby(self) -> bool:
        return self.get("/healthz") == (200, "standby\n")

    def wait_standby(self, seconds: float = 30.0) -> None:
        assert wait_until(self.is_standby, seconds), f"{self.get('/healthz')} {self.log()[-4000:]}"

    def wait_serving(self, seconds: float = 20.0) -> None:
        assert wait_until(self.is_serving, seconds), f"{self.get('/healthz')} {self.log()[-4000:]}"


def volume_of(volume_id: str, path: str = "") -> csi_pb2.Volume:
    """Return a PV of the Dataset."""
    context = {"fusecache.io/namespace": NAMESPACE, "fusecache.io/dataset": NAME}
    return csi_pb2.Volume(volume_id=volume_id, volume_context={**context, **({"fusecache.io/path": path} if path else {})})


def leftovers(driver: CsiDriver) -> list[str]:
    """Return what should not be there when neither pod nor volume is."""
    inline_records = [path.name for path in (driver.state / "inline").glob("*")]
    mountpoints = [path.name for path in (driver.state / "mounts").glob("*")]
    kept = [str(path) for path in (driver.state / "custody" / MOUNTS_DIR).rglob("*")]
    return [*driver.leftovers(), *inline_records, *mountpoints, *kept]
