"""``casinductor runs``: the warm-ups that workers recorded.

Invariant: a run's name here is what ``explain --run`` and ``hide --run`` take.
"""

from __future__ import annotations

from typing import Any

import click

from casinductor.cli.command import Command, command_options
from casinductor.cli.options import Options
from casinductor.cli.rows import Arrangement, row_options
from casinductor.cli.table import Column, moment, number, seconds, word

_COLUMNS = (
    Column("run"),
    Column("cache", rank=3),
    Column("host", rank=1),
    Column("started_ms", moment, 2),
    number("hits"),
    number("misses"),
    number("bypasses", 5),
    number("kernels_built", 4),
    number("rebuilt", 4),
    number("refused", 6),
    number("lost", 6),
    number("saved_seconds", 1, seconds),
    number("spent_seconds", 3, seconds),
    Column("torch", word, 7),
)


@click.command(cls=Command)
@click.argument("cache", required=False)
@row_options
@command_options
def command(options: Options, cache: str | None, **given: Any) -> None:
    """List recorded warm-ups of all caches or of CACHE, newest first.

    \b
    Examples:
      casinductor runs H100/bert/v1 --limit 20
      casinductor runs --filter "misses>0"
      casinductor explain H100/bert/v1 --run RUN
    """
    from casinductor.inspect.runs import RunLine, run_lines
    from casinductor.inspect.view import open_facts

    arrangement = Arrangement(**given)
    target = options.found(cache) if cache else None
    settings = target.settings if target else options.settings()
    with open_facts(settings) as facts:
        lines = options.on_store(
            settings, lambda store: run_lines(store, facts, target.id if target else None)
        )
    subject = str(target.id) if target else settings.store
    arrangement.show(options, subject, "warm-up", lines, RunLine, _COLUMNS)
