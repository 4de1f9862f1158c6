"""``casinductor worker``: what decides which artifacts a worker may load, for where no torch is.

Invariant: says what the interpreter has, nothing of the machine that it happens to run on.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from casinductor.cli.command import Command, command_options, output_option, python_option
from casinductor.cli.options import Options, write_file


@click.command(cls=Command)
@output_option("Write it to FILE.json, for --python of a container without torch.")
@python_option
@command_options
def command(options: Options, target: Path | None, python: str | None) -> None:
    """Describe a worker's interpreter: torch, Triton, Python, libc.

    \b
    Examples:
      casinductor worker -o worker.json
      casinductor pull bert/v1 --python worker.json --gpu H100
    """
    import sys

    from casinductor.inductor.interpreter import ask

    told = ask(python or sys.executable).as_dict()
    if target is not None:
        write_file(target, (json.dumps(told, indent=1) + "\n").encode())
    lines = [
        f"{name}: {', '.join(value) if isinstance(value, list) else value}"
        for name, value in told.items()
    ]
    options.emit(told, [f"{target}:", *lines] if target else lines)
