"""Manifests: what one sync added to one cache, immutable and complete in itself.

Invariant: a manifest names every blob its groups need and one place of each, all of whose numbers
were checked when it was decoded; it decodes only under the cache and ULID it was sealed for.
Format: ``docs/format.md``, "Manifests".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from casinductor.errors import Damaged
from casinductor.store.format.frame import (
    HASH_BYTES,
    MAX_FRAME_BYTES,
    Codec,
    blake3_digest,
    seal,
    unseal,
)
from casinductor.store.format.names import CacheId
from casinductor.store.format.pack import MAX_BLOB_BYTES

MAGIC = b"CASIMANI"
FORMAT_VERSION = 1


class Artifact(msgspec.Struct, array_like=True, gc=False):
    """One file. ``hash`` is the blake3 of the whole (empty if it is its one blob's); ``blobs``
    index the manifest's blob table in order; ``needed``: a default restore writes it.
    """

    path: str
    mode: int
    size: int
    hash: bytes
    needed: bool
    blobs: list[int]


class Group(msgspec.Struct, array_like=True, gc=False):
    """Artifacts that are valid only together.

    ``id`` says what they are, whoever made them; ``rank`` orders restores; ``origin`` is the ULID
    of the manifest that first published them; ``content`` identifies their bytes;
    ``requires`` indexes the manifest's requirements; ``replaces`` lists the contents that the
    producer had before it changed them; ``about`` is free text for people and tools.
    """

    id: str
    kind: str
    rank: int
    origin: str
    content: bytes
    requires: int
    replaces: list[bytes]
    artifacts: list[Artifact]
    about: dict[str, Any]


class BlobTable(msgspec.Struct, gc=False):
    """The blobs in four columns: 32-byte hashes end to end, frame index, offset and size."""

    hashes: bytes
    frame: list[int]
    offset: list[int]
    size: list[int]

    def hash(self, index: int) -> bytes:
        return self.hashes[index * HASH_BYTES : (index + 1) * HASH_BYTES]


class PackedFrame(msgspec.Struct, array_like=True, gc=False):
    """A frame that holds blobs of this manifest: index of its pack, place and sizes in bytes."""

    pack: int
    offset: int
    stored: int
    raw: int
    codec: int


class PackRef(msgspec.Struct, array_like=True, gc=False):
    """A pack and its size in bytes."""

    ulid: str
    size: int


class Manifest(msgspec.Struct, gc=False):
    """One manifest. ``root`` is the producer's local directory, ``producer`` its fingerprint and
    host, ``replaced`` the ULIDs of the manifests that it stands for after a compaction;
    ``hides``: contents of groups that no worker may see.
    """

    version: int
    ulid: str
    gpu: str
    key: str
    created_ms: int
    root: str
    producer: dict[str, Any]
    replaced: list[str]
    requirements: list[dict[str, Any]]
    packs: list[PackRef]
    frames: list[PackedFrame]
    blobs: BlobTable
    groups: list[Group]
    hides: list[bytes] = []

    @property
    def cache(self) -> CacheId:
        return CacheId(self.gpu, self.key)


def content_of(artifacts: Sequence[tuple[str, int, bytes]]) -> bytes:
    """The 32 bytes that identify a group's content: blake3 over its sorted (path, mode, hash)."""
    lines = (f"{path}\0{mode:o}\0".encode() + digest for path, mode, digest in sorted(artifacts))
    return blake3_digest(b"\n".join(lines))


#: Built at import: msgspec 0.22 crashes where two threads decode a type for the first time.
_DECODER = msgspec.msgpack.Decoder(Manifest)


def encode(manifest: Manifest, codec: Codec = Codec.LZ4) -> bytes:
    return seal(MAGIC, msgspec.msgpack.encode(manifest), codec)


def decode(data: bytes, cache: CacheId, ulid: str, where: str) -> Manifest:
    """A manifest that was listed as ``cache``'s and ``ulid``; ``where`` names it in errors.

    Raises :class:`Damaged` for bad bytes, another manifest's bytes or numbers out of bounds, and
    :class:`~casinductor.errors.StoreFormat` for a later version.
    """
    payload = unseal(MAGIC, data, where)
    try:
        manifest = _DECODER.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged(f"{where} cannot be decoded: {error}") from error
    if (manifest.gpu, manifest.key, manifest.ulid) != (cache.gpu, cache.key, ulid):
        claimed = f"{manifest.gpu}/{manifest.key} as {manifest.ulid}"[:200]
        raise Damaged(f"{where} belongs to {claimed!r}")
    try:
        _check(manifest)
    except (IndexError, ValueError) as error:
        raise Damaged(f"{where} contradicts itself: {error}") from error
    return manifest


def verify(data: bytes, ulid: str, where: str) -> None:
    """Whether ``data`` is still what was sealed as this manifest, without decoding all of it.

    The name stands among the first fields. Raises as :func:`decode` does.
    """
    if ulid.encode() not in unseal(MAGIC, data, where)[:64]:
        raise Damaged(f"{where} is another manifest")


def _check(manifest: Manifest) -> None:
    """Raise ValueError where a number leaves its bounds."""
    packs, frames, blobs = manifest.packs, manifest.frames, manifest.blobs
    for frame in frames:
        _require(0 <= frame.pack < len(packs), "a frame's pack")
        _require(0 <= frame.raw <= MAX_FRAME_BYTES, "a frame's raw size")
        _require(0 <= frame.stored <= 2 * MAX_FRAME_BYTES, "a frame's stored size")
        _require(0 <= frame.offset <= packs[frame.pack].size - frame.stored, "a frame's place")
    count = len(blobs.size)
    _require(len(blobs.hashes) == count * HASH_BYTES, "the blob table")
    _require(len(blobs.frame) == count == len(blobs.offset), "the blob table")
    if count:
        _require(min(blobs.frame) >= 0 and max(blobs.frame) < len(frames), "a blob's frame")
        _require(min(blobs.size) > 0 and max(blobs.size) <= MAX_BLOB_BYTES, "a blob's size")
        rooms = [frame.raw for frame in frames]
        ends = map(int.__add__, blobs.offset, blobs.size)
        left = map(int.__sub__, map(rooms.__getitem__, blobs.frame), ends)
        _require(min(blobs.offset) >= 0 and min(left) >= 0, "a blob's place")
    for group in manifest.groups:
        _require(0 <= group.requires < len(manifest.requirements), "a group's requirement")
        for artifact in group.artifacts:
            numbers = artifact.blobs
            if len(numbers) == 1 and not artifact.hash:  # nearly all, and millions in a large store
                holds = numbers[0] >= 0 and blobs.size[numbers[0]] == artifact.size
                _require(holds, "an artifact's size")
            else:
                _check_artifact(artifact, blobs.size)


def _check_artifact(artifact: Artifact, sizes: list[int]) -> None:
    blobs, digest = artifact.blobs, artifact.hash
    _require(min(blobs, default=0) >= 0, "an artifact's blob")
    _require(sum(map(sizes.__getitem__, blobs)) == artifact.size, "an artifact's size")
    _require(len(digest) == HASH_BYTES or (not digest and len(blobs) == 1), "an artifact's hash")
    _require(bool(blobs) or digest == _EMPTY, "an empty artifact's hash")


_EMPTY = blake3_digest(b"")


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"{what} is out of bounds")
