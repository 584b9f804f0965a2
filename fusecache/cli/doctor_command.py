"""`fusecache doctor`: checks the machine, and a store, and says how to mend what is wrong.

Owns no state.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator

import click

from fusecache.base.settings import SETTINGS, parse_setting, reject_misspelt
from fusecache.cli.doctor_finding import FAIL, OK, Finding
from fusecache.cli.doctor_machine import check_machine
from fusecache.cli.places import Places
from fusecache.cli.source_arguments import split_source
from fusecache.cli.source_options import assign_options
from fusecache.cli.spec_building import split_option
from fusecache.cli.text import printable
from fusecache.cli.tier_options import TierRequest, default_tiers, parse_tiers
from fusecache.contract.exit_status import ExitStatus
from fusecache.contract.mount_spec import SourceSpec

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
@click.argument("source", required=False)
@click.option("-o", "options", multiple=True, metavar="KEY=VALUE", help="An option of the source, as for mount.")
@click.option("--tier", "tiers", multiple=True, metavar="PATH:QUOTA[:HIGH[:LOW]]", help="A tier to check, as for mount.")
@click.option("--json", "as_json", is_flag=True, help="A list of objects {check, level, message, cure}.")
def doctor(source: str | None, options: tuple[str, ...], tiers: tuple[str, ...], as_json: bool) -> int:
    """Check this machine and, if given, a SOURCE. Returns 1 if something does not work."""
    places = Places.of_process()
    state_dir = os.path.join(places.cache_home, "fusecache")
    requests = parse_tiers(tiers) if tiers else default_tiers(places.shared_memory, state_dir)
    of_source = _options_of_source(options)
    spec = assign_options([split_source(source)], of_source)[0] if source else None
    findings = []
    for finding in _findings(places, requests, spec):
        findings.append(finding)
        if not as_json:
            _print(finding)
    if as_json:
        click.echo(json.dumps([finding._asdict() for finding in findings], indent=2))
    return ExitStatus.FAILED if any(finding.level == FAIL for finding in findings) else ExitStatus.OK


def _options_of_source(options: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return what is not a setting of the mount: the options of a `mount` that fails can be repeated as they are."""
    pairs = []
    for key, value in map(split_option, options):
        if key in SETTINGS:
            parse_setting(key, value)
        else:
            reject_misspelt(key)
            pairs.append((key, value))
    return pairs


def _findings(places: Places, tiers: list[TierRequest], spec: SourceSpec | None) -> Iterator[Finding]:
    yield from check_machine(places, tiers)
    if spec is not None:
        from fusecache.cli.doctor_source import check_source

        yield from check_source(spec, places.environment)


def _print(finding: Finding) -> None:
    level = click.style(f"{finding.level:<4}", fg=_COLOURS[finding.level]) if sys.stdout.isatty() else f"{finding.level:<4}"
    click.echo(f"{level}  {printable(finding.check)}: {printable(finding.message)}")
    if finding.level != OK and finding.cure:
        click.echo(f"      -> {printable(finding.cure)}")
