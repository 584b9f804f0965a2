"""One FUSE mount: made with mount(2) by root, through fusermount3 by an ordinary user; keeps its descriptors.

State: the open /dev/fuse descriptors of the mount, one for each serve process. As long as one is open the connection lives,
whoever dies. Called by the supervisor from its one thread. Nothing here opens or stats the mount itself: the answer could be a
daemon's that is dead.
"""

from __future__ import annotations

import array
import errno
import logging
import os
import select
import socket
import stat

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.custody import kernel
from fusecache.custody.mountinfo import FSTYPE, find_mount, is_mounted

log = logging.getLogger(__name__)

MAX_READ_BYTES = 1 << 20
READ_AHEAD_KIB = 16 << 10  # 4 to 16 MiB measured alike for one reader; the larger hides a slower store
FUSERMOUNT_SECONDS = 10.0
_FUSERMOUNT_PLACES = ("/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin")


class FuseMount:
    """A mount in place. `fds[i]` belongs to serve process i; with `is_cloned` each has a queue of its own in the kernel."""

    def __init__(self, mountpoint: str, fds: list[int], *, is_cloned: bool) -> None:
        entry = find_mount(mountpoint)
        if entry is None or entry.fstype != FSTYPE:
            raise CacheError(ErrorKind.BUG, f"the mount at {mountpoint!r} vanished right after it was made; mount it again")
        self.mountpoint = mountpoint
        self.device = entry.device
        self.connection = entry.connection
        self.is_read_only = "ro" in entry.options
        self.fds = fds
        self.is_cloned = is_cloned

    def is_connected(self) -> bool:
        """False once the file system was unmounted for good or its connection aborted. Never blocks."""
        poller = select.poll()
        poller.register(self.fds[0], 0)
        return not any(event & (select.POLLERR | select.POLLNVAL) for _, event in poller.poll(0))

    def raise_read_ahead(self) -> str:
        """Raise the kernel's read-ahead; INIT has to be answered before. Returns why it could not be, or ""."""
        try:
            kernel.raise_read_ahead(self.device, READ_AHEAD_KIB)
        except OSError as error:
            return f"read-ahead stays at 128 KiB: {error.strerror or error}"
        return ""

    def unmount(self, *, detach: bool) -> None:
        """Take the mount away; nothing if somebody else already did. Raises: CacheError(BUSY) unless `detach`."""
        unmount(self.mountpoint, self.device, detach=detach)

    def abort(self) -> None:
        """Let everything that waits in the connection fail. Closing the last descriptor does it too."""
        try:
            kernel.abort_fuse_connection(self.connection)
        except OSError as error:
            log.info("connection %d was not aborted by fusectl: %s", self.connection, error)

    def close(self) -> None:
        while self.fds:
            os.close(self.fds.pop())


def check_mountpoint(mountpoint: str) -> None:
    """Refuse what cannot be mounted on, with the cure. Raises: CacheError."""
    entry = find_mount(mountpoint)
    if entry is not None and entry.fstype == FSTYPE:
        raise CacheError(
            ErrorKind.BUSY, f"{mountpoint!r} is already mounted; unmount it first with: fusecache umount {mountpoint}"
        )
    try:
        mode = os.stat(mountpoint).st_mode
    except FileNotFoundError:
        raise CacheError(
            ErrorKind.NOT_FOUND, f"mount point {mountpoint!r} does not exist; create it with: mkdir -p {mountpoint}"
        ) from None
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            cure = f"unmount it first with: umount -l {mountpoint} (or fusermount3 -uz {mountpoint})"
            raise CacheError(ErrorKind.BUSY, f"a dead FUSE mount of another program lies at {mountpoint!r}; {cure}") from error
        raise CacheError(
            ErrorKind.DENIED, f"mount point {mountpoint!r} cannot be used: {error.strerror}; choose another one"
        ) from error
    if not stat.S_ISDIR(mode):
        raise CacheError(ErrorKind.NOT_A_DIRECTORY, f"mount point {mountpoint!r} is not a directory; name a directory")


def make_mount(mountpoint: str, serve_count: int, *, allow_other: bool, read_write: bool = False) -> FuseMount:
    """Mount, and return the mount with a descriptor for each of `serve_count` serve processes. Raises: CacheError."""
    if not os.path.exists("/dev/fuse"):
        raise CacheError(
            ErrorKind.UNSUPPORTED,
            "there is no /dev/fuse; load the module (modprobe fuse) or start the container with --device /dev/fuse",
        )
    mount = _mount_as_root if os.geteuid() == 0 else _mount_with_fusermount
    fuse_fd = mount(mountpoint, allow_other, read_write)
    fds = [fuse_fd]
    try:
        is_cloned = _add_clones(fds, serve_count)
        return FuseMount(mountpoint, fds, is_cloned=is_cloned)
    except BaseException:
        unmount(mountpoint, None, detach=True)
        for fd in fds:
            os.close(fd)
        raise


def unmount(mountpoint: str, device: str | None, *, detach: bool) -> None:
    """Unmount what is at `mountpoint`, if it is `device` (any, when None); nothing to do is fine.

    Raises: CacheError(BUSY) when files are open and not `detach`; CacheError(DENIED).
    """
    if device is not None:
        if not is_mounted(mountpoint, device):
            return
        top = find_mount(mountpoint)
        if top is not None and top.device != device:
            raise CacheError(ErrorKind.BUSY, f"another file system is mounted over {mountpoint!r}; unmount that one first")
    if os.geteuid() != 0:
        return _unmount_with_fusermount(mountpoint, detach)
    try:
        kernel.umount(mountpoint, detach=detach)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise CacheError(ErrorKind.BUSY, f"{mountpoint!r} is busy") from error
        if error.errno not in (errno.EINVAL, errno.ENOENT):  # not mounted any more
            raise CacheError(ErrorKind.DENIED, f"{mountpoint!r} cannot be unmounted: {error.strerror}") from error


def _add_clones(fds: list[int], serve_count: int) -> bool:
    """Append descriptors until there is one a serve process; False if they share one queue (/dev/fuse may not be opened)."""
    for _ in range(serve_count - len(fds)):
        try:
            fds.append(kernel.clone_fuse_device(fds[0]))
        except OSError as error:
            log.info("serve processes share one request queue: %s", error)
            fds.extend(os.dup(fds[0]) for _ in range(serve_count - len(fds)))
            return False
    return True


def _mount_as_root(mountpoint: str, allow_other: bool, read_write: bool) -> int:
    try:
        fuse_fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        cure = "load the module (modprobe fuse) or start the container with --device /dev/fuse"
        raise CacheError(ErrorKind.UNSUPPORTED, f"/dev/fuse cannot be opened: {error.strerror}; {cure}") from error
    options = (
        f"fd={fuse_fd},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()},default_permissions,max_read={MAX_READ_BYTES}"
    )
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | (0 if read_write else kernel.MS_RDONLY)
    try:
        kernel.mount("fusecache", mountpoint, FSTYPE, flags, options + (",allow_other" if allow_other else ""))
    except OSError as error:
        os.close(fuse_fd)
        if error.errno == errno.EPERM:
            cure = "give the container CAP_SYS_ADMIN, or run as an ordinary user with fuse3 installed"
            raise CacheError(ErrorKind.DENIED, f"root may not mount here ({error.strerror}): {cure}") from error
        raise CacheError(
            ErrorKind.INVALID, f"mounting on {mountpoint!r} failed: {error.strerror}; choose another mount point"
        ) from error
    return fuse_fd


def find_fusermount() -> str | None:
    """Return the path of fusermount3, or None. PATH is not asked: it runs as root."""
    for place in _FUSERMOUNT_PLACES:
        path = f"{place}/fusermount3"
        if os.access(path, os.X_OK):
            return path
    return None


def _require_fusermount() -> str:
    path = find_fusermount()
    if path is None:
        raise CacheError(
            ErrorKind.UNSUPPORTED, "fusermount3 is missing, which mounts for ordinary users; install it with: apt install fuse3"
        )
    return path


def may_allow_other() -> bool:
    """Whether /etc/fuse.conf lets ordinary users open their mounts to others."""
    try:
        with open("/etc/fuse.conf") as file:
            return any(line.strip() == "user_allow_other" for line in file)
    except OSError:
        return False


def _mount_with_fusermount(mountpoint: str, allow_other: bool, read_write: bool) -> int:
    mode = "rw" if read_write else "ro"
    options = f"{mode},nosuid,nodev,default_permissions,fsname=fusecache,subtype=fusecache,max_read={MAX_READ_BYTES}"
    if allow_other and may_allow_other():
        options += ",allow_other"
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours:
        with theirs:
            arguments = ["-o", options, "--", mountpoint]
            code, message = _run_fusermount(arguments, (theirs.fileno(),), {"_FUSE_COMMFD": str(theirs.fileno())})
        if code != 0:
            cure = _fusermount_cure(message)
            raise CacheError(
                ErrorKind.DENIED, f"mounting on {mountpoint!r} failed: {message or f'fusermount3 exit status {code}'}; {cure}"
            )
        received = array.array("i")
        _, ancillary, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(received.itemsize), socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC)
        for _level, _kind, data in ancillary:
            received.frombytes(data[: received.itemsize])
    if not received:
        raise CacheError(ErrorKind.BUG, f"fusermount3 mounted {mountpoint!r} but sent no descriptor; reinstall fuse3")
    return received[0]


def _fusermount_cure(message: str) -> str:
    if "/dev/fuse" in message:  # it opens the device as the user
        return "/dev/fuse must be readable and writable for you: chmod 666 /dev/fuse"
    if "permi" in message or "access" in message:
        return "the mount point must belong to you"
    return "see fusermount3(1)"


def _unmount_with_fusermount(mountpoint: str, detach: bool) -> None:
    code, message = _run_fusermount(["-u", *(["-z"] if detach else []), "--", mountpoint], (), {})
    if code == 0 or find_mount(mountpoint) is None:
        return
    if "busy" in message:
        raise CacheError(ErrorKind.BUSY, f"{mountpoint!r} is busy")
    raise CacheError(ErrorKind.DENIED, f"{mountpoint!r} cannot be unmounted: {message or f'fusermount3 exit status {code}'}")


def _run_fusermount(arguments: list[str], pass_fds: tuple[int, ...], environment: dict[str, str]) -> tuple[int, str]:
    """Run fusermount3 and return its exit status with what it said.

    It changes mounts but opens none, so it does not wait for our daemons.
    """
    path = _require_fusermount()
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, writer, 2), *((os.POSIX_SPAWN_DUP2, fd, fd) for fd in pass_fds)]
        # C: its messages are read by `_unmount_with_fusermount`.
        pid = os.posix_spawn(
            path, ["fusermount3", *arguments], {"PATH": "/usr/bin:/bin", "LC_ALL": "C", **environment}, file_actions=actions
        )
    finally:
        os.close(writer)
    with open(reader, "rb") as said:
        if not _wait_readable(os.pidfd_open(pid), FUSERMOUNT_SECONDS):
            os.kill(pid, 9)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        message = said.read(4096).decode(errors="replace").strip().replace("\n", "; ")
    return code, message.removeprefix("fusermount3: ")


def _wait_readable(fd: int, seconds: float) -> bool:
    """Wait until `fd` is readable, and close it."""
    try:
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        return bool(poller.poll(seconds * 1000))
    finally:
        os.close(fd)
