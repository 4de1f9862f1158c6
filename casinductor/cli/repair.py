"""``casinductor repair``: mend what a check finds, and say what each cache lost.

Invariant: what is given up was read in vain by this very run; nothing whole is deleted.
"""

from __future__ import annotations

import click

from casinductor.cli.options import Options, command_options, grace_option
from casinductor.cli.units import Share


@click.command()
@click.option(
    "--data", type=Share(), default="0%", metavar="SHARE", help="Read so much first, e.g. all."
)
@click.option(
    "--from-packs", is_flag=True, help="Also publish groups that only unreferenced packs tell of."
)
@grace_option
@command_options
def command(options: Options, data: float, from_packs: bool, grace: float | None) -> None:
    """Rebuild what can be rebuilt, quarantine the rest; check says beforehand what is wrong."""
    from casinductor.cache import check_memory, with_fresh_store
    from casinductor.store.repair import repair

    settings = options.settings()
    with check_memory(settings) as memory:
        report = with_fresh_store(
            settings,
            lambda store: repair(
                store,
                data=data,
                from_packs=from_packs,
                memory=memory,
                grace=grace,
                wait=options.wait,
            ),
        )
    lines = [problem.sentence() for problem in report.found.problems]
    lines += report.done
    for cache, groups in report.lost.items():
        lines.append(f"{cache} lost {len(groups)} groups: {', '.join(groups[:5])}")
    options.emit(report.as_dict(), lines or ["nothing to repair"])
