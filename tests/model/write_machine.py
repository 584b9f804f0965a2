"""The state machine of writes: a real mount against a directory on a local file system, and against what is in the store.

Each step is done on both sides and must have the same outcome, errno included. After a close or fsync that returned 0 the store
has the bytes; at the end of a run it has the whole tree and nothing else. In between daemons are killed, also while an operation
is under way, the mount is taken down and made again, caches are dropped, and somebody else replaces and deletes objects.

Where a mount may differ from a file system, it is said at the rule.
"""

from __future__ import annotations

import collections
import os
import stat
import time
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.model.write_arena import Outcomes, WriteArena
from tests.support.twin_program import content

KIB, MIB = 1 << 10, 1 << 20
PATHS = ("a", "b", "c", "d", "d/a", "d/b", "d/e", "d/e/a", "e", "e/a")
DIRECTORIES = ("", "d", "e", "d/e", "a")
TARGETS = ("a", "b", "../a", "e/a", "nowhere", ".")
SLOTS = 4
GRAIN = 4 * KIB
SIZES = st.one_of(
    st.sampled_from([0, 1, 10, 511, 512, GRAIN - 1, GRAIN, GRAIN + 1, 3 * GRAIN + 7, 128 * KIB]),
    st.integers(0, 3 * GRAIN),
    st.sampled_from([MIB - 1, MIB, MIB + 5000, 2 * MIB + 17]),
)
OFFSETS = st.one_of(
    st.just(0),
    st.sampled_from([1, 100, GRAIN - 1, GRAIN, GRAIN + 1, 2 * GRAIN, 5 * GRAIN, 128 * KIB, MIB - 10]),
    st.sampled_from([GRAIN, 17 * MIB]),  # more than goes up as one object
    st.integers(0, 5 * GRAIN),
)
SEEDS = st.integers(0, 1 << 16)
FLAGS = st.builds(
    lambda access, others: access | sum(set(others)),
    st.sampled_from([os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR, os.O_RDWR]),
    st.one_of(
        st.just([os.O_CREAT]),
        st.lists(st.sampled_from([os.O_CREAT, os.O_CREAT, os.O_TRUNC, os.O_APPEND, os.O_EXCL]), max_size=3),
    ),
)
MODES = st.sampled_from([0o644, 0o600, 0o755, 0o777, 0o400, 0o000])
OWNERS = st.sampled_from([0, 1, 1000, 65534])
TIMES = st.one_of(st.sampled_from([0, 1_000_000_000, 10**18, 10**18 + 123_456_789]), st.integers(0, 15 * 10**17))
NAMES = st.sampled_from(["user.x", "user.y"])
SLOT = st.integers(0, SLOTS - 1)
PATH = st.sampled_from(PATHS)
HEARD_SECONDS = 5.0
GIVEN_NS = 12 * 10**17


class WriteMachine(RuleBasedStateMachine):
    """`steps` counts over all runs. `slots`: what is open, by its flags. `loose`: what is open for reading and has lost its name
    or its version: ESTALE is as right there as the old bytes."""

    arena: ClassVar[WriteArena]
    steps: ClassVar[collections.Counter[str]] = collections.Counter()
    histories: ClassVar[list[str]] = []

    def __init__(self) -> None:
        super().__init__()
        self.history: list[str] = []
        self.slots: dict[int, int] = {}
        self.loose: set[int] = set()
        self.run = ""
        self.failed = False
        self.foreigners = 0

    @initialize(size=SIZES, seed=SEEDS, slots=st.integers(0, 2))
    def begin(self, size: int, seed: int, slots: int) -> None:
        """With a few names and open files, so that most steps have something to do."""
        self.run = self.arena.begin_run()
        self.same("mkdir", self.path("d"), 0o755)
        self.same("mkdir", self.path("d/e"), 0o755)
        for slot, path in enumerate(("a", "d/a")):
            self.same("open", slot, self.path(path), os.O_RDWR | os.O_CREAT, 0o644)
            self.slots[slot] = os.O_RDWR
            self.same("pwrite", slot, 0, size, seed + slot)
        for slot in range(slots, 2):
            self.close_slot(slot)

    def teardown(self) -> None:
        if not self.run or self.failed:
            return
        for slot in sorted(self.slots):
            self.close_slot(slot)
        self.compare_all()

    # -- both sides

    def path(self, path: str) -> str:
        return f"{self.run}/{path}" if path else self.run

    def fail(self, message: str) -> None:
        self.failed = True
        text = "\n".join([message, "the steps were:", *self.history])
        log = self.arena.log()
        text += f"\nthe log of the mount ends:\n{log[-3000:]}"
        type(self).histories.append(text)
        self.arena.give_up()
        raise AssertionError(text)

    def do(self, name: str, *arguments: Any, which: str = "both") -> Outcomes:
        text = f"{name}{arguments}"
        try:
            outcomes = self.arena.do(name, *arguments, which=which)
        except AssertionError as error:
            self.fail(f"{text}: {error}")
            raise
        if which != "reference":
            told = str(outcomes.mount)
            self.history.append(f"  {text} {told if len(told) < 200 else told[:200] + '...'}")
        return outcomes

    def same(self, name: str, *arguments: Any) -> list[Any]:
        """Do it on both sides, and return what came of it, which must be the same."""
        outcomes = self.do(name, *arguments)
        if outcomes.mount != outcomes.reference:
            self.fail(
                f"{name}{arguments}: mount {outcomes.mount}, reference {outcomes.reference}{outcomes.differs and ': '}"
                f"{outcomes.differs}{self.explain(outcomes) if name == 'tree' else ''}"
            )
        return outcomes.mount

    def explain(self, trees: Outcomes) -> str:
        """Where the bytes of files part, and whether the kernel's cache is what is wrong."""
        lines = [""]
        mount, reference = trees.mount[1], trees.reference[1]
        for path in sorted(set(mount) & set(reference)) if isinstance(mount, dict) else ():
            if mount[path] == reference[path] or len(mount[path]) < 8:
                continue
            lines.append(f"{path}: {self.do('read', self.path(path)).differs or 'read the same now'}")
            Path("/proc/sys/vm/drop_caches").write_text("3")
            lines.append(f"{path} without caches: {self.do('read', self.path(path)).differs or 'the same'}")
            stored = self.arena.store.read(self.path(path))
            lines.append(f"{path} in the store: {stored is not None and len(stored)} bytes")
        return "\n".join(lines)

    def count(self, what: str) -> None:
        type(self).steps[what] += 1

    # -- the reference, looked at without asking

    def status(self, path: str) -> os.stat_result | None:
        try:
            return os.lstat(self.arena.reference / self.run / path)
        except OSError:
            return None

    def is_file(self, path: str) -> bool:
        status = self.status(path)
        return status is not None and stat.S_ISREG(status.st_mode)

    def where(self, slot: int) -> str:
        """The path of an open file, "" if it has none any more."""
        path = str(self.do("where", slot, which="reference").reference[1])
        return path.removeprefix(f"{self.run}/")

    def note_what_lost_its_name(self) -> None:
        self.loose.update(
            slot for slot, flags in self.slots.items() if flags & os.O_ACCMODE == os.O_RDONLY and not self.where(slot)
        )

    def wait_settled(self) -> None:
        """A refresh that comes before that does not believe what the store says of a file that was closed a moment ago."""
        written = sum(bool(flags & (os.O_ACCMODE | os.O_CREAT)) for flags in self.slots.values())
        try:
            self.arena.wait_settled(written)
        except AssertionError as error:
            self.fail(str(error))

    def must_be_stored(self, path: str, what: str) -> None:
        reference = self.arena.reference / self.run / path
        stored = self.arena.store.read(self.path(path))
        if stored != reference.read_bytes():
            size = "nothing" if stored is None else f"{len(stored)} other bytes"
            self.fail(f"{what} of {path} returned 0, and the store has {size} than {reference.stat().st_size}")
        self.count("looked at the store")

    # -- open files

    @rule(slot=SLOT, path=PATH, flags=FLAGS, mode=MODES)
    def open(self, slot: int, path: str, flags: int, mode: int) -> None:
        if slot in self.slots:
            self.close_slot(slot)
        self.count("open")
        if self.same("open", slot, self.path(path), flags, mode)[0] == "=":
            self.slots[slot] = flags

    @precondition(lambda self: self.slots)
    @rule(slot=SLOT)
    def close(self, slot: int) -> None:
        if slot in self.slots:
            self.count("close")
            self.close_slot(slot)

    def close_slot(self, slot: int) -> None:
        flags = self.slots.pop(slot)
        self.loose.discard(slot)
        path = self.where(slot)
        self.same("close", slot)
        if path and flags & os.O_ACCMODE != os.O_RDONLY:
            self.must_be_stored(path, "close")

    def pick(self, slot: int) -> int | None:
        """A slot that is in use, near the one that was asked for."""
        return sorted(self.slots)[slot % len(self.slots)] if self.slots else None

    @precondition(lambda self: self.slots)
    @rule(slot=SLOT, offset=OFFSETS, size=SIZES, seed=SEEDS)
    def pwrite(self, slot: int, offset: int, size: int, seed: int) -> None:
        self.count("write")
        self.same("pwrite", self.pick(slot), offset, size, seed)

    @precondition(lambda self: self.slots)
    @rule(slot=SLOT, size=SIZES, seed=SEEDS)
    def write(self, slot: int, size: int, seed: int) -> None:
        self.count("write")
        self.same("write", self.pick(slot), size, seed)

    @precondition(lambda self: self.slots)
    @rule(slot=SLOT, offset=OFFSETS, size=SIZES, seed=SEEDS)
    def mapped_write(self, slot: int, offset: int, size: int, seed: int) -> None:
        chosen = self.pick(slot)
        assert chosen is not None
        if self.slots[chosen] & os.O_ACCMODE == os.O_RDWR:
            self.count("write through a map")
            self.same("mapped_write", chosen, offset, size, seed)

    @precondition(lambda self: self.slots)
    @rule(slot=SLOT, offset=OFFSETS, size=SIZES)
    def pread(self, slot: int, offset: int, size: int) -> None:
        self.count("read open file")
        chosen = self.pick(slot)
        outcomes = self.do("pread", chosen, offset, size)
        if outcomes.mount != outcomes.reference and not (chosen in self.loose and outcomes.mount == ["!", "ESTALE"]):
            self.fail(f"pread{(chosen, offset, size)}: {outcomes}")

    @precondition(lambda self: self.slots)
    @rule(slot=SLOT, size=SIZES)
    def ftruncate(self, slot: int, size: int) -> None:
        self.count("truncate")
        self.same("ftruncate", self.pick(slot), size)

    @precondition(lambda self: self.slots)
    @rule(slot=SLOT, offset=OFFSETS, size=SIZES)
    def fallocate(self, slot: int, offset: int, size: int) -> None:
        """Without new bytes or a new size there is nothing to send up, and the time of the file may stay as it was: it is set."""
        self.count("fallocate")
        chosen = self.pick(slot)
        if self.same("fallocate", chosen, offset, size)[0] == "=":
            self.same("futimens", chosen, GIVEN_NS)

    @precondition(lambda self: len(self.slots) > 1)
    @rule(slot=SLOT, other=SLOT, offset=OFFSETS, to=OFFSETS, size=SIZES)
    def copy_range(self, slot: int, other: int, offset: int, to: int, size: int) -> None:
        """Between two files: within one, ranges that overlap are an error that depends on how they are copied."""
        one, two = self.pick(slot), self.pick(other)
        assert one is not None
        assert two is not None
        paths = self.where(one), self.where(two)
        if paths[0] and paths[1] and paths[0] != paths[1] and not {one, two} & self.loose:
            self.count("copy a range")
            self.same("copy_range", one, two, offset, to, size)

    @precondition(lambda self: self.slots)
    @rule(slot=SLOT)
    def fsync(self, slot: int) -> None:
        self.count("fsync")
        chosen = self.pick(slot)
        assert chosen is not None
        path = self.where(chosen)
        self.same("fsync", chosen)
        if path and self.slots[chosen] & os.O_ACCMODE != os.O_RDONLY:
            self.must_be_stored(path, "fsync")

    @precondition(lambda self: self.slots)
    @rule(slot=SLOT)
    def fstat(self, slot: int) -> None:
        self.count("stat")
        chosen = self.pick(slot)
        outcomes = self.do("fstat", chosen)
        if outcomes.mount != outcomes.reference and not (chosen in self.loose and outcomes.mount == ["!", "ESTALE"]):
            self.fail(f"fstat({chosen}): {outcomes}")

    @precondition(lambda self: self.slots)
    @rule(slot=SLOT, mode=MODES)
    def fchmod(self, slot: int, mode: int) -> None:
        chosen = self.pick(slot)
        if chosen not in self.loose:
            self.count("chmod")
            self.same("fchmod", chosen, mode)

    @precondition(lambda self: self.slots)
    @rule(slot=SLOT, time_ns=TIMES)
    def futimens(self, slot: int, time_ns: int) -> None:
        chosen = self.pick(slot)
        if chosen not in self.loose:
            self.count("utimens")
            self.same("futimens", chosen, time_ns)

    # -- names

    @rule(path=PATH)
    def unlink(self, path: str) -> None:
        self.count("unlink")
        self.same("unlink", self.path(path))
        self.note_what_lost_its_name()

    @rule(path=PATH, mode=st.sampled_from([0o755, 0o700, 0o777]))
    def mkdir(self, path: str, mode: int) -> None:
        self.count("mkdir")
        self.same("mkdir", self.path(path), mode)

    @rule(path=PATH)
    def rmdir(self, path: str) -> None:
        self.count("rmdir")
        self.same("rmdir", self.path(path))

    @rule(path=PATH, new=PATH)
    def rename(self, path: str, new: str) -> None:
        self.count("rename")
        self.same("rename", self.path(path), self.path(new))
        self.note_what_lost_its_name()

    @rule(path=PATH, leads_to=st.sampled_from(TARGETS))
    def symlink(self, path: str, leads_to: str) -> None:
        self.count("symlink")
        if not self.arena.store.is_flat:
            self.same("symlink", leads_to, self.path(path))
        elif self.status(path) is None and self.status(os.path.dirname(path)) is not None:
            outcome = self.do("symlink", leads_to, self.path(path), which="mount").mount
            if outcome not in (["!", "EPERM"], ["!", "ENOTDIR"]):
                self.fail(f"symlink {path}: {outcome}")

    @rule(path=PATH, new=PATH)
    def link(self, path: str, new: str) -> None:
        if self.is_file(path) and self.status(new) is None:
            self.count("link")
            outcome = self.do("link", self.path(path), self.path(new), which="mount").mount
            if outcome[1] not in ("EPERM", "ENOENT", "ENOTDIR"):
                self.fail(f"link {path} {new}: {outcome}")

    @rule(path=PATH)
    def read(self, path: str) -> None:
        self.count("read")
        self.same("read", self.path(path))

    @rule(path=st.sampled_from(DIRECTORIES))
    def names(self, path: str) -> None:
        self.count("list")
        self.same("names", self.path(path))

    @rule(path=PATH)
    def stat(self, path: str) -> None:
        self.count("stat")
        self.same("stat", self.path(path))

    @rule(path=PATH, size=SIZES)
    def truncate(self, path: str, size: int) -> None:
        """Goes up at once, unless somebody has the file open and will close it."""
        self.count("truncate")
        if self.same("truncate", self.path(path), size)[0] == "=" and self.is_file(path) and not self.is_written(path):
            self.must_be_stored(path, "truncate")

    @rule(path=PATH, mode=MODES)
    def chmod(self, path: str, mode: int) -> None:
        self.count("chmod")
        self.same("chmod", self.path(path), mode)

    @rule(path=PATH, uid=OWNERS, gid=OWNERS)
    def chown(self, path: str, uid: int, gid: int) -> None:
        self.count("chown")
        self.same("chown", self.path(path), uid, gid)

    @rule(path=PATH, time_ns=TIMES)
    def utimens(self, path: str, time_ns: int) -> None:
        self.count("utimens")
        self.same("utimens", self.path(path), time_ns)

    @rule(path=PATH, name=NAMES, value=SEEDS, flags=st.sampled_from([0, 0, os.XATTR_CREATE, os.XATTR_REPLACE]))
    def setxattr(self, path: str, name: str, value: int, flags: int) -> None:
        """Of files only."""
        if self.is_file(path):
            self.count("setxattr")
            self.same("setxattr", self.path(path), name, str(value), flags)

    @rule(path=PATH, name=NAMES)
    def removexattr(self, path: str, name: str) -> None:
        if self.is_file(path):
            self.count("removexattr")
            self.same("removexattr", self.path(path), name)

    @rule(path=PATH, name=NAMES)
    def getxattr(self, path: str, name: str) -> None:
        if self.is_file(path):
            self.count("getxattr")
            self.same("getxattr", self.path(path), name)
            self.same("listxattr", self.path(path))

    # -- all of it

    @rule()
    def tree(self) -> None:
        self.count("compare the tree")
        self.same("tree", self.run)

    def compare_all(self) -> None:
        """With nothing open: mount, reference and store hold the same."""
        self.same("tree", self.run)
        self.wait_settled()
        self.count("compare the store")
        reference = self.arena.reference / self.run
        files = {str(one.relative_to(reference)): one for one in reference.rglob("*") if one.is_file() and not one.is_symlink()}
        stored = self.arena.store.files(self.run)
        if set(stored) != set(files):
            self.fail(f"the store has the files {sorted(stored)}, and there should be {sorted(files)}")
        wrong = [path for path, file in files.items() if file.read_bytes() != stored[path]]
        if wrong:
            self.fail(f"the store has other bytes in {wrong}")
        for path, attributes in self.arena.store.attributes(self.run).items():
            status = (reference / path).lstat()
            expected = [status.st_mode & 0o7777, status.st_uid, status.st_gid]
            if attributes != expected:
                self.fail(f"the store has mode, owner and group {attributes} of {path}, and there should be {expected}")

    # -- bad days

    @rule(
        roles=st.sampled_from([("serve",), ("fetch",), ("serve", "fetch"), ("fetch", "serve")]),
        delay=st.sampled_from([0.0, 0.0, 0.001, 0.002, 0.005, 0.02]),
    )
    def kill(self, roles: tuple[str, ...], delay: float) -> None:
        """Just before the next operation, or while it is under way."""
        self.count("kill")
        self.history.append(f"  kill {' and '.join(roles)} {delay} s after the next step began")
        self.arena.kill_soon(roles, delay)

    @rule()
    def drop_caches(self) -> None:
        """The kernel forgets names, attributes and bytes."""
        self.count("drop the kernel's caches")
        self.history.append("  drop caches")
        Path("/proc/sys/vm/drop_caches").write_text("3")

    @rule()
    def drop(self) -> None:
        """What is cached goes: the next read asks the store."""
        self.count("drop")
        self.ask("drop")

    @rule()
    def refresh(self) -> None:
        self.count("refresh")
        self.ask("refresh")

    def ask(self, what: str) -> None:
        self.history.append(f"  {what}")
        try:
            self.arena.ask(what, self.run)
        except Exception as error:
            self.fail(f"{what}: {error}")

    @rule(chance=st.sampled_from([False] * 7 + [True]))
    def mount_again(self, chance: bool) -> None:
        """Takes as long as hundreds of other steps, and so comes less often."""
        if not chance:
            return
        self.count("mount again")
        for slot in sorted(self.slots):
            self.close_slot(slot)
        self.history.append("  umount, and mount again")
        self.arena.mount_again()
        self.same("tree", self.run)

    # -- somebody else

    @rule(path=PATH, size=SIZES, seed=SEEDS, by=st.sampled_from(["close", "fsync"]))
    def replaced_by_somebody(self, path: str, size: int, seed: int, by: str) -> None:
        """Without changes of ours: seen after a refresh. With some: they are refused when they should go up."""
        if not self.may_be_replaced(path):
            return
        self.foreigners += 1  # the same bytes would be the same version to a store that goes by an ETag
        data = content(seed, size) + b"somebody %d" % self.foreigners
        self.lose_to_somebody(path, by, "replaced", lambda: self.arena.store.put(self.path(path), data))
        new = self.arena.reference / ".new"
        new.write_bytes(data)
        new.chmod(0o644)
        new.rename(self.arena.reference / self.run / path)
        self.after_somebody(path)
        self.must_be_stored(path, "what somebody wrote")

    @rule(path=PATH, by=st.sampled_from(["close", "fsync"]))
    def deleted_by_somebody(self, path: str, by: str) -> None:
        if not self.is_file(path) or self.is_only_created(path) or self.is_by_link(path):
            return
        self.lose_to_somebody(path, by, "deleted", lambda: self.arena.store.delete(self.path(path)))
        (self.arena.reference / self.run / path).unlink()
        self.after_somebody(path)
        if self.arena.store.read(self.path(path)) is not None:
            self.fail(f"{path} was deleted by somebody, and is in the store again")

    def is_written(self, path: str) -> bool:
        return any(flags & (os.O_ACCMODE | os.O_CREAT) and self.where(slot) == path for slot, flags in self.slots.items())

    def is_only_created(self, path: str) -> bool:
        """Whether the file was made by an open for reading: it goes up when that is closed, and cannot be written to before."""
        return any(
            flags & os.O_ACCMODE == os.O_RDONLY and flags & os.O_CREAT and self.where(slot) == path
            for slot, flags in self.slots.items()
        )

    def is_by_link(self, path: str) -> bool:
        """Whether a symbolic link leads there: then we may have the file open by its other name."""
        parent = os.path.dirname(self.arena.reference / self.run / path)
        return os.path.realpath(parent) != os.path.join(
            os.path.realpath(self.arena.reference), os.path.relpath(parent, self.arena.reference)
        )

    def may_be_replaced(self, path: str) -> bool:
        if self.is_only_created(path) or self.is_by_link(path):
            return False
        parent = self.status(os.path.dirname(path))
        return parent is not None and stat.S_ISDIR(parent.st_mode) and (self.is_file(path) or self.status(path) is None)

    def lose_to_somebody(self, path: str, by: str, how: str, change: Any) -> None:
        """Change the store under a file; whoever has it open for writing has written to it before, and is told."""
        status = self.status(path)
        holders = [slot for slot in sorted(self.slots) if status is not None and self.where(slot) == path]
        writers = [slot for slot in holders if self.slots[slot] & os.O_ACCMODE != os.O_RDONLY]
        for slot in writers:
            self.same("fsync", slot)  # so that the store has something that can be replaced
        if writers:
            self.same("pwrite", writers[0], 0, 100, 1)
        self.count(f"{how} by somebody" + (" while we write" if writers else ""))
        self.wait_settled()
        change()
        self.history.append(f"  {path} is {how} by somebody")
        if writers:
            first = self.do(by, writers[0]).mount
            if first != ["!", "ESTALE"]:
                self.fail(f"{path} was {how} by somebody, and {by} of what was written says {first}")
        for slot in writers[1:] if by == "close" else writers:
            outcome = self.do("close", slot).mount
            if outcome not in (["=", None], ["!", "ESTALE"]):
                self.fail(f"{path} was {how} by somebody, and close says {outcome}")
        for slot in writers:
            del self.slots[slot]
        self.loose.update(slot for slot in holders if slot in self.slots)

    def after_somebody(self, path: str) -> None:
        """The kernel hears of what a refresh found a moment after that has ended."""
        self.ask("refresh")
        deadline = time.monotonic() + HEARD_SECONDS
        while (outcomes := self.arena.do("stat", self.path(path))).mount != outcomes.reference and time.monotonic() < deadline:
            time.sleep(0.005)
        self.same("stat", self.path(path))
        if self.is_file(path):
            self.same("read", self.path(path))
