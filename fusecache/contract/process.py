"""How the supervisor starts its children and what they say to each other on the control channel.

Every child is started with exec as `python -m fusecache.fetch FD` or `python -m fusecache.serve FD`, where FD is its end of a
SEQPACKET socket pair. It imports what it needs, then waits for START: so the supervisor can keep a *spare* of each role that is
warm already and takes over within milliseconds. Messages are one JSON object per datagram; descriptors travel with SCM_RIGHTS.

supervisor -> child
    {"do": "start", "spec": PATH, "generation": N, ...}, descriptors as `FETCH_FDS` / `SERVE_FDS` list them.
        fetch also: "drop_index": bool (the supervisor saw children die of a damaged index), "fresh_connection": bool,
            "passthrough": bool (kernel, privileges and spec allow it).
        serve also: "serve_index": I, "index_id": the id fetch reported.
    {"do": "adopt"}, descriptors of the log and of the cache lock: the child was started before the mount was known, and is told
        before START what others inherit.
    {"do": "stop"}: finish what is cheap to finish and exit 0. fetch writes the clean marker.
    {"do": "ping"}: answer pong, once ready. Whoever does not, and does nothing else either, is replaced (custody/heartbeat.py).
child -> supervisor
    {"did": "warm"}                                                         all is imported: START would be obeyed at once
    {"did": "ready", "index_id": HEX, "access": "openless"|"passthrough"}   fetch: misses are answered from now on
    {"did": "ready"}                                                        serve: INIT was answered or the session resumed
    {"did": "pong"}
    {"did": "failed", "kind": ErrorKind, "message": SENTENCE}               before exit 1: the mount cannot work
A child that sees its control channel closed (the supervisor died) goes on serving until the mount is gone, then exits.
`fusecache umount` then takes the mount away and sends SIGTERM, which means stop as well. When the connection is new, serve 0 is
started first and alone, so that it is the one that answers INIT.

Favours (serve asks on the favour channel, one question at a time, the supervisor answers at once)
    {"ask": "open", "inode": I, "unique": U} + descriptor of the complete container or none
        -> {"mode": "passthrough", "backing_id": B} or {"mode": "cached"}
    {"ask": "release", "inode": I, "unique": U} -> {}
    A question repeated with the same unique (a replay after a death) gets the same answer and counts once.
"""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """What a child's exit status tells the supervisor. Anything else, or a signal, means: start another."""

    OK = 0
    FAILED = 1  # said why on the control channel; not worth another try
    INDEX_DAMAGED = 86  # start again with drop_index


FETCH_FDS = ("shared_memory", "bounce", "miss_listener", "control_listener")
SERVE_FDS = ("shared_memory", "bounce", "favour", "fuse")
