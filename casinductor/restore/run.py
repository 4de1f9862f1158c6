"""One restore, from the listing of a cache's manifests to its record in the local directory.

Invariant: a file that appears is whole, verified, allowed on this worker and belongs to the one
version of its group that lives; when time or the store runs out, nothing half done appears.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from casinductor.errors import Damaged
from casinductor.families.place import Kind
from casinductor.host_cache import HostCache
from casinductor.inductor.directory import walk
from casinductor.inductor.gpu import device
from casinductor.job import Job
from casinductor.reports.transfer import RestoreReport
from casinductor.restore.local import LocalFiles
from casinductor.restore.place import Placement
from casinductor.restore.plan import Task, Wanted, wanted_of
from casinductor.settings import RestoreMode
from casinductor.store.format.frame import blake3_digest
from casinductor.store.index.places import Losses, Unusable
from casinductor.store.index.union import Union, hidden_contents
from casinductor.store.parallel import start_background
from casinductor.store.read.fetch import fetch, planned_bytes
from casinductor.store.refreshed import Refreshed
from casinductor.store.store import Store
from casinductor.util.human import counted
from casinductor.worker.ownership import Ownership, write_record
from casinductor.worker.staging import staging


class Restored(msgspec.Struct):
    """The outcome: the report, the groups that now count as the cache's own, by id and by path."""

    report: RestoreReport
    contents: dict[str, bytes] = msgspec.field(default_factory=dict)
    paths: dict[str, bytes] = msgspec.field(default_factory=dict)


class Restoration:
    """One restore of a job's cache from ``store``; use once."""

    def __init__(
        self, store: Store, job: Job, mode: RestoreMode, host: HostCache | None = None
    ) -> None:
        self.store = store
        self.job = job
        self.mode = mode
        self.host = host or HostCache()
        self.report = RestoreReport(str(job.cache))
        self.refreshed = Refreshed()
        self.unusable = Unusable()

    def run(self) -> Restored:
        """Restore from the cache's manifests; raises what the store's listing raises, and
        :class:`Damaged` where manifests are listed and none can be read.
        """
        job, store = self.job, self.store
        note_use = store.marks.look_for_use(job.cache)
        listed = self._refresh()
        damage = self.refreshed.damage
        self.report.untrusted = self.refreshed.untrusted
        if listed and damage and not store.catalog.manifests.known(job.cache.gpu, job.cache.key):
            raise Damaged(f"no manifest of {job.cache} can be read: {damage[0]}")
        wanted = self._wanted()
        hidden = hidden_contents(store.catalog, job.cache)
        if wanted.empty and not hidden:
            return Restored(self.report)
        self.report.source = "manifests"
        if job.worker.device == "unsure":
            self.report.notes.append(
                f"devices were not compared: {device().doubt or 'no GPU is visible here'}"
            )
        noted = start_background(lambda: self._note_use(note_use), store.backend.parallel)
        local = LocalFiles(job.roots)
        if hidden:
            self._withdraw(local, hidden)
        wanted = self._materialize(wanted, local)
        self._finish(wanted.union)
        noted(job.deadline.remaining())
        self._record(local, wanted)
        return Restored(
            self.report, {g: v.content for g, v in wanted.union.groups.items()}, wanted.own
        )

    def _withdraw(self, local: LocalFiles, hidden: set[bytes]) -> None:
        from casinductor.restore.withdraw import withdraw  # seldom needed

        if taken := withdraw(self.store.catalog, self.job, local, hidden):
            what = counted(taken, "file")
            self.report.notes.append(f"{what} taken away, as they are hidden from every worker")

    def _note_use(self, note: Callable[[], bool]) -> None:
        if not note():
            self.report.notes.append(
                "this worker may not write below uses/, so gc --keep-within does not know that it "
                "uses the cache (docs/cli.md, gc)"
            )

    def _refresh(self) -> int:
        cache = self.job.cache
        return self.refreshed.add(
            self.store.refresh(cache.gpu, cache.key, self.job.deadline)
        ).listed

    def _wanted(self) -> Wanted:
        if self.unusable:
            self.store.catalog.index_blobs()  # a lost blob may lie elsewhere
        wanted = wanted_of(
            self.store.catalog, self.job, self.unusable, needed=self.mode == "needed"
        )
        report = self.report
        report.lost, report.refused = wanted.lost, wanted.refused
        report.groups = len(wanted.tasks)
        report.files = sum(len(task.wanted) for task in wanted.tasks)
        report.elsewhere = wanted.elsewhere
        return wanted

    def _materialize(self, wanted: Wanted, local: LocalFiles) -> Wanted:
        """Fetch and place, and on losses try again with what is left.

        Beside busy collectors one group may stand in many manifests whose packs are gone. Every
        round learns of such places or of newer manifests, so only the deadline bounds them.
        """
        while True:
            self.job.deadline.check()
            losses = self._place(wanted.tasks, local)
            if not losses.blobs:
                return wanted
            if self.store.catalog.loaded_from_disk:
                self._reread()
            elif not (losses.packs and self._moved()) and not self._give_up(losses):
                return wanted
            wanted = self._wanted()

    def _place(self, tasks: list[Task], local: LocalFiles) -> Losses:
        """Write what the local directory lacks of ``tasks``; return what could not be had."""
        lacking, losses = local.lacking(tasks, walk(self.job.roots)), Losses()
        self.report.files_kept = local.kept
        if not lacking:
            return losses
        with staging(self.job.roots) as stage:
            self.store.catalog.save_in_background()
            placement = Placement(self.job.roots, stage, lacking, self.host)
            placement.prepare(self.store.catalog, self.unusable, losses)
            stage.make_room()
            if not placement.plan:
                self.host.pass_on()
            total, done = planned_bytes(placement.plan, self.store.backend), 0
            for opened in fetch(self.store.backend, placement.plan, losses, self.job.deadline):
                placement.write(opened)
                done += opened.stored
                self.job.progress(done, total)
            self.report.bytes_read += done
            placement.keep()
            self.host.pass_on()
            placed = placement.commit(self.job.deadline)
        local.verified.update(placed)
        self.report.files_written += len(placed)
        self.report.groups_restored += placement.groups
        self.report.bytes_written += placement.bytes_written
        return losses

    def _give_up(self, losses: Losses) -> bool:
        """Mark and report the places that were lost; False if all of them were known."""
        self.store.marks.quarantine(losses)
        self.report.damage += [
            f"pack {frame.pack} at byte {frame.offset}: {reason}"
            for frame, reason in losses.frames.items()
        ]
        gone, spots = losses.packs - self.unusable.packs, losses.spots - self.unusable.spots
        self.report.damage += [f"pack {pack} is gone" for pack in sorted(gone)]
        self.report.damage += losses.failures
        self.unusable.packs |= gone
        self.unusable.frames |= {(frame.pack, frame.offset) for frame in losses.frames}
        self.unusable.spots |= spots
        return bool(gone or spots)

    def _reread(self) -> None:
        """Blame the catalog before the store: read this cache's manifests anew."""
        catalog, cache = self.store.catalog, self.job.cache
        catalog.drop(known.row for known in catalog.manifests.known(cache.gpu, cache.key).values())
        catalog.loaded_from_disk = False
        self._refresh()

    def _moved(self) -> bool:
        """Whether the cache's manifests changed meanwhile: a collector put its blobs elsewhere."""
        manifests, cache = self.store.catalog.manifests, self.job.cache
        before = manifests.known(cache.gpu, cache.key).keys()
        self._refresh()
        return manifests.known(cache.gpu, cache.key).keys() != before

    def _record(self, local: LocalFiles, wanted: Wanted) -> None:
        """Remember in the local directory which files are this cache's, if any is new."""
        if self.report.files_written or local.restamped:
            names = wanted.own.keys() & local.verified.keys()
            mine = {path: local.verified[path] for path in names}
            name = self.job.record_name(self.store.backend.url)
            write_record(self.job.root, name, Ownership(str(self.job.cache), mine))

    def _finish(self, union: Union) -> None:
        report, host = self.report, self.host
        report.bytes_read += self.refreshed.bytes_read
        report.bytes_nearby = host.files_bytes + host.manifest_bytes
        report.bytes_read -= host.manifest_bytes
        report.bytes_written += host.files_bytes
        report.damage += self.refreshed.damage
        lines = sorted(f"{group}\0{v.content.hex()}" for group, v in union.groups.items())
        report.state = blake3_digest("\n".join(lines).encode()).hex() if lines else ""
        self._note_moved(union)

    def _note_moved(self, union: Union) -> None:
        """Say so when Triton's autotune results were found at another path, where they are lost."""
        roots = set(self.store.catalog.manifests.roots(self.job.cache))
        tuned = any(v.kind == Kind.TUNING.value for v in union.groups.values())
        if tuned and roots and self.job.root not in roots:
            self.report.notes.append(
                f"made in {', '.join(sorted(roots)[:3])}: autotuning results are found there only"
            )
