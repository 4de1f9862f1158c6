"""``casinductor prune``: keep this worker's local directory below a size.

Invariant: without ``--apply`` nothing is changed, and what is in use is never removed.
"""

from __future__ import annotations

import os
from pathlib import Path

import click

from casinductor.cli.command import Command, command_options
from casinductor.cli.options import Options
from casinductor.cli.units import Size


@click.command(cls=Command)
@click.option(
    "--dir",
    "folder",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The directory (default: $CASINDUCTOR_LOCAL_DIR).",
)
@click.option(
    "--max-bytes", type=Size(), help="The size to fit into (default: $CASINDUCTOR_LOCAL_BYTES)."
)
@click.option("--apply", is_flag=True, help="Apply the changes (the default is a dry run).")
@command_options
def command(options: Options, folder: Path | None, max_bytes: int | None, apply: bool) -> None:
    """Fit the local directory into a size: a dry run unless --apply.

    What was used longest ago goes; the store still has it.

    \b
    Examples:
      casinductor prune --max-bytes 20GB
      casinductor prune --max-bytes 20GB --apply
    """
    from casinductor.errors import LocalDirectory
    from casinductor.pruning import prune

    settings = options.settings(folder)
    limit = max_bytes if max_bytes is not None else settings.local_bytes
    if not limit:
        raise click.UsageError("say a size: --max-bytes, or CASINDUCTOR_LOCAL_BYTES")
    root = os.path.abspath(settings.local_dir)
    if not os.path.isdir(root):
        raise LocalDirectory(f"there is no directory {root}")
    report = prune(root, limit, apply=apply)
    lines = [report.summary()]
    if not apply and report.groups_removed:
        lines.append("nothing was changed; add --apply to do it")
    options.emit(report.as_dict(), lines)
