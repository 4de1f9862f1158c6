"""Durations and sizes as people write them, on a command line or in a variable.

Invariant: a text that is not understood is a ValueError that says what would be.
"""

from __future__ import annotations

from casinductor.util.pattern import Pattern

_SECONDS = {"": 1.0, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_BYTES = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_DURATION = Pattern(r"(\d+(?:\.\d+)?|\.\d+)\s*([smhdw]?)")
_SIZE = Pattern(r"(\d+(?:\.\d+)?|\.\d+)\s*([kmgt]?)(i?)b?")
_SWITCH = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


def seconds(text: str) -> float:
    """``90``, ``90s``, ``15m``, ``12h``, ``30d`` or ``2w`` in seconds. Raises ValueError."""
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError("write a number of seconds, or for instance 60s, 2m, 12h or 30d")
    return float(match[1]) * _SECONDS[match[2]]


def size(text: str) -> int:
    """``500000``, ``1.5GB``, ``500G`` (powers of 1,000) or ``10GiB`` (of 1,024) in bytes.

    Raises ValueError.
    """
    match = _SIZE.fullmatch(text.strip().lower())
    if match is None or (match[3] and not match[2]):
        raise ValueError("write a number of bytes, or for instance 500MB, 1.5GB or 10GiB")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** _BYTES[match[2]])


def switch(text: str) -> bool:
    """``1``, ``true``, ``yes``, ``on`` and their opposites. Raises ValueError."""
    known = _SWITCH.get(text.strip().lower())
    if known is None:
        raise ValueError("it must be 0 or 1 (true and false, yes and no, on and off mean the same)")
    return known
