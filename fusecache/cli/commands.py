"""The `fusecache` command: finds the subcommand and turns every error into one sentence and an exit status.

Owns no state; `main.main` calls `run`. Subcommands are imported when they are called, so that `fusecache mount` does not
wait for what only others need.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import cast

import click

from fusecache.cli.text import printable
from fusecache.contract.errors import CacheError
from fusecache.contract.exit_status import ExitStatus, exit_status_of

_COMMANDS = {
    "mount": "mount_command",
    "umount": "umount_command",
    "status": "status_command",
    "warm": "warm_command",
    "drop": "drop_command",
    "refresh": "refresh_command",
    "recover": "recover_command",
    "doctor": "doctor_command",
    "top": "top_command",
    "bench": "bench_command",
    "demo": "demo_command",
}
"""Name to module of this package; the command is the module's attribute of the same name."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"fusecache.cli.{_COMMANDS[cmd_name]}")
        return cast(click.Command, getattr(module, cmd_name))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], _COMMANDS, 1)
            cure = f"did you mean {near[0]}?" if near else f"commands: {', '.join(name for name in _COMMANDS if name != 'demo')}"
            raise click.UsageError(f"there is no command {args[0]!r}; {cure}", ctx)
        return super().resolve_command(ctx, args)


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="fusecache", message="%(prog)s %(version)s")
def group() -> None:
    """Remote datasets as local directories, cached in memory and on disk."""


def run(arguments: list[str]) -> int:
    """Run one command and return its exit status; errors go to stderr as one line."""
    stdout = sys.stdout
    try:
        result = group.main(arguments, prog_name="fusecache", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else ExitStatus.OK
    except CacheError as error:
        return _fail(str(error), exit_status_of(error.kind))
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return ExitStatus.USAGE
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx is not None else "fusecache"
        return _fail(f"{error.format_message().rstrip('.')} (see {command} --help)", ExitStatus.USAGE)
    except click.ClickException as error:
        return _fail(error.format_message(), ExitStatus.USAGE)
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted", ExitStatus.INTERRUPTED)
    except BrokenPipeError:  # `fusecache status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return ExitStatus.OK
    except OSError:
        if _stands_somewhere():
            raise
        return _fail("the directory you stand in is gone, or is on a dead mount; cd to another one", ExitStatus.NOT_FOUND)
    except SystemExit:  # what click makes of a broken pipe, whose streams it has wrapped then
        if sys.stdout is stdout:
            raise
        return ExitStatus.OK


def _stands_somewhere() -> bool:
    """Relative paths mean nothing in a directory that was removed, or in a mount that was taken away."""
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def _fail(sentence: str, status: ExitStatus) -> int:
    click.echo(f"fusecache: {printable(sentence)}", err=True)
    return status
