"""``casinductor metrics``: the store and its fleet for Prometheus.

Invariant: the text is complete or not there; nothing listens on a port.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from casinductor.cli.command import Command, command_options
from casinductor.cli.options import Options, write_file

if TYPE_CHECKING:
    from casinductor.store.store import Store


@click.command(cls=Command)
@click.option(
    "--textfile",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write FILE for node_exporter's textfile collector (a name in *.prom).",
)
@command_options
def command(options: Options, textfile: Path | None) -> None:
    """Print the store's and its fleet's figures for Prometheus.

    \b
    Examples:
      casinductor metrics
      casinductor metrics --textfile /var/lib/node_exporter/casinductor.prom
    """
    from casinductor.inspect.metrics import registry
    from casinductor.inspect.view import open_facts

    if options.as_json:
        raise click.UsageError("metrics are text in Prometheus' format; for JSON see stats")
    settings = options.settings()

    def work(store: Store) -> bytes:
        found = registry(store, facts)
        from prometheus_client import generate_latest

        return generate_latest(found)

    with open_facts(settings) as facts:
        text = options.on_store(settings, work)
    if textfile is not None:
        write_file(textfile, text)
    elif not options.quiet:
        click.echo(text.decode(), nl=False)
