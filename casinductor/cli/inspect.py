"""``casinductor inspect``: the graphs of a cache, read from its entries as data.

Invariant: prints every distinct version; nothing of an entry is executed, and needs no torch.
"""

from __future__ import annotations

from typing import Any

import click

from casinductor.cli.command import Command, command_options
from casinductor.cli.options import Options
from casinductor.cli.rows import Arrangement, row_options
from casinductor.cli.table import Column, byte_count, moment, number, seconds, short, word


def _guards(value: Any) -> str:
    return "opaque" if value is None else value or "none"


_COLUMNS = (
    Column("key", short(12)),
    Column("kind", rank=2),
    Column("title", lambda value: value or "-", 1, cut="end"),
    Column("guards", _guards, 6, cut="end"),
    number("own_seconds", 0, seconds),
    number("seconds", 6, seconds),
    number("bytes", 3, byte_count),
    number("kernels", 4),
    number("inputs", 7),
    number("used", 5),
    number("restored", 5),
    Column("device", word, 8),
    Column("host", rank=9),
    Column("made_ms", moment, 8),
    Column("opaque", lambda value: value or "-", 10),
)


@click.command(cls=Command)
@click.argument("cache")
@row_options
@command_options
def command(options: Options, cache: str, **given: Any) -> None:
    """Show the graphs of CACHE: what they compute, cost and brought.

    \b
    Examples:
      casinductor inspect H100/bert/v1 --sort seconds --limit 10
      casinductor inspect H100/bert/v1 --filter "used=0" --wide
    """
    from casinductor.inspect.tables import GRAPH_KINDS, GraphRow, graph_rows
    from casinductor.inspect.view import view_of

    arrangement = Arrangement(**given)
    target = options.found(cache)
    every = graph_rows(view_of(target.settings, target.id, *GRAPH_KINDS))
    arrangement.show(options, str(target.id), "graph", every, GraphRow, _COLUMNS)
