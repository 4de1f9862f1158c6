"""``casinductor unhide``: show again what ``hide`` hid.

Invariant: a record that is named and does not exist is an error.
"""

from __future__ import annotations

import click

from casinductor.cli.command import Command, command_options
from casinductor.cli.options import Options
from casinductor.util.human import counted


@click.command(cls=Command)
@click.argument("cache")
@click.argument("records", nargs=-1, metavar="[RECORD]...")
@click.option("--all", "everything", is_flag=True, help="Show everything again.")
@command_options
def command(options: Options, cache: str, records: tuple[str, ...], everything: bool) -> None:
    """Show again what hide hid of CACHE.

    RECORD is what hide printed, and hide --list lists.

    \b
    Examples:
      casinductor unhide H100/bert/v1 RECORD
      casinductor unhide H100/bert/v1 --all
    """
    from casinductor.store.maintain.hiding import unhide

    if bool(records) == everything:
        raise click.UsageError("name the RECORDs, or give --all")
    target = options.found(cache)
    report = options.on_store(
        target.settings,
        lambda store: unhide(
            store, target.id, lambda record: everything or record.manifest in records
        ),
        fresh=True,
    )
    shown = counted(report.groups, "group")
    options.emit(report.as_dict(), [f"{report.cache}: {shown} shown again"])
