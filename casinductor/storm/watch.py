"""Who leads, as one worker judges it from what it saw itself.

Invariant: a leader lives while its signs move, measured by the clock of whoever looks; of several
the one that leads already comes first, then the one that claimed first.
"""

from __future__ import annotations

from collections.abc import Iterable

from casinductor.store.leads import Lead


class Watch:
    """A look at the claims of workers of one ``kind``; ``lost_after`` so many seconds without a
    sign a leader is dead.
    """

    def __init__(self, kind: str, lost_after: float) -> None:
        self._kind = kind
        self._lost_after = lost_after
        self._seen: dict[str, tuple[int, float]] = {}

    def living(self, leads: Iterable[Lead], now: float) -> list[Lead]:
        """Those that live at ``now`` (monotonic seconds), whoever is to lead first."""
        found = []
        for lead in leads:
            if lead.kind != self._kind or lead.ended:
                continue
            beat, since = self._seen.get(lead.ulid, (-1, now))
            if lead.beat != beat:
                beat, since = lead.beat, now
                self._seen[lead.ulid] = (beat, since)
            if now - since < self._lost_after:
                found.append(lead)
        return sorted(found, key=lambda lead: (lead.beat == 0, lead.ulid))
