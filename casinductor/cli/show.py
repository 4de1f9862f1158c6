"""``casinductor show``: the code of one graph or kernel.

Invariant: on a terminal the text is coloured, elsewhere it is the stored text and nothing else.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from casinductor.cli.command import Command, command_options, output_option
from casinductor.cli.options import Options, write_file
from casinductor.util.human import strip_control

if TYPE_CHECKING:
    from casinductor.inspect.show import Shown


@click.command(cls=Command)
@click.argument("name", metavar="HASH")
@click.argument("form", required=False, metavar="[FORM]")
@click.option("--cache", "key", metavar="CACHE", help="Look in this cache only.")
@output_option("Write it to FILE, as it is stored.")
@command_options
def command(
    options: Options, name: str, form: str | None, key: str | None, target: Path | None
) -> None:
    """Show the code of the graph or kernel named HASH.

    HASH is the beginning of its hash, or the kernel's name. FORM of a kernel: ptx, ttir, ttgir,
    llir, amdgcn, source, json, python (what Inductor generated), cubin or hsaco (machine code); of
    a graph: code, source, key or guards.

    \b
    Examples:
      casinductor show 3f9c2b
      casinductor show triton_poi_fused_relu_0 ptx -o relu.ptx
      casinductor show 3f9c2b cubin -o k.cubin && nvdisasm k.cubin
    """
    from casinductor.inspect.show import FORMS, show
    from casinductor.inspect.view import open_facts

    if form is not None and form not in FORMS:
        raise click.UsageError(f"there is no form {form!r}; forms are {', '.join(sorted(FORMS))}")
    chosen = options.found(key) if key else None
    settings = chosen.settings if chosen else options.settings()
    with open_facts(settings) as facts:
        found = options.on_store(
            settings, lambda store: show(store, facts, name, form, chosen.id if chosen else None)
        )
    if target is not None:
        _write(options, found, target)
    elif options.as_json or options.quiet:
        options.emit(found.as_dict(), ())
    elif sys.stdout.isatty():
        _colour(found)
    else:
        click.echo(f"casinductor: {strip_control(_what(found))}", err=True)
        click.echo(found.text if found.data is None else found.data, nl=found.data is None)


def _what(found: Shown) -> str:
    others = [form for form in found.forms if form != found.form]
    return f"{found.title}, {found.form}" + (f" (also {', '.join(others)})" if others else "")


def _write(options: Options, found: Shown, target: Path) -> None:
    write_file(target, found.text.encode() if found.data is None else found.data)
    options.emit({**found.as_dict(), "path": str(target)}, [f"{target}: {_what(found)}"])


def _colour(found: Shown) -> None:
    """In the terminal's own palette, so that dark and light ones both read well."""
    from rich.console import Console
    from rich.syntax import Syntax

    from casinductor.cli.mlir import MlirLexer

    if found.data is not None:
        raise click.UsageError(f"{found.form} is machine code: write it to a file with -o FILE")
    lexer = MlirLexer() if found.lexer == "mlir" else found.lexer
    console = Console()
    console.print(strip_control(_what(found)), style="bold", markup=False, highlight=False)
    text = strip_control(found.text)
    console.print(Syntax(text, lexer, theme="ansi_dark", background_color="default"))
