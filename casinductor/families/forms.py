"""Artifacts that hold what is true on one machine only, and the portable forms they are stored in.

Invariant: ``portable(localize(x))`` is ``x``; a path decides alone whether it has such a form.
"""

from __future__ import annotations

from casinductor.families import group_files, ninja_files
from casinductor.util.roots import DOT

#: How the paths of ninja's two files end.
LOG = f"/{DOT}ninja_log"
DEPS = f"/{DOT}ninja_deps"


def has_form(path: str) -> bool:
    """Whether this artifact is stored in another form than it lies on a worker's disk in."""
    return path.endswith((LOG, DEPS)) or group_files.is_group_file(path)


def portable(path: str, data: bytes) -> bytes:
    """The form to store; bytes without one come back unchanged."""
    if path.endswith(LOG):
        return ninja_files.log_at(data, 0)
    if path.endswith(DEPS):
        return ninja_files.deps_at(data, 0)
    return group_files.portable(path, data) if group_files.is_group_file(path) else data


def localize(path: str, data: bytes, root: str, moment: int) -> bytes:
    """The form for a worker whose family's root is ``root``, of files that all get the time
    ``moment`` (nanoseconds since 1970).
    """
    if path.endswith(LOG):
        return ninja_files.log_at(data, moment)
    if path.endswith(DEPS):
        return ninja_files.deps_at(data, moment)
    return group_files.localize(path, data, root) if group_files.is_group_file(path) else data
