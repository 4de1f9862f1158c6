"""``casinductor gc``: remove what nothing needs, and by request what nobody used for long.

Invariant: without ``--apply`` nothing is changed, and what is shown is what it would do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from casinductor.cli.command import Command, command_options, grace_option
from casinductor.cli.options import Options
from casinductor.cli.units import Duration, Share, Size
from casinductor.util.human import size

if TYPE_CHECKING:
    from casinductor.store.maintain.collect import CollectReport
    from casinductor.store.store import Store


@click.command(cls=Command)
@click.option("--apply", is_flag=True, help="Apply the changes (the default is a dry run).")
@click.option("--keep-within", type=Duration(), help="Keep caches used within this time, e.g. 30d.")
@click.option(
    "--keep-last", type=click.IntRange(min=1), help="Of all others, keep the newest N syncs."
)
@click.option("--max-bytes", type=Size(), help="Evict least recently used caches to fit this.")
@click.option("--keep", multiple=True, metavar="CACHE", help="Always keep; may be a pattern.")
@click.option(
    "--max-unused", type=Share(), default="50%", help="Rewrite packs with more unused than this."
)
@click.option(
    "--spare", type=Duration(), default="10m", help="Leave unreferenced packs younger than this."
)
@grace_option
@command_options
def command(
    options: Options,
    apply: bool,
    keep_within: float | None,
    keep_last: int | None,
    max_bytes: int | None,
    keep: tuple[str, ...],
    max_unused: float,
    spare: float,
    grace: float | None,
) -> None:
    """Remove what nothing needs: a dry run unless --apply is given.

    Without a --keep or --max option no cache loses anything.

    \b
    Examples:
      casinductor gc
      casinductor gc --keep-within 30d --apply
      casinductor gc --max-bytes 500GB --keep 'H100/prod-*' --apply
    """
    from casinductor.errors import Damaged
    from casinductor.store.maintain.collect import collect
    from casinductor.store.maintain.retention import Policy
    from casinductor.store.write.chores import note_chore

    policy = Policy(keep_within, keep_last, max_bytes, keep)

    def work(store: Store) -> CollectReport:
        found = collect(
            store,
            policy,
            apply=apply,
            max_unused=max_unused,
            min_age_seconds=spare,
            grace=grace,
            wait=options.wait,
        )
        if apply:
            note_chore(store.backend, "gc", found.seconds, len(found.problems))
        return found

    report = options.on_store(
        options.settings(),
        work,
        fresh=True,
    )
    lines = [
        f"{cache}: keeps only {why}" if why.startswith("the newest") else f"{cache}: {why}"
        for cache, why in report.caches.items()
    ]
    verb = "removed" if apply else "would remove"
    lines.append(
        f"{verb} {report.packs:,} packs and {report.manifests:,} manifests; "
        f"{size(report.bytes_before)} -> {size(report.bytes_before - report.bytes_freed)}"
    )
    if not apply:
        lines.append("nothing was changed; add --apply to do it")
    options.emit(report.as_dict(), lines)
    options.warn(report.problems)
    if report.problems:
        raise Damaged("some packs could not be emptied and stay; run casinductor repair")
