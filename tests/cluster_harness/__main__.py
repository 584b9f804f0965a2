"""`python -m tests.cluster_harness COMMAND`: the cluster from the command line; `make cluster` and `make cluster-down` call it.

| command | does |
|---|---|
| up | boots a cluster, unless the one that is there is well |
| down | removes it; there need not be one |
| status | says what runs, and what has ended |
| missing | says in a line what this machine lacks, and ends with 1; else nothing and 0 |
| import FILE... | puts images on all nodes |
| publish FILE [NAME...] | puts the images of a file into the registry, under other names if given; nodes pull them |
| enter BOX [COMMAND...] | runs a command, or a shell, inside a box |
| restart BOX PROGRAM | kills a program and starts it again |
| build [NAME...] | prints where built programs are; builds what is missing |

Every command takes --directory, whose default is /var/tmp/fusecache-cluster.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from tests.cluster_harness import boot, builds, needs, removal
from tests.cluster_harness.boxes import ENVIRONMENT, BoxError
from tests.cluster_harness.cluster import Cluster
from tests.cluster_harness.progress import Progress
from tests.cluster_harness.record import DEFAULT_DIRECTORY, NotOursError, lock
from tests.support.kubectl import KubectlError

FAILURES = (
    boot.BootError, BoxError, builds.BuildError, KubectlError, NotOursError, removal.RemovalError, RuntimeError, OSError,
    subprocess.SubprocessError,
)  # fmt: skip


def main() -> int:
    arguments = _parser().parse_args()
    directory: Path = arguments.directory
    try:
        return int(COMMANDS[arguments.command](directory, arguments))
    except FAILURES as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1


def up(directory: Path, arguments: argparse.Namespace) -> int:
    if reason := needs.missing():
        print(f"cluster: {reason}", file=sys.stderr)
        return 1
    progress = Progress()
    programs = boot.build_programs(progress)
    with lock(directory, create=True):
        cluster = Cluster.load(directory)
        if cluster is not None and not cluster.problems():
            print(f"The cluster in {directory} is up already.")
        else:
            if cluster is not None:
                print(f"The cluster in {directory} is not well: {'; '.join(cluster.problems())}. It is replaced.")
                with progress.step("removing it"):
                    removal.remove(directory, keep_directory=True)
            try:
                cluster = boot.boot(directory, progress, programs)
            except BaseException:
                print(
                    f"Not booted. What is there is kept, logs are in {directory}/logs; `make cluster-down` removes it.",
                    file=sys.stderr,
                )
                raise
            print(f"Booted in {progress.seconds:.0f} s.")
    print(
        f"\n  export KUBECONFIG={cluster.kubeconfig}\n  export PATH={Path(sys.executable).parent}:$PATH  # kubectl\n\n"
        f"Logs are in {directory}/logs. `make cluster-down` removes all of it."
    )
    return 0


def down(directory: Path, arguments: argparse.Namespace) -> int:
    progress = Progress()
    with lock(directory, create=False) as is_there:
        if not is_there:
            print(f"There is no cluster in {directory}.")
            return 0
        with progress.step(f"removed the cluster in {directory}"):
            removal.remove(directory)
    return 0


def status(directory: Path, arguments: argparse.Namespace) -> int:
    cluster = _require(directory)
    for box in (cluster.control_plane, *cluster.nodes):
        for name, program in box.programs().items():
            print(f"{box.name:14} {name:24} {'pid ' + str(program.process.pid) if program.process.is_alive else 'ended'}")
    for problem in cluster.problems():
        print(problem)
    return 1 if cluster.problems() else 0


def missing(directory: Path, arguments: argparse.Namespace) -> int:
    if reason := needs.missing():
        print(reason)
        return 1
    return 0


def import_images(directory: Path, arguments: argparse.Namespace) -> int:
    cluster = _require(directory)
    for archive in arguments.file:
        cluster.import_image(archive)
    return 0


def publish_image(directory: Path, arguments: argparse.Namespace) -> int:
    for name in _require(directory).publish_image(arguments.file, *arguments.name):
        print(name)
    return 0


def enter(directory: Path, arguments: argparse.Namespace) -> int:
    command = _require(directory).box(arguments.box).entering(arguments.run or ["/bin/bash"])
    os.execvpe(command[0], command, {**ENVIRONMENT, "TERM": os.environ.get("TERM", "dumb")})


def restart(directory: Path, arguments: argparse.Namespace) -> int:
    _require(directory).box(arguments.box).restart(arguments.program)
    return 0


def build(directory: Path, arguments: argparse.Namespace) -> int:
    for name, path in builds.build(*arguments.name).items():
        print(name, path)
    return 0


COMMANDS = {
    "up": up, "down": down, "status": status, "missing": missing, "import": import_images, "publish": publish_image,
    "enter": enter, "restart": restart, "build": build,
}  # fmt: skip


def _require(directory: Path) -> Cluster:
    cluster = Cluster.load(directory)
    if cluster is None:
        raise BoxError(f"there is no cluster in {directory}")
    return cluster


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.cluster_harness", description="A Kubernetes for tests on this machine."
    )
    parser.add_argument("--directory", type=Path, default=DEFAULT_DIRECTORY, help="of the cluster (default: %(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("up", "down", "status", "missing"):
        commands.add_parser(name)
    commands.add_parser("import").add_argument("file", type=Path, nargs="+")
    publishing = commands.add_parser("publish")
    publishing.add_argument("file", type=Path)
    publishing.add_argument("name", nargs="*")
    entering = commands.add_parser("enter")
    entering.add_argument("box")
    entering.add_argument("run", nargs=argparse.REMAINDER)
    restarting = commands.add_parser("restart")
    restarting.add_argument("box")
    restarting.add_argument("program")
    commands.add_parser("build").add_argument("name", nargs="*")
    return parser


if __name__ == "__main__":
    sys.exit(main())
