"""A store: its format, its manifests read into the catalog, and the marks that lie beside them.

Invariant: opening, listing and reading never write; the first write establishes ``FORMAT``. What
cannot be read is reported in :class:`Findings` and skipped, so one bad object costs what it held.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from casinductor.deadline import Deadline
from casinductor.errors import (
    CasinductorError,
    Damaged,
    NameTaken,
    ObjectMissing,
    StoreFormat,
    StoreUnavailable,
)
from casinductor.store import names
from casinductor.store.backend import Backend, Listed
from casinductor.store.catalog import Catalog
from casinductor.store.fetch import Losses, Unusable
from casinductor.store.frame import blake3_digest
from casinductor.store.manifest import Manifest, decode, verify
from casinductor.store.names import CacheId
from casinductor.store.parallel import at_once
from casinductor.store.sampling import some_of
from casinductor.store.ulid import is_ulid, new_ulid, young

FORMAT_VERSION = 1
#: How many manifests a sync reads again, and at how many packs it looks, at most; and the bytes of
#: manifests, and of packs' footers, on average.
RECHECKED = 16
RECHECK_BYTES = 64 << 10
#: How often a listing is repeated at most while manifests vanish under the reader's eyes.
_LISTINGS = 64
#: Manifests whose contents are held in memory at once.
_AT_ONCE = 32
#: Where names appear before their contents, a manifest so young may be half written.
_BEING_WRITTEN_SECONDS = 600.0
#: How often FORMAT is looked at again before it counts as damaged there.
_SECOND_LOOKS = 5


@dataclass
class Findings:
    """What was wrong with the store, in sentences, the manifests that could not be read, how many
    vanished under the reader's eyes, and how many were newly read.
    """

    damage: list[str] = field(default_factory=list)
    unread: list[tuple[CacheId, str]] = field(default_factory=list)
    vanished: int = 0
    manifests_read: int = 0
    bytes_read: int = 0


class Store:
    """A store at an address, with the catalog that indexes it on this machine."""

    def __init__(self, backend: Backend, catalog: Catalog) -> None:
        self.backend = backend
        self.catalog = catalog
        self._writable = False

    def format_problem(self) -> str | None:
        """None if FORMAT is there and readable, else what is wrong with it.

        Raises :class:`StoreFormat` if the store is of a later format, and what reading raises:
        a store that does not answer is not damaged.
        """
        try:
            data = self.backend.get(names.FORMAT, 64 << 10)
        except ObjectMissing:
            return "missing"
        except Damaged as error:
            return f"damaged ({error})"
        try:
            fields = parse_format(data)
        except ValueError as error:
            return f"damaged ({error})"
        if fields["format"] != FORMAT_VERSION:
            raise StoreFormat(
                f"the store {self.backend.url} has format {fields['format']}; this casinductor "
                f"reads format {FORMAT_VERSION}"
            )
        if fields["publish"] in self.backend.modes:
            self.backend.mode = str(fields["publish"])
        self._writable = True
        return None

    def prepare_to_write(self) -> None:
        """Make sure FORMAT is there: probe a new store, heal a damaged file by a fresh one."""
        if self._writable:
            return
        problem = self.format_problem()
        for _ in range(_SECOND_LOOKS):
            if problem in (None, "missing"):
                break
            time.sleep(0.1)  # whoever publishes by creating may be just about to write it
            problem = self.format_problem()
        if problem is None:
            return
        mode = self.backend.probe()
        if problem != "missing":
            self.backend.delete(names.FORMAT)
        try:
            self.backend.put(names.FORMAT, [format_file(mode)])
        except NameTaken:
            problem = self.format_problem()  # another worker was first
            if problem not in (None, "missing"):  # missing: this client does not see it yet
                raise Damaged(f"{self.backend.url}/FORMAT is {problem}") from None

    def refresh(
        self, gpu: str | None, key: str | None, findings: Findings, deadline: Deadline
    ) -> int:
        """Bring the catalog up to date for one cache, all of a GPU type, or the whole store.

        Reads only manifests it has not seen; returns how many are listed. Raises what listing
        raises.
        """
        for _ in range(_LISTINGS):
            deadline.check()
            before = findings.vanished
            listed = self._refresh(gpu, key, findings, deadline)
            if findings.vanished == before:
                break  # else something was replaced while this looked: look for what replaced it
        return len(listed)

    def _list(self, gpu: str | None, key: str | None) -> dict[tuple[CacheId, str], Listed]:
        """The manifests of one cache, a GPU type or the store, as listed now."""
        cache = CacheId(gpu, key) if gpu is not None and key is not None else None
        prefix = f"{names.MANIFESTS}/" if gpu is None else f"{names.MANIFESTS}/{gpu}/"
        listed: dict[tuple[CacheId, str], Listed] = {}
        for item in self.backend.list(
            cache.manifests if cache else prefix, recursive=cache is None
        ):
            parsed = names.parse_manifest(item.name)
            if parsed and (cache is None or parsed[0] == cache):
                listed[parsed] = item
        return listed

    def _refresh(
        self, gpu: str | None, key: str | None, findings: Findings, deadline: Deadline
    ) -> dict[tuple[CacheId, str], Listed]:
        listed = self._list(gpu, key)
        known = self.catalog.known(gpu, key)
        findings.vanished += len(known.keys() - listed.keys())
        changed = {
            name
            for name, (_, size) in known.items()
            if name not in listed or listed[name].size != size
        }
        self.catalog.drop(known.pop(name)[0] for name in changed)
        unseen = {name: item for name, item in listed.items() if name not in known}
        self.catalog.settle(sum(item.size for item in unseen.values()))
        self.read(unseen, findings, deadline)
        return listed

    def read(
        self,
        unseen: Mapping[tuple[CacheId, str], Listed],
        findings: Findings,
        deadline: Deadline,
    ) -> None:
        """Read manifests into the catalog, a few at once; what cannot be read is a finding."""

        def ask(name: tuple[CacheId, str]) -> bytes | CasinductorError:
            deadline.check()
            try:
                return self.backend.get(name[0].manifest(name[1]))
            except CasinductorError as error:
                return error

        order = sorted(unseen, key=lambda name: name[1])
        for start in range(0, len(order), _AT_ONCE):
            some = order[start : start + _AT_ONCE]
            answers = at_once(ask, some, self.backend.parallel)
            for name, answer in zip(some, answers, strict=True):
                self._learn(*name, unseen[name].size, answer, findings)

    def recheck(self, cache: CacheId, findings: Findings, deadline: Deadline) -> None:
        """Read again what the catalog knew of a cache, as its manifests may have rotted since.

        Some of them, chosen at random, so that a sync's cost stays flat.
        """
        known = self.catalog.known(cache.gpu, cache.key)

        def ask(ulid: str) -> CasinductorError | None:
            deadline.check()
            try:
                name = cache.manifest(ulid)
                verify(self.backend.get(name), ulid, f"{self.backend.url}/{name}")
            except (Damaged, ObjectMissing) as error:
                return error
            return None

        sized = [(ulid, size) for (_, ulid), (_, size) in sorted(known.items())]
        chosen = some_of(sized, RECHECKED, RECHECK_BYTES)
        answers = at_once(ask, chosen, self.backend.parallel)
        for ulid, answer in zip(chosen, answers, strict=True):
            if answer is None:
                continue
            if isinstance(answer, Damaged):
                findings.damage.append(str(answer))
                self._mark(f"{ulid}.manifest", {"cache": str(cache), "reason": str(answer)})
            self.catalog.forget(ulid)

    def _learn(
        self,
        cache: CacheId,
        ulid: str,
        size: int,
        answer: bytes | CasinductorError,
        findings: Findings,
    ) -> None:
        name = cache.manifest(ulid)
        try:
            if isinstance(answer, CasinductorError):
                raise answer
            manifest = decode(answer, cache, ulid, f"{self.backend.url}/{name}")
        except ObjectMissing:
            findings.vanished += 1  # compacted away between the listing and now
            return
        except CasinductorError as error:
            if (
                isinstance(error, Damaged)
                and not self.backend.appears_whole
                and young(ulid, _BEING_WRITTEN_SECONDS)
            ):
                return  # it is still being written: the next refresh reads it
            if (sentence := str(error)) not in findings.damage:
                findings.damage.append(sentence)
                findings.unread.append((cache, ulid))
            if isinstance(error, Damaged):
                self._mark(f"{ulid}.manifest", {"cache": str(cache), "reason": sentence})
            return
        self.catalog.add(manifest, size)
        findings.manifests_read += 1
        findings.bytes_read += size

    def read_manifest(self, cache: CacheId, ulid: str) -> Manifest:
        """One manifest from the store; raises what reading and decoding it raise."""
        name = cache.manifest(ulid)
        data = self.backend.get(name)
        return decode(data, cache, ulid, f"{self.backend.url}/{name}")

    def caches(self) -> list[CacheId]:
        """Every cache that has a manifest, in order of name."""
        found = {
            parsed[0]
            for item in self.backend.list(f"{names.MANIFESTS}/", recursive=True)
            if (parsed := names.parse_manifest(item.name))
        }
        return sorted(found)

    def packs(self) -> dict[str, int]:
        """Every pack's ULID and size in bytes."""
        return {
            ulid: item.size
            for item in self.backend.list(f"{names.PACKS}/", recursive=True)
            if (ulid := names.parse_pack(item.name))
        }

    def condemned(self) -> set[str]:
        """The packs and manifests that a collector has condemned; ULIDs tell them apart."""
        return _ulids(self.backend.list(f"{names.CONDEMNED}/"))

    def unusable(self) -> Unusable:
        """What new manifests may not rely on: condemned packs, and marks of failed verification.

        Manifests that another worker could not read are forgotten, to be read again.
        """
        folders = (names.CONDEMNED, names.QUARANTINE)
        graves, marks = at_once(
            lambda folder: self.backend.list(f"{folder}/"), folders, self.backend.parallel
        )
        condemned = _ulids(graves)
        result = Unusable(packs=set(condemned), manifests=condemned)
        for item in marks:
            marked = item.name.rpartition("/")[2].removesuffix(".mark")
            if marked.endswith(names.MANIFEST_SUFFIX):
                self.catalog.forget(marked.removesuffix(names.MANIFEST_SUFFIX))
                continue
            pack, _, offset = marked.partition("-")
            if not is_ulid(pack):
                continue
            if offset.isdecimal():
                result.frames.add((pack, int(offset)))
            else:
                result.packs.add(pack)
        return result

    def quarantine(self, losses: Losses) -> int:
        """Mark frames that failed verification, so that the next sync stores their blobs anew.

        The pack stays where it is, as its other frames may be the only copies. Returns the number
        of marks; a store that cannot be written keeps none.
        """
        written = 0
        for frame, reason in losses.frames.items():
            fields: dict[str, object] = {"frame": list(frame), "reason": reason}
            written += self._mark(f"{frame.pack}-{frame.offset}", fields)
        return written

    def quarantine_pack(self, ulid: str, reason: str) -> int:
        """Mark a whole pack, whose end or size is wrong."""
        return self._mark(ulid, {"reason": reason})

    def _mark(self, name: str, fields: dict[str, object]) -> int:
        text = json.dumps({**fields, "found_ms": int(time.time() * 1000)}, sort_keys=True)
        try:
            self.backend.put(f"{names.QUARANTINE}/{name}.mark", [text.encode()])
        except NameTaken:
            return 1
        except StoreUnavailable:
            return 0
        return 1

    def note_use(self, cache: CacheId) -> None:
        """Leave the mark "restored today" for retention, if the store can be written."""
        name = cache.use(time.strftime("%Y-%m-%d", time.gmtime()))
        try:
            self.backend.size(name)
        except StoreUnavailable:
            try:
                self.backend.put(name, [b""], durable=False)
            except StoreUnavailable:
                return
        except CasinductorError:
            return


def _ulids(listed: Iterable[Listed]) -> set[str]:
    return {u for item in listed if is_ulid(u := item.name.rpartition("/")[2])}


def format_file(publish: str) -> bytes:
    """The bytes of a FORMAT file: two lines, JSON and the blake3 of that line in hex."""
    fields = {"format": FORMAT_VERSION, "publish": publish, "store": new_ulid()}
    line = json.dumps(fields, sort_keys=True).encode()
    return line + b"\n" + blake3_digest(line).hex().encode() + b"\n"


def parse_format(data: bytes) -> dict[str, object]:
    """The fields of a FORMAT file. Raises ValueError if it is not whole."""
    line, _, rest = data.partition(b"\n")
    if rest.strip() != blake3_digest(line).hex().encode():
        raise ValueError("it fails its checksum")
    fields = json.loads(line)
    if not isinstance(fields, dict) or not isinstance(fields.get("format"), int):
        raise ValueError("it names no format")
    return {"publish": None, **fields}
