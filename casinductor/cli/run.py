"""``casinductor run``: restores, runs a command, publishes while it runs and after it.

Invariant: the command's output, signals and exit status are its own; what we say goes to standard
error, and no fault of a store keeps the command from running.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from casinductor.cli.command import Command, command_options, family_option, python_option
from casinductor.cli.options import Options
from casinductor.cli.units import Duration

if TYPE_CHECKING:
    from casinductor.cache import Cache

#: Between Kubernetes' asking a process to end and its killing it pass 30 s.
HURRIED_SECONDS = 20.0


EVERY = click.option(
    "--every",
    type=Duration(),
    default="30s",
    show_default=True,
    metavar="DURATION",
    help="Publish at least so often while more keeps coming.",
)


@click.command(cls=Command)
@click.argument("cache")
@EVERY
@click.option("--assert-warm", is_flag=True, help="Fail with status 10 if anything was compiled.")
@click.option(
    "--complete",
    metavar="LABEL",
    help="COMMAND compiles all that LABEL stands for: mark it so, and tell COMMAND if it is.",
)
@family_option
@python_option
@click.argument("command_line", nargs=-1, type=click.UNPROCESSED, metavar="-- COMMAND...")
@command_options
def command(
    options: Options,
    cache: str,
    every: float,
    assert_warm: bool,
    complete: str | None,
    families: tuple[str, ...],
    python: str | None,
    command_line: tuple[str, ...],
) -> None:
    """Run COMMAND with CACHE restored before and shared meanwhile.

    It publishes what is finished while the command runs and after it ended.

    \b
    Examples:
      casinductor run bert/v1 -- python serve.py
      casinductor run bert/v1 --assert-warm -- python -m pytest tests/warm
    """
    from casinductor.companion.child import Child, status_of
    from casinductor.companion.companion import Companion
    from casinductor.companion.completion import (
        VARIABLE,
        check_label,
        is_complete,
        mark_complete,
    )
    from casinductor.companion.environment import interpreter_of, worker_environment
    from casinductor.errors import Compiled, InvalidName
    from casinductor.observe import spool
    from casinductor.settings import default_state_dir

    if not command_line:
        raise InvalidName("there is no command to run: casinductor run CACHE -- COMMAND")
    label = check_label(complete) if complete else ""
    found = _cache(options, cache, families, python, interpreter_of(command_line[0]))
    companion = Companion(found, every, options.tell)
    usable = companion.prepare()
    environment = worker_environment(os.environ, found.root) if usable else dict(os.environ)
    if usable:
        environment.pop(VARIABLE, None)
        if label and is_complete(found, label):
            environment[VARIABLE] = label
        spool.begin(found.settings.state_dir or default_state_dir(), environment)
    try:
        child = Child(command_line, environment)
    except OSError as error:
        click.echo(f"casinductor: cannot run {command_line[0]}: {error.strerror}", err=True)
        sys.exit(status_of(error))
    if usable:
        companion.start()
    status = child.wait()
    warmup = None
    if usable:
        warmup = companion.finish(HURRIED_SECONDS if child.asked_to_end else None)
        spool.end()
        if label and status == 0 and warmup is not None and VARIABLE not in environment:
            mark_complete(found, label)
    if status == 0 and assert_warm and (warmup is None or warmup.compiled):
        raise Compiled(warmup.summary() if warmup else f"{found.id}: nothing is known of this run")
    sys.exit(status)


def _cache(
    options: Options, key: str, families: tuple[str, ...], python: str | None, guess: str | None
) -> Cache:
    """The cache for workers of ``python``, or of a ``guess`` that may have no torch."""
    from casinductor.errors import InvalidName

    if python is None and guess is not None:
        try:
            return options.cache(key, None, guess, families)
        except InvalidName:
            pass  # the command runs nevertheless
    return options.cache(key, None, python, families)
