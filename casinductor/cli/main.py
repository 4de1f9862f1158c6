"""The ``casinductor`` command: global options, the list of commands, and exit statuses.

Invariant: every error that the library raises on purpose ends as one line on stderr and its
documented exit status; ``--json`` puts one JSON document and nothing else on stdout.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import click

from casinductor import __version__
from casinductor.cli.options import Options, global_options
from casinductor.util.human import strip_control

_COMMANDS = (
    "push",
    "pull",
    "run",
    "watch",
    "assert-warm",
    "ls",
    "inspect",
    "kernels",
    "show",
    "explain",
    "diff",
    "catalog",
    "report",
    "stats",
    "compact",
    "gc",
    "rm",
    "undelete",
    "hide",
    "unhide",
    "key",
    "trust",
    "resign",
    "doctor",
    "check",
    "repair",
    "demo",
)


class LazyGroup(click.Group):
    """Imports a command's module when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"casinductor.cli.{name.replace('-', '_')}").command
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="casinductor")
@global_options
@click.pass_context
def cli(ctx: click.Context, /, **given: Any) -> None:
    """Share what torch.compile produces between GPU workers."""
    ctx.obj = Options(**given)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with the status that ``docs/cli.md`` lists."""
    from casinductor.errors import CasinductorError

    try:
        cli.main(args=arguments, prog_name="casinductor", standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except CasinductorError as error:
        click.echo(f"casinductor: {strip_control(str(error))}", err=True)
        sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
