"""The process of the fault proxy: `python -m tests.support.fault_proxy_process UPSTREAM_HOST:PORT [LISTEN_PORT]`.

Owns the listening port, the control port, the counts and the log of requests (one lock around them). One thread per client
connection with one upstream connection of its own. It prints `{"port", "control_port"}` once it listens, and ends with its stdin.
Heads and bodies pass as they are (the Host header too, so that signatures stay valid) unless a fault says otherwise.

Control: one JSON object per line in, one out: {"do": "plan", "plan": {...}} | {"do": "counts"} | {"do": "log"} | {"do": "reset"}.
"""

from __future__ import annotations

import collections
import contextlib
import json
import re
import socket
import struct
import sys
import threading
import time
from typing import Any
from urllib.parse import parse_qsl

from fusecache.source.credentials import Credential
from fusecache.source.sigv4 import Signer, encode_query
from tests.support.fault_plan import ANY_ANSWER, Fault, Gone, Plan
from tests.support.http_wire import Disconnected, Head, Wire

SHORT_PAGE_NAMES = 3
IN_BODY = (Fault.SLOW_BODY, Fault.RESET, Fault.TRUNCATED, Fault.FLIP)
_GONE = (ConnectionError, Disconnected, TimeoutError, OSError)


class Proxy:
    """Invariant: `plan` is replaced whole, and a request sees one plan from its head to its end."""

    def __init__(self, upstream: tuple[str, int], port: int, address: str) -> None:
        self.upstream = upstream
        self._address = address
        self.plan = Plan()
        self.lock = threading.Lock()
        self.log: list[dict[str, Any]] = []
        self.fired: collections.Counter[str] = collections.Counter()
        self.requests: collections.Counter[str] = collections.Counter()
        self.bytes: collections.Counter[str] = collections.Counter()
        self._seen: collections.Counter[str] = collections.Counter()
        self._in_a_row: collections.Counter[str] = collections.Counter()
        self._clients: set[socket.socket] = set()
        self._next_free = 0.0  # when the shaped line is free again
        self.port = port
        self._listener: socket.socket | None = None
        self.listen()

    def listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self._address, self.port))
        listener.listen(512)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def set_plan(self, plan: Plan) -> None:
        was_refusing = self.plan.gone is Gone.REFUSE
        self.plan = plan
        if plan.gone is Gone.REFUSE and not was_refusing:
            assert self._listener is not None
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept; close alone does not
            self._listener.close()
            with self.lock:
                clients = list(self._clients)
            for client in clients:
                reset(client)
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)  # ends the thread's recv or send; its close then resets
        elif was_refusing and plan.gone is not Gone.REFUSE:
            self.listen()

    def forget(self) -> None:
        with self.lock:
            self.log.clear()
            for counter in (self.fired, self.requests, self.bytes, self._seen, self._in_a_row):
                counter.clear()

    def choose(self, plan: Plan, key: str, eligible: tuple[Fault, ...]) -> Fault | None:
        with self.lock:
            self._seen[key] += 1
            fault = plan.choose(key, self._seen[key], self._in_a_row[key], eligible)
            self._in_a_row[key] = self._in_a_row[key] + 1 if fault else 0
            if fault:
                self.fired[fault] += 1
            return fault

    def take_back(self, key: str, fault: Fault) -> None:
        """Uncount a fault that turned out to have nothing to befall."""
        with self.lock:
            self.fired[fault] -= 1
            self._in_a_row[key] -= 1

    def record(self, entry: dict[str, Any]) -> None:
        with self.lock:
            self.log.append(entry)
            name = f"{entry['method']} {entry['path']}"
            self.requests[name] += 1
            self.bytes[name] += entry["bytes"]

    def shape(self, size: int) -> None:
        """Wait until a line of the bandwidth planned now, shared by all, has carried `size` bytes: also of answers under way."""
        bandwidth = self.plan.bandwidth_bytes_per_second
        if not bandwidth:
            return
        with self.lock:
            now = time.monotonic()
            self._next_free = max(self._next_free, now) + size / bandwidth
            wait = self._next_free - now
        time.sleep(wait)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self.lock:
                    self._clients.add(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        connection = Connection(self, client)
        try:
            while connection.serve_one():
                pass
        except _GONE:
            pass
        finally:
            with self.lock:
                self._clients.discard(client)
            connection.close()


class Connection:
    """One client connection and its upstream connection."""

    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self._proxy = proxy
        self._client = Wire(client)
        self._upstream: Wire | None = None

    def close(self) -> None:
        self._client.sock.close()
        self._drop_upstream()

    def serve_one(self) -> bool:
        """Carry one request and its answer. Returns whether the connection goes on."""
        head = self._client.read_head()
        request = Request.parse(head)
        plan = self._proxy.plan
        body = self._read_body(head)
        entry: dict[str, Any] = {
            "time": time.time(), "method": request.method, "path": request.path, "query": request.query,
            "range": request.range, "status": 0, "fault": None, "bytes": 0,
        }  # fmt: skip
        try:
            if plan.gone is Gone.STALL:
                self._stall(3600.0, until_back=True)
                return False
            fault = self._proxy.choose(plan, request.key, request.eligible(plan))
            entry["fault"] = fault
            return self._answer(request, body, plan, fault, entry)
        finally:
            self._proxy.record(entry)

    def _answer(self, request: Request, body: bytes, plan: Plan, fault: Fault | None, entry: dict[str, Any]) -> bool:
        if plan.latency_seconds:
            time.sleep(plan.latency_seconds)
        if fault is Fault.STALL:
            self._stall(plan.stall_seconds)
            return False
        if fault is Fault.SLOW:
            time.sleep(plan.slow_seconds)
        if fault in (Fault.UNAVAILABLE, Fault.THROTTLED):
            entry["status"] = int(fault)
            self._client.sock.sendall(error_answer(int(fault), request, self._proxy.fired[fault] % 2 == 0))
            return True
        head = request.head
        if fault is Fault.WHOLE:
            head = request.without_range(plan)
        elif fault is Fault.WRONG_RANGE and request.can_change(plan):
            head = request.shifted(plan)
        elif fault is Fault.SHORT_LIST:
            head = request.short_page(plan)
        reply, upstream = self._ask(head, body)
        entry["status"] = reply.status
        if fault is Fault.LOST:
            reset(self._client.sock)
            self._drop_upstream()
            return False
        if fault is Fault.WRONG_RANGE and not request.can_change(plan):
            mislabel(reply)
        has_body = request.method != "HEAD" and reply.status not in (204, 304)
        if has_body and (reply.is_chunked or fault is Fault.REPEAT_TOKEN):
            content = upstream.read_chunked() if reply.is_chunked else upstream.read_exactly(reply.content_length or 0)
            if fault is Fault.REPEAT_TOKEN and reply.status == 200:
                content = repeat_token(content, request.parameters["continuation-token"])
            reply.replaced(b"transfer-encoding", None)
            reply.replaced(b"content-length", str(len(content)).encode())
            self._client.sock.sendall(reply.encode() + content)
            entry["bytes"] = len(content)
            return True
        if fault is Fault.EMPTY and reply.status < 300:
            reply.replaced(b"content-length", b"0")
            self._client.sock.sendall(reply.encode())
            self._drop_upstream()
            return True
        self._client.sock.sendall(reply.encode())
        if not has_body:
            return True
        length = reply.content_length or 0
        if fault in IN_BODY and (length == 0 or reply.status >= 300):
            self._proxy.take_back(request.key, fault)
            entry["fault"] = fault = None
        return self._relay(upstream, length, plan, fault, entry)

    def _relay(self, upstream: Wire, length: int, plan: Plan, fault: Fault | None, entry: dict[str, Any]) -> bool:
        """Send the body on, with what befalls it in its middle."""
        done, middle = 0, length // 2
        while done < length:
            most = length - done if done >= middle else middle - done
            piece = upstream.read_piece(most)
            if fault is not None and done == middle:
                if fault is Fault.SLOW_BODY:
                    time.sleep(plan.slow_seconds)
                elif fault is Fault.RESET:
                    reset(self._client.sock)
                    return False
                elif fault is Fault.TRUNCATED:
                    return False
                elif fault is Fault.FLIP:
                    piece = memoryview(bytearray(piece))
                    piece[0] ^= 1
                fault = None
            self._proxy.shape(len(piece))
            self._client.sock.sendall(piece)
            done += len(piece)
            entry["bytes"] = done
        return True

    def _ask(self, head: Head, body: bytes) -> tuple[Head, Wire]:
        """Send a request upstream and return the head of its answer; a connection the store closed while idle is made anew."""
        for is_retry in (self._upstream is None, True):
            if self._upstream is None:
                sock = socket.create_connection(self._proxy.upstream, 10)
                sock.settimeout(300)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._upstream = Wire(sock)
            upstream = self._upstream
            try:
                upstream.sock.sendall(head.encode() + body)
                reply = upstream.read_head()
                while reply.status < 200:
                    reply = upstream.read_head()
                return reply, upstream
            except _GONE:
                self._drop_upstream()
                if is_retry:
                    raise
        raise AssertionError("unreachable")

    def _read_body(self, head: Head) -> bytes:
        if (head.get(b"expect") or b"").lower() == b"100-continue":
            self._client.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if head.is_chunked:
            content = self._client.read_chunked()
            head.replaced(b"transfer-encoding", None)
            head.replaced(b"content-length", str(len(content)).encode())
            return content
        return self._client.read_exactly(head.content_length or 0)

    def _stall(self, seconds: float, until_back: bool = False) -> None:
        """Wait until the client hangs up, at most so long; `until_back`: or the store is back (then reset: it knows nothing)."""
        deadline = time.monotonic() + seconds
        self._client.sock.settimeout(0.2)
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < deadline:
                if until_back and self._proxy.plan.gone is not Gone.STALL:
                    break
                with contextlib.suppress(TimeoutError):
                    self._client.sock.recv(1)
                    return
        reset(self._client.sock)

    def _drop_upstream(self) -> None:
        if self._upstream is not None:
            self._upstream.sock.close()
            self._upstream = None


class Request:
    """A request head, understood as far as the faults need."""

    def __init__(self, head: Head, method: str, target: str) -> None:
        self.head = head
        self.method = method
        self.path, _, self.query = target.partition("?")
        self.range = (head.get(b"range") or b"").decode("latin-1")
        self.key = f"{method} {target} {self.range}".rstrip()
        self.parameters = dict(parse_qsl(self.query, keep_blank_values=True))

    @classmethod
    def parse(cls, head: Head) -> Request:
        method, target, _ = head.first_line.split(b" ", 2)
        return cls(head, method.decode(), target.decode("latin-1"))

    @property
    def is_signed(self) -> bool:
        return self.head.get(b"authorization") is not None

    @property
    def is_list(self) -> bool:
        return self.method == "GET" and self.parameters.get("list-type") == "2"

    def can_change(self, plan: Plan) -> bool:
        return bool(plan.secret_key) or not self.is_signed

    def eligible(self, plan: Plan) -> tuple[Fault, ...]:
        """Return the faults that can befall this request."""
        can_change = self.can_change(plan)
        if self.method != "GET":
            return ANY_ANSWER if self.method == "HEAD" else (*ANY_ANSWER, Fault.LOST)
        kinds: tuple[Fault, ...] = (*ANY_ANSWER, Fault.SLOW_BODY, Fault.RESET, Fault.TRUNCATED, Fault.EMPTY)
        if self.is_list:
            kinds += (Fault.SHORT_LIST,) if can_change else ()
            return kinds + ((Fault.REPEAT_TOKEN,) if "continuation-token" in self.parameters else ())
        kinds += (Fault.FLIP,)
        if self.range:
            kinds += (Fault.WHOLE, Fault.WRONG_RANGE) if can_change else (Fault.WRONG_RANGE,)
        return kinds

    def without_range(self, plan: Plan) -> Head:
        return self._changed(plan, self.query, None)

    def shifted(self, plan: Plan) -> Head:
        """Ask for the same number of bytes from another place (one byte earlier or later)."""
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.range)
        if match is None:
            return self.head
        step = -1 if int(match[1]) else 1
        end = int(match[2]) + step if match[2] else ""
        return self._changed(plan, self.query, f"bytes={int(match[1]) + step}-{end}")

    def short_page(self, plan: Plan) -> Head:
        pairs = [(name, value.encode()) for name, value in self.parameters.items() if name != "max-keys"]
        return self._changed(plan, encode_query([*pairs, ("max-keys", str(SHORT_PAGE_NAMES).encode())]), self.range or None)

    def _changed(self, plan: Plan, query: str, byte_range: str | None) -> Head:
        target = self.path + ("?" + query if query else "")
        headers = {
            name.decode().lower(): value.decode("latin-1")
            for name, value in self.head.headers
            if name.lower() == b"host" or name.lower().startswith((b"if-", b"x-amz-checksum"))
        }
        if byte_range is not None:
            headers["range"] = byte_range
        if self.is_signed:
            scope = re.search(rb"Credential=[^/]+/\d+/([^/]+)/", self.head.get(b"authorization") or b"")
            signer = Signer(scope[1].decode() if scope else "us-east-1")
            headers = signer.sign(Credential(plan.access_key, plan.secret_key), "GET", self.path, query, headers)
        pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        return Head(f"GET {target} HTTP/1.1".encode("latin-1"), pairs)


def mislabel(reply: Head) -> None:
    """Shift Content-Range by one byte and leave the body as it was asked for."""
    match = re.fullmatch(rb"bytes (\d+)-(\d+)/(.*)", reply.get(b"content-range") or b"")
    if match is not None:
        reply.replaced(b"content-range", b"bytes %d-%d/%s" % (int(match[1]) + 1, int(match[2]) + 1, match[3]))


def repeat_token(content: bytes, token: str) -> bytes:
    """Make an answer of ListObjectsV2 say that the next token is the one it was asked with."""
    element = b"<NextContinuationToken>" + token.encode() + b"</NextContinuationToken>"
    content = re.sub(rb"<NextContinuationToken>.*?</NextContinuationToken>", b"", content)
    content = content.replace(b"<IsTruncated>false<", b"<IsTruncated>true<")
    return content.replace(b"</ListBucketResult>", element + b"</ListBucketResult>")


def error_answer(status: int, request: Request, with_retry_after: bool) -> bytes:
    code, reason = {503: (b"SlowDown", b"Service Unavailable"), 429: (b"TooManyRequests", b"Too Many Requests")}[status]
    content = b"" if request.method == "HEAD" else b"<Error><Code>" + code + b"</Code><Message>injected</Message></Error>"
    retry = b"Retry-After: 1\r\n" if with_retry_after else b""
    head = b"HTTP/1.1 %d %s\r\nContent-Type: application/xml\r\n%sContent-Length: %d\r\n\r\n"
    return head % (status, reason, retry, len(content)) + content


def reset(sock: socket.socket) -> None:
    """Make the coming close a reset: the other side sees ECONNRESET, and what was not yet sent is dropped."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def control(proxy: Proxy, listener: socket.socket) -> None:
    """Answer control connections, each in a thread."""

    def serve(client: socket.socket) -> None:
        with client, client.makefile("rwb") as stream, contextlib.suppress(OSError):
            for line in stream:
                stream.write(json.dumps(answer_control(proxy, json.loads(line))).encode() + b"\n")
                stream.flush()

    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(client,), daemon=True).start()


def answer_control(proxy: Proxy, order: dict[str, Any]) -> dict[str, Any]:
    match order["do"]:
        case "plan":
            proxy.set_plan(Plan.from_json(json.dumps(order["plan"])))
            return {"ok": True}
        case "reset":
            proxy.forget()
            return {"ok": True}
        case "counts":
            with proxy.lock:
                return {"fired": dict(proxy.fired), "requests": dict(proxy.requests), "bytes": dict(proxy.bytes)}
        case "log":
            with proxy.lock:
                return {"log": list(proxy.log)}
    return {"error": f"unknown order {order['do']!r}"}


def main() -> None:
    host, _, port = sys.argv[1].rpartition(":")
    own_port, address = (sys.argv[2:] + ["0", "127.0.0.1"][len(sys.argv) - 2 :])[:2]
    proxy = Proxy((host, int(port)), int(own_port), address)
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=control, args=(proxy, listener), daemon=True).start()
    print(json.dumps({"port": proxy.port, "control_port": listener.getsockname()[1]}), flush=True)
    sys.stdin.read()  # ends when whoever started us does


if __name__ == "__main__":
    main()
