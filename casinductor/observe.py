"""Observes a worker between a restore and a sync: torch's events and what files came or were read.

Invariant: observing costs a walk of the local directory and a read of what is new in it; it never
raises into a worker and changes nothing but access times.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from glob import glob

from casinductor.inductor import counters
from casinductor.inductor.directory import Found, Unstable, Walk, read_stable
from casinductor.inductor.entries import Entry, read_entry
from casinductor.inductor.fingerprint import Fingerprint
from casinductor.inductor.graphs import Graphs
from casinductor.inductor.kernels import torch_folders
from casinductor.inductor.layout import Kind
from casinductor.inductor.relations import Relations
from casinductor.inductor.trace import TRACE, Event, saved_ns
from casinductor.reports import RestoreReport
from casinductor.warmup import Happened, Rebuilt, WarmupReport
from casinductor.worker.snapshot import Snapshot

_ENTRIES = (Kind.FXGRAPH, Kind.AOTAUTOGRAD)
_KEPT_EVENTS = 1024
_KEPT_REBUILT = 512
_KEPT_UNKNOWN = 64


class Observation:
    """What there was at the restore; :meth:`report` says what happened since.

    ``tracing``: also listen to torch's structured trace, which tells what happened to each graph.
    """

    def __init__(self, restored: RestoreReport, snapshot: Snapshot, tracing: bool) -> None:
        self._restored = restored
        self._snapshot = snapshot
        self._started = time.time()
        self._clock = time.perf_counter()
        self._counters = counters.read_counters()
        self._headers = _headers()
        self._tracing = tracing
        self._event = TRACE.start() if tracing else 0
        self._listening = tracing

    def close(self) -> None:
        """Stop listening; a second call does nothing."""
        if self._listening:
            self._listening = False
            TRACE.stop()

    def __del__(self) -> None:
        # Not weakref.finalize: its first use registers a hook with atexit, and what runs at exit
        # in which order is the worker's own affair.
        self.close()

    def report(self, worker: Fingerprint, found: Walk) -> WarmupReport:
        """The warm-up so far, given a walk of the local directory."""
        events = TRACE.since(self._event) if self._tracing else []
        report = WarmupReport(
            self._restored.cache,
            int(self._started * 1000),
            time.perf_counter() - self._clock,
            refused=dict(self._restored.refused),
            lost=self._restored.lost,
            groups_restored=self._restored.groups,
            traced=self._tracing,
            notes=list(self._restored.notes),
            worker=_worker(worker, self._snapshot),
        )
        if report.worker["compiler"] == "":
            report.notes.append("no C++ compiler in PATH")
        counted = counters.since(self._counters)
        _Reading(report, found, self._snapshot, events, counted["bundle_emitted"]).fill()
        report.graphs = _counts(events) if events else _of_caches(counted)
        report.headers_built = len(_headers() - self._headers)
        return report


class _Reading:
    """Fills a report from one walk of the local directory."""

    def __init__(
        self,
        report: WarmupReport,
        found: Walk,
        snapshot: Snapshot,
        events: list[Event],
        emitted: int,
    ) -> None:
        self.report = report
        self.walk = found
        self.snapshot = snapshot
        self.events = events
        self.emitted = emitted
        self.new = {
            path: file for path, file in found.files.items() if snapshot.changed(path, file)
        }
        self._read: dict[str, Entry] = {}

    def fill(self) -> None:
        report = self.report
        report.unknown = self.walk.unknown[:_KEPT_UNKNOWN]
        report.unknown_files = len(self.walk.unknown)
        report.happened = [
            Happened(e.cache, e.status, e.key, e.detail, e.guard, e.reason)
            for e in self.events[:_KEPT_EVENTS]
        ]
        self._usage()
        made = [self._entry(path) for path in self._of_kind(self.new, *_ENTRIES)]
        report.spent_seconds = _seconds(made)
        report.saved_seconds = saved_ns(self.events) / 1e9 if self.events else self._saved()
        self._kernels()

    def _usage(self) -> None:
        """Which of the cache's files were read since, as their access times tell."""
        snapshot, report = self.snapshot, self.report
        left = self.walk.files.keys() - self.new.keys()
        sizes = {path: snapshot.stamps[path][0] for path in snapshot.own}
        own = {path: self.walk.files[path] for path in snapshot.own & left if sizes[path]}
        report.files_restored = sum(map(bool, sizes.values()))  # nobody reads an empty mark
        report.bytes_restored = sum(sizes.values())
        if not self.snapshot.keeps_atime:
            if snapshot.own:
                report.notes.append("this mount keeps no access times: what was read is unknown")
            return
        used = {path for path, file in own.items() if _was_read(file)}
        report.files_used, report.read = len(used), sorted(used)
        report.bytes_used = sum(own[path].stamp.size for path in used)
        groups: dict[bytes, bool] = {}
        for path, content in self.snapshot.group_of.items():
            if path in own and content:
                groups[content] = groups.get(content, False) or path in used
        report.used = b"".join(sorted(content[:8] for content, was in groups.items() if was))
        report.unused = b"".join(sorted(content[:8] for content, was in groups.items() if not was))

    def _saved(self) -> float:
        """Without events: the compile times of the cache's entries that were read."""
        read = [
            self._entry(path)
            for path in self._of_kind(self.walk.files, *_ENTRIES)
            if path not in self.new
            and self.walk.files[path].atime > self.walk.files[path].stamp.mtime
        ]
        return _seconds(read) if self.snapshot.keeps_atime else 0.0

    def _kernels(self) -> None:
        """What was compiled, and what of it no missed graph accounts for."""
        libraries = {p for p in self._of_kind(self.new, Kind.CPP) if p.endswith(".so")}
        graphs = list(self._of_kind(self.new, Kind.FXGRAPH))
        built = self._built()
        tunings = set(self._of_kind(self.new, Kind.TUNING))
        expected: set[str] = set()
        if graphs:
            expected = Relations(self.snapshot.root, self.walk).relied_on(graphs)
        if any(event.status == "bypass" for event in self.events):
            expected |= libraries | tunings | set(self.new)
        report = self.report
        report.kernels_built = len(libraries) + len(built)
        report.tuned = len(tunings)
        again = [Rebuilt(p, "cpp", *self._why_library(p)) for p in sorted(libraries - expected)]
        owned = {self.walk.files[p].place.group for p in expected if p in self.walk.files}
        again += [Rebuilt(g, "triton", *self._why_lost()) for g in sorted(built - owned)]
        again += [Rebuilt(p, "best_config", *self._why_tuned()) for p in sorted(tunings - expected)]
        report.rebuilt = again[:_KEPT_REBUILT]

    def _built(self) -> set[str]:
        """Triton folders that came and that no graph which hit brought along in its bundle."""
        folders = {f.place.group for f in self.new.values() if f.place.kind is Kind.TRITON}
        if len(folders) == self.emitted:
            return set()  # by torch's count, bundles account for all
        old = Walk({p: f for p, f in self.walk.files.items() if p not in self.new})
        bundled = Graphs(self.snapshot.root, old).bundled()
        return {group for group in folders if group.rpartition("/")[2] not in bundled}

    def _why_library(self, path: str) -> tuple[str, str]:
        """Why a library was compiled although every graph hit, from the headers that went in."""
        if path in self.snapshot.own:
            return "it was restored, and gone or changed when torch looked", "gone"
        here = self._folders([path])
        there = self._folders(
            p for p in sorted(self.snapshot.own) if p.endswith(".so") and p in self.walk.files
        )
        if here and there and not here & there:
            moved = f"{', '.join(sorted(there))} -> {', '.join(sorted(here))}"
            return f"torch lies elsewhere than where the cache was made: {moved}", "moved torch"
        return self._why_lost()

    def _why_lost(self) -> tuple[str, str]:
        if self.report.refused:
            return f"refused at the restore: {next(iter(self.report.refused))}", "refused"
        if self.report.lost:
            return "lost to damage of the store", "lost"
        return "the cache does not hold it", "absent"

    def _why_tuned(self) -> tuple[str, str]:
        moved = [note for note in self.report.notes if "autotuning" in note]
        if moved:
            return moved[0], "moved cache"
        return "no result for this kernel was restored", "absent"

    def _folders(self, paths: Iterable[str]) -> set[str]:
        """Where torch's headers lay, from the first library that tells."""
        for path in paths:
            with suppress(Unstable):
                if found := torch_folders(read_stable(self.snapshot.root, self.walk.files[path])):
                    return found
        return set()

    def _of_kind(self, files: dict[str, Found], *kinds: Kind) -> Iterable[str]:
        return [path for path, file in files.items() if file.place.kind in kinds]

    def _entry(self, path: str) -> Entry:
        file = self.walk.files[path]
        kind, key = str(file.place.kind and file.place.kind.value), path.split("/")[-2]
        if path not in self._read:
            try:
                self._read[path] = read_entry(kind, key, read_stable(self.snapshot.root, file))
            except Unstable:
                self._read[path] = Entry(kind, key, reason="it was being written")
        return self._read[path]


def _was_read(file: Found) -> bool:
    return file.atime > file.stamp.mtime


def _seconds(entries: list[Entry]) -> float:
    """Compile times: those of aotautograd entries, and of graphs that none of them holds."""
    held = {key for entry in entries for key in entry.fx_keys}
    total = sum(e.compile_ns or 0 for e in entries if e.kind != "fxgraph" or e.key not in held)
    return total / 1e9


def _counts(events: list[Event]) -> dict[str, int]:
    found = _of_caches({})
    for event in events:
        found[f"{event.cache}_{event.status}"] += 1
    return found


def _of_caches(counted: dict[str, int]) -> dict[str, int]:
    return {
        f"{cache}_{status}": counted.get(f"{cache}_{status}", 0)
        for cache in ("fxgraph", "aotautograd")
        for status in ("hit", "miss", "bypass")
    }


def _headers() -> set[tuple[str, int]]:
    """Precompiled headers of this user and when they were made; torch keeps them outside."""
    found = set()
    pattern = os.path.join(tempfile.gettempdir(), "torchinductor_*", "precompiled_headers", "*.gch")
    for path in glob(pattern):
        with suppress(OSError):
            found.add((path, os.stat(path).st_mtime_ns))
    return found


def _worker(fingerprint: Fingerprint, snapshot: Snapshot) -> dict[str, object]:
    """Who this worker is. ``compiler``: torch's C++ compiler, None if the cache needs none, ""
    where it is missing: then torch fails on the CPU even if everything is cached.
    """
    needed = any(path.endswith(".so") for path in snapshot.own)
    compiler = shutil.which(os.environ.get("CXX") or "g++")
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "prefix": sys.prefix,
        "compiler": compiler or ("" if needed else None),
        "fingerprint": fingerprint.as_dict(),
    }
