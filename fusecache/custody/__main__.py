"""`python -m fusecache.custody --spec PATH [--status-fd N] [--foreground]`: the supervisor of one mount.

The only place of custody that reads arguments and environment. `--fetch-module` and `--serve-module` name other daemons, for
tests.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys

from fusecache.base.hardening import harden_process
from fusecache.contract.mount_spec import MountSpec
from fusecache.contract.run_files import LOG
from fusecache.custody.child import FETCH, SERVE
from fusecache.custody.supervisor import DEFAULT_MODULES, LOG_NAME, Supervisor, SupervisorConfig

_VALUES = ("--spec", "--status-fd", "--fetch-module", "--serve-module")


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
    if not options.get("--spec"):
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
    spec_path = os.path.abspath(options["--spec"])
    spec = MountSpec.load(spec_path)
    status_fd = int(options.get("--status-fd", "-1"))
    if status_fd >= 0:
        os.set_inheritable(status_fd, False)
    harden_process()
    environment = _child_environment()
    os.umask(0o077)
    os.chdir("/")
    log_path, log_fd = "", 2
    if "--foreground" not in options:
        log_path = os.path.join(spec.run_dir, LOG)
        log_fd = _open_log(log_path)
        with contextlib.suppress(PermissionError):  # who started us gave us a session already
            os.setsid()
    logging.basicConfig(level=spec.log_level, format=f"%(asctime)s %(levelname)s{LOG_NAME}%(name)s: %(message)s")
    modules = {
        FETCH: options.get("--fetch-module", DEFAULT_MODULES[FETCH]),
        SERVE: options.get("--serve-module", DEFAULT_MODULES[SERVE]),
    }
    config = SupervisorConfig(spec_path, status_fd, log_fd, log_path, environment, modules)
    return Supervisor(spec, config).run()


if __name__ == "__main__":
    sys.exit(main())
