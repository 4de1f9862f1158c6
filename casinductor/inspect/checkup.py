"""One finding of ``casinductor doctor``: what was looked at, what was found, what to do.

Invariant: every finding that is not fine says what to do.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

#: ``problem``: workers will fail or recompile; ``warning``: they may; ``advice``: it could be
#: faster.
Status = Literal["ok", "advice", "warning", "problem"]


@dataclass(frozen=True)
class Checkup:
    """See the module; ``name`` is stable, for programs."""

    name: str
    status: Status
    found: str
    advice: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def ok(name: str, found: str) -> Checkup:
    return Checkup(name, "ok", found)
