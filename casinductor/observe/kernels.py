"""What was compiled since a restore, and what of it no graph that missed accounts for.

Invariant: a kernel counts as rebuilt only if no new entry and no bundle of a restored one explains
it; why it was rebuilt is told from the files, or as "the cache does not hold it".
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from casinductor.families.place import Kind, last_part
from casinductor.families.table import family_of
from casinductor.inductor.directory import Found, Unstable, Walk, read_stable
from casinductor.inductor.graphs import Graphs
from casinductor.inductor.kernels import torch_folders
from casinductor.inductor.relations import Relations
from casinductor.reports.transfer import RestoreReport
from casinductor.reports.warmup import Rebuilt
from casinductor.worker.snapshot import Snapshot


@dataclass
class Built:
    """``kernels``: C++ libraries and Triton kernels that were compiled; ``tuned``: autotuning
    results that were written; ``rebuilt``: those of both that no missed graph accounts for.
    """

    kernels: int = 0
    tuned: int = 0
    rebuilt: list[Rebuilt] = field(default_factory=list)


class KernelWatch:
    """Judges the files of one ``walk`` that are ``new`` since ``snapshot``.

    ``emitted``: folders that torch counts as written out of bundles; ``bypassed``: some graph was
    not cached, so that whatever was compiled may be its.
    """

    def __init__(
        self,
        walk: Walk,
        new: dict[str, Found],
        snapshot: Snapshot,
        restored: RestoreReport,
        *,
        emitted: int,
        bypassed: bool,
    ) -> None:
        self._walk = walk
        self._new = new
        self._snapshot = snapshot
        self._restored = restored
        self._emitted = emitted
        self._bypassed = bypassed

    def judge(self) -> Built:
        libraries = {path for path in self._paths(Kind.CPP) if path.endswith(".so")}
        tunings = set(self._paths(Kind.TUNING))
        folders = self._built_folders()
        expected = self._expected(libraries | tunings)
        rebuilt = [
            Rebuilt(path, "cpp", *self._why_library(path)) for path in sorted(libraries - expected)
        ]
        known = self._walk.files
        owned = {known[path].place.group for path in expected if path in known}
        owned |= {group for group in folders if family_of(group) is not None}  # no graph's
        rebuilt += [Rebuilt(g, "triton", *self._why_lost()) for g in sorted(folders - owned)]
        rebuilt += [
            Rebuilt(path, "best_config", *self._why_tuned()) for path in sorted(tunings - expected)
        ]
        others = self._of_other_compilers()
        own = self._snapshot.own
        rebuilt += [
            Rebuilt(group, kind.value, "it was restored, and its program built it anew", "gone")
            for (group, kind), paths in sorted(others.items())
            if own & paths
        ]
        return Built(len(libraries) + len(folders) + len(others), len(tunings), rebuilt)

    def _of_other_compilers(self) -> dict[tuple[str, Kind], set[str]]:
        """The new paths of each group that a compiler other than torch's and Triton's made."""
        found: dict[tuple[str, Kind], set[str]] = {}
        for kind in (Kind.KERNEL, Kind.BUILD):
            for path in self._paths(kind):
                found.setdefault((self._new[path].place.group, kind), set()).add(path)
        return found

    def _paths(self, kind: Kind) -> list[str]:
        return [path for path, file in self._new.items() if file.place.kind is kind]

    def _expected(self, compiled: set[str]) -> set[str]:
        """What the graphs that missed, or that torch does not cache, account for."""
        holding = (Kind.FXGRAPH, Kind.AOTAUTOGRAD, Kind.MODEL)
        graphs = [path for kind in holding for path in self._paths(kind)]
        expected: set[str] = set()
        if graphs:
            expected = Relations(self._snapshot.where, self._walk).relied_on(graphs)
        return expected | compiled | set(self._new) if self._bypassed else expected

    def _built_folders(self) -> set[str]:
        """Triton folders that came and that no graph which hit brought along in its bundle."""
        folders = {
            file.place.group
            for path, file in self._new.items()
            if file.place.kind is Kind.TRITON and path.endswith(".json")
        }  # the others hold Triton's launchers and its driver's utilities
        if len(folders) == self._emitted:
            return set()  # by torch's count, bundles account for all
        old = Walk({p: f for p, f in self._walk.files.items() if p not in self._new})
        bundled = Graphs(self._snapshot.where, old).bundled()
        return {group for group in folders if last_part(group) not in bundled}

    def _why_library(self, path: str) -> tuple[str, str]:
        """Why a library was compiled although every graph hit, from the headers that went in."""
        own = self._snapshot.own
        if path in own:
            return "it was restored, and gone or changed when torch looked", "gone"
        here = self._folders([path])
        there = self._folders(p for p in sorted(own) if p.endswith(".so") and p in self._walk.files)
        if here and there and not here & there:
            moved = f"{', '.join(sorted(there))} -> {', '.join(sorted(here))}"
            return f"torch lies elsewhere than where the cache was made: {moved}", "moved torch"
        return self._why_lost()

    def _why_lost(self) -> tuple[str, str]:
        if self._restored.refused:
            return f"refused at the restore: {next(iter(self._restored.refused))}", "refused"
        if self._restored.lost:
            return "lost to damage of the store", "lost"
        return "the cache does not hold it", "absent"

    def _why_tuned(self) -> tuple[str, str]:
        moved = [note for note in self._restored.notes if "autotuning" in note]
        if moved:
            return moved[0], "moved cache"
        return "no result for this kernel was restored", "absent"

    def _folders(self, paths: Iterable[str]) -> set[str]:
        """Where torch's headers lay, from the first library that tells."""
        for path in paths:
            with suppress(Unstable):
                data = read_stable(self._snapshot.where, self._walk.files[path])
                if folders := torch_folders(data):
                    return folders
        return set()
