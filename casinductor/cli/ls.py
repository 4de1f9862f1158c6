"""``casinductor ls``: the caches of a store, or the groups of one cache.

Invariant: lists what the manifests say, whether or not this worker could load it.
"""

from __future__ import annotations

from typing import Any

import click

from casinductor.cli.command import Command, command_options
from casinductor.cli.options import Options
from casinductor.cli.rows import Arrangement, row_options
from casinductor.cli.table import Column, byte_count, moment, number, short

_CACHES = (
    Column("cache"),
    number("groups", 2),
    number("artifacts", 3),
    number("logical_bytes", 1, byte_count),
    number("manifests", 4),
    Column("synced_ms", moment, 1),
    Column("used_ms", moment, 2),
)
_GROUPS = (
    Column("id", cut="middle"),
    Column("kind", rank=1),
    number("artifacts", 2),
    number("bytes", 1, byte_count),
    Column("origin", rank=4),
    Column("content", short(12), 3),
)
_KINDS = (
    Column("kind"),
    number("groups"),
    number("artifacts"),
    number("bytes", 0, byte_count),
)


@click.command(cls=Command)
@click.argument("cache", required=False)
@click.option("--by-kind", is_flag=True, help="One line for each kind of artifact.")
@row_options
@command_options
def command(options: Options, cache: str | None, by_kind: bool, **given: Any) -> None:
    """List the caches of the store, or the groups of CACHE.

    \b
    Examples:
      casinductor ls
      casinductor ls --sort used --limit 10
      casinductor ls H100/bert/v1 --by-kind
      casinductor ls H100/bert/v1 --filter kind=triton --sort bytes
    """
    arrangement = Arrangement(**given)
    if by_kind and cache is None:
        raise click.UsageError("--by-kind needs a CACHE")
    if cache is None:
        _caches(options, arrangement)
    else:
        _groups(options, cache, by_kind, arrangement)


def _caches(options: Options, arrangement: Arrangement) -> None:
    from casinductor.store.stats import CacheLine, cache_lines

    settings = options.settings()
    lines = options.on_store(settings, lambda store: cache_lines(store, options.gpu))
    arrangement.show(options, settings.store, "cache", lines, CacheLine, _CACHES)


def _groups(options: Options, cache: str, by_kind: bool, arrangement: Arrangement) -> None:
    from casinductor.store.stats import GroupLine, KindLine, group_lines, kind_lines

    target = options.found(cache)
    lines = options.on_store(target.settings, lambda store: group_lines(store, target.id))
    subject = str(target.id)
    if by_kind:
        arrangement.show(options, subject, "kind", kind_lines(lines), KindLine, _KINDS)
    else:
        arrangement.show(options, subject, "group", lines, GroupLine, _GROUPS)
