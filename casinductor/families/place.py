"""Where a path stands: its family, kind, group, order and fate.

Invariant: a kind has one rank, so that all workers restore in one order; what no rule knows has the
fate ``UNKNOWN`` and is never shared.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple


class Fate(Enum):
    """Whether a file is shared, and if not, why."""

    SHARE = "share"
    JUNK = "junk"
    PRODUCT = "product"
    UNKNOWN = "unknown"


class Kind(str, Enum):
    """The kinds of artifacts."""

    CPP = "cpp"
    TUNING = "best_config"
    DECISIONS = "decisions"
    FXGRAPH = "fxgraph"
    AOTAUTOGRAD = "aotautograd"
    MODULE = "module"
    TRITON = "triton"
    KERNEL = "kernel"
    BUILD = "build"
    DRIVER = "driver"
    FILE = "file"
    SIDE = "side"
    INDEX = "index"
    MODEL = "model"
    PACKAGE = "package"


#: Restore order: a kernel must be in place before what loads it.
RANK: dict[Kind, int] = {
    Kind.CPP: 0,
    Kind.DRIVER: 0,
    Kind.TRITON: 1,
    Kind.KERNEL: 1,
    Kind.BUILD: 1,
    Kind.MODULE: 2,
    Kind.FILE: 2,
    Kind.SIDE: 2,
    Kind.PACKAGE: 2,
    Kind.TUNING: 3,
    Kind.DECISIONS: 3,
    Kind.FXGRAPH: 4,
    Kind.AOTAUTOGRAD: 5,
    Kind.INDEX: 6,
    Kind.MODEL: 7,
}

#: What its program rewrites by itself: a worker that has one of its own keeps it.
REWRITTEN = (Kind.TUNING, Kind.DECISIONS)

#: What torch pickles: one file an entry, its key the name of its directory.
ENTRY_KINDS = (Kind.FXGRAPH, Kind.AOTAUTOGRAD)

#: What holds a whole graph, and is written when all that it needs is there.
GRAPH_KINDS = (*ENTRY_KINDS, Kind.MODEL)

#: What takes a compiler's time, or is written when it is done.
COMPILED_KINDS = (*GRAPH_KINDS, Kind.CPP, Kind.TRITON, Kind.KERNEL, Kind.BUILD)

#: Written as a whole or not at all: a file of one version beside another's is worth nothing.
WHOLE_KINDS = (Kind.TRITON, Kind.KERNEL, Kind.BUILD, Kind.DRIVER, Kind.INDEX, Kind.PACKAGE)


class Place(NamedTuple):
    """Where a path stands. ``group`` is the stem its artifacts share; entries are their own until
    their guards are read. ``needed``: a full hit reads it (Triton: only where nothing bundles it).
    ``mark``: the program only asks whether the file is there, and writes it empty. ``prefix``: what
    of the path leads to the embedded directory whose rules these are, with its last ``/`` or ``!``.
    """

    fate: Fate
    kind: Kind | None = None
    group: str = ""
    needed: bool = False
    mark: bool = False
    prefix: str = ""

    @property
    def name(self) -> str:
        """The last part of the group: of a Triton kernel, the hash of its folder."""
        return last_part(self.group)


JUNK = Place(Fate.JUNK)
UNKNOWN = Place(Fate.UNKNOWN)
PRODUCT = Place(Fate.PRODUCT)


def share(kind: Kind, group: str, *, needed: bool = True) -> Place:
    """The place of a file that is shared."""
    return Place(Fate.SHARE, kind, group, needed)


def below(prefix: str, place: Place) -> Place:
    """``place``, found by the rules of a directory that is embedded at ``prefix``."""
    if place.fate is not Fate.SHARE:
        return place
    return place._replace(group=prefix + place.group, prefix=prefix + place.prefix)


def last_part(group: str) -> str:
    """What a group's name ends with behind the last ``/`` or ``!``."""
    return re.split(r"[/!]", group)[-1]


def entry_key(path: str) -> str:
    """The key of the entry at ``path``: torch names the directory by it."""
    return path.split("/")[-2]


def shared(place: Place, size: int) -> bool:
    """Whether a file of this many bytes is shared: an empty one is torn, unless it is a mark."""
    return place.fate is Fate.SHARE and (size > 0 or place.mark)


def shareable_mode(mode: int) -> int:
    """The mode an artifact is stored and restored with: 0755 for programs, else 0644."""
    return 0o755 if mode & 0o100 else 0o644


def has_junk(path: str) -> bool:
    """Whether any part of a path is junk."""
    return any(map(is_junk, path.split("/")))


_JUNK_ENDS = (".lock", ".tmp", ".error", ".pt", "_CxxBuild")


def is_junk(name: str) -> bool:
    """Whether a file or directory of this name is unfinished, private, or a cached failure."""
    return name.startswith((".", "tmp")) or name.endswith(_JUNK_ENDS)
