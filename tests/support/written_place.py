"""A directory on a mount that may be written, for programs to work in, and what comes of it in the store.

The process that uses it opens nothing on the mount: programs and functions run as children with a deadline.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.support.child_call import call_in_child
from tests.support.mounted import Mounted, run_below
from tests.support.plain_store import PlainStore, tree_of

SECONDS = 100.0
KEYS = {"AWS_ACCESS_KEY_ID": "access_key", "AWS_SECRET_ACCESS_KEY": "secret_key"}


class WrittenPlace:
    """`directory` is the place as programs see it, `name` what it is called in the store."""

    def __init__(self, mounted: Mounted, store: PlainStore, name: str) -> None:
        self.mounted, self.store, self.name = mounted, store, name
        if name:
            run_below(mounted.mountpoint, ["mkdir", name], SECONDS)

    @property
    def directory(self) -> Path:
        return self.mounted.mountpoint / self.name

    @property
    def is_flat(self) -> bool:
        """Whether the store has no directories, links and modes of its own."""
        return self.store.is_flat

    def run(self, *command: str, seconds: float = SECONDS) -> str:
        """Run a program in the directory, return its output. Raises: CommandFailedError."""
        return run_below(self.directory, command, seconds).decode()

    def shell(self, script: str, seconds: float = SECONDS) -> str:
        """The same for a script, which ends at the first command that fails."""
        return self.run("sh", "-euc", script, seconds=seconds)

    def call(self, function: Callable[..., Any], *arguments: object, seconds: float = SECONDS) -> Any:
        """Call a function in a process of its own, in the directory. Raises: ChildFailedError."""
        return call_in_child(function, *arguments, directory=self.directory, seconds=seconds)

    def seen(self, below: str = ".") -> dict[str, str]:
        """Return what programs see: names with the SHA-256 of the bytes, as `PlainStore.tree`."""
        return dict(self.call(_tree, below))

    def stored(self, below: str = "") -> dict[str, str]:
        """Return what lies in the store."""
        return self.store.tree("/".join(part for part in (self.name, below) if part))

    def read(self, path: str) -> bytes:
        """Return the bytes of a file in the store."""
        return self.store.read(f"{self.name}/{path}" if self.name else path)

    def assert_stored(self, below: str = "") -> dict[str, str]:
        """What programs see is what lies in the store; return it."""
        seen, stored = self.seen(below or "."), self.stored(below)
        assert seen == stored
        return stored


def mount_place(base: Path, store: PlainStore, environment: Mapping[str, str] | None = None) -> Mounted:
    """Return a mount of a store that may be written, not mounted yet."""
    given = {name: store.options[option] for name, option in KEYS.items() if option in store.options}
    return Mounted(
        base,
        [store.url],
        options={"endpoint_url": store.options["endpoint_url"]} if store.is_flat else {},
        arguments=["--read-write"],
        environment={**given, **(environment or {})},
    )


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _tree(below: str) -> dict[str, str]:
    return tree_of(Path(os.path.abspath(below)))
