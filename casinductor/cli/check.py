"""``casinductor check``: does the store hold what its manifests say?

Invariant: nothing in the store is changed, but for a note by request; the exit status is 4 if
anything is wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from casinductor.cli.command import Command, command_options
from casinductor.cli.options import Options
from casinductor.cli.units import Duration, Share
from casinductor.util.human import counted, size

if TYPE_CHECKING:
    from casinductor.store.store import Store
    from casinductor.store.verify.check import CheckReport


@click.command(cls=Command)
@click.option(
    "--data",
    type=Share(),
    default=None,
    metavar="SHARE",
    help="Also read packs that hold this share of all bytes, e.g. 10% or all (default: 0%; "
    "all where only a time is given); those read longest ago come first.",
)
@click.option("--for", "seconds", type=Duration(), help="Stop after this long, e.g. 60s.")
@click.option("--note", is_flag=True, help="Leave a note of the result in the store, for metrics.")
@command_options
def command(options: Options, data: float | None, seconds: float | None, note: bool) -> None:
    """Check manifests, packs and marks, and with --data every byte.

    \b
    Examples:
      casinductor check
      casinductor check --data all
      casinductor check --for 10m
    """
    from casinductor.errors import Damaged
    from casinductor.store.verify.check import check
    from casinductor.store.verify.schedule import verification_log
    from casinductor.store.write.chores import note_chore

    settings = options.settings()
    share = data if data is not None else (1.0 if seconds is not None else 0.0)
    with verification_log(settings) as memory:

        def work(store: Store) -> CheckReport:
            found = check(store, data=share, seconds=seconds, memory=memory)
            if note:
                note_chore(store.backend, "check", found.seconds, len(found.problems))
            return found

        report = options.on_store(settings, work, fresh=True)
    lines = [problem.sentence() for problem in report.problems]
    lines.append(
        f"{report.manifests:,} manifests and {report.packs:,} packs with {report.blobs:,} blobs "
        f"looked at, {report.packs_read:,} packs read ({size(report.bytes_read)}): "
        + (f"{len(report.problems)} problems" if report.problems else "all good")
    )
    for cache, groups in report.orphaned.items():
        lines.append(
            f"{cache}: packs hold {counted(groups, 'group')} that no manifest names, from a sync "
            "that died or because a manifest is gone; repair --from-packs publishes them"
        )
    if report.unreferenced or report.removed or report.condemned:
        lines.append(
            f"gc can remove {report.unreferenced:,} unreferenced packs and {report.removed:,} "
            f"removed manifests; {report.condemned:,} are condemned"
        )
    options.emit(report.as_dict(), lines)
    if report.problems:
        raise Damaged(
            f"{settings.store} has {len(report.problems)} problems; run casinductor repair"
        )
