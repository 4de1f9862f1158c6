"""What the library says to whoever runs a worker: one line at a time.

Invariant: a program that configured logging gets everything through it, at its own levels; one that
did not still reads each line once, on standard error, unless ``CASINDUCTOR_LOG`` is ``quiet``.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback

logger = logging.getLogger("casinductor")

#: What ``CASINDUCTOR_LOG`` may be, and the least level that is then printed.
LEVELS = {"quiet": logging.CRITICAL, "info": logging.INFO, "debug": logging.DEBUG}
_said_once: set[str] = set()
_silenced = False


def silence() -> None:
    """Print nothing but through logging, for the rest of the process: ``--quiet``."""
    global _silenced
    _silenced = True


def speak_up() -> None:
    """Say everything with tracebacks, here and in processes that this one starts: ``-v``."""
    os.environ["CASINDUCTOR_LOG"] = "debug"


def is_verbose() -> bool:
    """Whether everything is said."""
    return os.environ.get("CASINDUCTOR_LOG") == "debug"


def say(
    message: str,
    level: int = logging.INFO,
    error: BaseException | None = None,
    *,
    once: bool = False,
) -> None:
    """Say one line; with ``error`` also where it came from, ``once`` for a process's whole life."""
    if once:
        if message in _said_once:
            return
        _said_once.add(message)
    if logger.hasHandlers():
        logger.log(level, "%s", message, exc_info=error)
        return
    if _silenced or level < LEVELS.get(os.environ.get("CASINDUCTOR_LOG", ""), logging.INFO):
        return
    name = "" if level <= logging.INFO else f"{logging.getLevelName(level).lower()}: "
    detail = "".join(traceback.format_exception(error)) if error is not None else ""
    print(f"casinductor: {name}{message}", file=sys.stderr)
    if detail:
        print(detail, end="", file=sys.stderr)


def warn(message: str, error: BaseException | None = None, *, once: bool = False) -> None:
    """Say a line that somebody should act on."""
    say(message, logging.WARNING, error, once=once)
