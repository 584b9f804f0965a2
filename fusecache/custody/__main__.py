"""`python -m fusecache.custody --spec PATH [--status-fd N] [--foreground] [--timeout SECONDS] [--custody DIR] [--confine JSON]
[--lock-fd N]`: the supervisor of one mount. With `--custody` the mount is one that custody made (contract/keeping.py), else the
supervisor makes it itself. With `--confine` (base/confinement.py) it is started by root, and gives that up before all else. With
`--lock-fd` whoever started it has the lock of the cache on that open file, and it waits until custody has a mount to give.

With `--order-fd N` instead of `--spec` the path comes over that pipe when it is known, and if it closes without one all was for
nothing. Until then the supervisor imports what it needs, and so do its children, which are the first thing that it starts. With
`--lock-fd`, too, the order may be long in coming: {"state": "warm"} on the status pipe says that it would be obeyed at once.

The only place of custody that reads arguments and environment. `--fetch-module` and `--serve-module` name other daemons, for
tests.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fusecache.base.hardening import harden_process
from fusecache.custody.child import FETCH, SERVE, Child

if TYPE_CHECKING:
    from fusecache.contract.mount_spec import MountSpec

_VALUES = (
    *("--spec", "--order-fd", "--status-fd", "--timeout", "--custody", "--confine", "--lock-fd"),
    *("--fetch-module", "--serve-module"),
)
_DEFAULT_MODULES = {FETCH: "fusecache.fetch", SERVE: "fusecache.serve"}
_MAX_PATH_BYTES = 4096


def _parse(arguments: list[str]) -> dict[str, str]:
    """Return option → value. argparse would take a third of our start."""
    options: dict[str, str] = {}
    rest = iter(arguments)
    for argument in rest:
        name, has_value, value = argument.partition("=")
        if name == "--foreground":
            options[name] = "1"
        elif name in _VALUES:
            options[name] = value if has_value else next(rest, "")
        else:
            sys.exit(f"unknown argument {argument!r}; see the docstring of fusecache.custody.__main__")
    if not options.get("--spec") and not options.get("--order-fd"):
        sys.exit("--spec PATH is missing")
    return options


def _child_environment() -> dict[str, str]:
    """Our environment, with this very package in front of the module path: children start in / and must not find another one."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    paths = [root, *(os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}


def _open_log(path: str) -> int:
    """Send stdout and stderr to the log and stdin nowhere; returns the descriptor of the log."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    log_fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    null_fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(null_fd, 0)
    os.dup2(log_fd, 1)
    os.dup2(log_fd, 2)
    os.close(null_fd)
    return log_fd


def main() -> int:
    options = _parse(sys.argv[1:])
    if "--confine" in options:
        from fusecache.base.confinement import Confinement

        Confinement.from_json(options["--confine"]).apply()
    status_fd = int(options.get("--status-fd", "-1"))
    if status_fd >= 0:
        os.set_inheritable(status_fd, False)
    if "--lock-fd" in options:
        os.set_inheritable(int(options["--lock-fd"]), False)
    environment = _child_environment()
    modules = {
        FETCH: options.get("--fetch-module", _DEFAULT_MODULES[FETCH]),
        SERVE: options.get("--serve-module", _DEFAULT_MODULES[SERVE]),
    }
    spec_path = os.path.abspath(options["--spec"]) if "--spec" in options else ""
    os.umask(0o077)
    os.chdir("/")
    early: list[Child] = []
    try:
        if not spec_path or "--custody" in options:
            early += [Child(role, module, environment, (), -1) for role, module in modules.items()]
        harden_process()
        if not spec_path:
            os.set_inheritable(int(options["--order-fd"]), False)
            spec_path = _receive_order(int(options["--order-fd"]), early, status_fd if "--lock-fd" in options else -1)
        return _supervise(spec_path, options, environment, modules, early) if spec_path else 0
    finally:
        for child in early:
            child.kill()


def _receive_order(fd: int, early: Sequence[Child], warm_fd: int) -> str:
    """Import meanwhile what is needed then, and return the path of the spec; "" if nobody needs us. `warm_fd`: gets a line when
    we and `early` have imported, unless the order is there before; -1: nobody asks."""
    import fusecache.custody.supervisor  # noqa: F401

    if warm_fd >= 0 and _wait_warm(fd, early):
        with contextlib.suppress(BrokenPipeError):  # who died closes the other pipe, too
            os.write(warm_fd, b'{"state": "warm"}\n')
    path = b""
    while piece := os.read(fd, _MAX_PATH_BYTES):
        path += piece
    os.close(fd)
    return os.fsdecode(path)


def _wait_warm(order_fd: int, early: Sequence[Child]) -> bool:
    """Return whether all have imported (or died, which is made up for when the order comes) before the order came."""
    importing = {child.channel.fileno(): child for child in early}
    while importing:
        readable, _, _ = select.select([order_fd, *importing], [], [])
        if order_fd in readable:
            return False
        for fd in readable:
            importing.pop(fd).receive()
    return True


def _supervise(
    spec_path: str, options: dict[str, str], environment: dict[str, str], modules: dict[str, str], early: Sequence[Child]
) -> int:
    import logging  # not before the children are started

    from fusecache.contract.mount_spec import MountSpec
    from fusecache.custody.log_file import LOG_NAME
    from fusecache.custody.supervisor import Supervisor, SupervisorConfig

    spec = MountSpec.load(spec_path)
    status_fd = int(options.get("--status-fd", "-1"))
    log_path, log_fd = "", 2
    if "--foreground" not in options:
        log_path, log_fd = _log_of(spec)
    logging.basicConfig(level=spec.log_level, format=f"%(asctime)s %(levelname)s{LOG_NAME}%(name)s: %(message)s")
    timeout = float(options.get("--timeout", "0"))
    custody, lock_fd = options.get("--custody", ""), int(options.get("--lock-fd", "-1"))
    config = SupervisorConfig(spec_path, status_fd, log_fd, log_path, environment, modules, early, timeout, custody, lock_fd)
    return Supervisor(spec, config).run()


def _log_of(spec: MountSpec) -> tuple[str, int]:
    from fusecache.contract.run_files import LOG

    path = os.path.join(spec.run_dir, LOG)
    log_fd = _open_log(path)
    with contextlib.suppress(PermissionError):  # who started us gave us a session already
        os.setsid()
    return path, log_fd


if __name__ == "__main__":
    sys.exit(main())
