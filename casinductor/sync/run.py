"""One sync, from the walk of a local directory to the acknowledgement of what it published.

Invariant: only groups that are whole and at rest are published, each once per cache however many
workers made it; what is acknowledged is durable and cannot be lost by any other worker.
"""

from __future__ import annotations

from casinductor.errors import StoreUnavailable
from casinductor.families.inductor import reads_decisions
from casinductor.families.place import ENTRY_KINDS, Kind
from casinductor.inductor.directory import Walk, walk
from casinductor.inductor.flags import PRECOMPILE, precompiles
from casinductor.inductor.graphs import Graphs
from casinductor.inductor.requirements import refusal
from casinductor.job import Job
from casinductor.reports.transfer import SyncReport
from casinductor.store.index.places import NamedPack, Unusable
from casinductor.store.index.union import Union, hidden_contents, resolve, versions
from casinductor.store.read.health import lost_versions
from casinductor.store.refreshed import Refreshed
from casinductor.store.store import Store
from casinductor.store.write.draft import Draft
from casinductor.store.write.publish import Published, Source, conflicts, publish
from casinductor.store.write.relatives import read_relatives
from casinductor.sync.candidates import Lookup, find_candidates
from casinductor.sync.look import Look
from casinductor.sync.read import CandidateReader
from casinductor.sync.select import Selection, keep_announced, select
from casinductor.util.human import counted
from casinductor.worker.snapshot import Snapshot

_ATTEMPTS = 32  # beside collectors that spare nothing six were too few; the deadline holds
_NAMED = 64


class Synchronization:
    """One sync of a job's local directory into its cache; use once.

    ``snapshot``: what lay there when the cache was loaded; None publishes all there is.
    ``keep_equivalent`` stores every entry, also those equal by key and guards; ``walked``: a walk
    of the directory a moment ago; ``announced``: the keys that torch looked up, of which alone
    something is published if ``only_announced``; ``bypassed``: torch met graphs that it does not
    cache, whose modules nobody can use again.
    """

    def __init__(
        self,
        store: Store,
        job: Job,
        snapshot: Snapshot | None,
        *,
        keep_equivalent: bool = False,
        walked: Walk | None = None,
        announced: frozenset[str] = frozenset(),
        only_announced: bool = False,
        bypassed: bool = False,
    ) -> None:
        self.store = store
        self.job = job
        self.snapshot = snapshot
        self.keep_equivalent = keep_equivalent
        self.announced = announced
        self.only_announced = only_announced
        self.bypassed = bypassed
        self.report = SyncReport(str(job.cache))
        self.refreshed = Refreshed()
        self._look = Look(store, job, self.refreshed)
        self._walk = walk(job.roots) if walked is None else walked
        if job.only:
            found = self._walk.files.items()
            self._walk.files = {path: f for path, f in found if f.place.group == job.only}
        self._graphs = Graphs(job.roots, self._walk)

    def run(self) -> tuple[SyncReport, Snapshot | None]:
        """Publish; returns the report and, where there was one, the snapshot as of now.

        Raises what the store's operations raise; then nothing was acknowledged.
        """
        selection = self._select()
        unusable = self._look.take()
        union = self._publish_until_kept(selection, unusable)
        self.report.damage += self.refreshed.damage
        self.report.untrusted = self.refreshed.untrusted
        self._look.note_use()
        return self.report, self._next_snapshot(selection, union, unusable)

    def _select(self) -> Selection:
        report, found = self.report, self._walk
        report.files_seen, report.junk = found.seen, found.junk
        report.unknown, report.unknown_paths = len(found.unknown), found.unknown[:_NAMED]
        own_record = self.job.record_name(self.store.backend.url)
        selection = select(self.job.roots, found, self.snapshot, own_record, self.announced)
        if self.only_announced:
            selection = keep_announced(self.job.roots, found, selection, self.announced)
        report.foreign = selection.foreign
        if not reads_decisions(self.job.worker.torch):
            for path in [p for p, f in found.files.items() if f.place.kind is Kind.DECISIONS]:
                selection.touched.pop(path, None)
                report.junk += 1
        if found.products:
            what = counted(found.products, "file")
            report.notes.append(f"{what} of AOTInductor not shared: a product, not a cache")
        if self.bypassed:
            self._leave_out_unnamed(selection)
        if self.snapshot is not None and precompiles():
            of_precompile = self._changed(selection, Kind.AOTAUTOGRAD)
            why = f"under {PRECOMPILE} torch gives them keys that no other process has"
            self._leave_out(selection, of_precompile, "aotautograd entry", why)
        return selection

    def _leave_out_unnamed(self, selection: Selection) -> None:
        """Leave out new modules that no entry names: a graph that torch does not cache writes
        another one at each start.
        """
        named = self._graphs.named_modules()
        unnamed = [
            path
            for path in self._changed(selection, Kind.MODULE)
            if path.rpartition("/")[2].removesuffix(".py") not in named
        ]
        self._leave_out(selection, unnamed, "module", "torch does not cache their graphs")

    def _changed(self, selection: Selection, kind: Kind) -> list[str]:
        touched = selection.touched.items()
        return [p for p, changed in touched if changed and self._walk.files[p].place.kind is kind]

    def _leave_out(self, selection: Selection, paths: list[str], noun: str, why: str) -> None:
        for path in paths:
            del selection.touched[path]
        if paths:
            self.report.notes.append(f"{counted(len(paths), noun)} left out: {why}")

    def _publish_until_kept(self, selection: Selection, unusable: Unusable) -> Union:
        """Publish, again as long as collectors remove what it relies on; the union before that."""
        cache = self.job.cache
        for attempt in range(_ATTEMPTS):
            self.report.attempts = attempt + 1
            published, union = self._publish(selection, unusable)
            self._count(published)
            if not published.conflicts:
                return union
            unusable.packs |= published.conflicts
            self._look.refresh()
        raise StoreUnavailable(
            f"{cache}: collectors removed what was published {_ATTEMPTS} times in a row"
        )

    def _publish(self, selection: Selection, unusable: Unusable) -> tuple[Published, Union]:
        store, job = self.store, self.job
        lookup, packs = self._lookup(unusable)
        candidates = find_candidates(selection.touched, lookup)
        self.report.groups_seen = candidates.seen
        self.report.equivalent = candidates.equivalent
        self.report.unstable = candidates.unstable

        if not candidates.chosen:
            gone = conflicts(store, relied_packs(packs, candidates.relied, unusable))
            return Published(conflicts=gone), lookup.union
        if store.trust.active and store.trust.signer is None:
            self.report.withheld = store.trust.refusal(str(job.cache))
            return Published(), lookup.union
        store.founding.begin()
        self._look.begin_to_note_use()
        self.refreshed.add(read_relatives(store, job.cache, candidates.bytes, job.deadline))
        draft = Draft(store, job.cache.gpu, unusable)
        reader = CandidateReader(
            job, self._graphs, lookup.union, draft, keep_equivalent=self.keep_equivalent
        )
        source = Source(
            reader.blobs(candidates),
            reader.groups,
            job.root,
            {"fingerprint": job.worker.told()},
            relied=lambda: relied_packs(packs, candidates.relied | reader.counts.relied, unusable),
        )
        published = publish(store, job.cache, draft, source)
        self.report.equivalent += reader.counts.equivalent
        self.report.unstable += reader.counts.unstable
        self.report.opaque = reader.counts.opaque
        for why, count in reader.counts.kept_back.items():
            self.report.notes.append(f"{counted(count, 'group')} not shared: {why}")
        self.report.bytes_new += reader.counts.bytes_new
        return published, lookup.union

    def _lookup(self, unusable: Unusable) -> tuple[Lookup, dict[int, set[NamedPack]]]:
        """What groups are compared with, and the packs of each manifest, by one state of the
        catalog.
        """
        catalog, cache = self.store.catalog, self.job.cache
        with catalog.reading():
            union = self._union(unusable)
            ids = catalog.groups.ids_by_path(cache, [kind.value for kind in ENTRY_KINDS])
            packs = catalog.packs.by_manifest(cache)
        entry_ids = {path: group for path, group in ids.items() if group in union.groups}
        return Lookup(self.job.roots, self._walk, self.snapshot, union, entry_ids), packs

    def _union(self, unusable: Unusable) -> Union:
        catalog = self.store.catalog
        found = versions(catalog, self.job.cache)
        lost = lost_versions(catalog, found, unusable, elsewhere=False)
        condemned = unusable.manifests
        intact = (v for v in found if v.row not in lost and v.published not in condemned)
        union = resolve(intact, lambda demands: refusal(demands, self.job.worker))
        union.hidden = hidden_contents(catalog, self.job.cache)
        return union

    def _count(self, published: Published) -> None:
        report, manifest = self.report, published.manifest
        report.bytes_uploaded += published.bytes
        if manifest is None:
            return
        report.manifest = manifest.ulid
        report.groups_added = max(report.groups_added, len(manifest.groups))
        added = [artifact for group in manifest.groups for artifact in group.artifacts]
        report.files_added = max(report.files_added, len(added))
        report.bytes_added = max(report.bytes_added, sum(a.size for a in added))

    def _next_snapshot(
        self, selection: Selection, union: Union, unusable: Unusable
    ) -> Snapshot | None:
        """After a sync, everything it considered is the cache's own."""
        if self.snapshot is None:
            return None
        with self.store.catalog.reading():
            if self.report.manifest:
                union = self._union(unusable)
            group_of = self.store.catalog.groups.paths(union.groups.values())
        contents = {group: v.content for group, v in union.groups.items()}
        fresh = Snapshot(self.job.roots, contents=contents, keeps_atime=self.snapshot.keeps_atime)
        fresh.stamps = {path: file.stamp for path, file in self._walk.files.items()}
        fresh.own = set(selection.touched)
        fresh.group_of = group_of
        return fresh


def relied_packs(
    packs: dict[int, set[NamedPack]], manifests: set[int], unusable: Unusable
) -> set[NamedPack]:
    """What a sync counts on in ``manifests`` (catalog rows) of others, whose authors may die before
    their own handshake: of the packs that each named when the union was resolved, as the catalog
    may have moved on since.
    """
    named = set().union(*(packs.get(row, ()) for row in manifests))
    return {pack for pack in named if pack.ulid not in unusable.packs}  # no group needs those
