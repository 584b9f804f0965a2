"""Options of sources: to which source each `-o [SUBDIR:]KEY=VALUE` belongs, and that none is a secret.

Stateless. What a source understands is known to the source alone, so unknown keys are refused when it is opened.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from fusecache.base.secret_names import refuse_secret
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.mount_spec import SourceSpec

READ_ONLY = "read_only"
_FILE_OPTION = re.compile(r"([_-]file|^ca_bundle)$")


def assign_options(places: Iterable[tuple[str, str]], pairs: Iterable[tuple[str, str]]) -> list[SourceSpec]:
    """Return the sources with their options.

    Args:
        places: (url, subdir) of each source.
        pairs: (key, value) where key is KEY, for all sources that take options, or SUBDIR:KEY (":KEY" is the root's).
    Raises: INVALID for secrets, for a SUBDIR that no source has, for a bare KEY that sources of different kinds could take.
    """
    sources = list(places)
    options: dict[str, dict[str, str]] = {subdir: {} for _, subdir in sources}
    for key, value in pairs:
        prefix, colon, name = key.rpartition(":")
        refuse_secret(name)
        value = _absolute(name, value)
        for subdir in [_subdir_of(sources, prefix, key)] if colon else _takers(sources, name):
            options[subdir][name] = value
    return [_spec(url, subdir, options[subdir]) for url, subdir in sources]


def _spec(url: str, subdir: str, options: dict[str, str]) -> SourceSpec:
    """`read_only` is about the mount, so that no source needs to know it."""
    given = options.pop(READ_ONLY, "false").lower()
    if given not in ("", "true", "false"):
        raise CacheError(ErrorKind.INVALID, f"{READ_ONLY} is {given!r}; it must be true or false")
    return SourceSpec(url, subdir, options, given != "false")


def _absolute(name: str, value: str) -> str:
    """Return the value, a file's name from the directory the user stands in: the daemons stand elsewhere."""
    return os.path.abspath(value) if value and _FILE_OPTION.search(name) else value


def _subdir_of(sources: list[tuple[str, str]], prefix: str, key: str) -> str:
    wanted = prefix.strip("/")
    known = [subdir for _, subdir in sources]
    if wanted not in known:
        names = ", ".join(subdir or "the root (:KEY)" for subdir in known)
        raise CacheError(ErrorKind.INVALID, f"option {key!r} is for the source at {wanted!r}, but sources are at: {names}")
    return wanted


def _takers(sources: list[tuple[str, str]], name: str) -> list[str]:
    """The subdirs of the sources that a key without prefix is for: local directories take no options beside others that may."""
    remote = [(url, subdir) for url, subdir in sources if _scheme(url) != "file"]
    takers = remote or sources
    schemes = {_scheme(url) for url, _ in takers}
    if len(schemes) > 1:
        example = takers[0][1]
        kinds = " and ".join(f"{scheme}://" for scheme in sorted(schemes))
        raise CacheError(
            ErrorKind.INVALID, f"option {name!r} could be for {kinds}; say for which source: -o {example}:{name}=VALUE"
        )
    return [subdir for _, subdir in takers]


def _scheme(url: str) -> str:
    if url.startswith("/"):
        return "file"
    scheme = re.split(r"://|::", url, maxsplit=1)[0].lower()
    return {"local": "file", "s3a": "s3", "minio": "s3", "https": "http"}.get(scheme, scheme)
