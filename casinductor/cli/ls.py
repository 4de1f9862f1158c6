"""``casinductor ls``: the caches of a store, or the groups of one cache.

Invariant: lists what the manifests say, whether or not this worker could load it.
"""

from __future__ import annotations

import time

import click

from casinductor.cli.options import Options, command_options
from casinductor.util.human import size


@click.command()
@click.argument("cache", required=False)
@command_options
def command(options: Options, cache: str | None) -> None:
    """List the caches of the store, or the groups of CACHE."""
    if cache is None:
        _caches(options)
    else:
        _groups(options, cache)


def _caches(options: Options) -> None:
    from casinductor.store.opening import with_store
    from casinductor.store.stats import cache_lines

    settings = options.settings()
    lines = with_store(settings, lambda store: cache_lines(store, options.gpu))
    rows = [
        [
            f"{line.gpu}/{line.key}",
            f"{line.groups:,}",
            f"{line.artifacts:,}",
            size(line.logical_bytes),
            f"{line.manifests:,}",
            time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(line.synced_ms / 1000)),
        ]
        for line in lines
    ]
    columns = ["cache", "groups", "artifacts", "logical", "manifests", "last sync"]
    options.table([line.as_dict() for line in lines], settings.store, columns, rows)


def _groups(options: Options, cache: str) -> None:
    from casinductor.store.opening import with_store
    from casinductor.store.stats import group_lines

    target = options.cache(cache)
    lines = with_store(target.settings, lambda store: group_lines(store, target.id))
    rows = [
        [line.id, line.kind, f"{line.artifacts}", size(line.bytes), line.origin] for line in lines
    ]
    columns = ["group", "kind", "artifacts", "bytes", "origin"]
    options.table([line.as_dict() for line in lines], str(target.id), columns, rows)
