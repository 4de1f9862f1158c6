"""``casinductor report``: one page about a cache, or about the whole store.

Invariant: the page is written whole or not at all, and needs nothing but a browser.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import click

from casinductor.cli.command import Command, command_options
from casinductor.cli.options import Options
from casinductor.util.human import size


@click.command(cls=Command)
@click.argument("cache", required=False)
@click.option("--all", "everything", is_flag=True, help="All caches of the store.")
@click.option(
    "--output",
    "-o",
    "target",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The HTML file to write.",
)
@command_options
def command(options: Options, cache: str | None, everything: bool, target: Path) -> None:
    """Write a page about CACHE, or about all caches.

    \b
    Examples:
      casinductor report H100/bert/v1 -o report.html
      casinductor report --all -o store.html
    """
    from casinductor.inspect.page import page
    from casinductor.inspect.summary import summarize
    from casinductor.inspect.view import open_facts

    if (cache is None) != everything:
        raise click.UsageError("give a CACHE, or --all")
    chosen = options.found(cache) if cache else None
    settings = chosen.settings if chosen else options.settings()
    with open_facts(settings) as facts:
        found = options.on_store(
            settings, lambda store: summarize(store, facts, chosen.id if chosen else None)
        )
    text = page(found)
    _write(target, text)
    document = {"path": str(target), "bytes": len(text.encode()), "runs": len(found.runs)}
    options.emit(document, [f"{target}: {size(len(text.encode()))}, {len(found.runs)} warm-ups"])


def _write(target: Path, text: str) -> None:
    from casinductor.errors import LocalDirectory

    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        temporary.write_text(text, "utf-8")
        os.replace(temporary, target)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise LocalDirectory(f"cannot write {target}: {error.strerror or error}") from error
