"""``casinductor repair``: mend what a check finds, and say what each cache lost.

Invariant: what is given up was read in vain by this very run; nothing whole is deleted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from casinductor.cli.command import Command, command_options, grace_option
from casinductor.cli.options import Options
from casinductor.cli.units import Share
from casinductor.util.human import counted

if TYPE_CHECKING:
    from casinductor.store.store import Store
    from casinductor.store.verify.repair import RepairReport


@click.command(cls=Command)
@click.option(
    "--data", type=Share(), default="0%", metavar="SHARE", help="Verify this share first, e.g. all."
)
@click.option(
    "--from-packs", is_flag=True, help="Also republish groups found only in unreferenced packs."
)
@grace_option
@command_options
def command(options: Options, data: float, from_packs: bool, grace: float | None) -> None:
    """Rebuild what can be rebuilt and quarantine the rest.

    check says beforehand what is wrong.

    \b
    Examples:
      casinductor repair
      casinductor repair --data 100% --from-packs
    """
    from casinductor.store.verify.repair import repair
    from casinductor.store.verify.schedule import verification_log
    from casinductor.store.write.chores import note_chore

    settings = options.settings()
    with verification_log(settings) as memory:

        def work(store: Store) -> RepairReport:
            found = repair(
                store,
                data=data,
                from_packs=from_packs,
                memory=memory,
                grace=grace,
                wait=options.wait,
            )
            note_chore(store.backend, "repair", found.seconds, len(found.lost))
            return found

        report = options.on_store(settings, work, fresh=True)
    lines = [problem.sentence() for problem in report.found.problems]
    lines += report.done
    for cache, groups in report.lost.items():
        lines.append(f"{cache} lost {counted(len(groups), 'group')}: {', '.join(groups[:5])}")
    options.emit(report.as_dict(), lines or ["nothing to repair"])
