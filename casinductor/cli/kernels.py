"""``casinductor kernels``: the kernels of a cache, from their metadata and machine code.

Invariant: a figure that the files do not tell is shown as unknown, never as zero.
"""

from __future__ import annotations

from typing import Any

import click

from casinductor.cli.command import Command, command_options
from casinductor.cli.options import Options
from casinductor.cli.rows import Arrangement, row_options
from casinductor.cli.table import Column, byte_count, number, short, word


def _chosen(value: Any) -> str:
    return "-" if value is None else "chosen" if value else "tried"


def _config(value: Any) -> str:
    from casinductor.inspect.tables import told

    return told(value) or "-"


_COLUMNS = (
    Column("name", cut="middle"),
    Column("hash", short(8)),
    Column("kind", rank=5),
    Column("target", word, 3),
    number("warps", 4),
    number("stages", 4),
    number("shared", 3),
    number("registers", 1),
    number("stack_bytes", 2),
    number("bytes", 2, byte_count),
    number("variants", 6),
    Column("chosen", _chosen, 5),
    Column("config", _config, 7, cut="end"),
    Column("graphs", short(8), 6),
)


@click.command(cls=Command)
@click.argument("cache")
@row_options
@command_options
def command(options: Options, cache: str, **given: Any) -> None:
    """Show the kernels of CACHE: Triton's and those in C++.

    \b
    Examples:
      casinductor kernels H100/bert/v1 --sort registers --limit 20
      casinductor kernels H100/bert/v1 --filter "stack_bytes>0"
      casinductor show HASH ptx
    """
    from casinductor.inspect.tables import KERNEL_KINDS, KernelRow, kernel_rows
    from casinductor.inspect.view import look_at, open_facts

    arrangement = Arrangement(**given)
    target = options.found(cache)
    with open_facts(target.settings) as facts:
        view = options.on_store(
            target.settings, lambda store: look_at(store, facts, target.id, *KERNEL_KINDS)
        )
        every = kernel_rows(view, facts)
    arrangement.show(options, str(target.id), "kernel", every, KernelRow, _COLUMNS)
