"""A proxy between a client and the API server of a kubeconfig: requests are counted, delayed, lost, or answered by the test.

Owns the listening port, the connections and the list of calls (one lock around them). A daemon thread for each connection of the
client, with one TLS connection to the server; watches stream through. Whoever asks is the user of the kubeconfig: the proxy has
the certificate, so that the client needs none.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import yaml

from tests.support.http_wire import Disconnected, Head, Wire

_WRITES = ("POST", "PUT", "PATCH", "DELETE")
_TIMEOUT_SECONDS = 400.0  # longer than any watch


@dataclass(slots=True)
class Call:
    """One request. `time`: monotonic, when it came; `status`: 0 until the server has answered, and where it never did."""

    method: str
    path: str
    query: str
    authorization: str
    time: float = field(default_factory=time.monotonic)
    status: int = 0
    was_passed_on: bool = False

    @property
    def is_write(self) -> bool:
        return self.method in _WRITES

    @property
    def is_change(self) -> bool:
        """A write of what the client is there for: neither of its Lease nor of events."""
        return self.is_write and "/leases" not in self.path and "/events" not in self.path

    @property
    def is_watch(self) -> bool:
        return self.method == "GET" and "watch=true" in self.query

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.status}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the proxy answers instead of the server; `body` as it is, of `kind`."""

    status: int
    body: bytes = b""
    kind: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def refusal(cls, code: int, reason: str, *headers: tuple[str, str]) -> Answer:
        """As the API server refuses."""
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code}
        return cls(code, json.dumps({**status, "metadata": {}, "message": f"the test says {reason}"}).encode(), headers=headers)

    def encode(self) -> bytes:
        head = [("Content-Type", self.kind), ("Content-Length", str(len(self.body))), *self.headers]
        lines = [f"HTTP/1.1 {self.status} As-The-Test-Says", *(f"{name}: {value}" for name, value in head)]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


class ApiProxy:
    """Use as a context manager.

    Attributes:
        before: is told of each request before it is passed on; may wait, may return an answer, may raise Disconnected.
        after: is told when the server has answered, before the client hears of it; may wait, may raise Disconnected.
    """

    def __init__(self, kubeconfig: Path, directory: Path) -> None:
        """`directory`: for the kubeconfig of the client."""
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        parts = urlsplit(cluster["server"])
        self._server = (str(parts.hostname), parts.port or 443)
        self._tls = _tls(cluster, user)
        self._config = config
        self._directory = directory
        self.before: Callable[[Call], Answer | None] = lambda call: None
        self.after: Callable[[Call], None] = lambda call: None
        self.lock = threading.Lock()
        self._calls: list[Call] = []
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self._flows = threading.Event()
        self._flows.set()
        self.port = 0

    def __enter__(self) -> Self:
        self.accept()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._flows.set()
        self.refuse()

    def write_kubeconfig(self, token_file: Path | None = None) -> Path:
        """Write one that leads here. `token_file`: where the client finds what it says of itself."""
        config = dict(self._config)
        name = config["clusters"][0]["name"]
        config["clusters"] = [{"name": name, "cluster": {"server": f"http://127.0.0.1:{self.port}"}}]
        user = {"tokenFile": str(token_file)} if token_file else {"token": "of-the-test"}
        config["users"] = [{"name": config["users"][0]["name"], "user": user}]
        path = self._directory / f"kubeconfig-{self.port}"
        path.write_text(yaml.safe_dump(config))
        return path

    def calls(self, since: float = 0.0) -> list[Call]:
        with self.lock:
            return [call for call in self._calls if call.time >= since]

    def changes(self, since: float = 0.0) -> list[Call]:
        """Those that reached the server, and may have changed something."""
        return [call for call in self.calls(since) if call.is_change and call.was_passed_on]

    # -- the line

    def accept(self) -> None:
        """Listen, on the same port as before."""
        listener = socket.create_server(("127.0.0.1", self.port), backlog=512)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def refuse(self) -> None:
        """Close the port, and every connection."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.cut()

    def cut(self) -> None:
        """Close every connection."""
        with self.lock:
            connections = list(self._open)
        for one in connections:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def stall(self) -> None:
        """Let nothing through any more, in neither direction, and tell nobody."""
        self._flows.clear()

    def flow(self) -> None:
        """The line is there again; what was under way when it stalled is lost."""
        self.cut()
        self._flows.set()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server: Wire | None = None
        self._note(client)
        try:
            wire = Wire(client)
            while True:
                head = wire.read_head()
                body = wire.read_chunked() if head.is_chunked else wire.read_exactly(head.content_length or 0)
                self._wait_flow()
                call = self._call(head)
                answer = self.before(call)
                if answer is not None:
                    call.status = answer.status
                    client.sendall(answer.encode())
                    continue
                server = server or self._connect()
                self._relay(call, head, body, wire, server)
        except (Disconnected, OSError, ValueError):
            pass  # a side has gone
        finally:
            self._forget(client)
            if server is not None:
                self._forget(server.sock)

    def _relay(self, call: Call, head: Head, body: bytes, client: Wire, server: Wire) -> None:
        """Carry one request and its answer."""
        for name in (b"authorization", b"transfer-encoding", b"accept-encoding"):
            head.replaced(name, None)
        if body:
            head.replaced(b"content-length", str(len(body)).encode())
        call.was_passed_on = True
        server.sock.sendall(head.encode() + body)
        reply = server.read_head()
        call.status = reply.status
        self.after(call)
        self._wait_flow()
        client.sock.sendall(reply.encode())
        if reply.is_chunked:
            for piece in server.read_chunks():
                self._wait_flow()
                client.sock.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
            client.sock.sendall(b"0\r\n\r\n")
        elif reply.status not in (204, 304):
            client.sock.sendall(server.read_exactly(reply.content_length or 0))

    def _wait_flow(self) -> None:
        if not self._flows.is_set():
            self._flows.wait()
            raise Disconnected

    def _connect(self) -> Wire:
        plain = socket.create_connection(self._server, 10)
        plain.settimeout(_TIMEOUT_SECONDS)
        wrapped = self._tls.wrap_socket(plain, server_hostname=self._server[0])
        wrapped.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._note(wrapped)
        return Wire(wrapped)

    def _note(self, one: socket.socket) -> None:
        with self.lock:
            self._open.add(one)

    def _forget(self, one: socket.socket) -> None:
        with self.lock:
            self._open.discard(one)
        one.close()

    def _call(self, head: Head) -> Call:
        method, target, _ = head.first_line.decode().split(" ", 2)
        path, _, query = target.partition("?")
        call = Call(method, path, query, (head.get(b"authorization") or b"").decode())
        with self.lock:
            self._calls.append(call)
        return call


def _tls(cluster: dict[str, Any], user: dict[str, Any]) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    with tempfile.TemporaryDirectory() as directory:  # the library wants files
        paths = []
        for name in ("client-certificate-data", "client-key-data"):
            path = Path(directory) / name
            path.touch(mode=0o600)
            path.write_bytes(base64.b64decode(user[name]))
            paths.append(path)
        context.load_cert_chain(str(paths[0]), str(paths[1]))
    return context
