"""Objects whose keys are no file names, or try to be those of others: the tree stays usable, nothing escapes (figure 22)."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fusecache.source.object_names import hidden_reason
from tests.support.cache_tampering import CacheTampering
from tests.support.moto import ACCESS_KEY, SECRET_KEY, Moto
from tests.support.mounted import Mounted
from tests.support.s3_bucket import S3Bucket
from tests.support.seaweed import Identity
from tests.support.stored_truth import environment

pytestmark = [pytest.mark.stress, pytest.mark.fuse, pytest.mark.root]

MARK = b"escaped-from-the-mount"  # in every key that tries to, so that it is found wherever it went
KEYS: dict[str, bytes] = {
    "plain": b"plain",
    "plain in a directory": b"dir/plain",
    "dash": b"-rf",
    "dash directory": b"--help/-n",
    "space": b" ",
    "leading and trailing space": b" a ",
    "tilde": b"~",
    "dollar": b"$HOME",
    "backquotes": b"`touch " + MARK + b"`",
    "semicolon": b"; touch " + MARK,
    "glob": b"*",
    "question mark": b"a?b",
    "hash": b"a#b",
    "percent": b"a%2Fb",
    "percent 00": b"a%00b",
    "plus": b"a+b",
    "ampersand": b"a&b=c",
    "quote": b'a"b',
    "apostrophe": b"a'b",
    "less than": b"a<b>c",
    "entity": b"&lt;",
    "entity bomb": b"<!ENTITY x 'y'>",
    "colon": b"C:",
    "pipe": b"a|b",
    "three dots": b"...",
    "dot file": b".hidden",
    "dots inside": b"a..b",
    "like a container": b"c/00/000000000001",
    "like the index": b"index/data.mdb",
    "like our xattr": b"user.fusecache.version",
    "newline": b"a\nb",
    "carriage return": b"a\rb",
    "tab": b"a\tb",
    "escape sequence": b"\x1b[31mred\x1b[0m",
    "bell": b"a\x07b",
    "delete": b"a\x7fb",
    "right to left": "a\u202etxt.exe".encode(),
    "zero width": "a\u200bb".encode(),
    "byte order mark": "\ufeffa".encode(),
    "emoji": "\U0001f4a9".encode(),
    "composed": "\u00e9".encode(),
    "decomposed": "e\u0301".encode(),
    "fullwidth slash": "a\uff0fb".encode(),
    "name of 255 bytes": b"n" * 255,
    "name of 256 bytes": b"n" * 256,
    "directory of 256 bytes": b"d" * 256 + b"/inside",
    "name of 255 characters": ("\u00e9" * 255).encode(),
    "key of 1024 bytes": b"/".join([b"k" * 101] * 10) + b"/" + b"k" * 4,
    "key of 1024 bytes, one name": b"o" * 1024,
    "many levels": b"/".join([b"l"] * 120),
    "double slash": b"a//b",
    "leading slash": b"/" + MARK,
    "only slashes": b"///",
    "absolute path": b"/etc/" + MARK,
    "dot": b"./" + MARK,
    "dot inside": b"dir/./" + MARK,
    "dots": b"../" + MARK,
    "many dots": b"../../../../../../tmp/" + MARK,
    "dots inside of it": b"dir/../../" + MARK,
    "dots at the end": b"dir/..",
    "marker": b"marker/",
    "marker of a directory with files": b"dir/",
    "marker below a file": b"both/",
    "file beside a directory": b"both",
    "file in that directory": b"both/inside",
    "not UTF-8": b"\xff\xfe",
    "overlong slash": b"a\xc0\xafb",
    "surrogate": b"a\xed\xa0\x80b",
    "NUL": b"a\x00b",
    "NUL directory": b"n\x00d/inside",
}  # fmt: skip
CONTAINER = re.compile(r"c/[0-9a-f]{2}/[0-9a-f]{12,16}")


@pytest.fixture(scope="module")
def moto() -> Iterator[Moto]:
    with Moto() as server:
        yield server


def store(moto: Moto) -> tuple[dict[bytes, bytes], list[str]]:
    """Store what the server takes; return the bodies by key, and the names of the cases it refused."""
    stored, refused = {}, []
    with S3Bucket(moto.endpoint_url, "hostile", ACCESS_KEY, SECRET_KEY).create() as bucket:
        for number, (case, key) in enumerate(KEYS.items()):
            body = b"" if key.endswith(b"/") else (b"%d:" % number) + key
            try:
                bucket.put(key, body)
            except Exception:
                refused.append(case)
            else:
                stored[key.decode("utf-8", "replace").encode()] = body  # moto keeps text: U+FFFD for what is no UTF-8
    return stored, refused


def expected_tree(stored: dict[bytes, bytes]) -> tuple[dict[bytes, bytes], set[bytes], set[bytes]]:
    """The documented rule: return (files with their bytes, directories, keys or prefixes that are hidden)."""
    files: dict[bytes, bytes] = {}
    directories: set[bytes] = set()
    hidden: set[bytes] = set()
    for key in stored:
        parts = key.split(b"/")
        for depth, part in enumerate(parts[:-1], 1):
            if hidden_reason(part) is not None:
                hidden.add(b"/".join(parts[:depth]) + b"/")
                break
            directories.add(b"/".join(parts[:depth]))
        else:
            if parts[-1] and hidden_reason(parts[-1]) is not None:
                hidden.add(key)
            elif parts[-1]:
                files[key] = stored[key]
    for key in files.keys() & directories:
        hidden.add(key)
        del files[key]
    return files, directories, hidden


def find(directory: Path, kind: str) -> set[bytes]:
    command = ["timeout", "-s", "KILL", "60", "find", ".", "-mindepth", "1", "-type", kind, "-print0"]
    out = subprocess.run(command, cwd=directory, capture_output=True, check=True).stdout
    return {path.removeprefix(b"./") for path in out.split(b"\0") if path}


def host_tree(base: Path, mountpoint: Path) -> set[str]:
    """Every path below `base`, without what is below the mount point."""
    found = set()
    for directory, directories, files in os.walk(base):
        directories[:] = [one for one in directories if Path(directory, one) != mountpoint]
        found |= {os.path.relpath(os.path.join(directory, name), base) for name in directories + files}
    return found


def test_the_tree_is_as_the_rule_says_and_nothing_escapes(
    disk_path: Path, promise: Callable[[str, str, str, str], None], moto: Moto
) -> None:
    stored, refused = store(moto)
    files, directories, hidden = expected_tree(stored)
    who = Identity("moto", ACCESS_KEY, SECRET_KEY, ())
    base = disk_path / "deep" / "deeper"
    base.mkdir(parents=True)
    mounted = Mounted(base, ["s3://hostile"], environment=environment(moto.endpoint_url, who))
    with mounted:
        before = host_tree(disk_path, mounted.mountpoint)
        found_files, found_directories = find(mounted.mountpoint, "f"), find(mounted.mountpoint, "d")
        wrong = [key for key in files.keys() & found_files if read(mounted.mountpoint, key) != files[key]]
        mounted.run("warm", str(mounted.mountpoint))
        mounted.run("refresh", str(mounted.mountpoint))
        status = mounted.status()
        log = mounted.log()
        new = host_tree(disk_path, mounted.mountpoint) - before
        tier = next(path for path in CacheTampering(mounted).containers()).parents[2]
        restarts = status["restarts"]
    named = [line for line in log.splitlines() if "is not shown" in line]
    strays = {path for path in new if not is_ours(path, os.path.relpath(tier, disk_path))}
    escaped = subprocess.run(
        ["find", "/tmp", "/etc", "/root", "/var/tmp", str(base.parent), "-xdev", "-maxdepth", "3", "-name", f"*{MARK.decode()}*"],
        capture_output=True,
    ).stdout
    promise(
        "22",
        f"{len(KEYS)} named hostile keys" + (f" ({len(refused)} refused by the server: {', '.join(refused)})" if refused else ""),
        f"{len(found_files)} files and {len(found_directories)} directories shown, {len(wrong)} wrong; {status['hidden']} "
        f"hidden, {len(named)} named in the log; {len(strays)} paths outside of mount and containers; {restarts} crashes",
        "the tree as documented, 0 wrong, 0 escaped, 0 crashes",
    )
    assert len(stored) >= 60
    assert found_files == files.keys()
    assert found_directories == directories
    assert not wrong
    assert status["hidden"] == len(hidden)
    assert len(named) == len(hidden), "\n".join(named)
    assert len(set(named)) == len(named)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u200b-\u202e\ufeff]", log), "control characters in the log"
    assert not strays
    assert not escaped
    assert not restarts


def read(directory: Path, key: bytes) -> bytes:
    return subprocess.run(
        [b"timeout", b"-s", b"KILL", b"30", b"cat", b"--", b"./" + key], cwd=directory, capture_output=True, check=True
    ).stdout


def is_ours(path: str, tier: str) -> bool:
    """Containers, and the directories they are in."""
    if not path.startswith(tier + "/"):
        return False
    return bool(CONTAINER.fullmatch(path[len(tier) + 1 :]) or re.fullmatch("c(/[0-9a-f]{2})?", path[len(tier) + 1 :]))
