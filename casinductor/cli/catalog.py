"""``casinductor catalog``: the whole catalog as one SQLite file.

Invariant: the file is written whole or not at all, and nothing but an earlier export is replaced.
"""

from __future__ import annotations

from pathlib import Path

import click

from casinductor.cli.command import Command, command_options, output_option
from casinductor.cli.options import Options
from casinductor.util.human import size


@click.command(cls=Command)
@output_option("The SQLite file to write.", required=True)
@command_options
def command(options: Options, target: Path) -> None:
    """Write the store's whole catalog as a SQLite FILE.

    It is made for sqlite-utils, Datasette or SQL (docs/catalog.md).

    \b
    Examples:
      casinductor catalog -o store.db
    """
    from casinductor.inspect.export import export
    from casinductor.inspect.view import open_facts

    settings = options.settings()
    with open_facts(settings) as facts:
        found = options.on_store(settings, lambda store: export(store, facts, target))
    document = {"path": found.path, "bytes": found.bytes, "rows": found.rows}
    some = ("caches", "manifests", "groups", "graphs", "kernels", "artifacts", "blobs", "warmups")
    told = ", ".join(f"{found.rows[name]:,} {name}" for name in some)
    options.emit(document, [f"{found.path}: {size(found.bytes)} with {told}"])
