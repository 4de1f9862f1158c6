"""Claims to compile for others, and the signs that whoever claimed still lives.

Invariant: every sign has a fresh name, so that any store can hold them; they decide who waits and
nothing else, and nobody deletes anything for them. Format: ``docs/format.md``, "Objects".
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from casinductor.errors import NameTaken, StoreUnavailable
from casinductor.store.backend import Backend
from casinductor.store.format.names import LEAD_ENDED, CacheId, parse_lead


@dataclass(frozen=True)
class Lead:
    """One claim. ``kind``: of which workers; ``team``: the job whose processes compile together;
    ``beat``: its newest sign of life, 0 while it only claims; ``ended``: it was given up or done.
    """

    ulid: str
    kind: str
    team: str
    beat: int = 0
    ended: bool = False


def list_leads(backend: Backend, cache: CacheId) -> list[Lead]:
    """All claims of a cache by their newest signs; a store that is not there has none."""
    found: dict[str, Lead] = {}
    for item in backend.list(cache.leads):
        parsed = parse_lead(item.name)
        if parsed is None:
            continue
        ulid, kind, team, word = parsed
        known = found.get(ulid, Lead(ulid, kind, team))
        ended = known.ended or word == LEAD_ENDED
        beat = known.beat if word == LEAD_ENDED else max(known.beat, int(word))
        found[ulid] = Lead(ulid, kind, team, beat, ended)
    return list(found.values())


def sign(backend: Backend, cache: CacheId, lead: Lead) -> None:
    """Publish what ``lead`` says now; raises what writing raises."""
    word = LEAD_ENDED if lead.ended else str(lead.beat)
    with suppress(NameTaken):  # the reply to an earlier try was lost
        backend.put(cache.lead(lead.ulid, lead.kind, lead.team, word), [b"1"], durable=False)


def forget(backend: Backend, cache: CacheId, lead: Lead, beats: range) -> None:
    """Remove earlier signs, where this worker may."""
    for beat in beats:
        with suppress(StoreUnavailable):
            backend.delete(cache.lead(lead.ulid, lead.kind, lead.team, str(beat)))
