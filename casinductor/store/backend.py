"""What a store asks of the place it lives in: publish whole objects, read, list, delete.

Invariant (the contract every backend's tests check): an object appears whole or not at all, under
a name nobody used before; it never changes afterwards; what ``put`` returned survives a crash of
the machine; a listing may be stale by ``staleness`` seconds but never invents a name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

#: No object that is read whole (manifests, marks) may be larger; packs are read in ranges.
MAX_WHOLE_BYTES = 1 << 30


class Listed(NamedTuple):
    """An object's name relative to the store, and its size in bytes."""

    name: str
    size: int


class Backend(Protocol):
    """The contract. All methods raise :class:`~casinductor.errors.StoreUnavailable` or its kinds:
    ``StoreFull``, ``StoreReadOnly``, ``ObjectMissing``, ``NameTaken``.
    """

    @property
    def url(self) -> str:
        """The address, for messages."""

    @property
    def staleness(self) -> float:
        """Seconds by which a listing or a missing name may be out of date."""

    @property
    def modes(self) -> tuple[str, ...]:
        """The ways to publish that FORMAT may name for such a store."""

    mode: str

    @property
    def parallel(self) -> int:
        """How many requests in flight are worth their memory."""

    @property
    def there(self) -> bool:
        """Whether the place itself exists; a bucket's prefix always does."""

    @property
    def appears_whole(self) -> bool:
        """Whether an object is never seen half written."""

    def probe(self) -> str:
        """Find the mode to publish by, by trying; use it from now on and return it.

        Raises :class:`~casinductor.errors.StoreUnavailable` where no mode would be safe.
        """

    def put(self, name: str, parts: Iterable[bytes], *, durable: bool = True) -> int:
        """Publish the concatenation of ``parts`` under a fresh ``name``; return its bytes.

        If ``parts`` raises, nothing is published. ``NameTaken`` if the name exists, unless it
        holds these very bytes: then the backend may take that for its own success.
        """

    def get(self, name: str, limit: int = MAX_WHOLE_BYTES) -> bytes:
        """The whole object; more than ``limit`` bytes is ``Damaged``."""

    def get_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        """The bytes of each (offset, length), in order; ``Damaged`` past the object's end."""

    def size(self, name: str) -> int:
        """Bytes of the object; ``ObjectMissing`` if there is none."""

    def list_from(self, prefix: str, start: str, most: int) -> list[Listed]:
        """Some objects at any depth under ``prefix``: at most ``most`` of those whose names follow
        ``start``, the nearest first, in an order of the backend's own; the result is sorted.
        """

    def list(self, prefix: str, *, recursive: bool = False) -> list[Listed]:
        """Objects under ``prefix`` (which ends in ``/``), directly or at any depth; sorted."""

    def delete(self, name: str) -> None:
        """Remove the object; no error if it is gone already."""
