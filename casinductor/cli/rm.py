"""``casinductor rm``: hide a cache at once; the next collection deletes it.

Invariant: nothing is deleted here, so ``casinductor undelete`` brings everything back.
"""

from __future__ import annotations

import click

from casinductor.cli.options import Options, command_options
from casinductor.util.human import counted


@click.command()
@click.argument("cache")
@command_options
def command(options: Options, cache: str) -> None:
    """Remove CACHE; the next collection frees its space, undelete brings it back until then."""
    from casinductor.store.maintain.removal import remove
    from casinductor.store.opening import with_fresh_store

    target = options.cache(cache)
    report = with_fresh_store(target.settings, lambda store: remove(store, target.id))
    removed = counted(report.groups, "group")
    line = f"{report.cache}: removed {removed}; undelete brings them back until gc"
    options.emit(report.as_dict(), [line])
