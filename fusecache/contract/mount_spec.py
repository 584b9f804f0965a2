"""The mount spec: everything a mount is, as one frozen value that the command line writes and every process reads.

The spec is stored as JSON (mode 0600) in the run directory. It holds no secret: credentials reach fetch through files
named in the options, or through the environment of the supervisor.
"""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class Medium(enum.StrEnum):
    """Kind of storage under a tier; tiers are ordered MEM < SSD < HDD whatever the order written."""

    MEM = "MEM"
    SSD = "SSD"
    HDD = "HDD"


class Engine(enum.StrEnum):
    AUTO = "auto"  # native
    NATIVE = "native"
    PYFUSE3 = "pyfuse3"


class Access(enum.StrEnum):
    """How files are opened; decided once per FUSE connection (the kernel does not take ENOSYS to OPEN back)."""

    AUTO = "auto"  # by the mean file size of the first listings: see fetch/access_mode.py
    OPENLESS = "openless"  # OPEN answered ENOSYS: fewest requests for many small files
    PASSTHROUGH = "passthrough"  # OPEN answered; complete large files are read by the kernel from the tier


class Verify(enum.StrEnum):
    READS = "reads"  # checksums on every READ that reaches serve; passthrough containers before hand-over
    ALWAYS = "always"  # no passthrough, so that every byte is checked on every read


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """One source and its place in the tree.

    Attributes:
        url: without credentials.
        subdir: components joined by "/", "" for the root of the tree. At most one source is at the root.
        options: what `fusecache.source.registry.open_source` understands. No secrets, only names of files that hold them.
        read_only: nothing below it may be changed, on a mount that may be written.
    """

    url: str
    subdir: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    read_only: bool = False


class WriteMode(enum.StrEnum):
    """When bytes that a program wrote are safe."""

    THROUGH = "through"  # when the store has them
    BACK = "back"  # when they are in the journal on the local disk


@dataclass(frozen=True, slots=True)
class TierSpec:
    """One tier. `path` is this mount's own directory, 0700; `high` and `low` are shares of the quota in (0, 1], low <= high.

    Above `high` the coldest blocks move to the next tier until `low`; the last tier evicts, and stays just below `high`.
    """

    path: str
    medium: Medium
    quota_bytes: int
    high: float = 0.95
    low: float = 0.7


@dataclass(frozen=True, slots=True)
class PeersSpec:
    """Other nodes that cache the same dataset, and how they find this one.

    Attributes:
        service: a name behind which all of them are (a headless Service), or `HOST:PORT,HOST:PORT`.
        port: where this one listens, and the others do unless `service` says otherwise.
        node: what this one is called: the same after a restart, another for each.
        token_file: what all of them have to know.
        address: where this one listens; "": everywhere.
        owns: others may ask this one, if it has tiers. Else it only asks, and does not listen.
    """

    service: str
    port: int
    node: str
    token_file: str
    address: str = ""
    owns: bool = True


@dataclass(frozen=True, slots=True)
class MountSpec:
    """One mount.

    Attributes:
        dataset_id: hex digest of the sources; names the cache directory.
        mountpoint: absolute, without symbolic links.
        state_dir: this dataset's own directory on disk, 0700: index, marks, lock. Survives the mount.
        run_dir: this mount's own directory, 0700: spec, state file, sockets, log. Removed at umount.
        tiers: first to last. May be empty: everything goes through the bounce buffer then.
        serve_processes: how many serve processes share the mount.
        uid, gid: owner shown for files and directories whose source has none (or all, if `override_owner`).
        ttl_seconds: names and listings are revalidated with the source when older than this.
        negative_ttl_seconds: how long the kernel may remember that a name does not exist.
        block_size_bytes: unit of caching; a multiple of granule_size_bytes. 1 MiB: the largest FUSE READ.
        granule_size_bytes: unit of checksums. 128 KiB: the kernel's default read-ahead.
        deadline_seconds: a read whose store does not answer fails with EIO after this.
        allow_other: users other than the mounting one may read (needs root or user_allow_other in /etc/fuse.conf).
        sync_listing: list the whole tree in the background, so that totals are known.
        prefetch: read-ahead from the store (sequential, sibling and whole-dataset patterns).
        fetch_memory_bytes: bound of bytes in flight between store and tiers.
        read_write: programs may write (the native engine only; OPEN is always answered, and there is no passthrough).
        write_mode: what close and fsync wait for.
        write_back_delay_seconds: when writing back, how long what was written waits before it is uploaded.
        stage_quota_bytes: of what is written and not in the store yet; more is ENOSPC. 0: as much as the disk takes.
        peers: other nodes that are asked before the store; None: there are none. Not on a mount that may be written.
        close_to_open: on a mount that may be written, every open asks the source whether it has another version by now.
        debug_no_resend: do not ask for FUSE_NOTIFY_RESEND (tests of the request slots).
    """

    dataset_id: str
    mountpoint: str
    sources: tuple[SourceSpec, ...]
    tiers: tuple[TierSpec, ...]
    state_dir: str
    run_dir: str
    engine: Engine = Engine.AUTO
    access: Access = Access.AUTO
    serve_processes: int = 1
    uid: int = 0
    gid: int = 0
    override_owner: bool = False
    file_mode: int = 0o444
    dir_mode: int = 0o555
    ttl_seconds: float = 60.0
    negative_ttl_seconds: float = 1.0
    verify: Verify = Verify.READS
    block_size_bytes: int = 1 << 20
    granule_size_bytes: int = 128 << 10
    deadline_seconds: float = 60.0
    allow_other: bool = True
    sync_listing: bool = True
    prefetch: bool = True
    fetch_memory_bytes: int = 96 << 20
    log_level: str = "INFO"
    read_write: bool = False
    write_mode: WriteMode = WriteMode.THROUGH
    write_back_delay_seconds: float = 5.0
    stage_quota_bytes: int = 0
    close_to_open: bool = False
    peers: PeersSpec | None = None
    debug_no_resend: bool = False

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> MountSpec:
        raw: dict[str, Any] = json.loads(text)
        raw["sources"] = tuple(SourceSpec(**source) for source in raw["sources"])
        raw["tiers"] = tuple(TierSpec(**{**tier, "medium": Medium(tier["medium"])}) for tier in raw["tiers"])
        raw["engine"] = Engine(raw["engine"])
        raw["access"] = Access(raw["access"])
        raw["verify"] = Verify(raw["verify"])
        raw["write_mode"] = WriteMode(raw.get("write_mode", WriteMode.THROUGH))
        raw["peers"] = PeersSpec(**raw["peers"]) if raw.get("peers") else None
        return cls(**raw)

    @classmethod
    def load(cls, path: str | Path) -> MountSpec:
        return cls.from_json(Path(path).read_text())
