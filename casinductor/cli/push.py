"""``casinductor push``: publish a local directory as a cache.

Invariant: the directory is only read; everything shareable in it is published that the cache lacks.
"""

from __future__ import annotations

from pathlib import Path

import click

from casinductor.cli.options import Options, command_options, empty_option, python_option


@click.command()
@click.argument("cache")
@click.option(
    "--from",
    "source",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Directory to publish (default: $CASINDUCTOR_LOCAL_DIR).",
)
@click.option(
    "--keep-equivalent",
    is_flag=True,
    help="Also store entries that equal a stored one by key and guards.",
)
@click.option("--deadline", type=float, metavar="SECONDS", help="Give up after this time.")
@python_option
@empty_option
@command_options
def command(
    options: Options,
    cache: str,
    source: Path | None,
    keep_equivalent: bool,
    deadline: float | None,
    python: str | None,
    allow_empty: bool,
) -> None:
    """Publish what DIR holds and CACHE lacks."""
    from casinductor.errors import LocalDirectory, NothingDone

    target = options.cache(cache, source, python)
    if not Path(target.root).is_dir():
        raise LocalDirectory(f"there is no directory {target.root} to publish")
    if target.worker.torch == "none":
        raise click.UsageError(
            "this Python has no torch, and artifacts demand the torch that made them: name its "
            "interpreter with --python"
        )
    with options.bar(target, "publishing"):
        report = target.sync(deadline, keep_equivalent=keep_equivalent)
    options.emit(report.as_dict(), [report.summary()])
    if not report.groups_seen and not allow_empty:
        raise NothingDone(f"{target.root} holds nothing that is shared: is it the right directory?")
