"""JuiceFSRuntime: its mount options, its way of naming tiers, its flags for formatting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from csi.operator.model.juicefs_runtime import JuiceFSRuntime
from csi.operator.resolve.engine_options import CACHE_DIRECTORY, CACHE_MEBIBYTES, READ_ONLY
from csi.operator.resolve.findings import Findings
from csi.operator.resolve.option_row import Table, decision, ignored, setting, silent
from csi.operator.resolve.option_values import lasting, size, when, whole
from csi.operator.resolve.runtime_view import RuntimeView, view_of
from csi.operator.resolve.tiers import DEFAULT_HIGH, DEFAULT_LOW, LevelForm, Slot, check_path, make_tier
from csi.operator.resolved import ResolvedTier
from fusecache.base.units import MIB
from fusecache.contract.mount_spec import Medium

_SYNCHRONOUS = "writes are synchronous: they reach the store before close and fsync return"


def _blocks_ahead(text: str) -> str | None:
    return "false" if whole(0, 1 << 20)(text) == "0" else None


_IN_MEMORY = ("memory", "/dev/shm")

OPTIONS = Table(
    "options of JuiceFSRuntime (`worker.options`, `fuse.options`)",
    (
        decision(
            CACHE_MEBIBYTES,
            "cache-size",
            convert=whole(0, 1 << 40),
            note="of the worker, with `cache-dir`: the tiers, where `tieredstore` names none; 0: none",
        ),
        decision(CACHE_DIRECTORY, "cache-dir", note="see `cache-size`"),
        ignored("free-space-ratio", note="the quota of a tier bounds it"),
        setting("fetch_memory", "buffer-size", convert=size(16 * MIB, 1 << 40, plain_factor=MIB)),
        setting("prefetch", "prefetch", convert=_blocks_ahead, note="0: false"),
        ignored("max-readahead", note="how far is read ahead follows from how files are read"),
        setting(
            "ttl",
            "attr-cache", "entry-cache", "dir-entry-cache", "open-cache",
            "attrcacheto", "entrycacheto", "direntrycacheto", "opencache",
            convert=lasting(),
        ),
        setting("negative_ttl", "negative-entry-cache", convert=lasting()),
        decision(READ_ONLY, "ro", "read-only", convert=when("true", "true"), note="nobody may write"),
        ignored("writeback", note=_SYNCHRONOUS),
        ignored("upload-limit", "download-limit"),
        silent(
            "cache-group", "no-sharing", "foreground", "no-update", "metrics", "verbose", "debug", "log", "no-usage-report",
            "backup-meta", "background",
        ),
    ),
)  # fmt: skip
_REFUSED_FLAGS: Mapping[str, str] = {
    "encrypt-rsa-key": "files would be encrypted",
    "encrypt-algo": "files would be encrypted",
    "compress": "files would be compressed",
}
_PLAIN = ("", "none")


def view(runtime: JuiceFSRuntime, findings: Findings) -> RuntimeView:
    spec = runtime.spec
    form = LevelForm(separators=",:", keeps_free=True)
    found = view_of(runtime, spec, spec.worker, spec.fuse, findings, table=OPTIONS, form=form)
    for number, entry in enumerate(spec.configs):
        flag, _, value = entry.strip().lstrip("-").partition("=")
        if flag in _REFUSED_FLAGS and value.strip() not in _PLAIN:
            message = f"spec.configs[{number}]: {flag}: {_REFUSED_FLAGS[flag]}, which is not supported: leave it out"
            findings.refuse(message, on_runtime=True)
    return found


def tiers_of_options(view: RuntimeView, decisions: Mapping[str, str], findings: Findings) -> RuntimeView:
    """Return the view with the tiers that `cache-size` and `cache-dir` name, if `tieredstore` names none."""
    if view.tiers is not None or CACHE_MEBIBYTES not in decisions:
        return view
    total_bytes = int(decisions[CACHE_MEBIBYTES]) * MIB
    if total_bytes == 0:
        return replace(view, tiers=())
    paths = [path for path in decisions.get(CACHE_DIRECTORY, "").split(":") if path] or [""]
    if len(set(paths)) < len(paths) or not all(_is_right(path, findings) for path in paths):
        return replace(view, tiers=())
    tiers = [_tier(Slot(path, total_bytes // len(paths)), number) for number, path in enumerate(paths)]
    return replace(view, tiers=tuple(sorted(tiers, key=lambda tier: tier.medium is not Medium.MEM)))


def _is_right(path: str, findings: Findings) -> bool:
    return path in ("", "memory") or check_path(path, "option cache-dir", findings)


def _tier(slot: Slot, number: int) -> ResolvedTier:
    medium = Medium.MEM if slot.path.startswith(_IN_MEMORY) else Medium.SSD
    return make_tier(medium, slot, (DEFAULT_HIGH, DEFAULT_LOW), is_empty_dir=False, at=number)
