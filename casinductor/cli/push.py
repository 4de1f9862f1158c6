"""``casinductor push``: publish a local directory as a cache.

Invariant: the directory is only read; everything shareable in it is published that the cache lacks.
"""

from __future__ import annotations

from pathlib import Path

import click

from casinductor.cli.command import (
    Command,
    command_options,
    empty_option,
    family_option,
    python_option,
)
from casinductor.cli.options import Options


@click.command(cls=Command)
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
@family_option
@python_option
@empty_option
@command_options
def command(
    options: Options,
    cache: str,
    source: Path | None,
    keep_equivalent: bool,
    deadline: float | None,
    families: tuple[str, ...],
    python: str | None,
    allow_empty: bool,
) -> None:
    """Publish what DIR holds and CACHE lacks.

    \b
    Examples:
      casinductor push bert/v1
      casinductor push bert/v1 --from /tmp/inductor-cache
      casinductor push vllm/llama --family vllm
    """
    from casinductor.errors import LocalDirectory, NothingDone, Untrusted
    from casinductor.settings import default_state_dir
    from casinductor.store.backends.writing import writable

    target = options.cache(cache, source, python, families)
    folders = [root for _, root in target.directories.published(loaded=False)]
    if not any(Path(folder).is_dir() for folder in folders):
        raise LocalDirectory(f"there is no directory {', '.join(folders)} to publish")
    if target.worker.torch == "none":
        raise click.UsageError(
            "this Python has no torch, and artifacts demand the torch that made them: name its "
            "interpreter with --python"
        )
    with (
        writable(target.settings.store, target.settings.state_dir or default_state_dir()),
        options.bar(target, "publishing"),
    ):
        report = target.sync(deadline, keep_equivalent=keep_equivalent)
    options.emit(report.as_dict(), [report.summary()])
    if report.withheld:
        raise Untrusted(f"{report.cache}: {report.withheld}")
    if not report.groups_seen and not allow_empty:
        raise NothingDone(
            f"{', '.join(folders)}: nothing in it is shared. Is it the right directory, and of the "
            "right family (--family, docs/families.md)?"
        )
