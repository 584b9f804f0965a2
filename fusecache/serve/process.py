"""One serve process, from exec to exit: wait as a spare, take START over, serve until the mount is gone.

State: everything of the process. The main thread runs the engine; a thread listens to the supervisor. All imports happen before
START, so that a spare takes over within milliseconds."""

from __future__ import annotations

import gc
import logging
import mmap
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from fusecache.base import log as base_log
from fusecache.base.hardening import harden_process
from fusecache.contract import run_files
from fusecache.contract import shared_memory as shared
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.mount_spec import Access, Engine, MountSpec
from fusecache.contract.process import SERVE_FDS, ExitCode
from fusecache.contract.shared_memory import Layout
from fusecache.fuse.native.engine import NativeEngine
from fusecache.fuse.native.settings import EngineSettings
from fusecache.index.environment import NoSpaceError
from fusecache.index.index import Index
from fusecache.index.sealed import IndexDamagedError
from fusecache.index.source_ids import source_urls
from fusecache.serve.control_channel import ControlChannel
from fusecache.serve.favour_client import FavourClient
from fusecache.serve.filesystem import CacheFilesystem
from fusecache.serve.miss_client import SocketMissClient
from fusecache.tiers.marks import Marks

log = logging.getLogger(__name__)

_TRY_ANOTHER = 75  # EX_TEMPFAIL: neither the mount nor the index is at fault; the supervisor starts another
_TIDY_SECONDS = 1.0
_ACCESS = {shared.ACCESS_PASSTHROUGH: Access.PASSTHROUGH, shared.ACCESS_OPENLESS: Access.OPENLESS}


def run(control_fd: int) -> int:
    """Be a serve process; return its exit status."""
    _prepare_process()
    control = ControlChannel(control_fd)
    control.tell(did="warm")
    try:
        message, fds = control.receive(SERVE_FDS)
    except EOFError:
        return ExitCode.OK  # a spare that was never needed
    try:
        spec = MountSpec.load(message["spec"])
        base_log.configure("serve", spec.log_level)
        return _serve(control, message, fds, spec)
    except IndexDamagedError as damage:
        log.error("the index cannot be used: %s", damage)
        return ExitCode.INDEX_DAMAGED
    except (NoSpaceError, OSError):
        log.exception("this serve process cannot go on")
        return _TRY_ANOTHER
    except CacheError as error:
        log.error("%s", error)
        control.tell(did="failed", kind=int(error.kind), message=str(error))
        return ExitCode.FAILED


def _prepare_process() -> None:
    harden_process()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the supervisor, which says stop when it is time
    # What is imported stays for good; cycles are rare on the way of a request, so look for them less often (every 700
    # allocations by default).
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def _serve(control: ControlChannel, message: dict[str, Any], fds: dict[str, int], spec: MountSpec) -> int:
    serve_index = int(message.get("serve_index", 0))
    memory = mmap.mmap(fds["shared_memory"], 0)
    layout = read_layout(memory)
    page = layout.serve_counters(serve_index)
    counters = memoryview(memory)[page : page + shared.PAGE].cast("Q")
    access = _ACCESS.get(_header(memory, shared.H_ACCESS), Access.OPENLESS)
    if spec.engine is Engine.PYFUSE3:
        access = Access.OPENLESS  # it answers OPEN, but never with a container

    index = _open_index(Path(spec.state_dir), str(message.get("index_id", "")))
    marks = Marks(Path(spec.state_dir) / run_files.MARKS)
    misses = SocketMissClient(spec.run_dir, serve_index)
    filesystem = CacheFilesystem(
        index,
        marks,
        spec,
        misses,
        counters,
        access=access,
        bounce_fd=fds["bounce"],
        source_urls=source_urls(spec),
        stages_full=lambda: bool(_header(memory, shared.H_STAGES_FULL)),
    )
    if spec.engine is Engine.PYFUSE3:
        engine = _pyfuse3_engine(fds["fuse"], memory, layout, serve_index, filesystem, misses)
    else:
        engine = _native_engine(fds, memory, layout, serve_index, filesystem, misses, access, spec, message)
    misses.start()  # when the engine listens: fetch tells at once what changed before it had anybody to tell it to
    threading.Thread(target=_obey, args=(control,), name="control", daemon=True).start()
    threading.Thread(target=_tidy_up, args=(filesystem, index), name="tidy", daemon=True).start()

    def on_ready() -> None:
        control.tell(did="ready")

    engine.run(on_ready)
    log.info("the mount is gone")
    return ExitCode.OK


def _native_engine(
    fds: dict[str, int],
    memory: mmap.mmap,
    layout: shared.Layout,
    serve_index: int,
    filesystem: CacheFilesystem,
    misses: SocketMissClient,
    access: Access,
    spec: MountSpec,
    message: dict[str, Any],
) -> NativeEngine:
    needs_favours = access is Access.PASSTHROUGH and not spec.read_write
    favours = FavourClient(socket.socket(fileno=fds["favour"])) if needs_favours else None
    settings = EngineSettings(
        passthrough=needs_favours,
        writes=spec.read_write,
        checks_opens=spec.close_to_open,
        ask_resend=not spec.debug_no_resend,
        resend=bool(message.get("resend", False)),
    )
    return NativeEngine(fds["fuse"], memory, layout, serve_index, filesystem, misses, favours, settings)


def _pyfuse3_engine(*arguments: Any) -> Any:
    """Loaded only when asked for: an optional extra, with Trio behind it. Raises: CacheError(UNSUPPORTED)."""
    try:
        from fusecache.fuse.pyfuse3.engine import Pyfuse3Engine
    except ImportError as error:
        raise CacheError(
            ErrorKind.UNSUPPORTED,
            f"the pyfuse3 engine cannot be loaded ({error}); pip install 'fusecache[pyfuse3]'",
        ) from error
    return Pyfuse3Engine(*arguments)


def _open_index(state_dir: Path, index_id: str) -> Index:
    """Raises: IndexDamagedError, also when it is another index than fetch reported."""
    index = Index(state_dir / run_files.INDEX_DIR, writable=False)
    index.env.check_readers()  # a predecessor may have died in a transaction, which would keep old pages for ever
    found = index.index_id().hex()
    if index_id and found != index_id:
        raise IndexDamagedError(f"it has the id {found}, fetch reported {index_id}")
    return index


def read_layout(memory: mmap.mmap) -> Layout:
    """Return the layout that the header tells. Raises: CacheError(BUG) for a memfd of another version."""
    if memory[: len(shared.MAGIC)] != shared.MAGIC or _header(memory, shared.H_LAYOUT_VERSION) != shared.LAYOUT_VERSION:
        raise CacheError(ErrorKind.BUG, "the shared memory has another layout than this version knows; unmount and mount again")
    return Layout.read(memory)


def _header(memory: mmap.mmap, offset: int) -> int:
    return int(shared.U64.unpack_from(memory, offset)[0])


def _obey(control: ControlChannel) -> None:
    """Body of the thread that listens to the supervisor. Ending at any moment is safe, so stop means at once."""
    while True:
        try:
            message, _ = control.receive()
        except EOFError:
            return  # the supervisor died: go on until the mount is gone
        except ValueError as error:
            log.error("%s", error)
            continue
        if message.get("do") == "ping":
            control.tell(did="pong")
        elif message.get("do") == "stop":
            logging.shutdown()
            os._exit(ExitCode.OK)


def _tidy_up(filesystem: CacheFilesystem, index: Index) -> None:
    """Body of the thread that does what reads do not do while there are none."""
    while True:
        time.sleep(_TIDY_SECONDS)
        filesystem.close_removed_containers()
        index.env.check_readers()  # a fetch that died may have filled the table, and its successor could not even open the index


def main() -> None:
    status = run(int(sys.argv[1]))
    logging.shutdown()
    # Threads that wait for requests or for fetch have nothing left to do, and interpreter shutdown would wait for locks they
    # hold.
    os._exit(status)
