"""Reads candidates: the blobs to store of each, and the group that they become.

Invariant: a group comes out only if every file of it was read at rest, and an entry only if neither
the cache nor this sync has one that is equal by key and guards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from casinductor.families import forms
from casinductor.families.place import ENTRY_KINDS, RANK, Kind, entry_key, shareable_mode
from casinductor.inductor.directory import Found, Unstable, read_stable
from casinductor.inductor.entries import Entry, read_entry
from casinductor.inductor.graphs import Graphs
from casinductor.job import Job
from casinductor.store.format.frame import blake3_digest
from casinductor.store.format.manifest import Artifact, content_of
from casinductor.store.format.pack import BREAK, Blob
from casinductor.store.index.union import Union
from casinductor.store.write.draft import Draft, NewGroup
from casinductor.sync.candidates import Candidate, Candidates
from casinductor.sync.demands import NotShareable, Traits, demands
from casinductor.sync.pieces import about, cut


@dataclass
class _Read:
    """What was read of a candidate so far."""

    id: str
    entry: Entry | None = None
    traits: Traits = field(default_factory=Traits)
    artifacts: list[Artifact] = field(default_factory=list)
    hashes: list[tuple[str, int, bytes]] = field(default_factory=list)
    dropped: bool = False


@dataclass
class ReadCounts:
    """Groups found ``equivalent`` once read, in manifests (catalog rows) ``relied``; ``unstable``
    files changed while they were read; ``opaque`` entries could not be read; ``bytes_new`` of blobs
    were handed out; ``kept_back``: groups that no other worker may load, by reason.
    """

    equivalent: int = 0
    unstable: int = 0
    opaque: int = 0
    bytes_new: int = 0
    relied: set[int] = field(default_factory=set)
    kept_back: Counter[str] = field(default_factory=Counter)


class CandidateReader:
    """Reads the candidates of one sync; use once: :meth:`blobs` to its end, then :meth:`groups`.

    ``graphs`` is what the directory's entries say together; ``keep_equivalent`` stores every entry.
    """

    def __init__(
        self, job: Job, graphs: Graphs, union: Union, draft: Draft, *, keep_equivalent: bool
    ) -> None:
        self.counts = ReadCounts()
        self._job = job
        self._graphs = graphs
        self._union = union
        self._draft = draft
        self._keep_equivalent = keep_equivalent
        self._read: list[tuple[Candidate, _Read]] = []
        self._claimed: set[str] = set()  # one directory may hold equivalent entries

    def blobs(self, candidates: Candidates) -> Iterator[Blob]:
        """Read the candidates and hand out the blobs to store, a default restore's first."""
        self._read = [(candidate, _Read(candidate.id)) for candidate in candidates.chosen]
        total, done = candidates.bytes, 0
        for first in (True, False):
            yield BREAK
            for candidate, read in self._read:
                for file in candidate.files:
                    if read.dropped:
                        break
                    if self._needed(candidate, file) is first:
                        self._job.deadline.check()
                        yield from self._file(candidate, read, file, needed=first)
                        done += file.stamp.size
                        self._job.progress(done, total)

    def groups(self) -> list[NewGroup]:
        """The groups that are new, once all blobs were handed out."""
        found = []
        for candidate, read in self._read:
            content = content_of(read.hashes)
            if not read.artifacts or read.dropped or content in candidate.replaces:
                continue
            if content in self._union.hidden:
                self.counts.kept_back["hidden from every worker (casinductor hide)"] += 1
                continue
            try:
                found.append(self._group(candidate, read))
            except NotShareable as error:
                self.counts.kept_back[str(error)] += 1
        return found

    def _needed(self, candidate: Candidate, file: Found) -> bool:
        if candidate.kind is not Kind.TRITON:
            return file.place.needed
        return file.place.name not in self._graphs.bundled()

    def _file(
        self, candidate: Candidate, read: _Read, file: Found, *, needed: bool
    ) -> Iterator[Blob]:
        try:
            data = read_stable(self._job.roots, file)
        except Unstable:
            read.dropped = True
            self.counts.unstable += len(candidate.files)
            return
        read.traits.learn(candidate.kind, file.path, data)
        data = forms.portable(file.path, data)
        cuts: list[int] = []
        if candidate.kind in ENTRY_KINDS:
            read.entry = self._entry(candidate, read, file, data)
            if read.dropped:
                return
            cuts = read.entry.cuts
        pieces = cut(data, cuts)
        digest = pieces[0].hash if len(pieces) == 1 else blake3_digest(data)
        indexes, fresh = self._draft.place(pieces)
        mode = shareable_mode(file.mode)
        whole = digest if len(pieces) != 1 else b""
        read.artifacts.append(Artifact(file.path, mode, len(data), whole, needed, indexes))
        read.hashes.append((file.path, mode, digest))
        self.counts.bytes_new += sum(len(blob.data) for blob in fresh)
        yield from fresh

    def _entry(self, candidate: Candidate, read: _Read, file: Found, data: bytes) -> Entry:
        """An entry's key and guards; it is dropped if there is one that is as good."""
        entry = read_entry(candidate.kind.value, entry_key(file.path), data)
        if candidate.kind is Kind.FXGRAPH:
            self._graphs.learn(file.path, entry)
        if candidate.replaces:
            return entry
        if entry.guards is None:
            self.counts.opaque += 1
        elif not self._keep_equivalent:
            guards = blake3_digest(entry.guards.encode()).hex()[:16]
            read.id = f"{file.place.prefix}{candidate.kind.value}/{entry.key}#{guards}"
        live = self._union.groups.get(read.id)
        if live is not None:
            self.counts.relied.add(live.manifest)
        if live is not None or read.id in self._claimed:
            self.counts.equivalent += 1
            read.dropped = True
        self._claimed.add(read.id)
        return entry

    def _group(self, candidate: Candidate, read: _Read) -> NewGroup:
        return NewGroup(
            read.id,
            candidate.kind.value,
            RANK[candidate.kind],
            content_of(read.hashes),
            self._demands(candidate, read),
            read.artifacts,
            list(candidate.replaces),
            about(read.entry),
        )

    def _demands(self, candidate: Candidate, read: _Read) -> dict[str, Any]:
        """What a worker must have to load the group."""
        traits, entry = read.traits, read.entry
        if entry is not None:
            names_cpp = any(map(self._graphs.compiles_cpp, entry.fx_keys))
            traits.learn_entry(entry, names_cpp=names_cpp)
        return dict(demands(candidate.kind, read.id, traits, self._job))
