"""``casinductor hide``: take a wrong kernel or graph out of every worker's sight.

Invariant: nothing is deleted, and what is hidden says so: ``--list`` has every record.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from casinductor.cli.command import Command, command_options
from casinductor.cli.options import Options
from casinductor.cli.table import Column, number, short
from casinductor.util.human import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from casinductor.cache import Cache
    from casinductor.store.index.groups import Version
    from casinductor.store.maintain.hiding import Hidden, HideReport
    from casinductor.store.store import Store

_HIDDEN = (Column("manifest"), number("groups", 1), Column("contents", short(12), cut="end"))


@dataclass(frozen=True)
class HiddenLine:
    """A record that hides groups, by their contents."""

    manifest: str
    contents: list[str]

    @property
    def groups(self) -> int:
        return len(self.contents)


@click.command(cls=Command)
@click.argument("cache")
@click.argument("hashes", nargs=-1, metavar="[HASH]...")
@click.option("--run", metavar="ULID", help="What this warm-up or manifest published.")
@click.option(
    "--last-good", metavar="ULID", help="All that this warm-up neither restored nor published."
)
@click.option("--list", "as_list", is_flag=True, help="Show what is hidden.")
@command_options
def command(
    options: Options,
    cache: str,
    hashes: tuple[str, ...],
    run: str | None,
    last_good: str | None,
    as_list: bool,
) -> None:
    """Hide groups of CACHE from every worker until unhide.

    HASH is the beginning of a kernel's, file's, graph's or group's; a kernel takes the graphs with
    it that carry it.

    \b
    Examples:
      casinductor hide H100/bert/v1 3f9c2b
      casinductor hide H100/bert/v1 --run RUN
      casinductor hide H100/bert/v1 --list
    """
    from casinductor.store.maintain.hiding import hide

    if as_list:
        show_hidden(options, cache)
        return
    if sum(map(bool, (hashes, run, last_good))) != 1:
        raise click.UsageError("name what to hide: HASH..., --run or --last-good (one of them)")
    target = options.found(cache)

    def work(store: Store) -> HideReport:
        return hide(store, target.id, _chosen(store, target, hashes, run, last_good))

    report = options.on_store(target.settings, work, fresh=True)
    line = (
        f"{report.cache}: {counted(report.groups, 'group')} hidden from every worker; "
        f"casinductor unhide {cache} {report.manifest} shows them again"
    )
    options.emit(report.as_dict(), [line])


def _chosen(
    store: Store, target: Cache, hashes: tuple[str, ...], run: str | None, last_good: str | None
) -> Callable[[Version], bool]:
    from casinductor.inspect.named import contents_named, published_by, unseen_by
    from casinductor.inspect.view import open_facts

    if run:
        return published_by(store, target.id, run)
    if last_good:
        return unseen_by(store, target.id, last_good)
    with open_facts(target.settings) as facts:
        contents = contents_named(store, facts, target.id, list(hashes))
    return lambda version: version.content in contents


def show_hidden(options: Options, cache: str) -> None:
    """The records of a cache."""
    from casinductor.store.maintain.hiding import hidden_records

    target = options.found(cache)

    def work(store: Store) -> list[Hidden]:
        store.require_there()
        store.refresh(target.id.gpu, target.id.key)
        return hidden_records(store, target.id)

    records = options.on_store(target.settings, work, fresh=True)
    rows = [HiddenLine(r.manifest, sorted(c.hex() for c in r.contents)) for r in records]
    document = [{"manifest": row.manifest, "contents": row.contents} for row in rows]
    options.table(document, f"hidden of {target.id}", _HIDDEN, rows)
