"""What a worker wants of a cache: the groups that live for it, and their files.

Invariant: all of one :class:`Wanted` was resolved from one state of the catalog, and nothing in it
is hostile: paths, modes and kinds were checked.
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property

import msgspec

from casinductor.errors import HostilePath
from casinductor.families.packages import NAME as PACKAGES
from casinductor.families.place import WHOLE_KINDS, shared
from casinductor.families.table import INDUCTOR, classify, family_of
from casinductor.inductor.requirements import refusal
from casinductor.job import Job
from casinductor.store.format.paths import check_mode, check_path
from casinductor.store.index.catalog import Catalog
from casinductor.store.index.groups import File, Version
from casinductor.store.index.places import Unusable
from casinductor.store.index.union import Union, resolve, versions
from casinductor.store.read.health import lost_versions
from casinductor.util.roots import MARK, Roots, split


class Task(msgspec.Struct, dict=True):
    """One group to restore: the version that lives and those of its files that are wanted."""

    version: Version
    wanted: list[File]

    @cached_property
    def folder(self) -> str | None:
        """The folder that is put in place at once, so that files of two versions never mix: the one
        that the group is named by, if that holds all of it.
        """
        if self.version.kind not in WHOLE_KINDS:
            return None
        folders = {file.path.rpartition("/")[0] for file in self.wanted}
        return self.version.id if folders == {self.version.id} else None

    @cached_property
    def dated(self) -> bool:
        """Whether all files get one time, as what built them compares nothing else."""
        family = family_of(self.version.id)
        return family is not None and family.bound


class Wanted(msgspec.Struct):
    """``union``: what lives for this worker and can be had; ``own``: the paths of all its
    artifacts, with their groups' contents; ``tasks``: groups with files to write; ``refused``:
    groups by reason; ``lost``: groups whose blobs are missing or bad.
    """

    union: Union = msgspec.field(default_factory=Union)
    own: dict[str, bytes] = msgspec.field(default_factory=dict)
    tasks: list[Task] = msgspec.field(default_factory=list)
    refused: dict[str, int] = msgspec.field(default_factory=dict)
    lost: int = 0
    empty: bool = False  # no manifest says anything
    elsewhere: dict[str, int] = msgspec.field(default_factory=dict)  # groups of families left out


def wanted_of(catalog: Catalog, job: Job, unusable: Unusable, *, needed: bool) -> Wanted:
    """Resolve what the job's worker may load of families that have a root there; ``needed``: only
    files that a cache hit reads.
    """
    worker, roots = job.worker, job.roots

    def judge(demands: dict[str, object]) -> str | None:
        return refusal(demands, worker)

    with catalog.reading():
        everything = versions(catalog, job.cache)
        held = [v for v in everything if roots.holds(v.id)]
        here = [v for v in held if job.only in ("", v.id)]
        lost = lost_versions(catalog, here, unusable)
        union = resolve((v for v in here if v.row not in lost), judge)
        whole = resolve(here, judge) if lost else union
        result = Wanted(union, empty=not everything)
        if len(held) < len(everything):
            result.elsewhere = _left_out(everything, roots)
        result.lost = len(whole.groups.keys() - union.groups.keys())
        result.refused = {
            why: len({version.id for version in those}) for why, those in union.refused.items()
        }
        members = catalog.groups.files(union.groups.values())
    for version in union.groups.values():
        every = members.pop(version.row)
        result.own.update((file.path, version.content) for file in every)
        try:
            chosen = (file for file in every if file.needed or not needed)
            files = [_checked(file, version) for file in chosen]
        except HostilePath as error:
            result.refused[str(error)] = result.refused.get(str(error), 0) + 1
            continue
        if files:
            result.tasks.append(Task(version, files))
    return result


def _left_out(everything: list[Version], roots: Roots) -> dict[str, int]:
    """How many groups are of a family without a root, by family; packages are asked for by name."""
    families = (split(v.id)[0].removesuffix(MARK) for v in everything if not roots.holds(v.id))
    return dict(Counter(name or INDUCTOR for name in families if name != PACKAGES))


def _checked(file: File, version: Version) -> File:
    """``file``, if its path, mode and kind are what a cache may hold."""
    check_path(file.path)
    check_mode(file.mode, file.path)
    place = classify(file.path)
    if not shared(place, file.size) or place.kind is None or place.kind.value != version.kind:
        raise HostilePath(f"path {file.path[:80]!r} is no {version.kind} artifact")
    return file
