"""Guards of entries as conditions: which of one entry's do not follow from another's.

Invariant: a condition counts as implied only if that is certain; anything that is not understood
stays.
"""

from __future__ import annotations

import re

_CONJUNCTION = re.compile(r"\s+and\s+")


def failed_guards(stored: str, wanted: str) -> list[str]:
    """The conditions of a stored entry's guards that do not follow from the wanted graph's guards.

    Which of them was false cannot be told without the values; what follows from both held.
    """
    held = _CONJUNCTION.split(wanted)
    bounds = [bound for part in held if (bound := _bound(part))]
    failed = []
    for part in _CONJUNCTION.split(stored):
        bound = _bound(part)
        implied = bound is not None and any(_follows(bound, other) for other in bounds)
        if part and part not in held and not implied:
            failed.append(part)
    return failed


_LOWER = re.compile(r"(-?\d+) (<=?) (.+)|(.+) (>=?) (-?\d+)")
_UPPER = re.compile(r"(.+) (<=?) (-?\d+)|(-?\d+) (>=?) (.+)")
#: An expression of integers, +1 if it is at least and -1 if it is at most, and that number.
Bound = tuple[str, int, int]


def _bound(condition: str) -> Bound | None:
    """``2 <= s0`` and the like; None for any other condition."""
    for sign, pattern in ((1, _LOWER), (-1, _UPPER)):
        match = pattern.fullmatch(condition.strip())
        if match is None:
            continue
        one, comparison, two, three, other, four = match.groups()
        if sign > 0:
            number, expression = (one, two) if one is not None else (four, three)
        else:
            number, expression = (two, one) if one is not None else (three, four)
        strict = (comparison or other) in ("<", ">")
        return expression, sign, int(number) + (sign if strict else 0)
    return None


def _follows(bound: Bound, known: Bound) -> bool:
    expression, sign, number = bound
    return known[:2] == (expression, sign) and sign * known[2] >= sign * number
