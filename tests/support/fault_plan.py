"""What the fault proxy does to the requests that pass it: a value that travels to the proxy's process as JSON. Stateless."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field


class Fault(enum.StrEnum):
    """One kind of misfortune, and which requests it can befall."""

    UNAVAILABLE = "503"  # any; every second one with Retry-After
    THROTTLED = "429"  # any; every second one with Retry-After
    SLOW = "slow"  # any: the answer starts `slow_seconds` late
    SLOW_BODY = "slow_body"  # a body: a pause of `slow_seconds` in its middle
    RESET = "reset"  # a body: connection reset in its middle
    TRUNCATED = "truncated"  # a body: the right Content-Length, half of the bytes, then an orderly end
    EMPTY = "empty"  # a GET: the right status with no bytes at all (Content-Length: 0)
    WHOLE = "whole"  # a ranged GET: 200 with the whole object (signed anew where the request was signed)
    WRONG_RANGE = "wrong_range"  # a 206: other bytes than asked for, honestly labelled in Content-Range
    SHORT_LIST = "short_list"  # ListObjectsV2: pages of three names (signed anew)
    REPEAT_TOKEN = "repeat_token"  # ListObjectsV2 with a token: the answer repeats that token as the next
    FLIP = "flip"  # a GET of an object: one bit of the body flipped
    LOST = "lost"  # any but GET and HEAD: the store does it, and the connection is reset instead of an answer
    STALL = "stall"  # any: accepted, never answered (until the client hangs up or `stall_seconds` have passed)


class Gone(enum.StrEnum):
    """The store as a whole."""

    NO = "no"
    REFUSE = "refuse"  # the port is closed, open connections are reset
    STALL = "stall"  # every request is accepted and never answered


OF_READERS = tuple(fault for fault in Fault if fault is not Fault.LOST)
ANY_ANSWER = (Fault.UNAVAILABLE, Fault.THROTTLED, Fault.SLOW, Fault.STALL)


@dataclass(frozen=True, slots=True)
class Plan:
    """Attributes:
    share: of the matching requests that get a fault, 0 to 1; drawn from `seed` and the request itself, so that the same requests
        meet the same faults whatever their order.
    weights: how often each kind is chosen among those that can befall the request.
    match: regular expression searched in "METHOD /path?query"; other requests pass untouched. "" matches all.
    most_in_a_row: after so many faults on one request (same method, target and range) it passes; 0 means no bound.
    slow_seconds, stall_seconds: see Fault.
    latency_seconds: added to every answer.
    bandwidth_bytes_per_second: of all bodies together, those under way as well; both 0 for none.
    access_key, secret_key: with which WHOLE and SHORT_LIST sign anew; without them they befall unsigned requests only.
    """

    share: float = 0.0
    weights: Mapping[Fault, float] = field(default_factory=dict)
    seed: int = 0
    match: str = ""
    most_in_a_row: int = 3
    slow_seconds: float = 2.0
    stall_seconds: float = 60.0
    latency_seconds: float = 0.0
    bandwidth_bytes_per_second: int = 0
    gone: Gone = Gone.NO
    access_key: str = ""
    secret_key: str = ""

    @classmethod
    def evenly(cls, share: float, *kinds: Fault, **settings: object) -> Plan:
        """Return a plan in which each of these kinds (all that befall readers, if none is named) is as likely as the others."""
        return cls(share=share, weights=dict.fromkeys(kinds or OF_READERS, 1.0), **settings)  # type: ignore[arg-type]

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        raw = json.loads(text)
        raw["weights"] = {Fault(kind): weight for kind, weight in raw["weights"].items()}
        raw["gone"] = Gone(raw["gone"])
        return cls(**raw)

    def choose(self, key: str, occurrence: int, in_a_row: int, eligible: tuple[Fault, ...]) -> Fault | None:
        """Return what befalls the `occurrence`-th request of this key, or None."""
        if self.share <= 0 or (self.most_in_a_row and in_a_row >= self.most_in_a_row):
            return None
        if self.match and not re.search(self.match, key):
            return None
        kinds = [kind for kind in eligible if self.weights.get(kind, 0) > 0]
        digest = hashlib.blake2b(f"{self.seed}\n{occurrence}\n{key}".encode("utf-8", "surrogateescape"), digest_size=16).digest()
        if not kinds or int.from_bytes(digest[:8], "big") / 2**64 >= self.share:
            return None
        point = int.from_bytes(digest[8:], "big") / 2**64 * sum(self.weights[kind] for kind in kinds)
        for kind in kinds:
            point -= self.weights[kind]
            if point < 0:
                return kind
        return kinds[-1]
