"""Where cache pods of a Dataset may be: names to addresses. Blocks; no state."""

from __future__ import annotations

import socket

Place = tuple[str, int]  # numeric address, port


def find_places(service: str, port: int) -> set[Place]:
    """Return the addresses behind a headless Service, or of a list `HOST:PORT,HOST:PORT`; a host without a port has `port`.

    Raises: OSError if no name is known."""
    found: set[Place] = set()
    error: OSError | None = None
    for host, number in split_service(service, port):
        try:
            found |= {(str(info[4][0]), number) for info in socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)}
        except OSError as unknown:
            error = unknown
    if error is not None and not found:
        raise error
    return found


def split_service(service: str, port: int) -> list[Place]:
    """Return (host, port) of each part. An address of IPv6 that has a port stands in brackets. Raises: ValueError."""
    places = []
    for part in filter(None, (part.strip() for part in service.split(","))):
        if part.startswith("["):
            host, bracket, rest = part[1:].partition("]")
            if not bracket or (rest and not rest.startswith(":")):
                raise ValueError(f"{part!r} is no address")
            number = rest[1:]
        elif part.count(":") == 1:
            host, _, number = part.partition(":")
        else:
            host, number = part, ""
        if not host or (number and not (number.isdecimal() and 0 < int(number) < 1 << 16)):
            raise ValueError(f"{part!r} is no host with a port")
        places.append((host, int(number) if number else port))
    return places
