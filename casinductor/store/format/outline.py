"""Outlines: what a manifest says about its groups, kept a second time in the last pack of a sync.

Invariant: an outline and the footers of packs are enough to make the manifest again; it holds
hashes, not places, so it stays true when blobs move. Format: ``docs/format.md``, "Outlines".
"""

from __future__ import annotations

from typing import Any

import msgspec

from casinductor.errors import Damaged
from casinductor.store.format.frame import HASH_BYTES, split_hashes
from casinductor.store.format.manifest import Artifact, Group

VERSION = 1


class Outline(msgspec.Struct, gc=False):
    """Like a manifest, but artifacts' blobs index the pack's blobs and then ``others``, which are
    32-byte hashes end to end. A group's empty ``origin`` is the manifest that was lost.
    """

    version: int
    gpu: str
    key: str
    root: str
    producer: dict[str, Any]
    requirements: list[dict[str, Any]]
    groups: list[Group]
    others: bytes

    def hashes(self, of_pack: bytes) -> list[bytes]:
        """All hashes that artifacts index, given those of the pack's footer, end to end."""
        joined = of_pack + self.others
        return split_hashes(joined)


class Indexer:
    """Numbers blobs: those of the pack first, others as they come."""

    def __init__(self, of_pack: list[bytes]) -> None:
        self._index = {digest: number for number, digest in enumerate(of_pack)}
        self.others: list[bytes] = []

    def of(self, digest: bytes) -> int:
        known = self._index.get(digest)
        if known is None:
            known = self._index[digest] = len(self._index)
            self.others.append(digest)
        return known

    def artifact(self, artifact: Artifact, hashes: list[bytes]) -> Artifact:
        """A copy of ``artifact`` whose blobs, of these hashes, are numbered here."""
        return Artifact(
            artifact.path,
            artifact.mode,
            artifact.size,
            artifact.hash,
            artifact.needed,
            [self.of(digest) for digest in hashes],
        )


_DECODER = msgspec.msgpack.Decoder(Outline)  # built at import, as two threads must not


def encode(outline: Outline) -> bytes:
    return msgspec.msgpack.encode(outline)


def decode(data: bytes, of_pack: bytes, where: str) -> Outline:
    """An outline and a check of its indexes. Raises :class:`Damaged`, naming ``where``."""
    try:
        outline = _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged(f"the outline in {where} cannot be decoded: {error}") from error
    count = (len(of_pack) + len(outline.others)) // HASH_BYTES
    for group in outline.groups:
        blobs = [index for artifact in group.artifacts for index in artifact.blobs]
        if not 0 <= group.requires < len(outline.requirements) or any(
            not 0 <= index < count for index in blobs
        ):
            raise Damaged(f"the outline in {where} contradicts itself")
    return outline
