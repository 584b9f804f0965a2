"""What a mount point names: a place in a store, a directory of a claim or of a node, or another Dataset.

Messages do not repeat a mount point: somebody may have written a password into it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from csi.operator.resolved import Reference

CLAIMS = "/claims"  # in cache pods: below it, each claim under its name
NODE = "/local"  # in cache pods: below it, directories of the node under their own paths

_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)"
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_NFS = re.compile(rf"({_HOST})(?::(\d{{1,5}}))?:?(/.*)", re.DOTALL)
_WEB = re.compile(rf"{_HOST}(?::\d{{1,5}})?")
_AZURE = re.compile(rf"[a-z0-9$][a-z0-9-]*(?:@({_HOST}))?")
_OBJECT_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_MAX_COMPONENT_BYTES = 255
_MAX_PATH_BYTES = 4096


@dataclass(frozen=True, slots=True)
class MountPoint:
    """Attributes:
    store: whose options it takes: a key of store_options.TABLES.
    url: of a source of ours; of a juicefs:// mount point the directory alone, as its options say where the bucket is.
    account: that an Azure URL names.
    """

    scheme: str
    store: str
    url: str
    claim: str = ""
    host_path: str = ""
    account: str = ""
    reference: Reference | None = None


def scheme_of(mount_point: str) -> str:
    """Return the scheme in lower case, "" if there is none."""
    head, separator, _ = mount_point.partition("://")
    return head.lower() if separator and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", head) else ""


def parse_mount_point(text: str) -> MountPoint:
    """Raises: ValueError with a clause that completes "mountPoint ..."."""
    scheme = scheme_of(text)
    if scheme in _LATER:
        raise ValueError(_LATER[scheme])
    if scheme not in _PARSERS:
        known = ", ".join(f"{each}://" for each in sorted(_PARSERS))
        raise ValueError(f"has an unknown scheme; known are {known}")
    rest = text.partition("://")[2]
    if any(ord(character) < 32 or ord(character) == 127 for character in rest):
        raise ValueError("has control characters: write the address alone")
    parse, store = _PARSERS[scheme]
    return parse(scheme, store, rest)


def path_components(path: str) -> list[str]:
    """Return the components of a path. Raises: ValueError for `..` and for names that no file can have."""
    components = [component for component in path.split("/") if component not in ("", ".")]
    if ".." in components:
        raise ValueError("contains ..: write the directory that is meant")
    if "\0" in path or any(len(each.encode("utf-8", "replace")) > _MAX_COMPONENT_BYTES for each in components):
        raise ValueError("is no path: a name has at most 255 bytes")
    if len(path.encode("utf-8", "replace")) > _MAX_PATH_BYTES:
        raise ValueError("is no path: it is longer than 4096 bytes")
    return components


def file_url(*components: str) -> str:
    """Return the URL of a directory in a cache pod."""
    return "file:///" + quote("/".join(components), safe="/-._~!$&'()*+,;=:@", errors="replace")


def _bucket(scheme: str, store: str, rest: str) -> MountPoint:
    bucket, _, prefix = rest.partition("/")
    if "@" in bucket:
        raise ValueError("has credentials in it: give them with encryptOptions, and the bucket alone")
    if not _BUCKET.fullmatch(bucket):
        raise ValueError(f"names no bucket: write {scheme}://bucket or {scheme}://bucket/prefix")
    ours = "oss" if store == "oss" else "gs" if store == "gs" else "s3"
    return MountPoint(scheme, store, f"{ours}://{bucket}/{prefix}".rstrip("/"))


def _azure(scheme: str, store: str, rest: str) -> MountPoint:
    place, _, prefix = rest.partition("/")
    match = _AZURE.fullmatch(place)
    if match is None:
        raise ValueError(f"names no container: write {scheme}://container@account.dfs.core.windows.net/prefix")
    container, account = place.partition("@")[0], (match[1] or "").partition(".")[0]
    return MountPoint(scheme, store, f"abfs://{container}/{prefix}".rstrip("/"), account=account)


def _web(scheme: str, store: str, rest: str) -> MountPoint:
    host, _, path = rest.partition("/")
    if "@" in host:
        raise ValueError("has credentials in it: give user and password with encryptOptions")
    if not _WEB.fullmatch(host) or "?" in path or "#" in path or not _port_is_valid(f"{scheme}://{host}"):
        raise ValueError(f"is no web directory: write {scheme}://host/directory/, without a query")
    return MountPoint(scheme, store, f"{scheme}://{host}/{path}")


def _nfs(scheme: str, store: str, rest: str) -> MountPoint:
    match = _NFS.fullmatch(rest)
    if match is None or not _port_is_valid(f"nfs://{match[1]}" + (f":{match[2]}" if match[2] else "")):
        raise ValueError(f"is no NFS export: write {scheme}://server:/directory")
    path = "/".join(path_components(match[3]))
    port = f":{match[2]}" if match[2] else ""
    return MountPoint(scheme, store, f"nfs://{match[1]}{port}/{quote(path, safe='/-._~!$()*+,;=:@', errors='replace')}")


def _claim(scheme: str, store: str, rest: str) -> MountPoint:
    claim, _, path = rest.partition("/")
    if not _OBJECT_NAME.fullmatch(claim):
        raise ValueError("names no claim: write pvc://claim or pvc://claim/directory")
    return MountPoint(scheme, store, file_url(CLAIMS[1:], claim, *path_components(path)), claim=claim)


def _node_directory(scheme: str, store: str, rest: str) -> MountPoint:
    if not rest.startswith("/"):
        raise ValueError("is no directory of a node: write local:///directory, with three slashes")
    components = path_components(rest)
    if not components:
        raise ValueError("is the whole file system of a node: write local:///directory")
    return MountPoint(scheme, store, file_url(NODE[1:], *components), host_path="/" + "/".join(components))


def _dataset(scheme: str, store: str, rest: str) -> MountPoint:
    namespace, _, more = rest.partition("/")
    name, _, path = more.partition("/")
    if not (_LABEL.fullmatch(namespace) and _LABEL.fullmatch(name)):
        raise ValueError("names no Dataset: write dataset://namespace/name or dataset://namespace/name/directory")
    return MountPoint(scheme, store, "", reference=Reference(namespace, name, "/".join(path_components(path))))


def _juicefs(scheme: str, store: str, rest: str) -> MountPoint:
    if not rest.startswith("/"):
        raise ValueError("is no directory of a volume: write juicefs:///directory, with three slashes")
    return MountPoint(scheme, store, "/".join(path_components(rest)))


def _port_is_valid(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


_Parser = Callable[[str, str, str], MountPoint]
_PARSERS: dict[str, tuple[_Parser, str]] = {
    **dict.fromkeys(("s3", "s3a", "minio"), (_bucket, "s3")),
    "oss": (_bucket, "oss"),
    **dict.fromkeys(("cos", "cosn"), (_bucket, "cos")),
    "obs": (_bucket, "obs"),
    "bos": (_bucket, "bos"),
    **dict.fromkeys(("gs", "gcs"), (_bucket, "gs")),
    **dict.fromkeys(("abfs", "abfss", "wasb", "wasbs", "az"), (_azure, "abfs")),
    **dict.fromkeys(("http", "https"), (_web, "http")),
    **dict.fromkeys(("nfs", "cpfs"), (_nfs, "nfs")),
    "pvc": (_claim, "file"),
    "local": (_node_directory, "file"),
    "dataset": (_dataset, ""),
    "juicefs": (_juicefs, "juicefs"),
}
_LATER = {
    "hdfs": "is of scheme hdfs://, which comes later: a driver for WebHDFS is not there yet",
}
