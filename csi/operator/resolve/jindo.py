"""JindoRuntime: its properties, its options of mounts, and its Secret for OSS."""

from __future__ import annotations

from dataclasses import replace

from csi.operator.model.jindo_runtime import JindoRuntime
from csi.operator.resolve.engine_options import NO_CACHE, READ_ONLY
from csi.operator.resolve.findings import Findings
from csi.operator.resolve.option_row import NotServed, Table, decision, setting, silent
from csi.operator.resolve.option_values import NEVER_SECONDS, chosen, copies, format_seconds, when
from csi.operator.resolve.pods import HOST_NETWORK
from csi.operator.resolve.runtime_view import RuntimeView, view_of
from csi.operator.resolved import PodOptions

_FAMILIES = ("fs.jindocache.", "fs.jindofsx.", "jindocache.", "storage.", "namespace.")


def _of_families(*suffixes: str) -> tuple[str, ...]:
    return tuple(f"{family}*{suffix}" for suffix in suffixes for family in _FAMILIES)


PROPERTIES = Table(
    "properties of JindoRuntime",
    (
        decision(READ_ONLY, *_of_families("read.only.enable"), convert=when("true", "true"), note="nobody may write"),
        decision(NO_CACHE, *_of_families("data.cache.enable"), convert=when("false", "true"), note="`false`: no tiers"),
        setting(
            "ttl", *_of_families("meta.cache.enable"), convert=when("false", "0"), note="`false`: the store is asked each time"
        ),
        silent(
            *_of_families("ram.cache.enable", "rdma*", ".port", "tmp-dir", "tmp.dir*", "rpc*timeout*", "rpc.port"),
            note="concerns processes that do not run here",
        ),
    ),
)
MOUNT_OPTIONS = Table(
    "options of mounts with JindoRuntime",
    (
        setting(
            "ttl",
            "metaPolicy",
            convert=chosen({"ONCE": format_seconds(NEVER_SECONDS), "ALWAYS": "0"}),
            note="`ONCE`: a year, `ALWAYS`: 0; the shortest of all mounts holds",
        ),
        decision("", "cacheStrategy", convert=chosen({"DISTRIBUTED": None, "DHT": None}), note="of no effect"),
        decision("", "readCacheReplica", "writeCacheReplica", convert=copies, note="one copy of a block is kept"),
        decision(
            "",
            "writePolicy",
            convert=chosen(
                {
                    "WRITE_AROUND": None,
                    "WRITE_THROUGH": None,
                    "CACHE_ONLY": NotServed("what is written would never reach the store: choose WRITE_THROUGH"),
                }
            ),
            note="writes always reach the store; `CACHE_ONLY` is refused",
        ),
    ),
)


def view(runtime: JindoRuntime, findings: Findings) -> RuntimeView:
    spec = runtime.spec
    found = view_of(runtime, spec, spec.worker, spec.fuse, findings, table=PROPERTIES, master=spec.master)
    if _labels_in_both_forms(runtime):
        findings.refuse("labels and podMetadata.labels are both set: write all of them into podMetadata.labels", on_runtime=True)
    targets = {target.strip() for target in spec.fuse.metrics.scrape_target.split(",")}
    scraped = spec.fuse.metrics.enabled and targets & {"MountPod", "All"}
    mark = PodOptions(annotations={"prometheus.fuse.fluid.io/scrape": "true"}) if scraped else PodOptions()
    network = PodOptions(host_network=spec.network_mode == HOST_NETWORK)
    return replace(found, mount_tables=(MOUNT_OPTIONS,), oss_secret=spec.secret, defaults=(*found.defaults, network, mark))


def _labels_in_both_forms(runtime: JindoRuntime) -> bool:
    spec = runtime.spec
    parts = (spec, spec.master, spec.worker, spec.fuse)
    return any(part.labels for part in parts) and any(part.pod_metadata.labels for part in parts)
