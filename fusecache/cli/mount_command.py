"""`fusecache mount`: makes the directories, starts the supervisor, waits until the mount answers.

State: what it has made so far, taken away again if the mount fails. One thread, one mount.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
from collections.abc import Iterator

import click

from fusecache.cli.interrupts import Interrupts, interruptible
from fusecache.cli.mount_point import prepare_mountpoint
from fusecache.cli.places import CreatedDirectories, Places, make_private_directories
from fusecache.cli.spec_building import MountArguments, MountPlan, build_plan
from fusecache.cli.supervisor_start import StartedSupervisor, become_supervisor
from fusecache.cli.text import printable
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.mount_spec import MountSpec
from fusecache.contract.run_files import SPEC
from fusecache.custody.spawn import SUPERVISOR_MODULE

_FLAGS = ("write_mode", "engine", "access", "serve_processes", "uid", "gid", "file_mode", "dir_mode", "ttl")


@click.command()
@click.argument("arguments", metavar="SOURCE[=SUBDIR]... MOUNTPOINT", nargs=-1)
@click.option(
    "--tier",
    "tiers",
    multiple=True,
    metavar="PATH:QUOTA[:HIGH[:LOW]]",
    help="Where to cache, fastest first; may be repeated; `none` for no cache.",
)
@click.option(
    "-o",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting of the mount or an option of the sources (SUBDIR:KEY=VALUE for one of them); may be repeated.",
)
@click.option("--config", metavar="FILE.yaml", help="The same keys from a file; the command line wins.")
@click.option("--read-write", is_flag=True, help="Let programs write; see docs/writing.md.")
@click.option("--write-mode", metavar="through|back", help="What close and fsync wait for: the store, or the local disk.")
@click.option("--engine", metavar="auto|native|pyfuse3", help="How FUSE is spoken. Default: auto, which is native.")
@click.option("--access", metavar="auto|openless|passthrough", help="How files are opened. Default: auto, by their mean size.")
@click.option("--serve-processes", metavar="N", help="Processes that answer reads. Default: 1.")
@click.option("--uid", metavar="N", help="Show every file as this user's.")
@click.option("--gid", metavar="N", help="Show every file as this group's.")
@click.option("--file-mode", metavar="M", help="Permissions of files whose source has none. Default: 0444.")
@click.option("--dir-mode", metavar="M", help="Permissions of directories whose source has none. Default: 0555.")
@click.option("--ttl", metavar="SECONDS", help="Names older than this are checked with the source. Default: 60.")
@click.option("--foreground", is_flag=True, help="Stay, log to stderr, unmount on SIGTERM or SIGINT.")
@click.option("--timeout", metavar="SECONDS", help="Give up if the mount does not answer by then. Default: 60.")
def mount(
    arguments: tuple[str, ...],
    tiers: tuple[str, ...],
    options: tuple[str, ...],
    config: str | None,
    foreground: bool,
    timeout: str | None,
    read_write: bool,
    **flags: str | None,
) -> int:
    """Mount one or more SOURCEs at MOUNTPOINT, as a read-only tree, or with --read-write as one that programs write to.

    A SOURCE is s3://bucket/prefix, oss://..., http(s)://host/path/, nfs://host/export/path, a local directory, or
    anything fsspec opens. =SUBDIR gives it a place in the tree; one source may be at the root. A URL that ends in
    '=' is taken as it is, without that sign. Credentials come from the environment, the usual configuration files,
    or files named by -o access_key_file=PATH -o secret_key_file=PATH.
    """
    given = MountArguments(
        arguments,
        tiers,
        options,
        config,
        timeout,
        {name: flags[name] for name in _FLAGS} | ({"read_write": "true"} if read_write else {}),
    )
    with interruptible() as interrupts:
        make_mount(given, Places.of_process(), interrupts, foreground=foreground)
    return 0


def make_mount(
    given: MountArguments,
    places: Places,
    interrupts: Interrupts,
    *,
    foreground: bool = False,
    supervisor_module: str = SUPERVISOR_MODULE,
) -> MountSpec:
    """Make the mount and return its spec once it answers; in the foreground, become its supervisor instead.

    Raises: CacheError, KeyboardInterrupt; nothing of the mount is left then.
    """
    plan = build_plan(given, places)
    _require_fuse()
    mountpoint = prepare_mountpoint(plan.spec.mountpoint, places.run_base)
    for warning in plan.warnings:
        click.echo(f"fusecache: {printable(warning)}", err=True)
    created = CreatedDirectories()
    try:
        spec = _make_directories(plan, mountpoint, places, created)
        with _claimed(spec.run_dir, mountpoint):
            prepare_mountpoint(mountpoint, places.run_base)  # again: another mount may have been made before we held the claim
            spec_path = os.path.join(spec.run_dir, SPEC)
            _write_private(spec_path, spec.to_json())
            if foreground:
                become_supervisor(spec_path, places.environment, supervisor_module, plan.timeout_seconds)
            _start_and_wait(spec, plan.timeout_seconds, places, interrupts, supervisor_module)
    except BaseException:
        interrupts.finish()
        _remove_unused(created, plan.spec.state_dir)
        raise
    return spec


def _remove_unused(created: CreatedDirectories, state_dir: str) -> None:
    """Remove the directories made for a mount that failed, unless another mount of the dataset has begun to use them."""
    from fusecache.custody.cache_lock import take_cache_lock

    try:
        lock = take_cache_lock(state_dir, "") if os.path.isdir(state_dir) else None
    except (CacheError, OSError):
        return
    try:
        created.remove()
    finally:
        if lock is not None:
            os.close(lock)


def _start_and_wait(spec: MountSpec, timeout_seconds: float, places: Places, interrupts: Interrupts, module: str) -> None:
    supervisor: StartedSupervisor | None = None
    try:
        with interrupts.deferred():
            supervisor = StartedSupervisor(os.path.join(spec.run_dir, SPEC), places.environment, module)
        supervisor.wait_ready(timeout_seconds, [source.url for source in spec.sources])
    except BaseException:
        interrupts.finish()
        if supervisor is not None:
            supervisor.give_up()
            _remove_remains(spec, supervisor.pid, places)
        raise


def _remove_remains(spec: MountSpec, supervisor_pid: int, places: Places) -> None:
    """Take away what our supervisor has left, if it could not do so itself."""
    from fusecache.custody.mount_table import MountRecord, remove_run_dir
    from fusecache.custody.unmount import unmount

    with contextlib.suppress(OSError, ValueError, CacheError):
        if MountRecord.load(spec.run_dir).supervisor.pid == supervisor_pid:
            unmount(places.run_base, spec.mountpoint, lazy=True)
    remove_run_dir(spec.run_dir)


def _require_fuse() -> None:
    """Say what is wrong with /dev/fuse while there is nothing to undo yet."""
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        cure = "load the kernel module (modprobe fuse), or give this container the device (docker run --device /dev/fuse)"
        raise CacheError(ErrorKind.UNSUPPORTED, f"there is no /dev/fuse: {cure}") from None
    except OSError as error:
        cure = "it must be readable and writable for you (chmod 666 /dev/fuse), and allowed in this container"
        raise CacheError(ErrorKind.DENIED, f"/dev/fuse cannot be opened: {error.strerror}; {cure}") from error


def _make_directories(plan: MountPlan, mountpoint: str, places: Places, created: CreatedDirectories) -> MountSpec:
    """Make the state, tier and run directories, and return the spec with their final names."""
    spec = plan.spec
    _make_shared_base(plan.cache_base, created)
    make_private_directories(plan.cache_base, (spec.dataset_id,), places.uid, created)
    for base, components in plan.tier_directories:
        _make_tier_base(base, created)
        make_private_directories(base, components, places.uid, created)
    os.makedirs(os.path.dirname(places.run_base), exist_ok=True)
    make_private_directories(
        os.path.dirname(places.run_base), (os.path.basename(places.run_base),), places.uid, CreatedDirectories()
    )
    run_dir = places.run_dir(mountpoint)
    make_private_directories(places.run_base, (os.path.basename(run_dir),), places.uid, created)
    return dataclasses.replace(spec, mountpoint=mountpoint, run_dir=run_dir)


def _make_shared_base(path: str, created: CreatedDirectories) -> None:
    """Make a directory with its parents, as the XDG specification wants the cache directory made."""
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for directory in reversed(missing):
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:
            continue
        except OSError as error:
            raise CacheError(
                ErrorKind.DENIED, f"directory {directory} cannot be made: {error.strerror}; name another with -o cache_dir=PATH"
            ) from error
        created.add(directory)


def _make_tier_base(base: str, created: CreatedDirectories) -> None:
    """Make the last component only: a missing parent is more likely a typing error or an unmounted disk."""
    try:
        os.mkdir(base, 0o700)
        created.add(base)
    except FileExistsError:
        pass
    except FileNotFoundError:
        raise CacheError(
            ErrorKind.NOT_FOUND, f"tier directory {base} does not exist, nor does its parent; create it, or mount its disk"
        ) from None
    except OSError as error:
        raise CacheError(
            ErrorKind.DENIED, f"tier directory {base} cannot be made: {error.strerror}; use one that you may write"
        ) from error


@contextlib.contextmanager
def _claimed(run_dir: str, mountpoint: str) -> Iterator[None]:
    """Hold the run directory against another `fusecache mount` of the same place. Raises: BUSY."""
    fd = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CacheError(
                ErrorKind.BUSY, f"mount point {mountpoint} is busy: another fusecache mount is at work there; wait for it to end"
            ) from None
        yield
    finally:
        os.close(fd)


def _write_private(path: str, text: str) -> None:
    """Replace a file by rename; mode 0600 from its first moment."""
    scratch = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(scratch)
    with open(scratch, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(text)
    os.rename(scratch, path)
