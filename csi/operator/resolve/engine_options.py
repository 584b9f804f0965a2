"""Options that are about the whole mount: properties of engines, arguments of mount clients, settings in our own words.

What they come to are settings of docs/operations.md, and decisions that the resolving code looks at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from csi.operator.resolve.option_layers import Layer, Reading, Written
from csi.operator.resolve.option_row import Converter, Effect, Row, Table, decision, ignored, setting, silent
from csi.operator.resolve.option_values import lasting, octal, timeout, when, whole
from fusecache.base.settings import SETTINGS, parse_setting
from fusecache.contract.errors import CacheError

# Decisions.
READ_ONLY = "read_only"  # nobody may write, whatever the access modes say
ROOT_READ_ONLY = "root_read_only"  # nobody may write below the mount at the root
NO_CACHE = "no_cache"  # nothing that is read is kept
CACHE_MEBIBYTES, CACHE_DIRECTORY = "cache_size", "cache_dir"  # a tier in JuiceFS' words

OWN_PREFIX = "fusecache."
_FRESHEST = ("ttl", "negative_ttl")  # of several times, the shortest holds: nobody sees older names than any of them says
_MAX_TEXT = 64
_TUNABLE = (
    "access", "serve_processes", "file_mode", "dir_mode", "ttl", "negative_ttl", "verify", "block_size", "granule_size",
    "deadline", "write_mode", "write_back_delay", "stage_quota", "close_to_open", "prefetch", "fetch_memory", "log_level",
)  # fmt: skip
_TIMES: dict[str, Converter] = {"deadline": timeout()} | dict.fromkeys(("ttl", "negative_ttl", "write_back_delay"), lasting())


def _own(name: str) -> Converter:
    def convert(text: str) -> str:
        try:
            if len(text) > _MAX_TEXT:
                raise ValueError
            parse_setting(name, text.strip())
        except (CacheError, ValueError, OverflowError):
            raise ValueError(SETTINGS[name].expected) from None
        return text.strip()

    return _TIMES.get(name, convert)


OWN = Table(
    "settings of this cache, in the options and properties of every runtime",
    tuple(setting(name, f"{OWN_PREFIX}{name}", convert=_own(name)) for name in _TUNABLE),
)
OWN_WORDS = Table(
    "settings of this cache, in the options of CacheRuntime and CacheRuntimeClass",
    tuple(setting(name, name, convert=_own(name)) for name in _TUNABLE),
)
_ID = whole(0, (1 << 32) - 2)
FUSE_ARGS = Table(
    "arguments of mount clients (`fuse.args` of AlluxioRuntime, GooseFSRuntime and JindoRuntime)",
    (
        decision(READ_ONLY, "ro", convert=when("true", "true"), note="nobody may write"),
        silent("rw", note="access modes say who may write"),
        setting("ttl", "attr_timeout", "entry_timeout", "ac_attr_timeout", convert=lasting()),
        setting("negative_ttl", "negative_timeout", convert=lasting()),
        decision("uid", "uid", convert=_ID, note="owner of all files, where the Dataset names none"),
        decision("gid", "gid", convert=_ID, note="group of all files, where the Dataset names none"),
        decision("umask", "umask", convert=octal, note="modes of files and directories without modes of their own"),
        silent("kernel_cache", "auto_cache", "allow_other", "allow_root", "nonempty", "max_read", "big_writes"),
        ignored("direct_io", "max_readahead", "max_background", "max_idle_threads", "max_threads"),
    ),
)


@dataclass(slots=True)
class EngineOptions:
    settings: dict[str, str] = field(default_factory=dict)
    decisions: dict[str, str] = field(default_factory=dict)

    def read(self, layers: Iterable[Layer], tables: Sequence[Table], reading: Reading) -> None:
        """Take what the tables know, layers from the weakest to the strongest."""
        for options in layers:
            reading.saw(options)
            for table in tables:
                by_key = {written.key: written for written in options}
                for key, row in table.in_order(by_key):
                    self._take(row, by_key[key], reading)

    def _take(self, row: Row, written: Written, reading: Reading) -> None:
        value = reading.value(row, written)
        if value is None:
            return
        if row.effect is Effect.DECISION:
            self.decisions[row.target] = value
        elif row.effect is Effect.SETTING:
            before = self.settings.get(row.target)
            if before is not None and row.target in _FRESHEST:
                value = min(before, value, key=float)
            self.settings[row.target] = value


def split_arguments(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """Return options among the arguments of a mount client: of `fuse --fuse-opts=a,b=1`, `-o a,b=1`, `-oa -ob=1`."""
    options: list[str] = []
    expects_options = False
    for argument in arguments:
        text = argument.strip()
        if expects_options:
            options += text.split(",")
            expects_options = False
        elif text in ("-o", "--fuse-opts"):
            expects_options = True
        elif text.startswith("--fuse-opts="):
            options += text.partition("=")[2].split(",")
        elif text.startswith("-o") and not text.startswith("--"):
            options += text[2:].split(",")
        elif text not in ("", "fuse"):
            options.append(text)
    pairs = [option.strip().partition("=") for option in options if option.strip()]
    return [(key, value) for key, _, value in pairs]
