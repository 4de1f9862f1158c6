"""``casinductor pull``: restore a cache into a local directory.

Invariant: only what this worker may load is written; what was refused or lost is said.
"""

from __future__ import annotations

from pathlib import Path

import click

from casinductor.cli.command import (
    Command,
    command_options,
    empty_option,
    family_option,
    python_option,
)
from casinductor.cli.options import Options
from casinductor.util.human import counted


@click.command(cls=Command)
@click.argument("cache")
@click.option(
    "--to",
    "target",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Directory to restore into (default: $CASINDUCTOR_LOCAL_DIR).",
)
@click.option(
    "--restore",
    "mode",
    type=click.Choice(["needed", "all"]),
    help="What a hit needs (default), or everything stored.",
)
@click.option("--deadline", type=float, metavar="SECONDS", help="Give up after this time.")
@family_option
@python_option
@empty_option
@command_options
def command(
    options: Options,
    cache: str,
    target: Path | None,
    mode: str | None,
    deadline: float | None,
    families: tuple[str, ...],
    python: str | None,
    allow_empty: bool,
) -> None:
    """Restore into DIR what it lacks of CACHE.

    \b
    Examples:
      casinductor pull bert/v1
      casinductor pull H100/bert/v1 --to ./cache --restore all
    """
    from casinductor.errors import CacheNotFound, NothingDone, Untrusted
    from casinductor.reports.transfer import not_believed
    from casinductor.settings import parse_restore

    missing = None
    try:
        source = options.found(cache, target, python=python, families=families)
    except CacheNotFound as error:  # it may still lie there as a zip
        source, missing = options.cache(cache, target, python, families), error
    wanted = parse_restore(mode, "--restore") if mode else None
    with options.bar(source, "restoring"):
        report = source.restore(wanted, deadline)
    if report.source == "nothing" and report.untrusted and not allow_empty:
        raise Untrusted(f"{source.id}: {'; '.join(not_believed(report.untrusted))}")
    if report.source == "nothing" and not allow_empty:
        raise missing or CacheNotFound(f"{source.settings.store} holds no cache {source.id}")
    options.emit(report.as_dict(), [report.summary()])
    if options.as_json or options.quiet:
        options.warn([f"{counted(n, 'group')} refused: {why}" for why, n in report.refused.items()])
        options.warn(report.damage)
    if report.refused and not report.groups and not allow_empty:
        raise NothingDone(f"all of {source.id} is refused: {next(iter(report.refused))}")
