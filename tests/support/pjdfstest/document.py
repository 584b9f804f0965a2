"""Makes docs/posix.md of the cases and of the table of misses: `python -m tests.support.pjdfstest.document > docs/posix.md`."""

from __future__ import annotations

from tests.support.pjdfstest import errors, files, names  # noqa: F401 - they register their cases
from tests.support.pjdfstest.misses import KINDS_OF_SOURCES, MISSES, NOT_ASKED, reason, skipped
from tests.support.pjdfstest.tools import CASES

HEADER = """# POSIX

What a read-write mount does as POSIX says, and what not. The table is made of the cases of
[pjdfstest](https://github.com/pjd/pjdfstest), ported to `tests/support/pjdfstest`: `make test` asks all of them, as root and as
other users, over a local directory and over a real S3 server, and fails if a case that is not listed here is missed, or one that
is listed passes. Where the suite itself is installed (`cargo install pjdfstest`), `make test-long` holds it to the same table.
This file is made by `python -m tests.support.pjdfstest.document > docs/posix.md`.

## What passes

"""

REST = """
## Beside the suite

| call | what happens |
|---|---|
| read, write, mmap (shared, private), msync, truncate, fsync | as on a local file system, seen by all at once |
| O_APPEND | two writers on this mount append whole writes, one after the other; two mounts do not |
| fallocate | mode 0; holes, collapsed and zeroed ranges are EOPNOTSUPP |
| copy_file_range, sendfile, splice | the kernel reads and writes |
| O_TMPFILE | EOPNOTSUPP |
| rename with RENAME_EXCHANGE or RENAME_WHITEOUT | EINVAL; RENAME_NOREPLACE works |
| flock, fcntl locks | between the programs of this machine |
| set-user-ID, set-group-ID | taken away by a change of the owner, not by a write; without effect: the mount is nosuid |
| a file that is deleted while it is open | what was written, and what is cached, can be read; other bytes are ESTALE |
| a change that the store refuses | the error comes from close or fsync, not from write |
| SQLite | on one machine at a time, as locks do not go further; each commit is an upload |
"""


def main() -> None:
    print(render(), end="")


def render() -> str:
    lines = [HEADER]
    lines.append(
        f"| call | {' | '.join(f'`{source}://`' for source in KINDS_OF_SOURCES)} |\n|---|{'---|' * len(KINDS_OF_SOURCES)}\n"
    )
    for call in sorted({name.partition("::")[0] for name in CASES}):
        lines.append(_row(f"`{call}`", [name for name in CASES if name.startswith(f"{call}::")]))
    lines.append(_row("together", list(CASES)))
    lines.append("\n## What is missed\n")
    for miss in MISSES:
        found = {source: [name for name in CASES if miss.covers(name, source)] for source in KINDS_OF_SOURCES}
        where = ", ".join(f"{len(cases)} over `{source}://`" for source, cases in found.items() if cases)
        named = ", ".join(f"`{pattern}`" for pattern in miss.cases)
        lines.append(f"\n**{miss.why}** {where}: {named}.\n")
    lines.extend(f"\nNot asked over `{source}://`: `{name}` ({why}).\n" for name, (source, why) in NOT_ASKED.items())
    return "".join(lines) + REST


def _row(title: str, cases: list[str]) -> str:
    counts = []
    for source in KINDS_OF_SOURCES:
        asked = [name for name in cases if name not in skipped(source)]
        counts.append(f"{sum(reason(name, source) is None for name in asked)} of {len(asked)}")
    return f"| {title} | {' | '.join(counts)} |\n"


if __name__ == "__main__":
    main()
