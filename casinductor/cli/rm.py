"""``casinductor rm``: hide a cache at once; the next collection deletes it.

Invariant: nothing is deleted here, so ``casinductor undelete`` brings everything back.
"""

from __future__ import annotations

import click

from casinductor.cli.options import Options, command_options


@click.command()
@click.argument("cache")
@command_options
def command(options: Options, cache: str) -> None:
    """Remove CACHE; the next collection frees its space, undelete brings it back until then."""
    from casinductor.cache import with_fresh_store
    from casinductor.store.removal import remove

    target = options.cache(cache)
    report = with_fresh_store(target.settings, lambda store: remove(store, target.id))
    line = f"{report.cache}: removed {report.groups} groups; undelete brings them back until gc"
    options.emit(report.as_dict(), [line])
