"""What programs made once and named themselves: AOTInductor packages, saved caches, engines.

Invariant: a package is one group, a file or a directory with all that is in it, whatever the names;
it is restored only where a program asks for it by name.
"""

from __future__ import annotations

from casinductor.families.family import Family, nowhere
from casinductor.families.place import Fate, Kind, Place

NAME = "packages"


def classify(path: str) -> Place:
    """The place of a file of a package; an empty one is as good as any."""
    return Place(Fate.SHARE, Kind.PACKAGE, path.partition("/")[0], needed=True, mark=True)


#: It lies where :mod:`casinductor.packages` says.
FAMILY = Family(NAME, nowhere, classify, opt_in=True)
