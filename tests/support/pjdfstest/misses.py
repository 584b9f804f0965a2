"""Which cases do not come out as POSIX says, and why. The test holds the table to it both ways: what is named here must be
missed, and nothing else may be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

KINDS_OF_SOURCES = ("file", "s3")
NOT_ASKED = {
    "open::interact_2gb": ("s3", "the file has 2 GiB of zeros, which would be uploaded"),
}


@dataclass(frozen=True, slots=True)
class Miss:
    """`cases`: patterns of names. `sources`: where it is so."""

    why: str
    cases: tuple[str, ...]
    sources: tuple[str, ...] = KINDS_OF_SOURCES

    def covers(self, name: str, source: str) -> bool:
        return source in self.sources and any(fnmatchcase(name, pattern) for pattern in self.cases)


MISSES = (
    Miss(
        "Sockets, fifos and device nodes cannot be made (EPERM): no source has them as objects.",
        (
            *(f"*::{kind}" for kind in ("fifo", "block", "char", "socket")),
            "mkfifo::permission_bits_from_mode",
            "mkfifo::uid_gid_eq_euid_egid",
            "mkfifo::changed_time_fields_success",
            "mkfifo::longest_name",
            "mknod::permission_bits_from_mode",
            "mknod::uid_gid_eq_euid_egid",
            "mknod::changed_time_fields_success",
            "mknod::longest_name",
            "mknod::privileged::longest_name",
            "open::socket_error",
            "open::fifo_nonblock_wronly",
        ),
    ),
    Miss(
        "Hard links cannot be made (EPERM): an object has one name.",
        (
            "link::share_metadata::regular",
            "link::remove_link::regular",
            "link::changed_ctime_success::regular",
            "link::longest_name",
            "rename::preserve_metadata::regular",
            "rename::to_multiply_linked::regular",
            "unlink::update_ctime_success::regular",
            "unlink::unchanged_ctime_failed::regular",
        ),
    ),
    Miss(
        "The time of the last access is not kept: it is told as that of the last change.",
        (
            "utimensat::changes_timestamps::regular",
            "utimensat::changes_timestamps::dir",
            "utimensat::utime_omit",
            "utimensat::follow_symlink",
            "utimensat::subsecond",
            "utimensat::y2038",
        ),
    ),
    Miss(
        "A directory tells two links, however many directories it has: counting them would need a listing for each stat. Programs"
        " that count on it (GNU find) know that file systems differ here.",
        ("rename::updates_link_parent",),
    ),
    Miss(
        "Symbolic links cannot be made (EPERM): a flat store of objects has none.",
        (
            "*::eloop_comp",
            "*::eloop_final_comp",
            "*::enoent_symlink",
            "*::symlink",
            "*::through_symlink",
            "chmod::change_perm::regular",
            "chmod::change_perm::dir",
            "open::open_nofollow",
            "rename::preserve_metadata_symlink",
            "symlink::create_symlink::regular",
            "symlink::create_symlink::dir",
            "symlink::create_symlink_to_symlink",
            "symlink::changed_parent_time_success",
            "symlink::longest_name",
        ),
        ("s3",),
    ),
    Miss(
        "A path is refused (ENAMETOOLONG) before it has the 4,095 bytes that Linux takes: a key of S3 has at most 1,024 bytes.",
        ("*::enametoolong_path", "*::longest_path"),
        ("s3",),
    ),
)


def reason(name: str, source: str) -> str | None:
    """Return why a case is missed, or None if it passes."""
    return next((miss.why for miss in MISSES if miss.covers(name, source)), None)


def skipped(source: str) -> list[str]:
    return [name for name, (where, _) in NOT_ASKED.items() if where == source]


def disagreements(answers: dict[str, str | None], source: str) -> list[str]:
    """Return a line for each case that came out otherwise than the table says."""
    lines = []
    for name, found in answers.items():
        why = reason(name, source)
        if found is None and why is not None:
            lines.append(f"{name} passes, and is in the table: {why}")
        if found is not None and why is None:
            lines.append(f"{name}: {found}")
    return lines


def unused(names: Iterable[str]) -> list[str]:
    """Return the patterns that name no case."""
    known = list(names)
    patterns = (pattern for miss in MISSES for pattern in miss.cases)
    return [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in known)]
