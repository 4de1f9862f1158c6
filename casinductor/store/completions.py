"""Marks that a warm-up was complete: what it covered, by its own word, and which groups that took.

Invariant: a mark is a user's word about a set of contents, and holds for every cache that has them
all; one that cannot be read says nothing. Format: ``docs/format.md``, "Objects".
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from casinductor.errors import CasinductorError
from casinductor.store.backend import Backend
from casinductor.store.format.names import CacheId, parse_completion
from casinductor.store.format.ulid import new_ulid

#: Of each content so many bytes are kept.
WIDTH = 8
_MOST_BYTES = 8 << 20
#: So many of the newest marks of a cache are looked at.
_LOOKED_AT = 20


def note(backend: Backend, cache: CacheId, kind: str, label: str, contents: Iterable[bytes]) -> str:
    """Publish that ``label`` is covered by groups of these contents for workers of this ``kind``;
    returns the mark's ULID. Raises what writing raises.
    """
    ulid = new_ulid()
    data = b"".join(sorted(content[:WIDTH] for content in contents))
    backend.put(cache.completion(ulid, kind, label), [data], durable=False)
    return ulid


def covered(
    backend: Backend, cache: CacheId, kind: str, label: str, contents: Iterable[bytes]
) -> str | None:
    """The ULID of a mark by which these contents cover ``label``; None without one. Raises what
    listing raises.
    """
    have = {content[:WIDTH] for content in contents}
    names = []
    for item in backend.list(cache.completions):
        parsed = parse_completion(item.name)
        if parsed is not None and parsed[1:] == (kind, label) and item.size <= _MOST_BYTES:
            names.append((parsed[0], item.name))
    for ulid, name in sorted(names, reverse=True)[:_LOOKED_AT]:
        with suppress(CasinductorError):
            data = backend.get(name, _MOST_BYTES)
            wanted = {data[at : at + WIDTH] for at in range(0, len(data), WIDTH)}
            if wanted and wanted <= have:
                return ulid
    return None
