"""``casinductor inspect``: the graphs of a cache, read from its entries as data.

Invariant: prints every distinct version; nothing of an entry is executed, and needs no torch.
"""

from __future__ import annotations

import time
from typing import Any

import click

from casinductor.cli.options import Options, command_options
from casinductor.cli.rows import Arrangement, row_options
from casinductor.util.human import size


@click.command()
@click.argument("cache")
@row_options
@command_options
def command(options: Options, cache: str, **given: Any) -> None:
    """Show the graphs of CACHE: key, guards, compile time, size, origin, use."""
    from casinductor.inspect.tables import GRAPH_KINDS, graph_rows
    from casinductor.inspect.view import view_of

    target = options.cache(cache)
    view = view_of(target.settings, target.id, *GRAPH_KINDS)
    rows = Arrangement(**given).of(graph_rows(view))
    lines = [
        [
            row.key[:12],
            row.kind,
            row.opaque or (row.guards or "none")[:60],
            "?" if row.seconds is None else f"{row.seconds:.2f} s",
            size(row.bytes),
            f"{row.kernels}",
            f"{row.inputs}",
            f"{row.used} of {row.restored}" if view.runs else "-",
            row.host,
            time.strftime("%Y-%m-%d %H:%M", time.localtime(row.made_ms / 1000)),
        ]
        for row in rows
    ]
    columns = ["key", "kind", "guards", "compiled", "bytes", "kernels", "inputs", "used", "host"]
    title = f"{target.id}: {len(rows)} graphs"
    options.table([row.as_dict() for row in rows], title, [*columns, "made"], lines)
