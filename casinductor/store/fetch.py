"""Fetches blobs: plans few ranged reads over packs, and hands out only what verifies.

Invariant: every blob that is handed out has the blake3 hash it was asked for by; whatever is
missing or bad is named in :class:`Losses` and never raises. Memory is bounded by the ranges in
flight, whatever the size of the cache.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

from blake3 import blake3

from casinductor.deadline import Deadline
from casinductor.errors import CasinductorError, Damaged, ObjectMissing, StoreUnavailable
from casinductor.store.backend import Backend
from casinductor.store.catalog import Catalog, chunks
from casinductor.store.frame import decompress
from casinductor.store.names import pack as pack_name

#: Frames closer than this are fetched in one request, gap included.
GAP_BYTES = 512 << 10
#: One request asks for no more stored, and no more decompressed, bytes than this.
RANGE_BYTES = 8 << 20
RANGE_RAW_BYTES = 12 << 20
_OPENERS = 2


class FrameRef(NamedTuple):
    """A frame in the store: pack ULID, offset, stored and raw bytes, codec."""

    pack: str
    offset: int
    stored: int
    raw: int
    codec: int


class Located(NamedTuple):
    """A blob in a frame: hash, offset in the raw frame, size."""

    hash: bytes
    offset: int
    size: int


#: A blob in one of its places: pack ULID, offset of the frame, hash.
PlacedBlob = tuple[str, int, bytes]


class Opened(NamedTuple):
    """A decompressed frame, the verified blobs in it, and its stored size."""

    raw: bytes
    blobs: list[Located]
    stored: int


@dataclass
class Losses:
    """What could not be had: blob hashes, packs that are gone, frames that are bad and why, the
    spots (pack, frame offset, blob hash) of both; and ``failures`` of the store, which say
    nothing about what it holds.
    """

    blobs: set[bytes] = field(default_factory=set)
    packs: set[str] = field(default_factory=set)
    frames: dict[FrameRef, str] = field(default_factory=dict)
    spots: set[PlacedBlob] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)


@dataclass
class Unusable:
    """Packs, frames (pack, offset) and spots (pack, frame offset, hash) that must not be relied
    on, and condemned manifests.
    """

    packs: set[str] = field(default_factory=set)
    frames: set[tuple[str, int]] = field(default_factory=set)
    spots: set[PlacedBlob] = field(default_factory=set)
    manifests: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.packs or self.frames or self.spots)

    def bars(self, pack: str, offset: int) -> bool:
        return pack in self.packs or (pack, offset) in self.frames

    def bars_blob(self, pack: str, offset: int, digest: bytes) -> bool:
        return self.bars(pack, offset) or (pack, offset, digest) in self.spots


Plan = dict[FrameRef, list[Located]]


def frame_rows(catalog: Catalog, manifest: int) -> dict[int, FrameRef]:
    """A manifest's frames by index."""
    rows = catalog.db.execute(
        "SELECT f.idx, p.ulid, f.offset, f.stored, f.raw, f.codec FROM frame f"
        " JOIN pack p ON p.manifest = f.manifest AND p.idx = f.pack WHERE f.manifest = ?",
        (manifest,),
    )
    return {row[0]: FrameRef(*row[1:]) for row in rows}


def locate(
    catalog: Catalog,
    hashes: Iterable[bytes],
    unusable: Unusable,
    gpu: str | None = None,
    only: set[str] | None = None,
) -> dict[bytes, tuple[FrameRef, Located]]:
    """A usable place of each blob that the catalog knows, of one GPU type or of any.

    With ``only``, places in other packs than those are passed over.
    """
    found: dict[bytes, tuple[FrameRef, Located]] = {}
    wanted = list(hashes)
    if wanted:
        catalog.index_blobs()
    for some in chunks(wanted):
        marks = ",".join("?" * len(some))
        rows = catalog.db.execute(
            "SELECT b.hash, b.offset, b.size, p.ulid, f.offset, f.stored, f.raw, f.codec"
            " FROM blob b JOIN frame f ON f.manifest = b.manifest AND f.idx = b.frame"
            " JOIN pack p ON p.manifest = b.manifest AND p.idx = f.pack"
            " JOIN manifest m ON m.id = b.manifest"
            f" WHERE b.hash IN ({marks}) AND (? IS NULL OR m.gpu = ?)",
            [*some, gpu, gpu],
        )
        for digest, offset, size, *frame in rows:
            reference = FrameRef(*frame)
            if digest in found or (only is not None and reference.pack not in only):
                continue
            if not unusable.bars_blob(reference.pack, reference.offset, digest):
                found[digest] = (reference, Located(digest, offset, size))
    return found


def fetch(backend: Backend, plan: Plan, losses: Losses, deadline: Deadline) -> Iterator[Opened]:
    """Read, decompress and verify all of ``plan``, in the order of packs and offsets.

    As many threads read ahead as the backend asks for, one at least, while two open frames, so
    that neither waits for the caller. What fails is added to ``losses``. Raises
    :class:`DeadlineExceeded` only.
    """
    requests = _requests(plan)
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
                    reading.append((frames, reader.submit(_read, backend, frames, plan, losses)))
                if not opening:
                    frames, run = reading.popleft()
                    for frame, stored in zip(frames, run.result(), strict=True):
                        if stored is not None:
                            opening.append(
                                openers.submit(_verified, frame, stored, plan[frame], losses)
                            )
                if opening:
                    yield opening.popleft().result()
        finally:
            reader.shutdown(wait=False, cancel_futures=True)
            openers.shutdown(wait=False, cancel_futures=True)


def planned_bytes(plan: Plan) -> int:
    """The stored bytes that :func:`fetch` will ask for, gaps included."""
    return sum(
        frames[-1].offset + frames[-1].stored - frames[0].offset for frames in _requests(plan)
    )


def planned_requests(plan: Plan) -> int:
    """How many ranged reads :func:`fetch` will do."""
    return len(_requests(plan))


def _requests(plan: Plan) -> list[list[FrameRef]]:
    """Runs of frames, each of which one ranged read fetches."""
    requests: list[list[FrameRef]] = []
    raw = 0
    for frame in sorted(plan):
        last = requests[-1] if requests else None
        if (
            last is not None
            and last[-1].pack == frame.pack
            and frame.offset - (last[-1].offset + last[-1].stored) <= GAP_BYTES
            and frame.offset + frame.stored - last[0].offset <= RANGE_BYTES
            and raw + frame.raw <= RANGE_RAW_BYTES
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

    def __init__(self, sentence: str, spots: set[PlacedBlob] | None = None) -> None:
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
        for reference, located in locate(catalog, missing, tried).values():
            plan[reference].append(located)
        for raw, blobs, _ in fetch(backend, plan, losses, Deadline(None)):
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
