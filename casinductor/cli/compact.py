"""``casinductor compact``: rewrite a cache as one manifest and long-window zstd packs.

Invariant: what was stored stays stored; old packs go only by the collectors' protocol.
"""

from __future__ import annotations

import time

import click

from casinductor.cli.options import Options, command_options, size


@click.command()
@click.argument("cache")
@click.option("--level", default=12, show_default=True, type=click.IntRange(1, 19))
@click.option(
    "--grace",
    type=float,
    metavar="SECONDS",
    help="How long listings of this store may be stale (default: 0 on a local filesystem, else "
    "600); waited for before old packs are removed.",
)
@command_options
def command(options: Options, cache: str, level: int, grace: float | None) -> None:
    """Merge the manifests of CACHE and compress its packs well."""
    from casinductor.cache import with_store
    from casinductor.store.compact import compact

    target = options.cache(cache)

    def wait(seconds: float) -> None:
        if not options.quiet:
            click.echo(f"waiting {seconds:g} s for other workers' listings", err=True)
        time.sleep(seconds)

    report = with_store(
        target.settings,
        lambda store: compact(store, target.id, level=level, grace=grace, wait=wait),
    )
    line = (
        f"{report.cache}: {size(report.bytes_before)} -> {size(report.bytes_after)}, "
        f"{report.manifests_replaced} manifests and {report.packs_removed} packs replaced"
    )
    options.emit(report.as_dict(), [line])
    options.warn(report.damage)
