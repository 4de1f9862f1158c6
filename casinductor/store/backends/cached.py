"""A backend that reads through a shelf of this host: what another process read is not read again.

Invariant: only what cannot change is taken from the shelf (manifests, marks of use), and a listing
only if it was begun after this process asked for its own, so that it is as good as that.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import msgspec

from casinductor.store.backend import MAX_WHOLE_BYTES, Backend, Listed
from casinductor.store.format import names

_LISTED = msgspec.json.Decoder(list[tuple[str, int]])


class Shelf(Protocol):
    """Notes by name, with the moment of the host's monotonic clock at which they were true."""

    def recall(self, name: str, since: float = 0.0) -> bytes | None: ...

    def remember(self, name: str, note: bytes, moment: float) -> None: ...


class ReadThrough:
    """``backend``, with ``shelf`` in front of its manifests; ``asked``: when this process began."""

    def __init__(self, backend: Backend, shelf: Shelf, asked: float) -> None:
        self.backend = backend
        self._shelf = shelf
        self._asked = asked
        self.recalled_bytes = 0  # bytes of manifests that were not read from the store

    @property
    def url(self) -> str:
        return self.backend.url

    @property
    def staleness(self) -> float:
        return self.backend.staleness

    @property
    def modes(self) -> tuple[str, ...]:
        return self.backend.modes

    @property
    def mode(self) -> str:
        return self.backend.mode

    @mode.setter
    def mode(self, mode: str) -> None:
        self.backend.mode = mode

    @property
    def parallel(self) -> int:
        return self.backend.parallel

    @property
    def there(self) -> bool:
        return self.backend.there

    @property
    def appears_whole(self) -> bool:
        return self.backend.appears_whole

    def probe(self) -> str:
        return self.backend.probe()

    def put(self, name: str, parts: Iterable[bytes], *, durable: bool = True) -> int:
        size = self.backend.put(name, parts, durable=durable)
        if names.parse_use(name) is not None:
            self._note(name, size)
        return size

    def get(self, name: str, limit: int = MAX_WHOLE_BYTES) -> bytes:
        if names.parse_manifest(name) is None:
            return self.backend.get(name, limit)
        known = self._shelf.recall(self._key(name))
        if known is not None and len(known) <= limit:
            self.recalled_bytes += len(known)
            return known
        data = self.backend.get(name, limit)
        self._shelf.remember(self._key(name), data, time.monotonic())
        return data

    def get_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        return self.backend.get_ranges(name, ranges)

    def size(self, name: str) -> int:
        if names.parse_use(name) is None:
            return self.backend.size(name)
        known = self._shelf.recall(self._key(name))
        if known is not None and known.isdigit():
            return int(known)
        size = self.backend.size(name)
        self._note(name, size)
        return size

    def _note(self, name: str, size: int) -> None:
        self._shelf.remember(self._key(name), str(size).encode(), time.monotonic())

    def list_from(self, prefix: str, start: str, most: int) -> list[Listed]:
        return self.backend.list_from(prefix, start, most)

    def list(self, prefix: str, *, recursive: bool = False) -> list[Listed]:
        if recursive or not prefix.startswith(f"{names.MANIFESTS}/"):
            return self.backend.list(prefix, recursive=recursive)
        known = self._shelf.recall(self._key(prefix), since=self._asked)
        if known is not None:
            return [Listed(*item) for item in _LISTED.decode(known)]
        moment = time.monotonic()
        found = self.backend.list(prefix)
        self._shelf.remember(self._key(prefix), msgspec.json.encode(found), moment)
        return found

    def delete(self, name: str) -> None:
        self.backend.delete(name)

    def _key(self, name: str) -> str:
        return f"{self.backend.url}\0{name}"
