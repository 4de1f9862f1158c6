"""The marks that lie beside packs and manifests: condemned, in quarantine, used on a day.

Invariant: a mark is advice that anybody may leave and that is never believed alone where something
would be deleted; a store that cannot be written keeps none, which stops nobody.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable

from casinductor.errors import CasinductorError, NameTaken, StoreUnavailable
from casinductor.store.backend import Backend, Listed
from casinductor.store.format import names
from casinductor.store.format.names import CacheId, Mark
from casinductor.store.format.ulid import is_ulid
from casinductor.store.index.places import Losses, Unusable
from casinductor.store.parallel import begin, map_parallel

#: Restores and syncs within so many seconds leave one mark together.
SLOT_SECONDS = 10


class Marks:
    """The marks of the store behind ``backend``."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def condemned(self) -> set[str]:
        """The packs and manifests that a collector has condemned; ULIDs tell them apart."""
        return _ulids(self._backend.list(f"{names.CONDEMNED}/"))

    def unusable(self) -> tuple[Unusable, set[str]]:
        """What new manifests may not rely on: condemned packs, and marks of failed verification.
        Beside it the ULIDs of the manifests that another worker could not read.
        """
        folders = (names.CONDEMNED, names.QUARANTINE)
        graves, listed = map_parallel(
            lambda folder: self._backend.list(f"{folder}/"), folders, self._backend.parallel
        )
        condemned = _ulids(graves)
        result = Unusable(packs=set(condemned), manifests=condemned)
        unread: set[str] = set()
        for mark in _parsed(listed):
            if mark.manifest:
                unread.add(mark.ulid)
            elif mark.offset is None:
                result.packs.add(mark.ulid)
            else:
                result.frames.add((mark.ulid, mark.offset))
        return result, unread

    def in_quarantine(self) -> list[Mark]:
        """Every mark of failed verification."""
        return _parsed(self._backend.list(f"{names.QUARANTINE}/"))

    def quarantine(self, losses: Losses) -> int:
        """Mark frames that failed verification, so that the next sync stores their blobs anew.

        The pack stays where it is, as its other frames may be the only copies. Returns the number
        of marks.
        """
        written = 0
        for frame, reason in losses.frames.items():
            fields: dict[str, object] = {"frame": list(frame), "reason": reason}
            written += self._leave(Mark(frame.pack, frame.offset), fields)
        return written

    def quarantine_pack(self, ulid: str, reason: str) -> int:
        """Mark a whole pack, whose end or size is wrong. Returns the number of marks."""
        return self._leave(Mark(ulid), {"reason": reason})

    def quarantine_manifest(self, cache: CacheId, ulid: str, reason: str) -> int:
        """Mark a manifest that cannot be read. Returns the number of marks."""
        fields: dict[str, object] = {"cache": str(cache), "reason": reason}
        return self._leave(Mark(ulid, manifest=True), fields)

    def withdraw(self, mark: Mark) -> None:
        """Take away a mark against what can be read."""
        self._backend.delete(mark.name)

    def _leave(self, mark: Mark, fields: dict[str, object]) -> int:
        text = json.dumps({**fields, "found_ms": int(time.time() * 1000)}, sort_keys=True)
        try:
            self._backend.put(mark.name, [text.encode()])
        except NameTaken:
            return 1
        except StoreUnavailable:
            return 0
        return 1

    def note_use(self, cache: CacheId) -> bool:
        """Leave the mark "used in these ten seconds" for retention, unless another worker did.

        Whether it is there now: a worker that may not write leaves none.
        """
        return self.look_for_use(cache)()

    def look_for_use(self, cache: CacheId) -> Callable[[], bool]:
        """Look for that mark, beside the caller where the store answers many at once: that also
        opens a connection that is wanted later. What leaves it where it was missing, and says
        whether it is there now.
        """
        now = int(time.time())
        name = cache.use(slot_of(now - now % SLOT_SECONDS))
        found = begin(lambda: self._is_there(name), self._backend.parallel)
        return lambda: found() or self._note(name)

    def _is_there(self, name: str) -> bool:
        try:
            self._backend.size(name)
        except CasinductorError:
            return False
        return True

    def _note(self, name: str) -> bool:
        try:
            self._backend.put(name, [b""], durable=False)
        except NameTaken:
            return True
        except CasinductorError:
            return False
        return True


def slot_of(seconds: int) -> str:
    """A mark of use for the ten seconds that begin then (Unix time), in UTC."""
    return time.strftime("%Y-%m-%dT%H%M%S", time.gmtime(seconds))


def _parsed(listed: Iterable[Listed]) -> list[Mark]:
    return [mark for item in listed if (mark := names.parse_mark(item.name)) is not None]


def _ulids(listed: Iterable[Listed]) -> set[str]:
    return {u for item in listed if is_ulid(u := item.name.rpartition("/")[2])}
