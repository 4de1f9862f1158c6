"""Finds a cache by what people call it, and says what there is where nothing has that name.

Invariant: a name that the store holds as it stands always means that cache; nothing is guessed, a
guess is only offered.
"""

from __future__ import annotations

from difflib import get_close_matches

from casinductor.errors import CacheNotFound, InvalidName
from casinductor.store.backend import Backend
from casinductor.store.format import names
from casinductor.store.format.names import CacheId

_OFFERED = 3


def find_cache(backend: Backend, name: str, gpu: str) -> CacheId:
    """The cache ``KEY`` of a GPU type, or the one that a listing calls ``GPU/KEY``.

    Raises :class:`CacheNotFound` with what is there instead, and :class:`InvalidName`.
    """
    candidates = [CacheId(gpu, name)]
    first, separator, rest = name.partition("/")
    if separator:
        candidates.append(CacheId(first, rest))
    for cache in candidates:
        if backend.list(cache.manifests):
            return cache
    raise not_found(backend, candidates[0], *candidates[1:])


def not_found(backend: Backend, *wanted: CacheId) -> CacheNotFound:
    """That there is no cache of the first of these names, and what may have been meant."""
    sentence = f"{backend.url} holds no cache {wanted[0]}"
    hint = _hint(caches_there(backend), wanted)
    return CacheNotFound(f"{sentence}; {hint}" if hint else sentence)


def caches_there(backend: Backend) -> list[CacheId]:
    """Every cache that has a manifest, by name."""
    listed = backend.list(f"{names.MANIFESTS}/", recursive=True)
    parsed = (names.parse_manifest(item.name) for item in listed)
    return sorted({found[0] for found in parsed if found})


def own_key(name: str, gpu: str) -> str:
    """The key that a name of this GPU type's listing stands for: ``GPU/KEY`` or ``KEY``."""
    rest = name.removeprefix(f"{gpu}/")
    try:
        return CacheId(gpu, rest).key
    except InvalidName:
        return name


def _hint(there: list[CacheId], wanted: tuple[CacheId, ...]) -> str:
    if not there:
        return "it holds none"
    for cache in wanted:
        same = [c for c in there if str(c).casefold() == str(cache).casefold()]
        if same:
            return f"did you mean {same[0]}?"
    others = [c.gpu for c in there if c.key in {cache.key for cache in wanted}]
    if others:
        verb = "has" if len(others) == 1 else "have"
        return f"{', '.join(others[:_OFFERED])} {verb} it (--gpu {others[0]}, or {others[0]}/KEY)"
    known = [str(c) for c in there]
    close = [m for c in wanted for m in get_close_matches(str(c), known, _OFFERED, 0.75)]
    if close:
        return f"did you mean {' or '.join(dict.fromkeys(close))}?"
    shown = ", ".join(known[:_OFFERED]) + (", …" if len(known) > _OFFERED else "")
    return f"it holds {shown}"
