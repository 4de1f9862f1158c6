"""Which paths of a local directory a cache may publish.

Invariant: what another cache brought stays out, unless this worker used it or a graph that is to be
published relies on it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from casinductor.families.place import ENTRY_KINDS, Kind, entry_key
from casinductor.inductor.directory import Found, Walk
from casinductor.inductor.relations import Relations
from casinductor.util.roots import Where, roots_of
from casinductor.worker.ownership import Ownership, is_owned_by, read_records
from casinductor.worker.snapshot import Snapshot


@dataclass
class Selection:
    """``touched``: the paths to publish, and whether each came or changed since the load;
    ``foreign``: how many files belong to other caches.
    """

    touched: dict[str, bool] = field(default_factory=dict)
    foreign: int = 0


def select(
    where: Where,
    walk: Walk,
    snapshot: Snapshot | None,
    own_record: str,
    announced: frozenset[str] = frozenset(),
) -> Selection:
    """Select from the files that ``walk`` found in ``where``; without a ``snapshot``, all.

    ``own_record`` names this cache's record of ownership. Entries whose keys torch ``announced``
    were used, whatever access times say: a mount may keep none, and others may set them back.
    """
    if snapshot is None:
        return Selection(dict.fromkeys(walk.files, False))
    records = read_records(roots_of(where).main)
    others = [record for name, record in records.items() if name != own_record]
    selection = Selection()
    for path, file in walk.files.items():
        changed = snapshot.changed(path, file)
        if _is_own(path, file, changed, snapshot, others) or _is_announced(file, announced):
            selection.touched[path] = changed
        else:
            selection.foreign += 1
    if selection.foreign:
        more = _relied_on(where, walk, selection)
        selection.touched.update(dict.fromkeys(more, False))
        selection.foreign -= len(more)
    return selection


def _is_own(
    path: str, file: Found, changed: bool, snapshot: Snapshot, others: list[Ownership]
) -> bool:
    if not changed:
        return path in snapshot.own or snapshot.used(file)
    another_brought_it = path not in snapshot.own and is_owned_by(others, file.path, file.stamp)
    return not another_brought_it or file.atime > file.stamp.mtime


def _is_announced(file: Found, announced: frozenset[str]) -> bool:
    return file.place.kind in ENTRY_KINDS and entry_key(file.path) in announced


def keep_announced(
    where: Where, walk: Walk, selection: Selection, announced: frozenset[str]
) -> Selection:
    """Of a selection, the entries that torch announced and what they rely on: in a directory that
    others can write, nothing else is known to be torch's.
    """
    touched = {
        path: changed
        for path, changed in selection.touched.items()
        if _is_announced(walk.files[path], announced)
    }
    kept = Selection(touched)
    more = _relied_on(where, walk, kept)
    kept.touched.update((path, selection.touched.get(path, False)) for path in more)
    kept.foreign = len(walk.files) - len(kept.touched)
    return kept


def _relied_on(where: Where, walk: Walk, selection: Selection) -> set[str]:
    """What the graphs to publish rely on, though another cache brought it."""
    touched = selection.touched
    graphs = [path for path in touched if walk.files[path].place.kind is Kind.FXGRAPH]
    return Relations(where, walk).relied_on(graphs) - touched.keys()
