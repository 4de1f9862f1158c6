"""Fetches blobs: plans few ranged reads over packs, and hands out only what verifies.

Invariant: every blob that is handed out has the blake3 hash it was asked for by; whatever is
missing or bad is named in :class:`Losses` and never raises. Memory is bounded by the ranges in
flight, whatever the size of the cache.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from blake3 import blake3

from casinductor.deadline import UNLIMITED, Deadline
from casinductor.errors import CasinductorError, Damaged, ObjectMissing, StoreUnavailable
from casinductor.store.backend import Backend
from casinductor.store.format.frame import decompress
from casinductor.store.format.names import pack as pack_name
from casinductor.store.index.catalog import Catalog
from casinductor.store.index.places import FrameRef, Located, Losses, Plan, Spot, Unusable
from casinductor.store.parallel import submit

#: Frames closer than this are fetched in one request, gap included.
GAP_BYTES = 512 << 10
#: One request asks for no more stored, and no more decompressed, bytes than this; the latter half
#: where requests follow each other, as there a smaller one costs nothing and takes less memory.
RANGE_BYTES = 8 << 20
RANGE_RAW_BYTES = 12 << 20
_OPENERS = 2


class Opened(NamedTuple):
    """A decompressed frame, the verified blobs in it, and its stored size."""

    raw: bytes
    blobs: list[Located]
    stored: int


def fetch(backend: Backend, plan: Plan, losses: Losses, deadline: Deadline) -> Iterator[Opened]:
    """Read, decompress and verify all of ``plan``, in the order of packs and offsets.

    As many threads read ahead as the backend asks for, one at least, while two open frames, so
    that neither waits for the caller. What fails is added to ``losses``. Raises
    :class:`DeadlineExceeded` only.
    """
    requests = _requests(plan, backend)
    if len(requests) == 1:  # nothing to read ahead of: threads would only cost
        for frame, stored in zip(
            requests[0], _read(backend, requests[0], plan, losses), strict=True
        ):
            deadline.check()
            if stored is not None:
                yield _verified(frame, stored, plan[frame], losses)
        return
    readers = max(1, min(backend.parallel, len(requests)))
    reader = ThreadPoolExecutor(readers, "casinductor-read")
    openers = ThreadPoolExecutor(_OPENERS, "casinductor-open")
    with reader, openers:
        reads = deque(requests)
        reading: deque[tuple[list[FrameRef], Future[list[memoryview | None]]]] = deque()
        opening: deque[Future[Opened]] = deque()
        try:
            while reads or reading or opening:
                deadline.check()
                while reads and len(reading) < max(2, readers):
                    frames = reads.popleft()
                    reading.append((frames, submit(reader, _read, backend, frames, plan, losses)))
                if not opening:
                    frames, run = reading.popleft()
                    for frame, stored in zip(frames, run.result(), strict=True):
                        if stored is not None:
                            opening.append(
                                submit(openers, _verified, frame, stored, plan[frame], losses)
                            )
                if opening:
                    yield opening.popleft().result()
        finally:
            reader.shutdown(wait=False, cancel_futures=True)
            openers.shutdown(wait=False, cancel_futures=True)


def planned_bytes(plan: Plan, backend: Backend) -> int:
    """The stored bytes that :func:`fetch` will ask for, gaps included."""
    return sum(
        frames[-1].offset + frames[-1].stored - frames[0].offset
        for frames in _requests(plan, backend)
    )


def planned_requests(plan: Plan, backend: Backend) -> int:
    """How many ranged reads :func:`fetch` will do."""
    return len(_requests(plan, backend))


def _requests(plan: Plan, backend: Backend) -> list[list[FrameRef]]:
    """Runs of frames, each of which one ranged read fetches."""
    requests: list[list[FrameRef]] = []
    raw, most = 0, RANGE_RAW_BYTES if backend.parallel > 1 else RANGE_RAW_BYTES // 2
    for frame in sorted(plan):
        last = requests[-1] if requests else None
        if (
            last is not None
            and last[-1].pack == frame.pack
            and frame.offset - (last[-1].offset + last[-1].stored) <= GAP_BYTES
            and frame.offset + frame.stored - last[0].offset <= RANGE_BYTES
            and raw + frame.raw <= most
        ):
            last.append(frame)
            raw += frame.raw
        else:
            requests.append([frame])
            raw = frame.raw
    return requests


def _read(
    backend: Backend, frames: list[FrameRef], plan: Plan, losses: Losses
) -> list[memoryview | None]:
    """The stored bytes of each frame of one request; if that fails as a whole, one by one."""
    start = frames[0].offset
    length = frames[-1].offset + frames[-1].stored - start
    name = pack_name(frames[0].pack)
    try:
        run = memoryview(next(iter(backend.get_ranges(name, [(start, length)]))))
    except ObjectMissing:
        losses.packs.add(frames[0].pack)
        for frame in frames:
            _lose_blobs(frame, plan[frame], losses)
        return [None] * len(frames)
    except CasinductorError as error:
        if len(frames) > 1:
            return [part for frame in frames for part in _read(backend, [frame], plan, losses)]
        if isinstance(error, Damaged):
            _lose(frames[0], plan[frames[0]], str(error), losses)
        else:
            losses.failures.append(str(error))
            _lose_blobs(frames[0], plan[frames[0]], losses)
        return [None]
    return [run[f.offset - start : f.offset - start + f.stored] for f in frames]


def _verified(frame: FrameRef, stored: memoryview, blobs: list[Located], losses: Losses) -> Opened:
    try:
        raw = decompress(frame.codec, stored, frame.raw)
    except CasinductorError as error:
        _lose(frame, blobs, str(error), losses)
        return Opened(b"", [], frame.stored)
    view = memoryview(raw)
    good = [b for b in blobs if blake3(view[b[1] : b[1] + b[2]]).digest() == b[0]]
    if len(good) != len(blobs):
        kept = {blob.hash for blob in good}
        bad = [blob for blob in blobs if blob.hash not in kept]
        _lose(frame, bad, f"{len(bad)} of its blobs fail their hash", losses)
    return Opened(raw, good, frame.stored)


def _lose(frame: FrameRef, blobs: list[Located], reason: str, losses: Losses) -> None:
    losses.frames[frame] = reason
    _lose_blobs(frame, blobs, losses)


def _lose_blobs(frame: FrameRef, blobs: list[Located], losses: Losses) -> None:
    losses.blobs.update(blob.hash for blob in blobs)
    losses.spots.update((frame.pack, frame.offset, blob.hash) for blob in blobs)


class BlobsLost(Damaged):
    """Blobs that no place holds; ``spots`` are the places (pack, frame offset, hash) tried."""

    def __init__(self, sentence: str, spots: set[Spot] | None = None) -> None:
        super().__init__(sentence)
        self.spots = spots or set()


def read_blobs(
    backend: Backend, catalog: Catalog, hashes: Iterable[bytes], unusable: Unusable
) -> dict[bytes, bytes]:
    """The bytes of blobs wherever they lie, all in memory; each place that fails has another tried.

    Raises :class:`BlobsLost`, and StoreUnavailable where the store failed instead.
    """
    found: dict[bytes, bytes] = {}
    missing = set(hashes)
    tried = Unusable(set(unusable.packs), set(unusable.frames), set(unusable.spots))
    while missing:
        losses = Losses()
        plan: Plan = defaultdict(list)
        for frame, located, _ in catalog.locate(missing, tried).values():
            plan[frame].append(located)
        for raw, blobs, _ in fetch(backend, plan, losses, UNLIMITED):
            for blob in blobs:
                found[blob.hash] = raw[blob.offset : blob.offset + blob.size]
        if losses.failures:
            raise StoreUnavailable(losses.failures[0])
        missing -= found.keys()
        if not losses.spots - tried.spots:
            break
        tried.spots |= losses.spots
    if missing:
        raise BlobsLost(
            f"{len(missing)} blobs of {backend.url} are missing or bad, so nothing that needs "
            "them can be rewritten",
            tried.spots - unusable.spots,
        )
    return found
