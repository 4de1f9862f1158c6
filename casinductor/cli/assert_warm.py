"""``casinductor assert-warm``: whether a worker found everything in the cache, for CI and canaries.

Invariant: works from the record that the worker left; a run of which nothing is known is not warm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from casinductor.cli.command import Command, command_options
from casinductor.cli.options import Options

if TYPE_CHECKING:
    from casinductor.reports.warmup import WarmupReport

_SHOWN = 12


@click.command(cls=Command)
@click.argument("cache")
@click.option("--worker", metavar="HOST", help="The last warm-up of this worker.")
@click.option("--run", "run", metavar="ULID", help="The warm-up of this name.")
@command_options
def command(options: Options, cache: str, worker: str | None, run: str | None) -> None:
    """Fail with status 10 if CACHE's last warm-up compiled anything.

    What was compiled is named.

    \b
    Examples:
      casinductor assert-warm H100/bert/v1
      casinductor assert-warm bert/v1 --worker pod-7
    """
    from casinductor.errors import Compiled
    from casinductor.inspect.explain import last_run

    found = options.found(cache)
    record, report = options.on_store(
        found.settings, lambda store: last_run(store, found.id, worker, run)
    )
    named = _compiled(report)
    document = {**report.as_dict(), "record": record.ulid, "compiled": named}
    options.emit(document, [f"{record.ulid}: {report.summary()}", *named[:_SHOWN]])
    if report.compiled:
        told = ", ".join(named[:3]) or "see its record"
        raise Compiled(f"{found.id}: the warm-up {record.ulid} compiled: {told}")


def _compiled(report: WarmupReport) -> list[str]:
    """Each graph that missed and each kernel that was built although its graph hit."""
    graphs = [f"{h.cache} {h.status} {h.key}" for h in report.happened if h.status != "hit"]
    return [*graphs, *(f"{item.kind} {item.path}: {item.why}" for item in report.rebuilt)]
