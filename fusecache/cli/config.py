"""What a configuration file says, apart from how it is read: a mount without one does not load the reader.

Stateless.
"""

from __future__ import annotations

from typing import NamedTuple

from fusecache.cli.tier_options import TierRequest


class Config(NamedTuple):
    """Values as text, as the command line would give them. `tiers` None: not said."""

    places: tuple[tuple[str, str], ...] = ()
    mountpoint: str | None = None
    tiers: tuple[TierRequest, ...] | None = None
    options: tuple[tuple[str, str], ...] = ()
    timeout: str | None = None
    settings: tuple[tuple[str, str], ...] = ()
