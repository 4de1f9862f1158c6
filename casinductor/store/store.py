"""A store: its format, and its manifests as they are read into the catalog.

Invariant: opening, listing and reading never write; the first write establishes ``FORMAT``. What
cannot be read is reported in :class:`Refreshed` and skipped, so one bad object costs what it held.
What is not believed never reaches the tables that anything is decided by.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from casinductor.deadline import UNLIMITED, Deadline
from casinductor.errors import (
    CasinductorError,
    Damaged,
    ObjectMissing,
    StoreUnavailable,
    Untrusted,
)
from casinductor.store.backend import Backend, Listed
from casinductor.store.backends.files import absence
from casinductor.store.format import names
from casinductor.store.format.frame import Codec, split
from casinductor.store.format.manifest import Manifest, decode, encode
from casinductor.store.format.names import CacheId
from casinductor.store.format.ulid import is_younger_than
from casinductor.store.founding import Founding
from casinductor.store.index.catalog import Catalog
from casinductor.store.index.manifests import UNVERIFIED, ManifestId
from casinductor.store.index.places import Unusable
from casinductor.store.lookup import caches_there
from casinductor.store.marks import Marks
from casinductor.store.parallel import map_parallel
from casinductor.store.refreshed import Refreshed
from casinductor.trust.policy import EVERYBODY, Trust
from casinductor.util.watching import Watch, nobody

#: How often a listing is repeated at most while manifests vanish under the reader's eyes.
_LISTINGS = 64
#: Manifests whose contents are held in memory at once.
_AT_ONCE = 32
#: Signatures are verified without the interpreter's lock.
_VERIFIED_AT_ONCE = 2
#: Where names appear before their contents, a manifest so young may be half written.
_BEING_WRITTEN_SECONDS = 600.0


class _Read(NamedTuple):
    """A sealed manifest, and who signed it or why that does not count."""

    data: bytes
    verdict: str | Untrusted


class Store:
    """A store at an address, with the catalog that indexes it on this machine."""

    def __init__(self, backend: Backend, catalog: Catalog, trust: Trust = EVERYBODY) -> None:
        self.backend = backend
        self.catalog = catalog
        self.trust = trust
        self.marks = Marks(backend)
        self.watch: Watch = nobody
        self.founding = Founding(backend, catalog.claim)

    def watched_by(self, watch: Watch) -> Store:
        """This store, which tells ``watch`` how far long work on it is."""
        self.watch = watch
        return self

    def require_there(self) -> None:
        """For whoever only looks: raise :class:`StoreUnavailable` where there is no store."""
        if not self.backend.there:
            raise StoreUnavailable(
                f"there is no store at {self.backend.url}: {absence(self.backend.url)}"
            )

    def format_problem(self) -> str | None:
        """None if FORMAT is there and readable, else what is wrong with it; raises what
        :meth:`Founding.problem` raises.
        """
        return self.founding.problem()

    def prepare_to_write(self) -> None:
        """Make sure FORMAT is there; raises what :meth:`Founding.finish` raises."""
        self.founding.finish()

    def refresh(
        self, gpu: str | None = None, key: str | None = None, deadline: Deadline = UNLIMITED
    ) -> Refreshed:
        """Bring the catalog up to date for one cache, all of a GPU type, or the whole store.

        Reads only manifests it has not seen. Raises what listing raises.
        """
        total = Refreshed()
        for _ in range(_LISTINGS):
            deadline.check()
            once = self._refresh(gpu, key, deadline)
            total.add(once)
            if not once.vanished:
                break  # else something was replaced while this looked: look for what replaced it
        return total

    def _list(self, gpu: str | None, key: str | None) -> dict[ManifestId, Listed]:
        """The manifests of one cache, a GPU type or the store, as listed now."""
        cache = CacheId(gpu, key) if gpu is not None and key is not None else None
        prefix = f"{names.MANIFESTS}/" if gpu is None else f"{names.MANIFESTS}/{gpu}/"
        listed: dict[ManifestId, Listed] = {}
        for item in self.backend.list(
            cache.manifests if cache else prefix, recursive=cache is None
        ):
            parsed = names.parse_manifest(item.name)
            if parsed and (cache is None or parsed[0] == cache):
                listed[ManifestId(*parsed)] = item
        return listed

    def _refresh(self, gpu: str | None, key: str | None, deadline: Deadline) -> Refreshed:
        listed = self._list(gpu, key)
        known = self.catalog.manifests.known(gpu, key)
        foreign = self.catalog.foreign.known(gpu, key)
        self.catalog.forget_foreign(f for f in foreign if f not in listed)
        gone = len(known.keys() - listed.keys())
        changed = {
            name
            for name, indexed in known.items()
            if name not in listed or listed[name].size != indexed.size
        }
        self.catalog.drop(known.pop(name).row for name in changed)
        unseen = {
            name: item
            for name, item in listed.items()
            if name not in known and foreign.get(name) != item.size
        }
        self.catalog.open_file_if_large(sum(item.size for item in unseen.values()))
        result = self.read(unseen, deadline)
        result.listed = len(listed)
        result.vanished += gone
        result.untrusted = self.catalog.foreign.reasons(gpu, key)
        return result

    def read(self, unseen: Mapping[ManifestId, Listed], deadline: Deadline) -> Refreshed:
        """Read manifests into the catalog, a few at once; what cannot be read is damage."""

        def ask(name: ManifestId) -> _Read | CasinductorError:
            deadline.check()
            try:
                return self._judged(name, self.backend.get(name.cache.manifest(name.ulid)))
            except CasinductorError as error:
                return error

        result = Refreshed()
        most = self.backend.parallel
        if self.trust.active:
            most = max(most, _VERIFIED_AT_ONCE)
        order = sorted(unseen, key=lambda name: name.ulid)
        for start in range(0, len(order), _AT_ONCE):
            some = order[start : start + _AT_ONCE]
            self.watch("reading manifests", start, len(order), "manifests")
            answers = map_parallel(ask, some, most)
            for name, answer in zip(some, answers, strict=True):
                self._learn(name, unseen[name].size, answer, result)
        return result

    def _learn(
        self, name: ManifestId, size: int, answer: _Read | CasinductorError, result: Refreshed
    ) -> None:
        try:
            if isinstance(answer, CasinductorError):
                raise answer
            self._admit(name, size, answer)
        except ObjectMissing:
            result.vanished += 1  # compacted away between the listing and now
        except CasinductorError as error:
            self._note_unread(name, error, result)
        else:
            result.bytes_read += size

    def _note_unread(self, name: ManifestId, error: CasinductorError, result: Refreshed) -> None:
        if isinstance(error, Damaged) and self._may_be_half_written(name.ulid):
            return  # the next refresh reads it
        if (sentence := str(error)) not in result.damage:
            result.note_damage(sentence)
            result.unread.append(name)
        if isinstance(error, Damaged):
            self.marks.quarantine_manifest(name.cache, name.ulid, sentence)

    def _judged(self, name: ManifestId, data: bytes) -> _Read:
        """A manifest's bytes, and whose they are or why they are not believed."""
        container, envelope = split(data)
        object_name = name.cache.manifest(name.ulid)
        try:
            signer = self.trust.admit(str(name.cache), object_name, container, envelope)
        except Untrusted as error:
            return _Read(container, error)
        unasked = envelope and not self.trust.active
        return _Read(container, UNVERIFIED if unasked else signer)

    def _admit(self, name: ManifestId, size: int, read: _Read) -> None:
        """Take in a manifest, or note that it is not believed: only a whole one, as bytes that
        rotted are damage, whoever signed them.
        """
        cache, ulid = name
        manifest = decode(read.data, cache, ulid, f"{self.backend.url}/{cache.manifest(ulid)}")
        if isinstance(read.verdict, Untrusted):
            packs = [pack.ulid for pack in manifest.packs]
            self.catalog.add_foreign(name, size, str(read.verdict), packs)
        else:
            self.catalog.add(manifest, size, read.verdict)

    def _may_be_half_written(self, ulid: str) -> bool:
        return not self.backend.appears_whole and is_younger_than(ulid, _BEING_WRITTEN_SECONDS)

    def read_manifest(self, cache: CacheId, ulid: str) -> Manifest:
        """One manifest from the store; raises what reading and decoding it raise."""
        name = cache.manifest(ulid)
        data, _ = split(self.backend.get(name))
        return decode(data, cache, ulid, f"{self.backend.url}/{name}")

    def put_manifest(self, manifest: Manifest, codec: Codec) -> int:
        """Publish a manifest, signed where this worker signs; the bytes put.

        Raises :class:`~casinductor.errors.Untrusted` where it may not, and what writing raises.
        """
        self.founding.finish()
        cache, name = manifest.cache, manifest.cache.manifest(manifest.ulid)
        data = encode(manifest, codec)
        envelope = self.trust.envelope(str(cache), name, data)
        self.backend.put(name, [data, envelope] if envelope else [data])
        signer = self.trust.signs_as
        self.catalog.add(manifest, len(data) + len(envelope), signer)
        return len(data) + len(envelope)

    def caches(self) -> list[CacheId]:
        """Every cache that has a manifest, in order of name."""
        return caches_there(self.backend)

    def packs(self) -> dict[str, int]:
        """Every pack's ULID and size in bytes."""
        return {
            ulid: item.size
            for item in self.backend.list(f"{names.PACKS}/", recursive=True)
            if (ulid := names.parse_pack(item.name))
        }

    def read_marks(self) -> Unusable:
        """What new manifests may not rely on. Manifests that another worker could not read are
        dropped from the catalog, to be read again.
        """
        unusable, unread = self.marks.unusable()
        for ulid in unread:
            self.catalog.forget(ulid)
        return unusable
