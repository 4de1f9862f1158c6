"""What makes a function a command: the options that all share, and those that several do.

Invariant: an option given after the command's name wins over one given before it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from casinductor.cli.options import Options
from casinductor.util.voice import silence, speak_up

Function = Callable[..., Any]


class Command(click.Command):
    """A command whose help tells its own options apart from those that all have."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own: list[tuple[str, str]] = []
        shared: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                (shared if parameter.name in SHARED else own).append(record)
        for title, records in (("Options", own), ("Options of every command", shared)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


#: The parameters that every command has.
SHARED = ("store", "gpu", "as_json", "quiet", "wide", "verbose", "help")


def global_options(function: Function) -> Function:
    """Add the shared options as plain parameters."""
    for option in (
        click.option("-v", "--verbose", is_flag=True, help="Say everything, with tracebacks."),
        click.option("-w", "--wide", is_flag=True, help="Whole tables, however wide the terminal."),
        click.option("--quiet", is_flag=True, help="Print errors only."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
        click.option("--gpu", metavar="TYPE", help="GPU type, e.g. H100 (default: this worker's)."),
        click.option("--store", metavar="DIR|URL", help="The store (default: $CASINDUCTOR_STORE)."),
    ):
        function = option(function)
    return function


python_option = click.option(
    "--python",
    metavar="PYTHON",
    help="The interpreter whose torch this is about (default: this one), or its description by "
    "casinductor worker (*.json).",
)
family_option = click.option(
    "--family",
    "families",
    multiple=True,
    metavar="NAME[=DIR]",
    help="Only this family of compile caches, and where it lies; again for several.",
)


def output_option(told: str, *, required: bool = False) -> Callable[[Function], Function]:
    """``-o FILE``, handed on as ``target``; ``told`` is its help."""
    return click.option(
        "--output",
        "-o",
        "target",
        metavar="FILE",
        required=required,
        type=click.Path(path_type=Path, dir_okay=False),
        help=told,
    )


empty_option = click.option(
    "--allow-empty", is_flag=True, help="Succeed although there is nothing to do."
)

grace_option = click.option(
    "--grace",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="How long to wait at each step for other clients' listings (default: 0 on a local "
    "filesystem, else 600).",
)


def command_options(function: Function) -> Function:
    """Add the shared options and hand them to the command as its first argument."""

    @global_options
    @click.pass_context
    @wraps(function)
    def wrapper(ctx: click.Context, /, **given: Any) -> Any:
        own = Options(**{name: given.pop(name) for name in SHARED if name in given})
        options = _outer(ctx).merged(own)
        if options.quiet:
            silence()
        if options.verbose:
            speak_up()
        return function(options, **given)

    return wrapper


def _outer(ctx: click.Context) -> Options:
    found = ctx.find_object(Options)
    return found if found is not None else Options()
