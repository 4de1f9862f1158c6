"""``casinductor doctor``: checks this worker and the store before anyone is surprised.

Invariant: ends with status 1 if there is a problem, 0 otherwise; whatever is wrong says what to do.
"""

from __future__ import annotations

import sys

import click

from casinductor.cli.command import Command, command_options
from casinductor.cli.options import Options

_MARKS = {"ok": "ok", "advice": "advice", "warning": "WARNING", "problem": "PROBLEM"}


@click.command(cls=Command)
@click.argument("cache", required=False)
@command_options
def command(options: Options, cache: str | None) -> None:
    """Check this worker and the store, or what CACHE would restore.

    \b
    Examples:
      casinductor doctor
      casinductor doctor bert/v1 --json
    """
    from casinductor.deadline import Deadline, bounded
    from casinductor.errors import CasinductorError
    from casinductor.inspect.checkup import Checkup
    from casinductor.inspect.storecheck import check_store
    from casinductor.inspect.workercheck import check_worker
    from casinductor.store.opening import with_store

    target = options.found(cache, must=False) if cache else None
    settings = target.settings if target else options.settings()
    chosen = target.id if target else None
    found = check_worker(settings)
    seconds = settings.restore_deadline
    try:
        found += bounded(
            lambda _: with_store(settings, lambda store: check_store(store, chosen, seconds)),
            Deadline(seconds, f"looking at {settings.store}"),
        )
    except CasinductorError as error:
        found.append(Checkup("store", "problem", str(error), "set CASINDUCTOR_STORE or --store"))
    lines = []
    for check in found:
        lines.append(f"{_MARKS[check.status]:8} {check.name}: {check.found}")
        if check.advice:
            lines.append(f"{'':8} -> {check.advice}")
    options.emit([check.as_dict() for check in found], lines)
    if any(check.status == "problem" for check in found):
        sys.exit(1)
