"""Metrics: every counter has a name, the text parses, the document lists what there is."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from fusecache.base import metrics
from fusecache.contract.shared_memory import Counter

DOCUMENT = Path(__file__).parents[3] / "docs" / "operations.md"


def test_every_counter_is_exposed_once() -> None:
    assert set(metrics.COUNTERS) == set(Counter)
    names = [metric.name for metric in [*metrics.COUNTERS.values(), *metrics.GAUGES]]
    assert len(set(names)) == len(names)


def test_every_counter_is_counted_somewhere() -> None:
    package = DOCUMENT.parents[1] / "fusecache"
    definitions = ("base/metrics.py", "contract/shared_memory.py")
    text = "".join(path.read_text() for path in package.rglob("*.py") if str(path.relative_to(package)) not in definitions)
    assert [counter.name for counter in Counter if not re.search(rf"\bCounter\.{counter.name}\b", text)] == []


def test_the_exposition_parses_and_keeps_the_values() -> None:
    text = metrics.exposition({metrics.COUNTERS[Counter.HITS]: 7, metrics.TIER_USED: {"0": 1.0, "1": 2.0}})
    samples = {
        (sample.name, tuple(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples == {
        ("fusecache_read_hits_total", ()): 7.0,
        ("fusecache_tier_used_bytes", (("tier", "0"),)): 1.0,
        ("fusecache_tier_used_bytes", (("tier", "1"),)): 2.0,
    }


def test_the_document_lists_them_all() -> None:
    documented = re.findall(r"^\| `(fusecache_\w+)` \| (\w+) \| (.+) \|$", DOCUMENT.read_text(), re.MULTILINE)
    assert documented == [(one.name, one.kind, one.help) for one in [*metrics.COUNTERS.values(), *metrics.GAUGES]]
