"""Observes a worker between a restore and a sync: torch's events and what files came or were read.

Invariant: observing costs a walk of the local directory and a read of what is new in it; it never
raises into a worker, registers no exit hook and changes nothing but access times.
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
from typing import TYPE_CHECKING

from casinductor.families.place import ENTRY_KINDS, Kind, entry_key
from casinductor.inductor import counters
from casinductor.inductor.directory import Found, Unstable, Walk, read_stable
from casinductor.inductor.fingerprint import Fingerprint
from casinductor.inductor.flags import switched_off
from casinductor.inductor.trace import TRACE, Event, saved_ns
from casinductor.observe.spool import OWN
from casinductor.observe.usage import usage, was_read
from casinductor.reports.transfer import RestoreReport
from casinductor.reports.warmup import Happened, WarmupReport
from casinductor.util.roots import Where
from casinductor.worker.snapshot import Snapshot

if TYPE_CHECKING:
    from casinductor.inductor.entries import Entry

_KEPT_EVENTS = 1024
_KEPT_REBUILT = 512
_KEPT_UNKNOWN = 64


class Observation:
    """What there was at the restore; :meth:`report` says what happened since.

    ``tracing``: also listen to torch's structured trace, which tells what happened to each graph.
    """

    _listening = False

    def __init__(self, restored: RestoreReport, snapshot: Snapshot, tracing: bool) -> None:
        self._restored = restored
        self._snapshot = snapshot
        self._started = time.time()
        self._clock = time.perf_counter()
        self._counters = counters.read_counters()
        self._headers = _headers()
        self._tracing = tracing
        self._event = TRACE.start() if tracing else 0
        self._spooled = len(OWN.events())
        self.published: list[str] = []
        self._listening = tracing

    def keys(self) -> frozenset[str]:
        """The keys of the graphs that torch looked up, as its trace has them."""
        return frozenset(event.key for event in self._events() if event.key)

    def _events(self) -> list[Event]:
        """What torch said in this process, and in those that write into its spool."""
        own = TRACE.since(self._event) if self._tracing else []
        return own + OWN.events()[self._spooled :]

    def bypassed(self) -> bool:
        """Whether torch met a graph that it does not cache."""
        counted = counters.since(self._counters)
        return bool(counted["fxgraph_bypass"] or counted["aotautograd_bypass"])

    def close(self) -> None:
        """Stop listening; a second call does nothing."""
        if self._listening:
            self._listening = False
            TRACE.stop()

    def __del__(self) -> None:
        # Not weakref.finalize: its first use registers a hook with atexit, and what runs at exit
        # in which order is the worker's own affair.
        self.close()

    def report(self, worker: Fingerprint, walk: Walk) -> WarmupReport:
        """The warm-up so far, given a walk of the local directory."""
        snapshot, restored = self._snapshot, self._restored
        events = self._events()
        counted = counters.since(self._counters)
        new = {path: file for path, file in walk.files.items() if snapshot.changed(path, file)}
        graphs = _counts(events) if events else _of_caches(counted)
        report = WarmupReport(
            restored.cache,
            int(self._started * 1000),
            time.perf_counter() - self._clock,
            graphs=graphs,
            happened=[
                Happened(e.cache, e.status, e.key, e.detail, e.guard, e.reason)
                for e in events[:_KEPT_EVENTS]
            ],
            headers_built=len(_headers() - self._headers),
            groups_restored=restored.groups,
            refused=dict(restored.refused),
            lost=restored.lost,
            traced=self._tracing,
            notes=list(restored.notes),
            worker=_worker(worker, snapshot),
            published=list(self.published),
            new_entries=len(_entry_files(new)),
            unknown_files=len(walk.unknown),
            unknown=walk.unknown[:_KEPT_UNKNOWN],
        )
        report.notes += [f"torch's cache is off: {setting}" for setting in switched_off()]
        if report.worker["compiler"] == "":
            report.notes.append("no C++ compiler in PATH")
        self._add_usage(report, walk, new)
        telling = (*ENTRY_KINDS, Kind.MODEL, Kind.CPP)
        heard = any(walk.files[path].place.kind in telling for path in report.read)
        report.elsewhere = not any(graphs.values()) and bool(report.new_entries or heard)
        self._add_kernels(report, walk, new, counted, events)
        self._add_seconds(report, walk, new, events)
        return report

    def _add_usage(self, report: WarmupReport, walk: Walk, new: dict[str, Found]) -> None:
        seen = usage(walk, new, self._snapshot)
        report.files_restored, report.bytes_restored = seen.restored, seen.restored_bytes
        report.files_used = None if seen.read is None else len(seen.read)
        report.bytes_used, report.read = seen.read_bytes, seen.read or []
        report.used, report.unused = seen.used, seen.unused
        report.notes += seen.notes

    def _add_kernels(
        self,
        report: WarmupReport,
        walk: Walk,
        new: dict[str, Found],
        counted: dict[str, int],
        events: list[Event],
    ) -> None:
        from casinductor.observe.kernels import KernelWatch  # no worker waits for a report

        built = KernelWatch(
            walk,
            new,
            self._snapshot,
            self._restored,
            emitted=counted["bundle_emitted"],
            bypassed=any(event.status == "bypass" for event in events),
        ).judge()
        report.kernels_built, report.tuned = built.kernels, built.tuned
        report.rebuilt = built.rebuilt[:_KEPT_REBUILT]

    def _add_seconds(
        self, report: WarmupReport, walk: Walk, new: dict[str, Found], events: list[Event]
    ) -> None:
        """Compile times, of the entries that this worker made and of those that it was spared."""
        made = self._entries(_entry_files(new))
        if report.graphs["fxgraph_hit"] and not report.graphs["fxgraph_miss"]:
            made = []  # an aotautograd entry repeats the time that its graphs once took
        report.spent_seconds = _seconds(made)
        if events:
            report.saved_seconds = saved_ns(events) / 1e9
        elif self._snapshot.keeps_atime:
            old = {path: file for path, file in walk.files.items() if path not in new}
            read = [file for file in _entry_files(old) if was_read(file)]
            report.saved_seconds = _seconds(self._entries(read))

    def _entries(self, files: Iterable[Found]) -> list[Entry]:
        return [_entry(self._snapshot.where, file) for file in files]


def _entry_files(files: dict[str, Found]) -> list[Found]:
    return [file for file in files.values() if file.place.kind in ENTRY_KINDS]


def _entry(where: Where, file: Found) -> Entry:
    from casinductor.inductor.entries import Entry, read_entry

    kind, key = str(file.place.kind and file.place.kind.value), entry_key(file.path)
    try:
        return read_entry(kind, key, read_stable(where, file))
    except Unstable:
        return Entry(kind, key, reason="it was being written")


def _seconds(entries: list[Entry]) -> float:
    """Compile times: those of aotautograd entries, and of graphs that none of them holds.

    An entry that bundles its graphs names none: what lies beside it is the same graphs once more.
    """
    held = {key for entry in entries for key in entry.fx_keys}
    graphs = sum(e.compile_ns or 0 for e in entries if e.kind == "fxgraph" and e.key not in held)
    bundling = sum(e.compile_ns or 0 for e in entries if e.kind != "fxgraph" and not e.fx_keys)
    naming = sum(e.compile_ns or 0 for e in entries if e.fx_keys)
    return (naming + max(graphs, bundling)) / 1e9


def _counts(events: list[Event]) -> dict[str, int]:
    counts = _of_caches({})
    for event in events:
        counts[f"{event.cache}_{event.status}"] += 1
    return counts


def _of_caches(counted: dict[str, int]) -> dict[str, int]:
    return {
        f"{cache}_{status}": counted.get(f"{cache}_{status}", 0)
        for cache in ("fxgraph", "aotautograd")
        for status in ("hit", "miss", "bypass")
    }


def _headers() -> set[tuple[str, int]]:
    """Precompiled headers of this user and when they were made; torch keeps them outside."""
    found: set[tuple[str, int]] = set()
    if os.environ.get("TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS") == "0":
        return found  # what comes there is another process's
    try:
        folder = tempfile.gettempdir()
    except FileNotFoundError:  # a container whose root cannot be written
        return found
    for path in glob(os.path.join(folder, "torchinductor_*", "precompiled_headers", "*.gch")):
        with suppress(OSError):
            found.add((path, os.stat(path).st_mtime_ns))
    return found


def _worker(fingerprint: Fingerprint, snapshot: Snapshot) -> dict[str, object]:
    """Who this worker is. ``compiler``: torch's C++ compiler, None if the cache needs none, ""
    where it is missing: then torch fails on the CPU even if everything is cached.
    """
    needed = any(path.endswith(".so") for path in snapshot.own)
    compiler = shutil.which(os.environ.get("CXX") or "g++")
    engine = OWN.engine()
    return {
        **({"engine": engine} if engine else {}),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "prefix": sys.prefix,
        "hash_seed": os.environ.get("PYTHONHASHSEED") or "random",
        "compiler": compiler or ("" if needed else None),
        "fingerprint": fingerprint.told(),
    }
