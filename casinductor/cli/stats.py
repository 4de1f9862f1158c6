"""``casinductor stats``: what a store or one cache takes, and what deduplication saves.

Invariant: prints the figures of ``store.stats`` and nothing computed from anything else.
"""

from __future__ import annotations

import click

from casinductor.cli.options import Options, command_options
from casinductor.util.human import size


@click.command()
@click.argument("cache", required=False)
@command_options
def command(options: Options, cache: str | None) -> None:
    """Show the figures of the store, or of CACHE."""
    from casinductor.store.opening import with_store
    from casinductor.store.stats import figures

    target = options.cache(cache) if cache else None
    settings = target.settings if target else options.settings()
    found = with_store(settings, lambda store: figures(store, target.id if target else None))
    rows = [
        ["stored", size(found.stored_bytes)],
        ["logical", size(found.logical_bytes)],
        ["unique", size(found.unique_bytes)],
        ["caches", f"{found.caches:,}"],
        ["groups", f"{found.groups:,}"],
        ["artifacts", f"{found.artifacts:,}"],
        ["packs", f"{found.packs:,}"],
        ["manifests", f"{found.manifests:,}"],
    ]
    title = f"{settings.store} {target.id if target else ''}".strip()
    options.table(found.as_dict(), title, ["figure", "value"], rows)
    options.warn(found.damage)
