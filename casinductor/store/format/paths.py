"""Which artifact paths and modes a store may ask a worker to write.

Invariant: a path that passes stays below the directory it is joined to, names a plain file, and is
the same on every filesystem; everything else is refused before anything is created.
"""

from __future__ import annotations

from casinductor.errors import HostilePath
from casinductor.util.pattern import Pattern

MODES = (0o644, 0o755)
_BAD = Pattern(r"[\x00-\x1f\x7f\ud800-\udfff]")
_BAD_SIGNS = frozenset('\\:*?"<>|')
_MAX_PATH = 1024
_MAX_PART = 255


def check_path(path: str) -> str:
    """``path`` itself if it is safe; raises :class:`HostilePath` saying what is wrong with it."""
    shown = f"path {path[:80]!r}"
    if not path or len(path.encode("utf-8", "replace")) > _MAX_PATH:
        raise HostilePath(f"{shown} is empty or longer than {_MAX_PATH} bytes")
    bad = not _BAD_SIGNS.isdisjoint(path) or (not path.isprintable() and _BAD.search(path))
    if path.startswith("/") or bad:
        raise HostilePath(f"{shown} is absolute or has a character no artifact's name has")
    # What follows a family's mark is the first part below that family's root.
    for part in path.replace("!", "/", 1).split("/"):
        if part.endswith("!"):
            raise HostilePath(f"{shown} names a family and nothing below it")
        if part in ("", ".", "..") or part.startswith("."):
            raise HostilePath(f"{shown} has an empty part or one that starts with a dot")
        if len(part.encode("utf-8", "replace")) > _MAX_PART:
            raise HostilePath(f"{shown} has a part longer than {_MAX_PART} bytes")
    return path


def check_mode(mode: int, path: str) -> int:
    """``mode`` itself if it is 0644 or 0755; raises :class:`HostilePath`."""
    if mode not in MODES:
        raise HostilePath(f"path {path[:80]!r} has mode {mode:#o}; only 0644 and 0755 are allowed")
    return mode
