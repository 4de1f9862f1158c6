"""``casinductor undelete``: bring back a removed cache that no collection has swept yet.

Invariant: says so, and changes nothing, where nothing is left.
"""

from __future__ import annotations

import click

from casinductor.cli.options import Command, Options, command_options
from casinductor.util.human import counted


@click.command(cls=Command)
@click.argument("cache")
@command_options
def command(options: Options, cache: str) -> None:
    """Bring back what rm removed, if no gc has swept it.

    \b
    Examples:
      casinductor undelete H100/bert/v1
    """
    from casinductor.store.maintain.removal import undelete
    from casinductor.store.opening import with_fresh_store

    target = options.found(cache)
    report = with_fresh_store(target.settings, lambda store: undelete(store, target.id))
    options.emit(
        report.as_dict(), [f"{report.cache}: brought back {counted(report.groups, 'group')}"]
    )
