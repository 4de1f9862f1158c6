"""``casinductor diff``: which graphs and kernels appeared, went or changed.

Invariant: the old side stands first, everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from casinductor.cli.options import Options, command_options

if TYPE_CHECKING:
    from casinductor.inspect.diff import CacheDifference
    from casinductor.store.store import Store


@click.command()
@click.argument("old", metavar="A")
@click.argument("new", metavar="B")
@command_options
def command(options: Options, old: str, new: str) -> None:
    """Compare A with B: caches, manifests, GPU types or torch versions.

    Each is [GPU/]KEY, KEY@ULID (one manifest) or KEY@torch=VERSION.
    """
    from casinductor.inspect.diff import diff
    from casinductor.inspect.selection import select
    from casinductor.inspect.view import open_facts
    from casinductor.store.opening import with_store

    gpu = options.cache("any").id.gpu
    settings = options.settings()
    with open_facts(settings) as facts:

        def work(store: Store) -> CacheDifference:
            return diff(store, facts, select(store, old, gpu), select(store, new, gpu))

        found = with_store(settings, work)
    rows = [
        [c.status, c.what, c.name, c.old[:12], c.new[:12], "; ".join(c.how[:3])[:200]]
        for c in found.changes
    ]
    title = (
        f"{found.old} -> {found.new}: {found.same_graphs} graphs and {found.same_kernels} kernels "
        "are the same"
    )
    options.table(found.as_dict(), title, ["", "what", "name", "A", "B", "how"], rows)
