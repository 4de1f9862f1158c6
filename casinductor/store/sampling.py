"""Looking at some of many things, so that the cost stays flat however many there are.

Invariant: over many looks everything is looked at, as chance decides; one look costs no more than
its budget on average.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import TypeVar

#: How many manifests a sync reads again, and at how many packs it looks, at most; and the bytes of
#: manifests, and of packs' footers, on average.
RECHECKED = 16
RECHECK_BYTES = 64 << 10
T = TypeVar("T")


def sample_within_budget(sized: Iterable[tuple[T, int]], most: int, budget: int) -> list[T]:
    """At most ``most`` of the things, of ``budget`` bytes together on average, by chance.

    ``sized`` pairs things with their bytes; one larger than the budget has its chance too.
    """
    shuffled = list(sized)
    random.shuffle(shuffled)
    chosen: list[T] = []
    left = budget
    for thing, size in shuffled[:most]:
        if size > left:
            if random.random() * size < left:  # noqa: S311 - no secret
                chosen.append(thing)
            break
        chosen.append(thing)
        left -= size
    return chosen
