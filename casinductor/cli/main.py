"""The ``casinductor`` command: global options, the list of commands, and exit statuses.

Invariant: every error that the library raises on purpose ends as one line on stderr (with
``--json`` one JSON object) and its documented exit status; ``--json`` puts one JSON document and
nothing else on stdout.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from casinductor import __version__
from casinductor.cli.command import global_options
from casinductor.cli.options import Options, complain
from casinductor.util.voice import is_verbose

if TYPE_CHECKING:
    from casinductor.errors import CasinductorError

#: The commands as ``--help`` shows them, by what one is about to do.
SECTIONS = {
    "Share": ("push", "pull", "run", "watch", "worker", "assert-warm", "demo"),
    "See what there is": ("ls", "stats", "runs", "inspect", "kernels", "show", "diff"),
    "Find out why": ("explain", "doctor", "report", "catalog", "metrics"),
    "Keep in order": ("copy", "prune", "gc", "compact", "rm", "undelete", "check", "repair"),
    "Trust": ("key", "trust", "resign", "hide", "unhide"),
}
_COMMANDS = tuple(name for names in SECTIONS.values() for name in names)


class LazyGroup(click.Group):
    """Imports a command's module when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"casinductor.cli.{name.replace('-', '_')}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in _COMMANDS and not name.startswith("-"):
            from difflib import get_close_matches

            close = get_close_matches(name, _COMMANDS, 3, 0.6)
            hint = f"; did you mean {' or '.join(close)}?" if close else "; see casinductor --help"
            raise click.UsageError(f"there is no command {name!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, _COMMANDS))
        for title, names in SECTIONS.items():
            with formatter.section(title):
                for name in names:
                    command = self.get_command(ctx, name)
                    told = command.get_short_help_str(200) if command else ""
                    formatter.write(f"  {name:{width}}  {told}\n")


_EXAMPLES = """\b
Examples:
  casinductor run bert/v1 -- python serve.py
  casinductor stats
  casinductor explain H100/bert/v1
  casinductor COMMAND --help
"""


@click.group(
    cls=LazyGroup, epilog=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, "-V", "--version", prog_name="casinductor")
@global_options
@click.pass_context
def cli(ctx: click.Context, /, **given: Any) -> None:
    """Share what torch.compile produces between GPU workers."""
    ctx.obj = Options(**given)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with the status that ``docs/cli.md`` lists."""
    from casinductor.errors import CasinductorError

    given = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in (given[: given.index("--")] if "--" in given else given)
    try:
        cli.main(args=arguments, prog_name="casinductor", standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except click.ClickException as error:
        if as_json:
            _tell("usage", error.exit_code, error.format_message())
        else:
            error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except CasinductorError as error:
        _say(error, as_json)
        sys.exit(error.exit_status)


def _say(error: CasinductorError, as_json: bool) -> None:
    if is_verbose():
        import traceback

        traceback.print_exception(error)
    if as_json:
        _tell(error.code, error.exit_status, str(error))
    else:
        complain(str(error))


def _tell(code: str, status: int, sentence: str) -> None:
    """An error as JSON, on stderr like every error."""
    told = {"error": {"code": code, "status": status, "message": sentence}}
    click.echo(json.dumps(told), err=True)


if __name__ == "__main__":
    main()
