"""``casinductor resign``: sign what lies in a store unsigned.

Invariant: it vouches for what it signs, so nothing is signed that was not named.
"""

from __future__ import annotations

import click

from casinductor.cli.command import Command, command_options, grace_option
from casinductor.cli.options import Options
from casinductor.util.human import counted


@click.command(cls=Command)
@click.argument("caches", nargs=-1, metavar="[CACHE]...")
@click.option("--all", "everything", is_flag=True, help="Every cache of the store.")
@click.option("--any", "whoever", is_flag=True, help="Also what keys signed that are not trusted.")
@grace_option
@command_options
def command(
    options: Options, caches: tuple[str, ...], everything: bool, whoever: bool, grace: float | None
) -> None:
    """Publish unsigned manifests anew, signed with this worker's key.

    The key is CASINDUCTOR_SIGNING_KEY. Everybody who could write to the store could have made them:
    look first.

    \b
    Examples:
      casinductor resign H100/bert/v1
      casinductor resign --all
    """
    from casinductor.store.format.names import CacheId
    from casinductor.store.maintain.resign import ResignReport, carrying, resign
    from casinductor.store.store import Store

    if bool(caches) == everything:
        raise click.UsageError("name the CACHEs, or give --all")
    settings = options.settings()
    if not settings.signing_key:
        raise click.UsageError("there is no key to sign with: set CASINDUCTOR_SIGNING_KEY")
    named = [options.found(name).id for name in caches]

    def work(store: Store) -> list[ResignReport]:
        store.trust = carrying(store.trust, "any" if whoever else "unsigned")
        chosen: list[CacheId] = store.caches() if everything else named
        return [resign(store, cache, grace=grace, wait=options.wait) for cache in chosen]

    reports = options.on_store(settings, work, fresh=True)
    options.emit(
        [report.as_dict() for report in reports],
        [
            f"{report.cache}: {counted(report.manifests, 'manifest')} signed anew as "
            f"{report.manifest}"
            if report.manifest
            else f"{report.cache}: nothing unsigned"
            for report in reports
        ],
    )
