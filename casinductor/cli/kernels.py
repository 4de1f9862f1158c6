"""``casinductor kernels``: the kernels of a cache, from their metadata and machine code.

Invariant: a figure that the files do not tell is shown as unknown, never as zero.
"""

from __future__ import annotations

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
    """Show the kernels of CACHE: Triton's and those in C++."""
    from casinductor.inspect.tables import KERNEL_KINDS, kernel_rows, told
    from casinductor.inspect.view import look_at, open_facts
    from casinductor.store.opening import with_store

    target = options.cache(cache)
    with open_facts(target.settings) as facts:
        view = with_store(
            target.settings, lambda store: look_at(store, facts, target.id, *KERNEL_KINDS)
        )
        rows = Arrangement(**given).of(kernel_rows(view, facts))
    lines = [
        [
            row.name[:60],
            row.hash[:8],
            ",".join(key[:8] for key in row.graphs) or "-",
            row.target or "?",
            *(_figure(n) for n in (row.warps, row.stages, row.shared, row.registers, row.spills)),
            size(row.bytes),
            _choice(row.variants, row.chosen) + (f" {told(row.config)}" if row.config else ""),
        ]
        for row in rows
    ]
    columns = ["kernel", "hash", "graphs", "target", "warps", "stages", "shared", "registers"]
    title = f"{target.id}: {len(rows)} kernels"
    columns += ["spills", "bytes", "configuration"]
    options.table([row.as_dict() for row in rows], title, columns, lines)


def _figure(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def _choice(variants: int, chosen: bool | None) -> str:
    if chosen is None:
        return "the only one" if variants == 1 else f"1 of {variants}"
    return f"chosen of {variants}" if chosen else "tried"
