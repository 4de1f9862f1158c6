"""The components of an entry's key: what torch hashed to find it, as the entry itself tells.

Invariant: components are compared by the digest that torch computed over the value, never by the
text, which may hold addresses that mean nothing. Format: strings ``[digest] name: value``, stored
by torch 2.8 and later (``FxGraphHashDetails.debug_lines`` in ``torch/_inductor/codecache.py``).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from casinductor.inductor.entries import TEXT, Payload, scan

_LINE = re.compile(rb"\[([a-z2-7]{50,52})\] ([^:\n]{1,200}): ")
_SHORTEST = 54
#: What a packed list of components may take in memory once unpacked.
_MAX_UNPACKED = 64 << 20


class Component(NamedTuple):
    """One part of a key: its name, torch's digest of the value, the value as text."""

    name: str
    digest: str
    value: str


def components(data: bytes, payloads: list[Payload] | None = None) -> list[Component]:
    """The components in the order of the entry; those of an aotautograd entry are those of its
    forward graph, then those of its backward graph. Empty before torch 2.8.

    ``payloads`` spares scanning again. Raises ValueError where :func:`scan` does.
    """
    found: list[Component] = []
    for opcode, start, end in scan(data) if payloads is None else payloads:
        if opcode not in TEXT or end - start < _SHORTEST or data[start] != 0x5B:
            continue
        if match := _LINE.match(data, start, end):
            value = data[match.end() : end].decode("utf-8", "replace")
            found.append(Component(match[2].decode("utf-8", "replace"), match[1].decode(), value))
    return found


def graphs(found: list[Component]) -> list[list[Component]]:
    """The components of an aotautograd entry, one list for each graph: a name begins the next."""
    lists: list[list[Component]] = []
    seen: set[str] = set()
    for component in found:
        if not lists or component.name in seen:
            lists.append([])
            seen = set()
        seen.add(component.name)
        lists[-1].append(component)
    return lists


def pack(found: Iterable[Component]) -> bytes:
    """Components as bytes to keep: compressed MessagePack."""
    return zlib.compress(msgspec.msgpack.encode([list(part) for part in found]), 1)


def unpack(data: bytes | None) -> list[Component]:
    """What :func:`pack` made; None and bad bytes give none."""
    try:
        raw = zlib.decompressobj().decompress(data or b"", _MAX_UNPACKED)
        rows = msgspec.msgpack.decode(raw, type=list[tuple[str, str, str]])
    except (zlib.error, msgspec.MsgspecError):
        return []
    return [Component(*row) for row in rows]
