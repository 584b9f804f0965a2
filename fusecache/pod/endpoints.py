"""What the HTTP server of a cache pod answers.

| request | answer |
|---|---|
| GET /healthz | 200 when the daemon answers, or the pod stands by for one that does; else 503 with the reason |
| GET /livez | 200 with what the pod does, or waits for; 503 when it serves and the daemon does not answer |
| GET /metrics | Prometheus text (base/metrics.py); nothing while the pod stands by |
| GET /status | `Status` of contract/control.py as one object; 503 with "phase" and "error" where the pod does not serve |
| POST /warm {"refresh": bool, ...} | JSON lines of progress (contract/control.py), the last with "done": true |

POST /erase {"discard": bool} ends the daemon and removes the cache, as the Dataset is gone: "done" says whether that is
done, ask again until it is; 409 with "error" where files would be lost that are not in the store, unless they may be.

The rest of a request to warm is that of contract/warm_request.py. With "refresh" the source is asked first what is new.

/status and /warm want `Authorization: Bearer TOKEN`, /erase the token that loaders do not have; the files with them are read each
time, as kubelet may replace them.
State: answers that several clients ask for at once are asked for once, and the number of warms.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fusecache.contract.control import Status
from fusecache.contract.errors import CacheError
from fusecache.contract.run_files import CONTROL_SOCKET
from fusecache.contract.warm_request import WarmRequest
from fusecache.custody.mount_table import MountRecord
from fusecache.pod.control_client import ConnectionLost, ask, call
from fusecache.pod.eraser import refuse_loss
from fusecache.pod.http_server import HttpError, Reply, Request
from fusecache.pod.state import Phase, PodState

ASK_SECONDS = 3.0
SHARED_SECONDS = 0.5  # an answer is as good as new for so long: clients in a hurry must not keep the daemon busy
SILENCE_SECONDS = 60.0  # of a warm: fetch reports several times a second, and one that died is replaced sooner
REFRESH_SECONDS = 600.0
ERASE_SECONDS = 5.0
PROGRESS_SECONDS = 1.0  # while the source is asked for what is new
AGAIN_SECONDS = 0.2
MAX_WARMS = 4
MAX_PATHS = 10_000
MAX_TOKEN_BYTES = 4096
METRICS = "text/plain; version=0.0.4; charset=utf-8"
LINES = "application/x-ndjson"


def check_token(request: Request, token_file: str) -> None:
    """The file is read each time, as kubelet may replace it. Raises: HttpError."""
    token = b""
    with contextlib.suppress(OSError), open(token_file, "rb") as file:
        token = file.read(MAX_TOKEN_BYTES).strip()
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    is_right = hmac.compare_digest(given.strip().encode("latin-1", "replace"), token)
    if scheme.lower() != "bearer" or not token or not is_right:
        raise HttpError(401, "give the token of the Dataset's cache pods: Authorization: Bearer TOKEN")


class SharedAnswer:
    """An answer that is asked for at most every `SHARED_SECONDS`, whoever wants it."""

    def __init__(self, run_dir: str, what: str) -> None:
        self._run_dir = run_dir
        self._what = what
        self._lock = asyncio.Lock()
        self._answer: dict[str, Any] = {}
        self._at = -SHARED_SECONDS

    async def get(self) -> dict[str, Any]:
        """Raises: CacheError."""
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if now - self._at >= SHARED_SECONDS:
                self._answer = await call(self._run_dir, CONTROL_SOCKET, {"do": self._what}, ASK_SECONDS)
                self._at = asyncio.get_running_loop().time()
            return self._answer


class Endpoints:
    """Made in a running loop."""

    def __init__(
        self, state: PodState, run_dir: str, token_file: str, own_token_file: str, erase: Callable[[], asyncio.Future[None]]
    ) -> None:
        self._own_token_file = own_token_file
        self._state = state
        self._erase_cache = erase
        self._run_dir = run_dir
        self._token_file = token_file
        self._status = SharedAnswer(run_dir, "status")
        self._metrics = SharedAnswer(run_dir, "metrics")
        self._warms = 0

    async def handle(self, request: Request, reply: Reply) -> None:
        """Raises: HttpError, OSError."""
        routes: dict[str, tuple[str, Callable[[Request, Reply], Awaitable[None]]]] = {
            "/healthz": ("GET", self._healthz),
            "/livez": ("GET", self._livez),
            "/metrics": ("GET", self._show_metrics),
            "/status": ("GET", self._show_status),
            "/warm": ("POST", self._warm),
            "/erase": ("POST", self._erase),
        }
        if request.path not in routes:
            raise HttpError(404, f"there is only {', '.join(routes)}")
        method, act = routes[request.path]
        if request.path in ("/status", "/warm"):
            check_token(request, self._token_file)
        if request.path == "/erase":
            check_token(request, self._own_token_file)
        if request.method != method:
            raise HttpError(405, f"{request.path} takes {method}")
        try:
            await act(request, reply)
        except CacheError as error:
            raise HttpError(503, str(error)) from error

    def _require_serving(self) -> None:
        if self._state.phase is not Phase.SERVING:
            raise HttpError(503, self._state.reason)

    async def _healthz(self, request: Request, reply: Reply) -> None:
        if self._state.phase is not Phase.STANDBY:
            self._require_serving()
            await self._status.get()
        await reply.send(200, f"{self._state.phase}\n")

    async def _livez(self, request: Request, reply: Reply) -> None:
        """A pod that waits, for a secret or for its source, is as well off as one that was started again: it would wait, too.
        While the daemon starts, the supervisor looks after it, and ends with the pod if it can do nothing."""
        if self._state.phase is Phase.SERVING:
            await self._status.get()
        await reply.send(200, f"{self._state.phase}: {self._state.reason}\n" if self._state.reason else f"{self._state.phase}\n")

    async def _show_metrics(self, request: Request, reply: Reply) -> None:
        if self._state.phase is Phase.STANDBY:
            return await reply.send(200, "", METRICS)
        self._require_serving()
        await reply.send(200, str((await self._metrics.get()).get("text", "")), METRICS)

    async def _show_status(self, request: Request, reply: Reply) -> None:
        if self._state.phase is not Phase.SERVING:
            return await reply.send_json(503, {"error": self._state.reason, "phase": self._state.phase})
        await reply.send_json(200, status_of(await self._status.get(), self._run_dir))

    async def _erase(self, request: Request, reply: Reply) -> None:
        if self._state.phase is Phase.SERVING and not _discards(request.body):
            try:  # asked anew: what was written in the last moment counts
                refuse_loss(await call(self._run_dir, CONTROL_SOCKET, {"do": "status"}, ASK_SECONDS))
            except CacheError as error:
                return await reply.send_json(409, {"error": str(error)})
        done, _ = await asyncio.wait({self._erase_cache()}, timeout=ERASE_SECONDS)
        await reply.send_json(200, {"done": bool(done)})

    async def _warm(self, request: Request, reply: Reply) -> None:
        wanted, refreshes = parse_warm(request.body)
        self._require_serving()
        if self._warms >= MAX_WARMS:
            raise HttpError(429, f"{MAX_WARMS} requests to warm are under way: wait for one to end")
        self._warms += 1
        try:
            reply.begin(200, LINES)
            try:
                if refreshes:
                    await self._refresh(wanted, reply)
                await self._warm_until_done(wanted, reply)
            except CacheError as error:
                await _say(reply, {"done": True, "error": str(error), "kind": int(error.kind)})
        finally:
            self._warms -= 1

    async def _refresh(self, wanted: WarmRequest, reply: Reply) -> None:
        """Have the source asked what is new, and tell meanwhile that something is under way. Raises: CacheError, OSError."""
        asking = asyncio.create_task(self._ask_to_refresh(wanted), name="refresh")
        try:
            while True:
                await _say(reply, {"files": 0, "files_total": 0, "bytes": 0, "bytes_total": 0, "listing": True})
                done, _ = await asyncio.wait({asking}, timeout=PROGRESS_SECONDS)
                if done:
                    asking.result()
                    return
        finally:
            asking.cancel()

    async def _ask_to_refresh(self, wanted: WarmRequest) -> None:
        """First for the names on the way, which may be new themselves. Raises: CacheError."""
        paths = wanted.fixed_paths
        lists = [wanted.file_list] if wanted.file_list else []
        for what, about in (("look", [*paths, *lists]), ("refresh", paths)):
            await call(self._run_dir, CONTROL_SOCKET, {"do": what, "paths": about}, REFRESH_SECONDS)

    async def _warm_until_done(self, wanted: WarmRequest, reply: Reply) -> None:
        """A fetch process that dies meanwhile is replaced, and asked again: what is cached costs nothing. Raises: CacheError,
        OSError."""
        loop = asyncio.get_running_loop()
        last_word = loop.time()
        while True:
            try:
                async with contextlib.aclosing(
                    ask(self._run_dir, CONTROL_SOCKET, {"do": "warm", **wanted.to_raw()}, SILENCE_SECONDS)
                ) as answers:
                    async for answer in answers:
                        last_word = loop.time()
                        await _say(reply, answer)
                return
            except ConnectionLost:
                if loop.time() - last_word > SILENCE_SECONDS:
                    raise
            await asyncio.sleep(AGAIN_SECONDS)


def parse_warm(body: bytes) -> tuple[WarmRequest, bool]:
    """Return what is to be warmed, and whether to refresh. Raises: HttpError."""
    try:
        raw = json.loads(body or b"{}")
        if not isinstance(raw, dict):
            raise ValueError("it has to be an object")
        refreshes = raw.pop("refresh", False)
        if not isinstance(refreshes, bool):
            raise ValueError("refresh has to be true or false")
        request = WarmRequest.parse(raw)
    except ValueError as error:
        raise HttpError(400, f"the body is no request to warm: {error}") from None
    if len(request.paths) + len(request.patterns) > MAX_PATHS:
        raise HttpError(400, f"give at most {MAX_PATHS} paths and patterns")
    return request, refreshes


def _discards(body: bytes) -> bool:
    """Raises: HttpError."""
    try:
        raw = json.loads(body or b"{}")
    except ValueError as error:
        raise HttpError(400, f"the body is no JSON: {error}") from None
    if not isinstance(raw, dict) or set(raw) - {"discard"} or not isinstance(raw.get("discard", False), bool):
        raise HttpError(400, 'the body has to be {"discard": true or false}')
    return bool(raw.get("discard"))


def status_of(answer: Mapping[str, Any], run_dir: str) -> dict[str, Any]:
    """Lay what the supervisor knows over what fetch says, as `fusecache status --json` does."""
    status = {name: value for name, value in answer.items() if name in Status.__annotations__}
    with contextlib.suppress(OSError, ValueError):
        record = MountRecord.load(run_dir)
        serve = [process.pid for process in record.serve]
        status |= {
            "mountpoint": record.mountpoint,
            "pids": {"supervisor": record.supervisor.pid, "fetch": record.fetch.pid if record.fetch else 0, "serve": serve},
            "restarts": record.restarts,
            "engine": record.engine,
            "access": record.access,
            "last_error": status.get("last_error") or record.last_error,
        }
        if record.state == "degraded":
            status["state"] = record.state
    return status


async def _say(reply: Reply, message: Mapping[str, Any]) -> None:
    await reply.write(json.dumps(message).encode() + b"\n")
