"""The backend on an object store: S3 and what speaks its protocol, Google Cloud Storage, Azure.

Invariant: an object is published by one PUT that asks for the name to be free, and a reply that
was lost is never taken for a failure or a success before the object was read back. A server that
ignores the question is known by the probe; there names are asked for first, which is enough, as
``docs/objects.md`` shows. Memory is bounded by one pack while writing, one range while reading.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, TypeVar

from casinductor.errors import (
    Damaged,
    NameTaken,
    ObjectMissing,
    StoreUnavailable,
)
from casinductor.store.backend import MAX_WHOLE_BYTES, Listed
from casinductor.store.backends.client_errors import broken_off, client_error
from casinductor.store.format.ulid import new_ulid
from casinductor.store.parallel import start_background

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore

T = TypeVar("T")

#: What was written is compared in pieces of this size when a reply was lost.
_COMPARE_BYTES = 8 << 20
#: Requests in flight at once: one connection to S3 gives some 90 MB/s, a worker's link more.
_PARALLEL = 8
_READS = 3
#: Names that a listing from the middle may have to pass over.
_PASSED = 10_000
_NO_CONDITIONS = ("501 ", "NotImplemented", "400 ")

_NO_RANGES = "non-partial response"

_owner: int | None = None


class ObjectBackend:
    """A store below a bucket's or container's prefix.

    ``reader`` and ``writer`` are the same place with the time limits of small and large requests;
    ``url`` names it without secrets; no write is tried anew after ``patience`` seconds.
    """

    modes = ("put", "overwrite")
    staleness = 0.0  # S3, GCS, Azure and all servers of docs/objects.md list what was just put
    parallel = _PARALLEL
    appears_whole = True
    there = True  # a prefix needs no making

    def __init__(self, url: str, reader: ObjectStore, writer: ObjectStore, patience: float) -> None:
        self.url = url
        self.mode = "put"
        self._reader = reader
        self._writer = writer
        self._patience = patience

    def put(self, name: str, parts: Iterable[bytes], *, durable: bool = True) -> int:
        del durable  # what an object store acknowledged is durable
        data = bytearray()
        for part in parts:
            data += part
        body = memoryview(data)
        self._guard()
        if self.mode == "overwrite" and self._there(name):
            raise NameTaken(f"{self._where(name)} exists already")
        until = time.monotonic() + self._patience
        for pause in (0.1, 0.5, 2.0, None):
            try:
                return self._put_once(name, body)
            except _Unsure as unsure:
                error = unsure.error
                if pause is None or time.monotonic() > until:
                    break
                time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
        raise client_error(error, "writing", self._where(name), writing=True) from error

    def _put_once(self, name: str, body: memoryview) -> int:
        """One PUT; raises :class:`_Unsure` where nothing is known of its outcome."""
        import obstore

        mode: Literal["create", "overwrite"] = "create" if self.mode == "put" else "overwrite"
        try:
            obstore.put(self._writer, name, body, mode=mode, use_multipart=False)
        except Exception as error:
            # The server may have acted although its answer was lost, even on the retry it refused.
            there = self._compare(name, body)
            taken = isinstance(error, obstore.exceptions.AlreadyExistsError)
            if there is False or (taken and there is None):
                raise NameTaken(f"{self._where(name)} exists already") from error
            if there is None and isinstance(error, obstore.exceptions.GenericError):
                raise _Unsure(error) from error
            if there is None:
                raise client_error(error, "writing", self._where(name), writing=True) from error
        return len(body)

    def get(self, name: str, limit: int = MAX_WHOLE_BYTES) -> bytes:
        import obstore

        def read() -> bytes:
            found = obstore.get(self._reader, name)
            size = found.meta["size"]
            if size > limit:
                where = self._where(name)
                raise Damaged(f"{where} has {size} bytes, more than the {limit} it may have")
            return found.bytes().to_bytes()

        return self._again(read, "reading", name)

    def get_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        for offset, length in ranges:
            if offset < 0 or length < 0:
                raise Damaged(f"{self._where(name)} has no byte {offset}")
            yield self._range(name, offset, length) if length else self._nothing(name, offset)

    def _range(self, name: str, offset: int, length: int) -> bytes:
        import obstore

        def read() -> bytes:
            return obstore.get_range(self._reader, name, start=offset, length=length).to_bytes()

        try:
            data = self._again(read, "reading", name)
        except StoreUnavailable as error:
            if "416" in str(error):
                raise self._too_short(name, offset + length) from error
            if _NO_RANGES not in str(error):
                raise
            data = self.get(name)[offset : offset + length]  # HTTP lets a server ignore ranges
        if len(data) != length:
            raise self._too_short(name, offset + length)
        return data

    def _nothing(self, name: str, offset: int) -> bytes:
        if offset > self.size(name):
            raise self._too_short(name, offset)
        return b""

    def size(self, name: str) -> int:
        import obstore

        return self._again(lambda: obstore.head(self._reader, name)["size"], "reading", name)

    def list_from(self, prefix: str, start: str, most: int) -> list[Listed]:
        import obstore

        def read() -> list[Listed]:
            pages = obstore.list(self._reader, prefix.rstrip("/"), offset=start, chunk_size=1000)
            found: list[Listed] = []
            passed = 0
            for page in pages:  # some servers begin at the beginning all the same
                passed += len(page)
                found += [item for item in _below(prefix, page) if item.name > start]
                if len(found) >= most or passed >= _PASSED:
                    break
            return found[:most]

        return sorted(self._again(read, "listing", prefix))

    def list(self, prefix: str, *, recursive: bool = False) -> list[Listed]:
        import obstore

        folder = prefix.rstrip("/")

        def read() -> list[Listed]:
            if recursive:
                pages = obstore.list(self._reader, folder, chunk_size=1000)
                return [item for page in pages for item in _below(prefix, page)]
            return _below(prefix, obstore.list_with_delimiter(self._reader, folder)["objects"])

        return sorted(self._again(read, "listing", prefix))

    def delete(self, name: str) -> None:
        import obstore

        self._guard()
        try:
            with suppress(FileNotFoundError):
                obstore.delete(self._writer, name)
        except Exception as error:
            raise client_error(error, "deleting", self._where(name), writing=True) from error

    def probe(self) -> str:
        """Find out whether the server keeps a second writer from a name, by trying.

        Some do not and say nothing (``docs/objects.md`` lists them): there the mode is
        ``overwrite``.
        """
        name = f"probes/{new_ulid()}"
        self.mode = "put"
        try:
            self.put(name, [b"first"])
        except StoreUnavailable as error:
            if not any(sign in str(error) for sign in _NO_CONDITIONS):
                raise
            self.mode = "overwrite"
            return self.mode
        try:
            self.put(name, [b"another"])  # of another size: where it is refused, put has compared
            self.mode = "overwrite"
        except NameTaken:
            pass
        except StoreUnavailable as error:
            if not any(sign in str(error) for sign in _NO_CONDITIONS):
                raise
            self.mode = "overwrite"
        finally:
            start_background(lambda: self._tidy(name), self.parallel)
        return self.mode

    def _tidy(self, name: str) -> None:
        with suppress(StoreUnavailable):
            self.delete(name)

    def _there(self, name: str) -> bool:
        try:
            self.size(name)
        except ObjectMissing:
            return False
        return True

    def _compare(self, name: str, body: memoryview) -> bool | None:
        """Whether the object has these very bytes; None if it is absent or cannot be read."""
        try:
            if self.size(name) != len(body):
                return False
            for start in range(0, len(body), _COMPARE_BYTES):
                piece = body[start : start + _COMPARE_BYTES]
                if self._range(name, start, len(piece)) != piece:
                    return False
        except (StoreUnavailable, Damaged):
            return None
        return True

    def _again(self, read: Callable[[], T], doing: str, name: str) -> T:
        """Read, and once more where a body broke off, which the client does not retry."""
        self._guard()
        for left in reversed(range(_READS)):
            try:
                return read()
            except Damaged:
                raise
            except Exception as error:
                failure = client_error(error, doing, self._where(name))
                if not left or not isinstance(error, broken_off()):
                    raise failure from error
        raise AssertionError("unreachable")

    def _guard(self) -> None:
        """Refuse in a forked child: the client's threads stayed in the parent, calls hang."""
        global _owner
        if _owner is None:
            _owner = os.getpid()
        if _owner != os.getpid():
            raise StoreUnavailable(
                f"{self.url} cannot be used in a process forked after its parent used an object "
                "store; start workers with spawn"
            )

    def _too_short(self, name: str, end: int) -> Damaged:
        return Damaged(f"{self._where(name)} ends before byte {end}")

    def _where(self, name: str) -> str:
        base, _, query = self.url.partition("?")
        return f"{base}/{name}" + (f" at {query}" if query else "")


class _Unsure(Exception):
    """A write that failed as networks do; ``error`` is what the client raised."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def _below(prefix: str, page: Sequence[ObjectMeta]) -> list[Listed]:
    """The objects of a listing; some servers also list a folder that was emptied."""
    return [Listed(m["path"], m["size"]) for m in page if m["path"].startswith(prefix)]
