"""A store of empty objects that are nowhere: answers ListObjectsV2 by arithmetic, so that ten million names cost nobody anything.

`python -m tests.bench.synthetic_store DIRECTORIES NAMES_IN_EACH` prints its port and serves one bucket until its standard input
ends. Only what a mount asks of such a store is answered: listings with a delimiter, in pages. It checks no signature.
"""

from __future__ import annotations

import asyncio
import sys
from urllib.parse import parse_qs, urlsplit

PAGE_NAMES = 1000
BUCKET = "names"


def directory_name(number: int) -> str:
    return f"p{number:05d}"


def object_name(number: int) -> str:
    return f"o{number:07d}"


def listing(directories: int, names: int, prefix: str, token: str, most: int) -> str:
    """Return the XML of one page; `token`: the number of what comes first on it."""
    first, most = int(token or 0), min(most, PAGE_NAMES)
    if prefix:
        directory, _, rest = prefix.partition("/")
        known = directory[:1] == "p" and directory[1:].isdigit() and directory == directory_name(int(directory[1:]))
        count = names if known and not rest and prefix.endswith("/") and int(directory[1:]) < directories else 0
        rows = [
            f"<Contents><Key>{prefix}{object_name(number)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f'<ETag>"{number:032x}"</ETag><Size>0</Size></Contents>'
            for number in range(first, min(count, first + most))
        ]
    else:
        count = directories
        rows = [
            f"<CommonPrefixes><Prefix>{directory_name(number)}/</Prefix></CommonPrefixes>"
            for number in range(first, min(count, first + most))
        ]
    is_truncated = first + most < count
    more = f"<NextContinuationToken>{first + most}</NextContinuationToken>" if is_truncated else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{BUCKET}</Name><Prefix>{prefix}</Prefix><KeyCount>{len(rows)}</KeyCount><MaxKeys>{most}</MaxKeys>"
        f"<IsTruncated>{'true' if is_truncated else 'false'}</IsTruncated>{more}{''.join(rows)}</ListBucketResult>"
    )


def answer(target: str, directories: int, names: int) -> tuple[str, bytes]:
    """Return status line and body for the target of a GET."""
    query = parse_qs(urlsplit(target).query)
    if query.get("list-type") != ["2"]:
        return "404 Not Found", b"<Error><Code>NoSuchKey</Code></Error>"
    prefix, token = query.get("prefix", [""])[0], query.get("continuation-token", [""])[0]
    return "200 OK", listing(directories, names, prefix, token, int(query.get("max-keys", ["1000"])[0])).encode()


async def serve(directories: int, names: int) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                status, body = answer(head.split(" ", 2)[1], directories, names)
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
