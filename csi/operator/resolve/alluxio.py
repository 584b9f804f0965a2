"""AlluxioRuntime: its properties, which GooseFS has under its own prefix."""

from __future__ import annotations

from csi.operator.model.alluxio_runtime import AlluxioRuntime
from csi.operator.resolve.engine_options import NO_CACHE, ROOT_READ_ONLY
from csi.operator.resolve.findings import Findings
from csi.operator.resolve.option_row import (
    NotServed,
    Table,
    WithoutEffect,
    decision,
    ignored,
    setting,
    silent,
)
from csi.operator.resolve.option_values import block_size, chosen, copies, lasting, only, timeout, when
from csi.operator.resolve.runtime_view import RuntimeView, view_of

_SYNCHRONOUS = WithoutEffect("writes are synchronous: they reach the store before close and fsync return")
_CHECKS = "permissions of the engine would be promised and not checked: leave it out"

PROPERTIES = Table(
    "properties of AlluxioRuntime, and of GooseFSRuntime with `goosefs.` in the place of `alluxio.`",
    (
        setting("ttl", "alluxio.user.file.metadata.sync.interval", convert=lasting("ms"), note="-1: a year"),
        setting("ttl", "alluxio.user.metadata.cache.expiration.time", convert=lasting("ms")),
        silent("alluxio.user.metadata.cache.enabled", "alluxio.user.metadata.cache.max.size"),
        decision(
            NO_CACHE,
            "alluxio.user.file.readtype.default",
            convert=chosen({"CACHE": None, "CACHE_PROMOTE": None, "NO_CACHE": "true"}),
            note="`NO_CACHE`: no tiers",
        ),
        decision(
            "",
            "alluxio.user.file.writetype.default",
            convert=chosen(
                {
                    "THROUGH": None,
                    "CACHE_THROUGH": None,
                    "MUST_CACHE": _SYNCHRONOUS,
                    "TRY_CACHE": _SYNCHRONOUS,
                    "ASYNC_THROUGH": _SYNCHRONOUS,
                }
            ),
            note="writes reach the store before close and fsync return, whatever is written here",
        ),
        decision(
            ROOT_READ_ONLY,
            "alluxio.master.mount.table.root.readonly",
            convert=when("true", "true"),
            note="as `readOnly` of the mount at the root",
        ),
        decision(
            "",
            "alluxio.user.file.replication.max",
            "alluxio.user.file.replication.min",
            convert=copies,
            note="one copy of a block is kept",
        ),
        decision(
            "",
            "alluxio.user.file.create.ttl.action",
            convert=chosen(
                {
                    "FREE": WithoutEffect("blocks leave the cache when room is needed"),
                    "DELETE": NotServed("files would be deleted at the store: leave it out"),
                    "DELETE_ALLUXIO": WithoutEffect("blocks leave the cache when room is needed"),
                }
            ),
            note="`DELETE` is refused",
        ),
        ignored("alluxio.user.file.create.ttl", note="blocks leave the cache when room is needed"),
        setting("block_size", "alluxio.user.block.size.bytes.default", convert=block_size, note="brought into our bounds"),
        setting("deadline", "alluxio.user.streaming.data.timeout", convert=timeout("ms")),
        silent(
            "alluxio.user.streaming.reader.chunk.size.bytes",
            "alluxio.user.local.reader.chunk.size.bytes",
            "alluxio.worker.network.reader.buffer.size",
            "alluxio.fuse.user.group.translation.enabled",
            "alluxio.fuse.cached.paths.max",
            "alluxio.fuse.jnifuse.*",
            "alluxio.fuse.debug.enabled",
        ),
        ignored("alluxio.worker.allocator.class", "alluxio.worker.block.annotator.class", "alluxio.worker.evictor.class"),
        ignored("alluxio.worker.tieredstore.*", note="tieredstore says it"),
        ignored("alluxio.user.ufs.block.read.location.policy*", "alluxio.user.block.write.location.policy.class"),
        ignored("alluxio.user.client.cache.*", note="nodes that only read keep what they read in their page cache"),
        decision(
            "",
            "alluxio.security.authorization.permission.enabled",
            convert=only("false", _CHECKS),
            note="refused when true: access is decided by owners and modes alone",
        ),
        decision(
            "",
            "alluxio.security.authentication.type",
            convert=chosen({"NOSASL": None, "SIMPLE": None}, otherwise=_CHECKS),
            note="others than `NOSASL` and `SIMPLE` are refused",
        ),
        ignored("alluxio.underfs.hdfs.*"),
        silent("alluxio.master.*", "alluxio.job.*", "alluxio.proxy.*", note="no such process runs here"),
    ),
)


def view(runtime: AlluxioRuntime, findings: Findings) -> RuntimeView:
    spec = runtime.spec
    return view_of(runtime, spec, spec.worker, spec.fuse, findings, table=PROPERTIES, master=spec.master)
