"""Figures for people: bytes and durations in a few characters.

Invariant: what is printed here is never read back by a program; JSON has the exact numbers.
"""

from __future__ import annotations

import textwrap

from casinductor.util.pattern import Pattern


def size(count: int) -> str:
    """Bytes for people: powers of 1,000, as disks are sold."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.2f} {unit}"
        value /= 1000
    return f"{value:.2f} TB"


def counted(count: int, noun: str) -> str:
    """``1 kernel``, ``2 kernels``, ``1,024 entries``."""
    if count == 1:
        return f"1 {noun}"
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {plural}"


def duration(seconds: float) -> str:
    """Seconds, minutes, hours or days, whichever says it shortest."""
    for unit, limit in (("s", 120.0), ("min", 120.0), ("h", 72.0)):
        if seconds < limit:
            return f"{seconds:.1f} {unit}"
        seconds /= 60 if unit != "h" else 24
    return f"{seconds:.1f} d"


def wrapped(text: str, room: int | None, margin: str | None = None) -> str:
    """A line broken between words where it is longer than ``room`` characters; what follows is set
    in by ``margin``, by default a little more than the line itself. None: never broken.
    """
    if room is None or len(text) <= room:
        return text
    if margin is None:
        margin = " " * (len(text) - len(text.lstrip()) + 2)
    return textwrap.fill(
        text,
        room,
        subsequent_indent=margin,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )


_CONTROL = Pattern(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def strip_control(text: str) -> str:
    """Without control characters: a name in a store must not steer a terminal."""
    return _CONTROL.sub("\ufffd", text)
