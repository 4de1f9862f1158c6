"""``casinductor diff``: which graphs and kernels appeared, went or changed.

Invariant: the old side stands first, everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from casinductor.cli.command import Command, command_options
from casinductor.cli.options import Options
from casinductor.cli.table import Column, short

if TYPE_CHECKING:
    from casinductor.inspect.diff import CacheDifference
    from casinductor.store.store import Store

_COLUMNS = (
    Column("status"),
    Column("what", rank=2),
    Column("name", cut="middle"),
    Column("old", short(12), 3),
    Column("new", short(12), 3),
    Column("how", lambda how: "; ".join(how) or "-", 1, cut="end"),
)


@click.command(cls=Command)
@click.argument("old", metavar="A")
@click.argument("new", metavar="B")
@command_options
def command(options: Options, old: str, new: str) -> None:
    """Compare two caches, manifests, GPU types or torch versions.

    Each is [GPU/]KEY, KEY@ULID (one manifest) or KEY@torch=VERSION.

    \b
    Examples:
      casinductor diff A100/bert/v1 H100/bert/v1
      casinductor diff bert/v1@torch=2.13 bert/v1@torch=2.14
    """
    from casinductor.inspect.diff import diff
    from casinductor.inspect.selection import select
    from casinductor.inspect.view import open_facts

    gpu = options.gpu_type()
    settings = options.settings()
    with open_facts(settings) as facts:

        def work(store: Store) -> CacheDifference:
            return diff(store, facts, select(store, old, gpu), select(store, new, gpu))

        found = options.on_store(settings, work)
    title = (
        f"{found.old} -> {found.new}: {found.same_graphs} graphs and {found.same_kernels} kernels "
        "are the same"
    )
    options.table(found.as_dict(), title, _COLUMNS, found.changes)
