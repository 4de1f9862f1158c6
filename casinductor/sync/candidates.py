"""Which groups of a local directory its cache lacks, as far as can be told without reading them.

Invariant: a group is considered as a whole or not at all, and one that is still being written waits
for the next sync.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from casinductor.families import forms, group_files, ninja_files
from casinductor.families.inductor import complete
from casinductor.families.place import ENTRY_KINDS, RANK, Kind
from casinductor.inductor.directory import Found, Unstable, Walk, read_stable
from casinductor.store.index.union import Union
from casinductor.util.roots import Where
from casinductor.worker.snapshot import Snapshot

#: Entries are read before the Triton folders, as they say which of those they bundle.
_READ_ORDER = {**RANK, Kind.TRITON: 7, Kind.MODULE: 8}


@dataclass(frozen=True)
class Candidate:
    """A group of the local directory that may have to be published; ``replaces`` lists the
    contents that this worker had of it and changed.
    """

    id: str
    kind: Kind
    files: tuple[Found, ...]
    replaces: tuple[bytes, ...] = ()

    @property
    def order(self) -> tuple[int, str]:
        return _READ_ORDER[self.kind], self.files[0].path

    @property
    def bytes(self) -> int:
        return sum(file.stamp.size for file in self.files)


@dataclass
class Candidates:
    """``chosen``, in the order in which they are read; ``seen`` groups in all, of which
    ``equivalent`` are stored already, in the manifests (catalog rows) ``relied``; ``unstable``
    files belong to groups that are not finished.
    """

    chosen: list[Candidate] = field(default_factory=list)
    seen: int = 0
    equivalent: int = 0
    unstable: int = 0
    relied: set[int] = field(default_factory=set)

    @property
    def bytes(self) -> int:
        return sum(candidate.bytes for candidate in self.chosen)


@dataclass(frozen=True)
class Lookup:
    """What groups are compared with: the local files, what lay there at the load, and the cache's
    ``union`` with the group ids of its entries by path.
    """

    where: Where
    walk: Walk
    snapshot: Snapshot | None
    union: Union
    entry_ids: dict[str, str]


def find_candidates(touched: dict[str, bool], lookup: Lookup) -> Candidates:
    """The groups of the ``touched`` paths that the cache lacks."""
    groups: dict[tuple[Kind, str], list[Found]] = defaultdict(list)
    for path in touched:
        file = lookup.walk.files[path]
        if file.place.kind is not None:
            groups[file.place.kind, file.place.group].append(file)
    result = Candidates(seen=len(groups))
    siblings = _Siblings(lookup)
    for (kind, name), members in groups.items():
        files = tuple(siblings.all_of(kind, name, members))
        candidate = _lacked(lookup.entry_ids.get(name, name), kind, files, touched, lookup, result)
        if candidate is None:
            continue
        if _is_whole(candidate, lookup.where):
            result.chosen.append(candidate)
        else:
            result.unstable += len(files)
    result.chosen.sort(key=lambda candidate: candidate.order)
    return result


class _Siblings:
    """The files of each group, touched or not, as a group is published whole."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._groups: dict[str, list[Found]] = {}

    def all_of(self, kind: Kind, name: str, members: list[Found]) -> list[Found]:
        if kind in ENTRY_KINDS or self._lookup.snapshot is None:
            return members
        if not self._groups:
            for file in self._lookup.walk.files.values():
                self._groups.setdefault(file.place.group, []).append(file)
        return self._groups[name]


def _lacked(
    group: str,
    kind: Kind,
    files: tuple[Found, ...],
    touched: dict[str, bool],
    lookup: Lookup,
    result: Candidates,
) -> Candidate | None:
    """A candidate, unless the cache has the group and this worker has no other version of it."""
    live = lookup.union.groups.get(group)
    if live is None:
        return Candidate(group, kind, files)
    snapshot = lookup.snapshot
    known = snapshot.contents.get(group) if snapshot is not None else None
    if snapshot is not None and known is not None and _changed(files, touched, snapshot):
        return Candidate(group, kind, files, (known,))
    result.equivalent += 1
    result.relied.add(live.manifest)
    return None


def _changed(files: tuple[Found, ...], touched: dict[str, bool], snapshot: Snapshot) -> bool:
    """Whether this worker had the cache's version and changed it, or completed it by a file that a
    hit needs and that whoever made it had not.
    """
    return any(
        touched.get(file.path) and (file.path in snapshot.own or file.place.needed)
        for file in files
    )


def _is_whole(candidate: Candidate, where: Where) -> bool:
    names = {file.path.rpartition("/")[2]: file for file in candidate.files}
    if not complete(candidate.kind, {name: file.mode for name, file in names.items()}):
        return False
    try:
        for file in candidate.files:
            if group_files.is_group_file(file.path):
                if group_files.missing_children(read_stable(where, file), set(names)):
                    return False
            elif candidate.kind is Kind.BUILD and file.path.endswith(forms.LOG):
                return _is_built(read_stable(where, file), names)
    except Unstable:
        return False
    return candidate.kind is not Kind.BUILD  # without ninja's log it is not finished


def _is_built(log: bytes, names: dict[str, Found]) -> bool:
    """Whether ninja says of every object and library that it is done."""
    done = {path.rpartition("/")[2] for path in ninja_files.outputs(log)}
    made = {name for name in names if name.endswith((".o", ".so"))}
    libraries = [file.mode for name, file in names.items() if name.endswith(".so")]
    return made <= done and bool(libraries) and all(mode & 0o100 for mode in libraries)
