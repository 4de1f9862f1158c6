"""``casinductor report``: one page about a cache, or about the whole store.

Invariant: the page is written whole or not at all, and needs nothing but a browser.
"""

from __future__ import annotations

from pathlib import Path

import click

from casinductor.cli.command import Command, command_options, output_option
from casinductor.cli.options import Options, write_file
from casinductor.util.human import size


@click.command(cls=Command)
@click.argument("cache", required=False)
@click.option("--all", "everything", is_flag=True, help="All caches of the store.")
@output_option("The HTML file to write.", required=True)
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
    write_file(target, text.encode())
    document = {"path": str(target), "bytes": len(text.encode()), "runs": len(found.runs)}
    options.emit(document, [f"{target}: {size(len(text.encode()))}, {len(found.runs)} warm-ups"])
