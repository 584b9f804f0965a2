"""The Secret of a Dataset's cache pods: the values that its sources need, brought together under names of ours.

Values are looked up here, put into the Secret, and kept nowhere.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from csi.operator.render.object_names import credentials_name, owned, token_name
from csi.operator.render.surroundings import Identity
from csi.operator.resolved import ClearText, Problem, Resolved, SecretKey

SECRET_NOT_FOUND = "SecretNotFound"
# What a cache pod asks of others. Loaders get the first, also those of other namespaces that refer to the Dataset; the other is
# of the Dataset's own pods and the operator alone, who may erase a cache, and read blocks of each other's.
TOKEN_KEY, OWN_KEY = "token", "own"

SecretLookup = Callable[[SecretKey], str | None]
ClearTextLookup = Callable[[ClearText], str | None]


def file_name(source: int, option: str) -> str:
    """Return the key in the Secret, and the name of the file in pods, of an option of a source."""
    return f"{source}.{option}"


def wanted(resolved: Resolved) -> Iterator[tuple[str, SecretKey | ClearText]]:
    """Yield the names of all credentials, with the places of their values."""
    for number, source in enumerate(resolved.sources):
        for option, place in source.secrets.items():
            yield file_name(number, option), place


def collect(resolved: Resolved, in_secret: SecretLookup, in_clear: ClearTextLookup) -> dict[str, str] | list[Problem]:
    """Return the values by their names, or which of them are missing."""
    values: dict[str, str] = {}
    missing: list[Problem] = []
    for name, place in wanted(resolved):
        value = in_secret(place) if isinstance(place, SecretKey) else in_clear(place)
        if value is not None:
            values[name] = value
        elif isinstance(place, ClearText):
            missing.append(Problem(SECRET_NOT_FOUND, "an option changed while it was read: it is looked at again", heals=True))
        elif not place.is_optional:
            message = f"Secret {place.secret} or its key {place.key} is missing: create it in namespace {resolved.namespace}"
            missing.append(Problem(SECRET_NOT_FOUND, message, heals=True))
    return missing or values


def credentials_secret(resolved: Resolved, values: Mapping[str, str], identity: Identity) -> dict[str, Any]:
    return secret(owned(resolved, identity, credentials_name(resolved.name)), values)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Random, made once. `shared`: of loaders, too. `own`: of cache pods and the operator."""

    shared: str
    own: str


def token_secret(resolved: Resolved, tokens: Tokens, identity: Identity) -> dict[str, Any]:
    """Return the Secret with which the operator, loaders and cache pods prove to cache pods who they are."""
    values = {TOKEN_KEY: tokens.shared, OWN_KEY: tokens.own}
    return secret(owned(resolved, identity, token_name(resolved.name)), values)


def secret(metadata: dict[str, Any], values: Mapping[str, str]) -> dict[str, Any]:
    """Return a Secret with values of text."""
    data = {name: base64.b64encode(value.encode()).decode() for name, value in sorted(values.items())}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}
