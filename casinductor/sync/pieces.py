"""What a file becomes in a store: the blobs it is cut into, and what is told about it.

Invariant: the blobs of a file, end to end, are the file.
"""

from __future__ import annotations

from typing import Any

from casinductor.inductor.entries import Entry
from casinductor.store.format.frame import blake3_digest
from casinductor.store.format.pack import MAX_BLOB_BYTES, Blob

_ABOUT_GUARDS = 4096


def cut(data: bytes, cuts: list[int]) -> list[Blob]:
    """``data`` as blobs: cut at the given offsets, and where a run exceeds MAX_BLOB_BYTES."""
    blobs = []
    start = 0
    for end in sorted({len(data), *cuts} - {0}):
        for at in range(start, end, MAX_BLOB_BYTES):
            piece = data[at : min(at + MAX_BLOB_BYTES, end)]
            blobs.append(Blob(blake3_digest(piece), piece))
        start = end
    return blobs


def about(entry: Entry | None) -> dict[str, Any]:
    """What the manifest tells of an entry, for people and tools."""
    if entry is None:
        return {}
    told: dict[str, Any] = {"key": entry.key, "compile_ns": entry.compile_ns}
    if entry.guards is None:
        told["opaque"] = entry.reason
    else:
        told["guards"] = entry.guards[:_ABOUT_GUARDS]
    if entry.fx_keys:
        told["fx_keys"] = entry.fx_keys
    if entry.device:
        told["device"] = entry.device
    return told
