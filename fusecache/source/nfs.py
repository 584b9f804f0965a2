"""The `nfs://` source: an NFS export, read in user space (no mount, no privilege) through libnfs.

Owns a pool of contexts, one per concurrent call, and the listings under way; fetch calls it from any thread. libnfs is not
thread-safe: a context is out of the pool while a call uses it. A context that broke while idle is replaced once per call.
"""

from __future__ import annotations

import errno
import itertools
import logging
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.libnfs import DirectoryKeeper, NfsContext, NfsDirectory, NfsError, NfsSettings, load
from fusecache.source.options import OptionReader
from fusecache.source.posix_entry import Attributes, entry_of, error_of, hidden_reason, split_path, version_of
from fusecache.source.posix_tree import UPLOAD_PREFIX
from fusecache.source.protocol import Buffer, Capabilities, Entry, Hidden, Page
from fusecache.source.write_protocol import Writer

logger = logging.getLogger(__name__)

T = TypeVar("T")

PIECE_BYTES = 4 << 20  # of `stream`
MAX_LISTINGS = 16  # kept between pages; each holds about 300 bytes per name in libnfs's memory
IDLE_SECONDS = 30.0  # below the 60 or 90 s after which servers drop the open files of a silent client
_VERSIONS = {"3": 3, "nfs3": 3, "4": 4, "4.0": 4, "nfs4": 4}
_IGNORED = (
    "nolock",
    "lock",
    "hard",
    "soft",
    "retrans",
    "noresvport",
    "resvport",
    "proto",
    "wsize",
    "tcp",
    "ro",
    "noatime",
    "_netdev",
)
"""Mount options of the kernel's client that mean nothing, or nothing else, here: reading takes no locks, and always uses TCP."""


def open_source(url: str, options: Mapping[str, str], env: Mapping[str, str]) -> NfsSource:
    """Open `nfs://host[:port]/export/path` (also `nfs://host:/export/path`). Raises: INVALID."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if not parts.hostname or port == -1 or parts.username or parts.query or not parts.path.startswith("/"):
        raise CacheError(ErrorKind.INVALID, f"{url!r} is not an NFS export; write nfs://host[:port]/export/path")
    reader = OptionReader("nfs", options)
    for key in _IGNORED:
        reader.text(key)
    settings = NfsSettings(
        server=parts.hostname,
        export=unquote(parts.path, errors="surrogateescape").rstrip("/") or "/",
        version=4,
        port=reader.integer("port", port or 0, 0, 65535),
        mount_port=reader.integer("mountport", 0, 0, 65535),
        timeout_seconds=max(1, round(_timeout_seconds(reader))),
        read_bytes=reader.size("rsize", 1 << 20),
        uid=_identity(reader, "uid"),
        gid=_identity(reader, "gid"),
    )
    versions = _versions(reader)
    parallel = reader.integer("parallel_requests", 8, 1, 64)
    reader.reject_unknown()
    load()
    return NfsSource(settings, versions, parallel)


def _timeout_seconds(reader: OptionReader) -> float:
    """`timeout` in seconds, or `timeo` in tenths of a second as mount(8) writes it."""
    tenths = reader.integer("timeo", 0, 0, 6000)
    return reader.seconds("timeout", tenths / 10 if tenths else 30.0)


def _versions(reader: OptionReader) -> tuple[int, ...]:
    text = reader.text("vers", "nfsvers", "protocol")
    if text is None:
        return (4, 3)
    if text in ("4.1", "4.2"):
        logger.info("NFS %s was asked for; version 4.0 is spoken, which such servers also understand", text)
        return (4,)
    if text not in _VERSIONS:
        raise CacheError(ErrorKind.INVALID, f"option vers is {text!r}; it must be 3, 4, 4.0, 4.1 or 4.2")
    return (_VERSIONS[text],)


def _identity(reader: OptionReader, key: str) -> int | None:
    number = reader.integer(key, -1, -1, (1 << 31) - 1)
    return None if number < 0 else number


class NfsSource:
    """A directory of an NFS server.

    Args: `versions`: of the protocol, in the order to try; the first that mounts is kept.
    """

    def __init__(self, settings: NfsSettings, versions: tuple[int, ...], parallel_requests: int) -> None:
        port = f":{settings.port}" if settings.port else ""
        self.url = f"nfs://{settings.server}{port}{settings.export}"
        self._settings = settings
        self._versions = versions
        self._capabilities = Capabilities(strong_versions=False, paged_listing=False, parallel_requests=parallel_requests)
        self._slots = threading.BoundedSemaphore(parallel_requests)
        self._lock = threading.Lock()
        self._idle: list[tuple[float, NfsContext]] = []  # (since, context), the warmest last
        self._keeper = DirectoryKeeper()
        self._listings: OrderedDict[str, NfsDirectory] = OrderedDict()  # token -> directory standing there
        self._tokens = itertools.count(1)

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    def check(self) -> None:
        root = self.run("reach", b"", lambda context: context.lstat(b""))
        if not stat.S_ISDIR(root.mode):
            raise CacheError(ErrorKind.INVALID, f"{self.url} is not a directory; name the directory that holds it")
        page = self.list_page(b"", None, 1)
        self._drop_listing(page.next_token)

    def list_page(self, path: bytes, token: str | None = None, limit: int = 1000) -> Page:
        """Return the next names. libnfs reads the directory whole first; only its conversion is done in pages."""
        split_path(path)
        directory = self._directory(path, token)
        page = Page(entries=[])
        incomplete: list[bytes] = []
        is_complete = True
        try:
            for taken, (name, attributes) in enumerate(directory.entries(), 1):
                reason = hidden_reason(attributes.mode)
                if name.startswith(UPLOAD_PREFIX):
                    pass  # a file in the making
                elif reason is not None:
                    page.hidden.append(Hidden(name, reason))
                elif _is_incomplete(attributes):
                    incomplete.append(name)
                else:
                    page.entries.append(_entry_of(name, attributes))
                if taken >= limit:
                    is_complete = False
                    break
            page.entries.extend(self._look_up_all(path, incomplete))
        except BaseException:
            self._keeper.free(directory)
            raise
        if is_complete:
            self._keeper.free(directory)
            return page
        return replace(page, next_token=self._keep(directory))

    def stat(self, path: bytes) -> Entry:
        split_path(path)
        if path.rpartition(b"/")[2].startswith(UPLOAD_PREFIX):
            raise CacheError(ErrorKind.NOT_FOUND, f"{self.place(path)} is being written by the cache")

        def look(context: NfsContext) -> tuple[Attributes, bytes]:
            attributes = context.lstat(path)
            return attributes, context.readlink(path) if stat.S_ISLNK(attributes.mode) else b""

        attributes, target = self.run("look up", path, look)
        reason = hidden_reason(attributes.mode)
        if reason is not None:
            raise CacheError(ErrorKind.NOT_FOUND, f"{self.place(path)} cannot be shown: {reason}")
        return _entry_of(path.rpartition(b"/")[2], attributes, target)

    def read(self, path: bytes, version: bytes, offset: int, length: int) -> Buffer:
        split_path(path)
        data = bytearray(length)

        # Checked after only: a version holds the change time, which does not go back, so what has it afterwards had it before.
        def fill(context: NfsContext) -> bool:
            count, after = context.read(path, version, offset, memoryview(data))
            if _version_of(after) != version:
                context.forget(path, version)
                raise self._stale(path)
            if count < length:
                message = f"{self.place(path)} gave {count} of {length} bytes at {offset}; it is asked again"
                raise CacheError(ErrorKind.UNAVAILABLE, message)
            return True

        self.run("read", path, fill, gone=True)
        return data

    def stream(self, path: bytes, version: bytes, offset: int, length: int) -> Iterator[Buffer]:
        end = offset + length
        while offset < end:
            piece = self.read(path, version, offset, min(PIECE_BYTES, end - offset))
            offset += len(piece)
            yield piece

    def open_writer(self) -> Writer:
        from fusecache.source.nfs_tree import NfsTree  # readers need none of it
        from fusecache.source.posix_write import PosixWriter

        return PosixWriter(NfsTree(self))

    def version_of(self, attributes: Attributes) -> bytes:
        return _version_of(attributes)

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
            listings, self._listings = list(self._listings.values()), OrderedDict()
        for _, context in idle:
            context.destroy()
        for directory in listings:
            self._keeper.free(directory)
        self._keeper.close()

    def _directory(self, path: bytes, token: str | None) -> NfsDirectory:
        """Return the directory a token stands for, read again and wound forward if it is no longer kept."""
        if token is not None:
            with self._lock:
                kept = self._listings.pop(token, None)
            if kept is not None:
                return kept
        try:
            position = 0 if token is None else int(token.partition(":")[0])
        except ValueError:
            raise CacheError(ErrorKind.INVALID, f"{token!r} is not a token of this listing") from None
        directory = self.run("list", path, lambda context: context.open_directory(path, self._keeper.context))
        if position:
            for _ in directory.entries():
                if directory.position >= position:
                    break
        return directory

    def _keep(self, directory: NfsDirectory) -> str:
        token = f"{directory.position}:{next(self._tokens)}"
        with self._lock:
            self._listings[token] = directory
            oldest = self._listings.popitem(last=False)[1] if len(self._listings) > MAX_LISTINGS else None
        if oldest is not None:
            self._keeper.free(oldest)
        return token

    def _drop_listing(self, token: str | None) -> None:
        with self._lock:
            kept = self._listings.pop(token, None) if token else None
        if kept is not None:
            self._keeper.free(kept)

    def _look_up_all(self, path: bytes, names: list[bytes]) -> list[Entry]:
        """Look up what a listing does not tell all about; what vanished meanwhile is left out."""
        prefix = path + b"/" if path else b""
        entries = []
        for name in names:
            try:
                entries.append(self.stat(prefix + name))
            except CacheError as error:
                if error.kind is not ErrorKind.NOT_FOUND:
                    raise
        return entries

    def run(self, verb: str, path: bytes, call: Callable[[NfsContext], T], gone: bool = False) -> T:
        """Make one call on a context of its own. `gone`: what does not exist is STALE."""
        with self._slots:
            while True:
                context, is_fresh = self._take(verb)
                try:
                    result = call(context)
                except NfsError as error:
                    if not error.is_transport:
                        self._give(context)
                        raise self._error(error, verb, path, gone) from error
                    context.destroy(is_broken=True)
                    if is_fresh or error.is_timeout:
                        raise self._error(error, verb, path, gone) from error
                    self._drop_idle()  # the server was restarted, or dropped us: the others are as old
                except CacheError:
                    self._give(context)
                    raise
                except BaseException:
                    context.destroy(is_broken=True)
                    raise
                else:
                    self._give(context)
                    return result

    def _take(self, verb: str) -> tuple[NfsContext, bool]:
        old: list[NfsContext] = []
        taken = None
        with self._lock:
            while self._idle and taken is None:
                since, context = self._idle.pop()
                if time.monotonic() - since < IDLE_SECONDS:
                    taken = context
                else:
                    old.append(context)
        for context in old:
            context.destroy()
        return (taken, False) if taken is not None else (self._connect(verb), True)

    def _give(self, context: NfsContext) -> None:
        with self._lock:
            self._idle.append((time.monotonic(), context))

    def _drop_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for _, context in idle:
            context.destroy(is_broken=True)

    def _connect(self, verb: str) -> NfsContext:
        """Mount anew, with the first protocol version that the server takes."""
        failure: NfsError | None = None
        for version in self._versions:
            try:
                context = NfsContext(replace(self._settings, version=version))
            except NfsError as error:
                if failure is None or not error.is_transport:
                    failure = error
                continue
            self._versions = (version,)
            return context
        assert failure is not None
        raise self._mount_error(failure, verb) from failure

    def _mount_error(self, error: NfsError, verb: str) -> CacheError:
        what = f"cannot {verb} {self.url}"
        if error.number == errno.ENOENT:
            return CacheError(
                ErrorKind.NOT_FOUND, f"{what}: no such export or directory; compare with `showmount -e` of the server"
            )
        if error.number in (errno.EACCES, errno.EPERM):
            cure = "export it to this machine, allow unprivileged ports (`insecure`) if we are not root, or give -o uid="
            return CacheError(ErrorKind.DENIED, f"{what}: the server refuses the mount; {cure}")
        if error.is_transport:
            kind = ErrorKind.TIMEOUT if error.is_timeout else ErrorKind.UNAVAILABLE
            return CacheError(kind, f"{what}: {error.text or error}; check host name, port and firewall (TCP 2049)")
        return error_of(error.number, what, error.text)

    def _error(self, error: NfsError, verb: str, path: bytes, gone: bool) -> CacheError:
        if gone and error.number in (errno.ENOENT, errno.ESTALE, errno.ENOTDIR, errno.ELOOP, errno.EISDIR):
            return self._stale(path)
        return error_of(error.number, f"cannot {verb} {self.place(path)}", error.text)

    def _stale(self, path: bytes) -> CacheError:
        return CacheError(ErrorKind.STALE, f"{self.place(path)} was replaced, changed or deleted; open it again")

    def place(self, path: bytes) -> str:
        return f"{self.url.rstrip('/')}/{path.decode('utf-8', 'backslashreplace')}"


def _is_incomplete(attributes: Attributes) -> bool:
    """True where an entry needs what only a look-up tells: a link its target, a hard-linked file its inode."""
    return stat.S_ISLNK(attributes.mode) or (attributes.nlink > 1 and not stat.S_ISDIR(attributes.mode))


def _entry_of(name: bytes, attributes: Attributes, target: bytes = b"") -> Entry:
    entry = entry_of(name, attributes, target)
    return entry._replace(version=_version_of(attributes)) if entry.version else entry


def _version_of(attributes: Attributes) -> bytes:
    """Return the version without the inode, which listings over version 4 do not tell; a renamed file has a new change time."""
    return version_of(attributes._replace(inode=0))
