"""Notes of what was done to a store as a whole: collections, checks, repairs.

Invariant: notes are told by whoever did it and believed by nobody who deletes; they say when and
with what result, for people and alerts. Losing them loses nothing. Format: ``docs/format.md``,
"Objects".
"""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from casinductor.errors import CasinductorError
from casinductor.store.backend import Backend
from casinductor.store.format import names
from casinductor.store.format.ulid import is_ulid, new_ulid, ulid_ms

KINDS = ("gc", "check", "repair")
#: So many notes of each kind stay.
KEPT = 5
_MAX_BYTES = 64 << 10


@dataclass(frozen=True)
class Chore:
    """What was done, when (Unix milliseconds), how long it took and how many problems it found."""

    kind: str
    done_ms: int
    seconds: float
    problems: int
    host: str = ""


def note_chore(backend: Backend, kind: str, seconds: float, problems: int) -> None:
    """Leave a note and remove old ones of the same kind; a role that may not leaves none."""
    told = {"seconds": seconds, "problems": problems, "host": socket.gethostname()}
    with suppress(CasinductorError):
        backend.put(names.chore(kind, new_ulid()), [json.dumps(told).encode()], durable=False)
        for name in _listed(backend, kind)[KEPT:]:
            backend.delete(name)


def last_chores(backend: Backend) -> dict[str, Chore]:
    """The newest note of each kind that can be read."""
    found: dict[str, Chore] = {}
    for kind in KINDS:
        for name in _listed(backend, kind):
            with suppress(CasinductorError, ValueError, TypeError):
                told: dict[str, Any] = json.loads(backend.get(name, _MAX_BYTES))
                found[kind] = Chore(
                    kind,
                    ulid_ms(_ulid(name)),
                    float(told["seconds"]),
                    int(told["problems"]),
                    str(told.get("host", "")),
                )
                break
    return found


def _listed(backend: Backend, kind: str) -> list[str]:
    """The names of notes of a kind, the newest first."""
    listed = (item.name for item in backend.list(f"{names.CHORES}/"))
    own = [name for name in listed if name.startswith(names.chore(kind, ""))]
    return sorted((name for name in own if is_ulid(_ulid(name))), reverse=True)


def _ulid(name: str) -> str:
    return name.rpartition("-")[2]
