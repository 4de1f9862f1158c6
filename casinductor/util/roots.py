"""Where artifacts lie on this machine: torch's directory, and one root for each other family.

Invariant: a path of an artifact leads below the one root that its family has; none can lead out of
it, and without a root there is no place for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

import msgspec

from casinductor.errors import HostilePath

#: Stands between a family's name and the path below its root; torch's own paths have neither.
MARK = "!"
#: Stands for the dot that a file's name begins with, as paths in a store must not have one.
DOT = "%2E"


class Roots(msgspec.Struct, frozen=True):
    """``main`` is torch's directory, which also holds what we keep for ourselves; ``others`` the
    roots by family; all absolute. ``torch``: what lies in ``main`` is shared too.
    """

    main: str
    others: Mapping[str, str] = msgspec.field(default_factory=dict)
    torch: bool = True

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """What paths begin with, and the root that they lie below: ``""`` for torch's own."""
        if self.torch:
            yield "", self.main
        for family, root in self.others.items():
            yield family + MARK, root

    def holds(self, path: str) -> bool:
        """Whether a path, or a group's name, is of a family that has a root here."""
        family = split(path)[0].removesuffix(MARK)
        return family in self.others if family else self.torch

    def without(self, family: str) -> Roots:
        """These roots less one."""
        others = {name: root for name, root in self.others.items() if name != family}
        return Roots(self.main, others, self.torch)

    def __str__(self) -> str:
        return self.main


#: One directory, or one for each family.
Where = str | Roots


def roots_of(where: Where) -> Roots:
    return where if isinstance(where, Roots) else Roots(where)


def split(path: str) -> tuple[str, str]:
    """What stands for the family (with its mark, ``""`` for torch), and the path below its root."""
    family, mark, rest = path.partition(MARK)
    return (family + mark, rest) if mark else ("", path)


def root_of(where: Where, path: str) -> str:
    """The root that an artifact's path lies below. Raises :class:`HostilePath`."""
    family = split(path)[0]
    if not family:
        return where if isinstance(where, str) else where.main
    root = roots_of(where).others.get(family.removesuffix(MARK))
    if root is None:
        raise HostilePath(f"path {path[:80]!r} is of a family that has no directory here")
    return root


def locate(where: Where, path: str) -> str:
    """Where the artifact of this path lies, absolute. Raises :class:`HostilePath`."""
    family, rest = split(path)
    if not family:
        return os.path.join(root_of(where, path), path)
    if any(part in ("", ".", "..") for part in rest.split("/")):
        raise HostilePath(f"path {path[:80]!r} leads out of its family's directory")
    folder, slash, name = rest.rpartition("/")
    if name.startswith(DOT):
        name = "." + name.removeprefix(DOT)
        if name.strip(".") == "":
            raise HostilePath(f"path {path[:80]!r} has no name")
    return os.path.join(root_of(where, path), folder + slash + name)
