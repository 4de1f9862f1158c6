"""``casinductor show``: the code of one graph or kernel.

Invariant: on a terminal the text is coloured, elsewhere it is the stored text and nothing else.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from casinductor.cli.options import Options, command_options
from casinductor.util.human import strip_control

if TYPE_CHECKING:
    from casinductor.inspect.show import Shown


@click.command()
@click.argument("name", metavar="HASH")
@click.argument(
    "form",
    required=False,
    type=click.Choice(["ptx", "ttir", "ttgir", "llir", "source", "code", "json", "key", "guards"]),
)
@click.option("--cache", "key", metavar="CACHE", help="Look in this cache only.")
@command_options
def command(options: Options, name: str, form: str | None, key: str | None) -> None:
    """Show the graph or kernel whose hash begins with HASH, or whose name it is."""
    from casinductor.inspect.show import show
    from casinductor.inspect.view import open_facts
    from casinductor.store.opening import with_store

    target = options.cache(key) if key else None
    settings = target.settings if target else options.settings()
    with open_facts(settings) as facts:
        found = with_store(
            settings, lambda store: show(store, facts, name, form, target.id if target else None)
        )
    if options.as_json or options.quiet:
        options.emit(found.as_dict(), ())
    elif sys.stdout.isatty():
        _colour(found)
    else:
        click.echo(found.text)


def _colour(found: Shown) -> None:
    """In the terminal's own palette, so that dark and light ones both read well."""
    from rich.console import Console
    from rich.syntax import Syntax

    from casinductor.cli.mlir import MlirLexer

    lexer = MlirLexer() if found.lexer == "mlir" else found.lexer
    console = Console()
    console.print(strip_control(found.title), style="bold", markup=False, highlight=False)
    text = strip_control(found.text)
    console.print(Syntax(text, lexer, theme="ansi_dark", background_color="default"))
