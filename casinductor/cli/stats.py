"""``casinductor stats``: what the caches brought, and what they take.

Invariant: prints the figures of ``inspect.runs`` and ``store.stats`` and nothing computed from
anything else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from casinductor.cli.command import Command, command_options
from casinductor.cli.options import Options
from casinductor.cli.table import Column, byte_count, number, seconds
from casinductor.util.human import counted, duration, size

if TYPE_CHECKING:
    from casinductor.inspect.runs import Tally
    from casinductor.store.stats import Figures


def _percent(value: Any) -> str:
    return "-" if value is None else f"{value:.0%}"


_CACHES = (
    Column("cache"),
    number("warmups", 3),
    number("hits", 2),
    number("misses", 1),
    number("hit_rate", 0, _percent),
    number("saved_seconds", 0, seconds),
    number("own_bytes", 1, byte_count),
    number("shared_bytes", 2, byte_count),
)


@click.command(cls=Command)
@click.argument("cache", required=False)
@command_options
def command(options: Options, cache: str | None) -> None:
    """Show hits, misses, seconds saved and bytes, of all or of CACHE.

    \b
    Examples:
      casinductor stats
      casinductor stats H100/bert/v1 --json
    """
    from casinductor.inspect.accounts import accounts
    from casinductor.inspect.runs import MOST, run_lines, tallies
    from casinductor.inspect.view import open_facts
    from casinductor.store.stats import figures

    target = options.found(cache) if cache else None
    settings = target.settings if target else options.settings()
    chosen = target.id if target else None
    with open_facts(settings) as facts:
        found, lines, rows = options.on_store(
            settings,
            lambda store: (
                figures(store, chosen),
                runs := run_lines(store, facts, chosen),
                accounts(store, runs, chosen),
            ),
        )
    windows = tallies(lines)
    document = {
        **found.as_dict(),
        "warmups": [tally.as_dict() for tally in windows],
        "by_cache": [row.as_dict() for row in rows],
    }
    text = [_use(tally) for tally in windows] + _bytes(found)
    if len(lines) >= MOST:
        text.append(f"  only the newest {MOST:,} warm-ups are counted")
    options.emit(document, [str(chosen or settings.store), *text])
    if not options.as_json and not options.quiet and chosen is None and rows:
        options.emit(None, [""])
        options.table(None, "by cache, over all recorded warm-ups", _CACHES, rows)
    options.warn(found.damage)


def _use(tally: Tally) -> str:
    when = f"last {tally.days} days" if tally.days else "all recorded"
    rate = "" if tally.hit_rate is None else f" ({tally.hit_rate:.0%})"
    looked_up = f"{counted(tally.hits, 'hit')}{rate}, {tally.misses:,} missed"
    times = f"{duration(tally.saved_seconds)} of compiling saved, {duration(tally.spent_seconds)}"
    return (
        f"  {when + ':':15} {counted(tally.warmups, 'warm-up')}, {looked_up}, "
        f"{tally.bypasses:,} bypassed; {times} spent"
    )


def _bytes(found: Figures) -> list[str]:
    what = ", ".join(
        counted(n, noun)
        for n, noun in (
            (found.caches, "cache"),
            (found.groups, "group"),
            (found.artifacts, "artifact"),
            (found.packs, "pack"),
            (found.manifests, "manifest"),
        )
    )
    files = f"{size(found.logical_bytes)} of files ({size(found.unique_bytes)} of them distinct)"
    stored = f"  {'on disk:':15} {size(found.stored_bytes)} for {files}"
    return [stored, f"  {'holds:':15} {what}"]
