"""``casinductor rm``: hide a cache at once; the next collection deletes it.

Invariant: nothing is deleted here, so ``casinductor undelete`` brings everything back.
"""

from __future__ import annotations

import click

from casinductor.cli.command import Command, command_options
from casinductor.cli.options import Options
from casinductor.util.human import counted


@click.command(cls=Command)
@click.argument("cache")
@command_options
def command(options: Options, cache: str) -> None:
    """Remove CACHE; undelete brings it back until the next gc.

    The next collection frees its space.

    \b
    Examples:
      casinductor rm H100/bert/v1
    """
    from casinductor.store.maintain.removal import remove

    target = options.found(cache)
    report = options.on_store(target.settings, lambda store: remove(store, target.id), fresh=True)
    removed = counted(report.groups, "group")
    line = f"{report.cache}: removed {removed}; undelete brings them back until gc"
    options.emit(report.as_dict(), [line])
