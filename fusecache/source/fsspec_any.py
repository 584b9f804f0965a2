"""Any other file system that fsspec opens, through its synchronous interface.

Owns one fsspec instance (never the shared cached one) whose event loop and threads stay behind this door; fetch calls it from
any thread. How far a version can be trusted depends on what the file system says about an object; see docs/sources.md.
"""

from __future__ import annotations

import contextlib
import datetime
import difflib
import hashlib
import inspect
import logging
import stat
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec
from fsspec.registry import available_protocols, known_implementations

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.posix_entry import split_path
from fusecache.source.protocol import (
    MAX_NAME_BYTES,
    MAX_VERSION_BYTES,
    Buffer,
    Capabilities,
    Entry,
    EntryKind,
    Hidden,
    Page,
)

logger = logging.getLogger(__name__)

PIECE_BYTES = 4 << 20
_TAGS = ("ETag", "etag", "md5Hash", "md5", "content_md5", "checksum", "generation", "CRC")
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "modified", "date_time", "created", "modification_time")
_EXTRAS = {
    "gs": "gcs",
    "gcs": "gcs",
    "abfs": "abfs",
    "abfss": "abfs",
    "az": "abfs",
    "adl": "abfs",
    "wasb": "abfs",
    "hdfs": "hdfs",
    "arrow_hdfs": "hdfs",
    "sftp": "sftp",
    "ssh": "sftp",
    "smb": "smb",
    "webdav": "webdav",
    "cos": "cos",
    "hf": "hf",
}
"""Protocol to the extra of this project that brings what it needs."""

_COMPRESSED = (".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".lzma", ".zst")
_SECRETS = frozenset(
    {"password", "passphrase", "secret", "secret_key", "account_key", "sas_token", "connection_string", "client_secret"}
)
_NEVER = frozenset(
    {
        "asynclocal",
        "async_wrapper",
        "asyncwrapper",
        "blockcache",
        "cached",
        "dask",
        "dir",
        "filecache",
        "generic",
        "pyscript",
        "reference",
        "root",
        "shell",
        "simplecache",
    }
)
"""fsspec's wrappers around other file systems: no places of their own (or, as `shell`, no places to read)."""


def known_protocols() -> list[str]:
    """Return the protocols fsspec knows, installed or not."""
    return sorted(set(available_protocols()) - _NEVER)


def open_source(url: str, options: Mapping[str, str], env: Mapping[str, str]) -> FsspecSource:
    """Open anything fsspec knows: `memory://dir`, `gs://bucket/prefix`, `zip::file:///x.zip`, `tar://inner::http://h/x.tar`.

    Options are the parameters of the file system's constructor (of the outermost protocol of a chain; `inner.KEY` for protocol
    `inner`); numbers and true/false are converted, `KEY_file` gives the content of a file as KEY. Raises: INVALID.
    """
    from fusecache.source import registry

    for link in url.split("::"):
        scheme = link.split("://", 1)[0].lower()
        if scheme not in known_protocols():
            raise registry.unknown_scheme(scheme)
    outer = registry.scheme_of(url)
    try:
        storage = _storage_options(outer, options)
        filesystem, root = fsspec.core.url_to_fs(url, skip_instance_cache=True, use_listings_cache=False, **storage)
        root = _root_in_archive(filesystem, str(root))
    except ImportError as error:
        raise _missing_extra(outer, url, error) from error
    except CacheError:
        raise
    except Exception as error:
        raise _error_of(error, f"cannot open {_public(url)}") from error
    return FsspecSource(filesystem, root, _public(url))


def _root_in_archive(filesystem: Any, root: str) -> str:
    """Return where a directory of an archive is: `tar cf x.tar .` calls it `./a`, and its root `.`."""
    if "tar" not in _protocols(filesystem) or [str(info["name"]).rstrip("/") for info in filesystem.ls("")] != ["."]:
        return root
    return f"./{root}" if root else "."


def _protocols(filesystem: Any) -> tuple[str, ...]:
    return (filesystem.protocol,) if isinstance(filesystem.protocol, str) else tuple(filesystem.protocol)


def _storage_options(outer: str, options: Mapping[str, str]) -> dict[str, Any]:
    """Return the options as keyword arguments, per protocol, checked against the constructors. Raises: INVALID, ImportError."""
    storage: dict[str, Any] = {}
    for key, text in options.items():
        protocol, _, name = key.rpartition(".")
        accepted, takes_any = _parameters(fsspec.get_filesystem_class(protocol or outer))
        value: Any = {"true": True, "false": False}.get(text.lower(), int(text) if text.isdigit() else text)
        base = name.removesuffix("_file")
        if base != name and name not in accepted and (takes_any or base in accepted):
            name, value = base, _file_text(key, text)
        elif name in _SECRETS:
            message = f"option {key} would show a secret in the process list; write {key}_file=PATH of a file that holds it"
            raise CacheError(ErrorKind.INVALID, message)
        if name not in accepted and not takes_any:
            near = difflib.get_close_matches(name, accepted, 1, 0.6)
            cure = f"did you mean {near[0]!r}?" if near else f"known options: {', '.join(sorted(accepted)) or 'none'}"
            raise CacheError(ErrorKind.INVALID, f"unknown option {key!r} for a {protocol or outer}:// source; {cure}")
        (storage.setdefault(protocol, {}) if protocol else storage)[name] = value
    return storage


def _parameters(filesystem_class: type) -> tuple[set[str], bool]:
    """Return the names a file system's constructor takes, and whether it passes others on (`**ssh_kwargs`)."""
    names: set[str] = set()
    takes_any = False
    for cls in filesystem_class.__mro__:
        if "__init__" not in vars(cls) or cls is object:
            continue
        for parameter in inspect.signature(vars(cls)["__init__"]).parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                takes_any = takes_any or parameter.name not in ("kwargs", "storage_options")
            elif parameter.kind is not parameter.VAR_POSITIONAL:
                names.add(parameter.name)
    return names - {"self", "fo", "fs", "target_protocol", "target_options"}, takes_any


def _file_text(key: str, path: str) -> str:
    try:
        return Path(path).read_text().rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CacheError(ErrorKind.INVALID, f"option {key}: cannot read {path!r} ({type(error).__name__})") from None


def _missing_extra(outer: str, url: str, error: ImportError) -> CacheError:
    schemes = [link.split("://", 1)[0].lower() for link in url.split("::")]
    scheme = next((scheme for scheme in schemes if scheme in _EXTRAS), outer)
    cure = f"pip install 'fusecache[{_EXTRAS[scheme]}]'" if scheme in _EXTRAS else "install the package it names"
    detail = known_implementations.get(scheme, {}).get("err", str(error))
    return CacheError(ErrorKind.INVALID, f"{scheme}:// needs a package that is not installed ({detail}); {cure}")


def _public(url: str) -> str:
    """Return the URL without the `user:password@` of any of its links (a user alone stays)."""
    links = []
    for link in url.split("::"):
        scheme, separator, rest = link.partition("://")
        place, slash, path = rest.partition("/")
        userinfo, at, host = place.rpartition("@")
        links.append(f"{scheme}{separator}{userinfo.partition(':')[0]}{at}{host}{slash}{path}")
    return "::".join(links)


class FsspecSource:
    """A directory of an fsspec file system.

    Invariant: one call at a time into file systems that are not asynchronous (archives, paramiko share one file position).
    """

    def __init__(self, filesystem: Any, root: str, url: str) -> None:
        self.url = url
        self._filesystem = filesystem
        self._root = root
        self._prefix = root if root == "" or root.endswith("/") else root + "/"  # paths in an archive have no leading slash
        self._is_async = bool(getattr(filesystem, "async_impl", False))
        self._lock = threading.Lock()
        protocols = _protocols(filesystem)
        is_packed = "zip" in protocols or "libarchive" in protocols or ("tar" in protocols and url.endswith(_COMPRESSED))
        self._capabilities = Capabilities(
            ranges=not is_packed,
            strong_versions=False,
            is_sorted=True,
            parallel_requests=16 if self._is_async else 1,
            request_latency_is_local="memory" in protocols,
        )

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    def check(self) -> None:
        if not self._call("reach", b"", self._filesystem.isdir, self._full(b"")) and self._root:
            self._call("reach", b"", self._filesystem.info, self._full(b""))
            raise CacheError(ErrorKind.INVALID, f"{self.url} is not a directory; name the directory that holds it")

    def list_page(self, path: bytes, token: str | None = None, limit: int = 1000) -> Page:
        """Return the whole directory: fsspec has no pages."""
        full = self._full(path)
        infos = self._call("list", path, self._filesystem.ls, full, detail=True)
        if not infos and path and not self._call("list", path, self._filesystem.exists, full):
            raise CacheError(ErrorKind.NOT_FOUND, f"{self._place(path)} does not exist")
        if len(infos) == 1 and _stripped(infos[0]["name"]) == _stripped(full) and infos[0].get("type") == "file":
            raise CacheError(ErrorKind.NOT_A_DIRECTORY, f"{self._place(path)} is a file")
        entries: dict[bytes, Entry] = {}
        hidden: list[Hidden] = []
        for info in infos:
            found = self._entry_of_listed(info, full)
            if isinstance(found, Hidden):
                hidden.append(found)
            elif found is not None:
                loser = self._shadow(entries, found)
                if loser is not None:
                    hidden.append(loser)
        return Page(entries=[entries[name] for name in sorted(entries)], hidden=hidden)

    def stat(self, path: bytes) -> Entry:
        split_path(path)
        if path == b"":
            return Entry(b"", EntryKind.DIRECTORY)
        info = self._call("look up", path, self._filesystem.info, self._full(path))
        entry = _entry_of(path.rpartition(b"/")[2], info)
        if entry.needs_stat:
            raise CacheError(ErrorKind.UNSUPPORTED, f"{self._place(path)}: this file system does not say how long the file is")
        return entry

    def read(self, path: bytes, version: bytes, offset: int, length: int) -> Buffer:
        self._require_version(path, version)
        data: bytes = self._call(
            "read", path, self._filesystem.cat_file, self._full(path), start=offset, end=offset + length, gone=ErrorKind.STALE
        )
        self._require_version(path, version)
        if len(data) != length:
            raise CacheError(ErrorKind.UNAVAILABLE, f"{self._place(path)} gave {len(data)} of {length} bytes at {offset}")
        return data

    def stream(self, path: bytes, version: bytes, offset: int, length: int) -> Iterator[Buffer]:
        if self._is_async:
            yield from self._stream_by_ranges(path, version, offset, offset + length)
            return
        # One open file: going to an offset in an archive reads everything before it.
        self._require_version(path, version)
        file = self._call("open", path, self._filesystem.open, self._full(path), "rb", gone=ErrorKind.STALE)
        try:
            self._call("read", path, file.seek, offset)
            left = length
            while left:
                piece: bytes = self._call("read", path, file.read, min(PIECE_BYTES, left))
                self._require_version(path, version)
                if not piece:
                    raise CacheError(ErrorKind.UNAVAILABLE, f"{self._place(path)} ended {left} bytes early")
                left -= len(piece)
                yield piece
        finally:
            self._call("close", path, file.close)

    def _stream_by_ranges(self, path: bytes, version: bytes, offset: int, end: int) -> Iterator[Buffer]:
        while offset < end:
            piece = self.read(path, version, offset, min(PIECE_BYTES, end - offset))
            offset += len(piece)
            yield piece

    def close(self) -> None:
        if self._is_async:
            return  # their sessions belong to fsspec's loop, which ends with the process
        for part in ("tar", "zip", "fo", "_fo_ref"):  # an archive's file system leaves the files under it open
            closer = getattr(getattr(self._filesystem, part, None), "close", None)
            if closer is not None:
                with contextlib.suppress(Exception):
                    closer()

    def _require_version(self, path: bytes, version: bytes) -> None:
        info = self._call("look up", path, self._filesystem.info, self._full(path), gone=ErrorKind.STALE)
        if info.get("type") != "file" or _entry_of(b"", info).version != version:
            raise CacheError(ErrorKind.STALE, f"{self._place(path)} was replaced or changed; open it again")

    def _call(
        self, verb: str, path: bytes, function: Any, *args: Any, gone: ErrorKind = ErrorKind.NOT_FOUND, **kwargs: Any
    ) -> Any:
        try:
            if self._is_async:
                return function(*args, **kwargs)
            with self._lock:
                return function(*args, **kwargs)
        except Exception as error:
            raise _error_of(error, f"cannot {verb} {self._place(path)}", gone) from error

    def _full(self, path: bytes) -> str:
        split_path(path)
        text = path.decode("utf-8", "surrogateescape")
        return self._prefix + text if text else self._root

    def _place(self, path: bytes) -> str:
        return f"{self.url} {path!r}" if path else self.url

    def _entry_of_listed(self, info: dict[str, Any], full: str) -> Entry | Hidden | None:
        directory, name_text = _stripped(full), str(info["name"])
        stripped = name_text.lstrip("/")
        prefix = directory + "/" if directory else ""
        if stripped.rstrip("/") == directory:
            return None  # a marker object of the directory itself
        raw = stripped[len(prefix) :] if stripped.startswith(prefix) else stripped
        raw = raw.removesuffix("/") if info.get("type") == "directory" else raw
        try:
            name = raw.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            return Hidden(repr(raw).encode(), "its name is no text")
        if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
            return Hidden(name, "its name is no file name")
        if len(name) > MAX_NAME_BYTES:
            return Hidden(name, "its name is longer than 255 bytes")
        if info.get("type") not in ("file", "directory"):
            return Hidden(name, f"it is of type {info.get('type')!r}")
        return _entry_of(name, info)

    @staticmethod
    def _shadow(entries: dict[bytes, Entry], new: Entry) -> Hidden | None:
        """Put an entry in; a directory shadows a file of its name. Return what lost, if a file did."""
        old = entries.get(new.name)
        if old is None or new.kind is EntryKind.DIRECTORY:
            entries[new.name] = new
        if old is None or (old.kind is EntryKind.DIRECTORY and new.kind is EntryKind.DIRECTORY):
            return None
        return Hidden(new.name, "a directory or file of the same name is shown")


def _stripped(path: str) -> str:
    return path.strip("/")


def _entry_of(name: bytes, info: Mapping[str, Any]) -> Entry:
    if info.get("type") == "directory":
        return Entry(name, EntryKind.DIRECTORY, mtime_ns=_mtime_ns(info))
    size = info.get("size")
    mtime_ns = _mtime_ns(info)
    mode = info.get("mode")
    return Entry(
        name=name,
        kind=EntryKind.FILE,
        size=int(size or 0),
        mtime_ns=mtime_ns,
        version=b"" if size is None else _version_of(info, int(size), mtime_ns),
        mode=stat.S_IMODE(mode) if isinstance(mode, int) else None,
        uid=info["uid"] if isinstance(info.get("uid"), int) else None,
        gid=info["gid"] if isinstance(info.get("gid"), int) else None,
        needs_stat=size is None,
    )


def _version_of(info: Mapping[str, Any], size: int, mtime_ns: int) -> bytes:
    """Return the first content tag the file system gives, else the time, and always the size."""
    for key in _TAGS:
        tag = info.get(key)
        if tag:
            text = tag.hex() if isinstance(tag, bytes) else str(tag)
            return _bounded(f"{key}={text};{size}".encode("utf-8", "surrogateescape"))
    return f"{mtime_ns:x};{size}".encode() if mtime_ns else f"size;{size}".encode()


def _bounded(version: bytes) -> bytes:
    return version if len(version) <= MAX_VERSION_BYTES else hashlib.sha256(version).hexdigest().encode()


def _mtime_ns(info: Mapping[str, Any]) -> int:
    for key in _TIMES:
        value = info.get(key)
        if isinstance(value, datetime.datetime):
            aware = value if value.tzinfo else value.replace(tzinfo=datetime.UTC)
            return int(aware.timestamp() * 1_000_000) * 1000
        if isinstance(value, (int, float)):
            return int(value * 1_000_000) * 1000
        if isinstance(value, tuple) and len(value) == 6:  # date_time of a zip member, in no zone: taken as UTC
            try:
                return int(datetime.datetime(*value, tzinfo=datetime.UTC).timestamp()) * 1_000_000_000
            except ValueError:
                return 0
        if isinstance(value, str):
            try:
                parsed = datetime.datetime.fromisoformat(value)
            except ValueError:
                continue
            aware = parsed if parsed.tzinfo else parsed.replace(tzinfo=datetime.UTC)
            return int(aware.timestamp() * 1_000_000) * 1000
    return 0


def _error_of(error: Exception, what: str, gone: ErrorKind = ErrorKind.NOT_FOUND) -> CacheError:
    """Return the CacheError for whatever a file system raised; its own text may hold secrets, so only its type is shown."""
    status = getattr(error, "status", None) or getattr(error, "code", None)
    name = type(error).__name__
    if isinstance(error, CacheError):
        return error
    if isinstance(error, FileNotFoundError) or status == 404:
        return CacheError(gone, f"{what}: it does not exist; check the name")
    if isinstance(error, NotADirectoryError):
        return CacheError(ErrorKind.NOT_A_DIRECTORY, f"{what}: it is a file")
    if isinstance(error, IsADirectoryError):
        return CacheError(ErrorKind.IS_A_DIRECTORY, f"{what}: it is a directory")
    if isinstance(error, PermissionError) or status in (401, 403):
        return CacheError(ErrorKind.DENIED, f"{what}: access denied; check the credentials ({name})")
    if isinstance(error, TimeoutError):
        return CacheError(ErrorKind.TIMEOUT, f"{what}: no answer in time")
    if isinstance(error, TypeError):
        return CacheError(ErrorKind.INVALID, f"{what}: an option is not understood ({error})")
    if isinstance(error, NotImplementedError):
        return CacheError(ErrorKind.UNSUPPORTED, f"{what}: this file system cannot do that")
    if isinstance(error, ValueError):
        return CacheError(ErrorKind.INVALID, f"{what}: {name}; check the URL and the options")
    return CacheError(ErrorKind.UNAVAILABLE, f"{what}: {name}; is the place reachable?")
