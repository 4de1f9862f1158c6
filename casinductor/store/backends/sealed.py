"""A store in one sealed thing (a bundle, an image): read as it is, or with new objects beside it.

Invariant: the sealed thing itself never changes; what is written lies in a directory beside it
until everything is sealed anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from casinductor.errors import Damaged, NameTaken, ObjectMissing, StoreReadOnly
from casinductor.store.backend import MAX_WHOLE_BYTES, Backend, Listed
from casinductor.store.backends.filesystem import FilesystemBackend
from casinductor.store.format import names

#: Reads (offset, length) ranges of an object.
Reader = Callable[[str, Sequence[tuple[int, int]]], Iterator[bytes]]


class SealedBackend:
    """A store whose objects and their sizes are known, read by ``reader``; nothing can be written.

    ``parallel``: how many requests in flight are worth their memory.
    """

    modes = ("link", "rename", "create", "put", "overwrite")
    staleness = 0.0
    there = True
    appears_whole = True

    def __init__(
        self, url: str, objects: Mapping[str, int], reader: Reader, parallel: int = 1
    ) -> None:
        self.url = url
        self.objects = dict(sorted(objects.items()))
        self.parallel = parallel
        self.mode = "link"
        self._reader = reader

    def probe(self) -> str:
        raise self._refusal(names.FORMAT)

    def put(self, name: str, parts: Iterable[bytes], *, durable: bool = True) -> int:  # noqa: ARG002
        if names.parse_use(name) is not None:
            return 0  # marks of use are for collections, and nothing is ever collected here
        raise self._refusal(name)

    def get(self, name: str, limit: int = MAX_WHOLE_BYTES) -> bytes:
        size = self.size(name)
        if size > limit:
            raise Damaged(f"{self.url}/{name} has {size} bytes, more than the {limit} it may have")
        return b"".join(self._reader(name, [(0, size)]))

    def get_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        size = self.size(name)
        for offset, length in ranges:
            if offset < 0 or length < 0 or offset + length > size:
                raise Damaged(
                    f"{self.url}/{name} ends at byte {size}, before byte {offset + length}"
                )
        return self._reader(name, ranges)

    def size(self, name: str) -> int:
        try:
            return self.objects[name]
        except KeyError:
            raise ObjectMissing(f"there is no {self.url}/{name}") from None

    def list_from(self, prefix: str, start: str, most: int) -> list[Listed]:
        found = (item for item in self.list(prefix, recursive=True) if item.name > start)
        return [item for item, _ in zip(found, range(most), strict=False)]

    def list(self, prefix: str, *, recursive: bool = False) -> list[Listed]:
        return [
            Listed(name, size)
            for name, size in self.objects.items()
            if name.startswith(prefix) and (recursive or "/" not in name[len(prefix) :])
        ]

    def delete(self, name: str) -> None:
        raise self._refusal(name)

    def _refusal(self, name: str) -> StoreReadOnly:
        return StoreReadOnly(f"{self.url} is sealed: {name} is not written; use casinductor copy")


class OpenedBackend:
    """A sealed store with a directory for what is new: all of it is there, and can be sealed."""

    modes = SealedBackend.modes
    staleness = 0.0
    there = True
    appears_whole = True

    def __init__(self, sealed: SealedBackend, beside: FilesystemBackend) -> None:
        self.sealed, self.beside = sealed, beside
        self.mode = "link"

    @property
    def url(self) -> str:
        return self.sealed.url

    @property
    def parallel(self) -> int:
        return self.sealed.parallel

    def probe(self) -> str:
        self.mode = self.beside.probe()
        return self.mode

    def put(self, name: str, parts: Iterable[bytes], *, durable: bool = True) -> int:
        if name in self.sealed.objects:
            raise NameTaken(f"{self.url}/{name} is there already")
        return self.beside.put(name, parts, durable=durable)

    def get(self, name: str, limit: int = MAX_WHOLE_BYTES) -> bytes:
        return self._holder(name).get(name, limit)

    def get_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        return self._holder(name).get_ranges(name, ranges)

    def size(self, name: str) -> int:
        return self._holder(name).size(name)

    def list_from(self, prefix: str, start: str, most: int) -> list[Listed]:
        found = [*self.sealed.list_from(prefix, start, most)]
        found += self.beside.list_from(prefix, start, most)
        return sorted(found)[:most]

    def delete(self, name: str) -> None:
        if name in self.sealed.objects:
            raise StoreReadOnly(f"{self.url} is sealed: {name} is not removed")
        self.beside.delete(name)

    def _holder(self, name: str) -> Backend:
        return self.sealed if name in self.sealed.objects else self.beside

    def added(self) -> list[Listed]:
        """What would be sealed beside what is there: objects of a store, and nothing else."""
        every = self.beside.list("", recursive=True)
        return [item for item in every if is_content(item.name)]

    def list(self, prefix: str, *, recursive: bool = False) -> list[Listed]:
        found = self.sealed.list(prefix, recursive=recursive)
        return sorted([*found, *self.beside.list(prefix, recursive=recursive)])


def is_content(name: str) -> bool:
    """Whether an object belongs into a sealed store: what caches are made of, no marks."""
    return (
        name == names.FORMAT
        or names.parse_manifest(name) is not None
        or names.parse_pack(name) is not None
    )
