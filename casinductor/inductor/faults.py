"""Faults of torch in which a shared cache gives a worker code that was made for another.

Invariant: a fault is named with the versions in which its cause was seen in torch's source; what is
done about it here is said beside it. ``docs/torch.md`` has the same table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

Version = tuple[int, int]


@dataclass(frozen=True)
class Fault:
    """``issue`` of pytorch/pytorch; ``since`` the first version that has it, ``until`` the first
    that has not (None: none yet); ``what`` happens, and what is ``done`` here.
    """

    issue: int
    since: Version
    until: Version | None
    what: str
    done: str

    def concerns(self, torch: str) -> bool:
        """Whether a torch of this version (``2.13.0+cu130 (…)``) has it."""
        match = re.match(r"(\d+)\.(\d+)", torch)
        if match is None:
            return False
        version = int(match[1]), int(match[2])
        return self.since <= version and (self.until is None or version < self.until)


_BY_RANK = "entries with collectives demand the rank that made them"
FAULTS = (
    Fault(
        188332,
        (2, 11),
        None,
        "bucketed all-gathers: ranks have equal keys and code that differs by rank",
        _BY_RANK,
    ),
    Fault(
        188390,
        (2, 12),
        (2, 14),
        "DTensor: ranks have equal aotautograd keys and code for different devices",
        _BY_RANK,
    ),
    Fault(
        191323,
        (2, 11),
        None,
        "AOT precompile: graphs without a key get a random one, equal in processes of equal seeds",
        "entries of precompile are not published",
    ),
)


def faults_of(torch: str) -> list[Fault]:
    """The known faults of a version."""
    return [fault for fault in FAULTS if fault.concerns(torch)]
