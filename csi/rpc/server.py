"""The gRPC server on a unix socket: what all calls have in common, from the request id in the log to the code of the answer.

State: the server. Used from one event loop.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from csi.errors import RpcError
from csi.rpc.call_metrics import CallMetrics
from csi.rpc.sockets import remove_socket, socket_path
from fusecache.contract.errors import CacheError

log = logging.getLogger(__name__)

MOST_SECONDS = 110.0  # of a call; kubelet gives two minutes
MAX_MESSAGE_BYTES = 4 << 20
STOP_SECONDS = 5.0
_QUIET = frozenset(
    {"Probe", "GetPluginInfo", "GetPluginCapabilities", "NodeGetCapabilities", "ControllerGetCapabilities", "Check"}
)


class _Calls(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Gives each call an id, a deadline, a line in the log, and an answer whatever it ends with."""

    def __init__(self, metrics: CallMetrics) -> None:
        self._numbers = itertools.count(1)
        self._metrics = metrics

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler
        method = details.method.rpartition("/")[2]

        async def call(request: Any, context: grpc.aio.ServicerContext) -> Any:
            return await self._call(method, handler.unary_unary, request, context)

        return grpc.unary_unary_rpc_method_handler(call, handler.request_deserializer, handler.response_serializer)

    async def _call(self, method: str, behaviour: Callable[..., Awaitable[Any]], request: Any, context: Any) -> Any:
        number, began = next(self._numbers), time.monotonic()
        about = f"{method} {getattr(request, 'volume_id', '') or getattr(request, 'name', '')}".strip()[:200]
        said = log.debug if method in _QUIET else log.info
        left = context.time_remaining()
        code, message = grpc.StatusCode.OK, ""
        try:
            async with asyncio.timeout(MOST_SECONDS if left is None else min(left, MOST_SECONDS)):
                return await behaviour(request, context)
        except RpcError as error:
            code, message = error.code, str(error)
        except CacheError as error:
            of = RpcError.of(error)
            code, message = of.code, str(of)
        except TimeoutError:
            code, message = grpc.StatusCode.DEADLINE_EXCEEDED, f"{method} takes longer than its deadline, and goes on: ask again"
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED
            raise
        except NotImplementedError:  # by the generated class
            code, message = grpc.StatusCode.UNIMPLEMENTED, f"{method} is none of the capabilities that this driver claims"
        except OSError as error:
            code, message = grpc.StatusCode.UNAVAILABLE, f"{method}: {error}; see the log of the driver on this node"
            log.exception("call %d, %s", number, about)
        except Exception as error:
            code, message = (
                grpc.StatusCode.INTERNAL,
                f"unexpected {type(error).__name__}; please report this with the driver's log",
            )
            log.exception("call %d, %s", number, about)
        finally:
            seconds = time.monotonic() - began
            self._metrics.note(method, code.name, seconds)
            fields = {
                "request": number,
                "method": method,
                "volume": str(getattr(request, "volume_id", ""))[:128],
                "code": code.name,
                "milliseconds": round(seconds * 1000, 1),
            }
            said("call %d, %s: %s in %.0f ms %s", number, about, code.name, seconds * 1000, message, extra={"fields": fields})
        await context.abort(code, message)


class Server:
    """`endpoint`: unix:///path or a path. Use `start`, then `stop`."""

    def __init__(self, endpoint: str, metrics: CallMetrics) -> None:
        self._path = socket_path(endpoint)
        self.grpc = grpc.aio.server(
            interceptors=[_Calls(metrics)],
            options=[("grpc.max_receive_message_length", MAX_MESSAGE_BYTES), ("grpc.so_reuseport", 0)],
        )

    async def start(self) -> None:
        """Raises: OSError if the socket cannot be made."""
        remove_socket(self._path)
        self.grpc.add_insecure_port(f"unix://{self._path}")
        await self.grpc.start()
        os.chmod(self._path, 0o600)

    async def stop(self) -> None:
        await self.grpc.stop(STOP_SECONDS)
        remove_socket(self._path)
