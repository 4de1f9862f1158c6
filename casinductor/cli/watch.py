"""``casinductor watch``: shares a cache beside a process that it did not start.

Invariant: ends when it is asked to, after one bounded publication; what fails is said and the
watching goes on.
"""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import click

from casinductor.cli.command import Command, command_options, family_option, python_option
from casinductor.cli.options import Options
from casinductor.cli.run import EVERY, HURRIED_SECONDS


@click.command(cls=Command)
@click.argument("cache")
@EVERY
@click.option(
    "--ready-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Written once the restore is done or has failed.",
)
@family_option
@python_option
@command_options
def command(
    options: Options,
    cache: str,
    every: float,
    ready_file: Path | None,
    families: tuple[str, ...],
    python: str | None,
) -> None:
    """Share CACHE for other processes until SIGTERM or SIGINT.

    \b
    Examples:
      casinductor watch bert/v1 --ready-file /run/ready
      casinductor watch vllm/llama --family vllm --python /opt/vllm/bin/python
    """
    from casinductor.companion.companion import Companion
    from casinductor.errors import LocalDirectory

    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    found = options.cache(cache, None, python, families)
    companion = Companion(found, every, options.tell)
    if not companion.prepare():
        raise LocalDirectory(f"{found.root} cannot be shared")
    if ready_file is not None:
        _announce(ready_file, companion.state)
    companion.start()
    asked.wait()
    companion.finish(HURRIED_SECONDS)


def _announce(path: Path, state: str) -> None:
    """Write the file whole, as somebody waits for it to appear."""
    from casinductor.errors import LocalDirectory

    aside = path.with_name(f".{path.name}.tmp")
    try:
        aside.write_text(f"{state}\n")
        aside.replace(path)
    except OSError as error:
        raise LocalDirectory(f"cannot write {path}: {error.strerror or error}") from error
