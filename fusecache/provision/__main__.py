"""`python -m fusecache.provision`: carries out one order about a volume's directory in a source.

It reads one JSON object from stdin and writes one to stdout: {} or {"error": SENTENCE, "kind": ErrorKind}. Whoever asked may kill
it at any time: each order can be given again. Secrets come with the order, and so are in no argument and no environment.

| order | meaning |
|---|---|
| {"do": "check", "url", "options"} | the store answers, and may be read |
| {"do": "make", "url", "options", "name", "owner": {"volume": ID, ...}} | see directories.make |
| {"do": "remove", "url", "options", "name", "volume": ID} | see directories.remove |
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from typing import Any

from fusecache.base.hardening import harden_process
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.provision import directories
from fusecache.source.registry import open_source


def main() -> int:
    harden_process()
    logging.basicConfig(level="WARNING", format="%(levelname)s provision %(name)s: %(message)s")
    answer: dict[str, Any] = {}
    try:
        _carry_out(json.load(sys.stdin))
    except CacheError as error:
        answer = {"error": str(error), "kind": int(error.kind)}
    except (ValueError, KeyError, TypeError) as error:
        answer = {"error": f"the order is not understood: {error!r}", "kind": int(ErrorKind.BUG)}
    sys.stdout.write(json.dumps(answer))
    return 0


def _carry_out(order: Mapping[str, Any]) -> None:
    source = open_source(order["url"], order["options"], os.environ)
    try:
        if order["do"] == "check":
            source.check()
        elif order["do"] == "make":
            directories.make(source, order["name"], order["owner"])
        elif order["do"] == "remove":
            directories.remove(source, order["name"], order["volume"])
        else:
            raise ValueError(order["do"])
    finally:
        source.close()


if __name__ == "__main__":
    sys.exit(main())
