"""``casinductor compact``: rewrite a cache as one manifest and long-window zstd packs.

Invariant: what was stored stays stored; old packs go only by the collectors' protocol.
"""

from __future__ import annotations

import click

from casinductor.cli.command import Command, command_options, grace_option
from casinductor.cli.options import Options
from casinductor.util.human import size


@click.command(cls=Command)
@click.argument("cache")
@click.option("--level", default=12, show_default=True, type=click.IntRange(1, 19))
@grace_option
@command_options
def command(options: Options, cache: str, level: int, grace: float | None) -> None:
    """Merge the manifests of CACHE and compress its packs well.

    \b
    Examples:
      casinductor compact H100/bert/v1
      casinductor compact H100/bert/v1 --level 19
    """
    from casinductor.store.maintain.compact import compact

    target = options.found(cache)

    report = options.on_store(
        target.settings,
        lambda store: compact(store, target.id, level=level, grace=grace, wait=options.wait),
        fresh=True,
    )
    line = (
        f"{report.cache}: {size(report.bytes_before)} -> {size(report.bytes_after)}, "
        f"{report.manifests_replaced} manifests and {report.packs_removed} packs replaced"
    )
    options.emit(report.as_dict(), [line])
    options.warn(report.damage)
