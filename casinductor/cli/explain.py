"""``casinductor explain``: why graphs missed, the most likely cause first and what to do about it.

Invariant: works from what is stored; says so where the cause cannot be known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from casinductor.cli.command import Command, command_options
from casinductor.cli.options import Options

if TYPE_CHECKING:
    from casinductor.inspect.explain import Explanation
    from casinductor.inspect.facts import Facts
    from casinductor.inspect.graphs import Graph
    from casinductor.store.store import Store

_SHOWN = 12


@click.command(cls=Command)
@click.argument("what", metavar="A")
@click.argument("against", metavar="[B]", required=False)
@click.option("--worker", metavar="HOST", help="The last warm-up of this worker.")
@click.option("--run", "run", metavar="ULID", help="The warm-up of this name.")
@command_options
def command(
    options: Options, what: str, against: str | None, worker: str | None, run: str | None
) -> None:
    """Explain what missed in a warm-up, or why A misses B.

    With one name the last warm-up of that cache is explained. A and B are caches, directories, or
    beginnings of entries' keys.

    \b
    Examples:
      casinductor explain H100/bert/v1
      casinductor explain H100/bert/v1 --run RUN
      casinductor explain /tmp/inductor-cache H100/bert/v1
    """
    from casinductor.inspect.explain import explain_run, last_run
    from casinductor.inspect.view import open_facts

    settings = options.settings()
    with open_facts(settings) as facts:

        def work(store: Store) -> Explanation:
            if against is None:
                cache = options.found(what).id
                record, report = last_run(store, cache, worker, run)
                return explain_run(store, facts, record, report)
            return _compare(options, store, facts, what, against)

        found = options.on_store(settings, work)
    options.emit(found.as_dict(), _lines(found))


def _compare(options: Options, store: Store, facts: Facts, what: str, against: str) -> Explanation:
    from casinductor.inspect.explain import explain_pair, explain_sets

    wanted, stored = (_graphs(options, store, facts, text) for text in (what, against))
    subject = f"why {what} does not hit {against}"
    if len(wanted) == 1 and len(stored) == 1:
        return explain_pair(wanted[0], stored[0], subject)
    return explain_sets(wanted, stored, subject)


def _graphs(options: Options, store: Store, facts: Facts, text: str) -> list[Graph]:
    """The entries of a selection, or the one whose key begins so."""
    from casinductor.errors import CacheNotFound
    from casinductor.inspect.selection import graphs_of, select
    from casinductor.inspect.show import entries_named

    gpu = options.gpu_type()
    try:
        return graphs_of(store, facts, select(store, text, gpu))
    except CacheNotFound:
        found = entries_named(store, facts, text)
        if not found:
            raise
        return found


def _lines(found: Explanation) -> list[str]:
    lines = [found.run.summary() if found.run else found.subject]
    if not found.causes:
        return [*lines, "Nothing missed and nothing was rebuilt."]
    for number, cause in enumerate(found.causes[:_SHOWN], 1):
        what = _what(cause.explains)
        lines += ["", f"{number}. {cause.text}"]
        if what:
            lines.append(f"   explains {what}")
        if cause.nearest:
            lines.append(f"   compared with {cause.nearest}")
        lines.append(f"   What to do: {cause.advice}")
    if len(found.causes) > _SHOWN:
        lines += ["", f"and {len(found.causes) - _SHOWN} causes that explain less (--json has all)"]
    return lines


def _what(names: list[str]) -> str:
    shown = ", ".join(name[:12] if "/" not in name else name for name in names[:3])
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")
