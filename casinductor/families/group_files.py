"""Triton's group files hold absolute paths; here they are made portable and local again.

Invariant: ``localize(portable(x), root)`` names the same children below ``root``, byte for byte as
Triton wrote them where ``root`` is the producer's own directory. Format: Triton's
``FileCacheManager.put_group`` writes ``{"child_paths": {name: absolute path}}``.
"""

from __future__ import annotations

import json

from casinductor.util.pattern import Pattern
from casinductor.util.roots import split

#: Stands for the cache directory in a stored group file; torch's own bundle uses the same idea.
PLACEHOLDER = "[casinductor-root]"

_GROUP_FILE = Pattern(r"(?:triton/[^/]+/[^/]+|[a-z_]+!(?:[^/]+/)*[^/]+)/__grp__[^/]+\.json")


def is_group_file(path: str) -> bool:
    """Whether this artifact holds absolute paths of its siblings."""
    return _GROUP_FILE.fullmatch(path) is not None


def portable(path: str, data: bytes) -> bytes:
    """Replace the directory that the children's paths start with by :data:`PLACEHOLDER`.

    Bytes that are not such a group file, or whose children lie elsewhere, come back unchanged.
    """
    parent = _parent(path)
    root = _root(parent, data)
    if root is None:
        return data
    return data.replace(_quoted(root + "/" + parent), _quoted(PLACEHOLDER + "/" + parent))


def localize(path: str, data: bytes, root: str) -> bytes:
    """Put ``root``, an absolute directory, in the place of the placeholder."""
    parent = _parent(path)
    return data.replace(_quoted(PLACEHOLDER + "/" + parent), _quoted(root + "/" + parent))


def missing_children(data: bytes, names: set[str]) -> list[str]:
    """Children that the group file lists and ``names`` (its directory) lacks."""
    return sorted(set(_children(data)) - names)


def _parent(path: str) -> str:
    """The folder of an artifact, as its path below its family's root ends."""
    return split(path)[1].rpartition("/")[0]


def _children(data: bytes) -> dict[str, str]:
    try:
        children = json.loads(data)["child_paths"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    if not isinstance(children, dict):
        return {}
    return {name: path for name, path in children.items() if isinstance(path, str)}


def _root(parent: str, data: bytes) -> str | None:
    """The one directory that all children lie under, at the place that ``parent`` names."""
    roots = set()
    for name, path in _children(data).items():
        ending = f"/{parent}/{name}"
        if not path.endswith(ending):
            return None
        roots.add(path[: -len(ending)])
    return roots.pop() if len(roots) == 1 else None


def _quoted(path: str) -> bytes:
    """A path as it begins a JSON string, with its quote and a closing slash."""
    return (json.dumps(path)[:-1] + "/").encode()
