"""`fusecache-csi operator`: the command line of the operator. The only place that knows argparse here."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence

from csi.metrics_server import metrics_address
from csi.operator.app.definitions_check import ForeignDefinitionsError
from csi.operator.app.program import OperatorSettings, run_operator
from csi.operator.leader import LostError
from csi.operator.render.surroundings import Installation
from csi.operator.resolve.allowed_roots import AllowedRoots
from fusecache.base.hardening import harden_process
from fusecache.base.log import configure

log = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Run until SIGTERM or SIGINT; 1 if the Lease was lost, so that whoever started us starts another one."""
    parser = argparse.ArgumentParser(prog="fusecache-csi operator", description="Datasets and runtimes of a cluster.")
    add = parser.add_argument
    add("--namespace", required=True, help="of the Lease that one operator at a time holds")
    add("--image", required=True, help="of cache pods")
    add("--pull-policy", default="", choices=("", "Always", "IfNotPresent", "Never"), help="where no runtime sets one")
    add("--priority-class", default="", help="of cache pods")
    add("--exclusive", action="store_true", help="Datasets that do not say `placement` share their nodes with no other")
    add("--cache-root", action="append", default=[], metavar="DIR", help="as the nodes have it: tiers may lie below it")
    add(
        "--local-root",
        action="append",
        default=[],
        metavar="DIR",
        help="as the nodes have it: of local://",
    )
    add("--plugin-selector", action="append", default=[], type=_label, metavar="KEY=VALUE", help="of nodes with the node plugin")
    add("--pull-secret", action="append", default=[], metavar="NAME", help="pods pull images with this Secret of their namespace")
    add("--metrics", type=metrics_address, metavar="ADDRESS:PORT", help="where Prometheus may ask; :9810 for all addresses")
    add("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    add("--log-format", default="text", choices=("text", "json"))
    given = parser.parse_args(arguments)
    configure("operator", given.log_level, given.log_format)
    if given.log_level != "DEBUG":
        for chatty in ("httpx2", "kopf"):  # a line for each request, and for each object seen
            logging.getLogger(chatty).setLevel(logging.WARNING)
    harden_process()
    installation = Installation(
        given.image, given.pull_policy, tuple(given.pull_secret), given.priority_class, dict(given.plugin_selector)
    )
    roots = AllowedRoots(tuple(given.cache_root), tuple(given.local_root))
    status = 0
    try:
        asyncio.run(_run(OperatorSettings(given.namespace, installation, not given.exclusive, roots, metrics=given.metrics)))
    except* (LostError, ForeignDefinitionsError) as failed:
        sys.stderr.write(f"fusecache-csi operator: {failed.exceptions[0]}\n")
        status = 1
    return status


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError("has to be KEY=VALUE")
    return key, value


async def _run(settings: OperatorSettings) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    await run_operator(settings, ended)
