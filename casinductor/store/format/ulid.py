"""ULIDs: 26 characters that sort by time of creation and are never the same twice.

Invariant: names made by one process strictly increase; across machines 80 random bits keep them
apart, so no name of a pack or manifest is ever reused. Format: github.com/ulid/spec.
"""

from __future__ import annotations

import os
import threading
import time

from casinductor.util.pattern import Pattern

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALID = Pattern(rf"[0-7][{_ALPHABET}]{{25}}")
_lock = threading.Lock()
_last = 0


def new_ulid() -> str:
    """A fresh ULID: 48 bits of milliseconds since 1970, then 80 random bits."""
    global _last
    with _lock:
        fresh = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
        if _last < fresh:
            _last = fresh
        else:  # same millisecond or a clock set back: go on from the last, in random steps
            _last += 1 + int.from_bytes(os.urandom(8), "big")
        value = _last
    return "".join(_ALPHABET[value >> shift & 31] for shift in range(125, -1, -5))


def is_ulid(text: str) -> bool:
    return _VALID.fullmatch(text) is not None


def ulid_ms(ulid: str) -> int:
    """The milliseconds since 1970 that a ULID begins with."""
    value = 0
    for character in ulid[:10]:
        value = value << 5 | _ALPHABET.index(character)
    return value


def _reseed() -> None:
    global _last
    _last = 0


os.register_at_fork(after_in_child=_reseed)


def is_younger_than(ulid: str, seconds: float) -> bool:
    """Whether a name was made so recently; one from the future is not, as some clock is wrong."""
    try:
        age = time.time() - ulid_ms(ulid) / 1000
    except ValueError:
        return False
    return 0 <= age < seconds
