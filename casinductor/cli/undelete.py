"""``casinductor undelete``: bring back a removed cache that no collection has swept yet.

Invariant: says so, and changes nothing, where nothing is left.
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
    """Bring back what rm removed, if no gc has swept it.

    \b
    Examples:
      casinductor undelete H100/bert/v1
    """
    from casinductor.store.maintain.removal import undelete

    target = options.found(cache)
    report = options.on_store(target.settings, lambda store: undelete(store, target.id), fresh=True)
    options.emit(
        report.as_dict(), [f"{report.cache}: brought back {counted(report.groups, 'group')}"]
    )
