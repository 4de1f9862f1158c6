"""One function per parser: given any bytes, it returns or raises what its callers expect.

Each also knows how to make good bytes, as a start for mutations.
"""

from __future__ import annotations

import io
import re
import struct
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from casinductor.deadline import Deadline
from casinductor.errors import CasinductorError
from casinductor.families import group_files
from casinductor.inductor.components import pack, unpack
from casinductor.inductor.cubin import resources
from casinductor.inductor.description import describe
from casinductor.inductor.differences import differences
from casinductor.inductor.entries import read_entry
from casinductor.inductor.kernels import cpp_blocks, torch_folders, triton_kernel, tuning
from casinductor.reports.warmup import WarmupReport, from_record, to_record
from casinductor.restore.zipped import restore_zip
from casinductor.store.backend import MAX_WHOLE_BYTES, Listed
from casinductor.store.format import outline
from casinductor.store.format.declaration import format_file, parse_format
from casinductor.store.format.frame import Codec, blake3_digest, compress, decompress, seal
from casinductor.store.format.manifest import (
    FORMAT_VERSION,
    Artifact,
    BlobTable,
    Group,
    Manifest,
    PackedFrame,
    PackRef,
)
from casinductor.store.format.manifest import decode as decode_manifest
from casinductor.store.format.manifest import encode as encode_manifest
from casinductor.store.format.names import CacheId
from casinductor.store.format.pack import Blob, read_footer
from casinductor.store.format.packing import write_packs
from casinductor.store.write import journal
from casinductor.store.write.draft import NewGroup
from casinductor.store.write.journal import decode_record
from tests.conftest import entry_bytes

CACHE = CacheId("H100", "model/v1")
ULID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


class OneObject:
    """A backend that holds these bytes under whatever name is asked for."""

    url, staleness = "fuzz", 0.0
    modes, mode, parallel, appears_whole, there = ("put",), "put", 1, True, True

    def __init__(self, data: bytes = b"") -> None:
        self.data = data

    def put(self, name: str, parts: Iterable[bytes], *, durable: bool = True) -> int:
        self.data, self.name = b"".join(parts), name
        return len(self.data)

    def get(self, name: str, limit: int = MAX_WHOLE_BYTES) -> bytes:
        return self.data

    def get_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        from casinductor.errors import Damaged

        for offset, length in ranges:
            if offset < 0 or length < 0 or offset + length > len(self.data):
                raise Damaged("past the end")
            yield self.data[offset : offset + length]

    def size(self, name: str) -> int:
        return len(self.data)

    def list_from(self, prefix: str, start: str, most: int) -> list[Listed]:
        return []

    def list(self, prefix: str, *, recursive: bool = False) -> list[Listed]:
        return []

    def delete(self, name: str) -> None: ...

    def probe(self) -> str:
        return self.mode


def footer(data: bytes) -> None:
    backend = OneObject(data)
    match = re.search(rb"ulid\xba([0-9A-Z]{26})", data)  # so that good ones get past their name
    found = read_footer(backend, match[1].decode() if match else ULID, len(data))
    for spot in found.spots():
        assert 0 <= spot.offset <= found.frames[spot.frame].raw
    if found.outline:
        outline.decode(found.outline, found.hashes, "fuzz").hashes(found.hashes)


def good_footer() -> bytes:
    backend = OneObject()
    # small blobs and no outline: the footer stays uncompressed enough to show its name
    blobs = [Blob(blake3_digest(data), data) for data in (b"one" * 50, b"two" * 90)]
    list(write_packs(backend, iter(blobs), Codec.LZ4))
    return backend.data


def manifest(data: bytes) -> None:
    decode_manifest(data, CACHE, ULID, "fuzz")


def payload_of_manifest(data: bytes) -> None:
    """Past the checksum: whoever can write to the store can seal what he likes."""
    from casinductor.store.format.manifest import MAGIC

    decode_manifest(seal(MAGIC, data), CACHE, ULID, "fuzz")


def _manifest() -> Manifest:
    blobs = BlobTable(blake3_digest(b"x"), [0], [0], [5])
    artifact = Artifact("ab/cab.py", 0o644, 5, b"", True, [0])
    group = Group("module/ab", "module", 3, ULID, b"c" * 32, 0, [], [artifact], {})
    return Manifest(
        FORMAT_VERSION, ULID, "H100", "model/v1", 1, "/tmp", {}, [], [{}],
        [PackRef(ULID, 500)], [PackedFrame(0, 16, 20, 5, 1)], blobs, [group],
    )  # fmt: skip


def good_manifest() -> bytes:
    return encode_manifest(_manifest())


def good_payload() -> bytes:
    return msgspec.msgpack.encode(_manifest())


def outlined(data: bytes) -> None:
    outline.decode(data, blake3_digest(b"x"), "fuzz").hashes(blake3_digest(b"x"))


def good_outline() -> bytes:
    group = NewGroup("g", "module", 3, b"c" * 32, {}, [Artifact("a/b", 0o644, 5, b"", True, [0])])
    return outline.encode(
        outline.Outline(
            outline.VERSION, "H100", "m", "/tmp", {}, [{}],
            [Group(group.id, "module", 3, "", b"c" * 32, 0, [], group.artifacts, {})], b"",
        )
    )  # fmt: skip


def entry(data: bytes) -> None:
    found = read_entry("fxgraph", "f" + "a" * 51, data)
    assert all(0 <= cut <= len(data) for cut in found.cuts)


def good_entry() -> bytes:
    return entry_bytes("f" + "a" * 51, guards="s0 < 5", payload=b"p" * 2000, bundled=("k",))


def description(data: bytes) -> None:
    found = describe("fxgraph", "f" + "a" * 51, data)
    assert found.entry.guards is not None or found.entry.reason
    unpack(pack(found.components))
    differences(found.components, found.components[1:])
    for spans in found.bundle.values():
        assert all(0 <= start <= end <= len(data) for start, end in spans.values())


def good_cubin(extra: int = 0) -> bytes:
    """The smallest ELF with the notes that ptxas leaves (registers 40, stack 16 bytes), and so many
    empty sections more.
    """
    notes = struct.pack("<BBHII", 4, 0x2F, 8, 1, 40) + struct.pack("<BBHII", 4, 0x11, 8, 1, 16)
    names = b"\0.shstrtab\0.nv.info\0"
    start = 64
    sections = start + len(notes) + len(names)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 2, 190, 1, 0, 0, sections, 0, 64, 0, 0, 64, 3 + extra, 1)
    strings = (1, 3, 0, 0, start + len(notes), len(names), 0, 0, 1, 0)
    noted = (11, 0x70000000, 0, 0, start, len(notes), 0, 0, 4, 0)
    table = b"".join(struct.pack("<IIQQQQIIQQ", *row) for row in ((0,) * 10, strings, noted))
    return ident + header + notes + names + table + bytes(64 * extra)


def cubin(data: bytes) -> None:
    found = resources(data)
    assert found.registers is None or found.registers >= 0


def kernel_files(data: bytes) -> None:
    json_and_cubin = {"k.json": data, "k.cubin": data, "k.source": data}
    triton_kernel(json_and_cubin, {"k.json": len(data)})
    tuning(data)
    torch_folders(data)
    cpp_blocks(data.decode("utf-8", "replace"))


def good_kernel() -> bytes:
    return b'{"name": "k", "target": {"backend": "cuda", "arch": 90}, "num_warps": 4, "shared": 8}'


def warmup_record(data: bytes) -> None:
    found = from_record(decode_record(data, CACHE, ULID, "fuzz").fields)
    assert found is None or found.summary()


def payload_of_warmup(data: bytes) -> None:
    warmup_record(seal(journal.MAGIC, data))


def good_warmup() -> bytes:
    fields = {"ulid": ULID, "gpu": CACHE.gpu, "key": CACHE.key, **to_record(WarmupReport("c"))}
    return msgspec.msgpack.encode(fields)


def group_file(data: bytes) -> None:
    path = "triton/0/" + "A" * 52 + "/__grp__k.json"
    group_files.missing_children(group_files.portable(path, data), set())
    group_files.localize(path, data, "/tmp/elsewhere")


def good_group_file() -> bytes:
    return b'{"child_paths": {"k.cubin": "/tmp/x/triton/0/' + b"A" * 52 + b'/k.cubin"}}'


def zipped(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        inside, outside = Path(folder, "in"), Path(folder, "out")
        inside.mkdir()
        outside.mkdir()
        try:
            restore_zip(OneObject(data), CACHE, str(inside), Deadline(10.0))
        finally:
            assert {path.name for path in Path(folder).iterdir()} == {"in", "out"}
            assert not list(outside.iterdir())
            assert not any(path.is_symlink() for path in inside.rglob("*"))


def good_zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as zf:
        zf.writestr("ab/c" + "a" * 51 + ".py", b"# code\n" * 20)
        zf.writestr("../escape.py", b"x")
    return stream.getvalue()


def formatted(data: bytes) -> None:
    parse_format(data)


def frame(data: bytes) -> None:
    if len(data) > 5:
        decompress(data[0] % 4, data[5:], int.from_bytes(data[1:4], "little"))


Target = tuple[Callable[[bytes], None], Callable[[], bytes]]
TARGETS: dict[str, Target] = {
    "footer": (footer, good_footer),
    "manifest": (manifest, good_manifest),
    "payload": (payload_of_manifest, good_payload),
    "outline": (outlined, good_outline),
    "entry": (entry, good_entry),
    "description": (description, good_entry),
    "cubin": (cubin, good_cubin),
    "kernel": (kernel_files, good_kernel),
    "warmup": (warmup_record, lambda: seal(journal.MAGIC, good_warmup())),
    "warmup-payload": (payload_of_warmup, good_warmup),
    "group-file": (group_file, good_group_file),
    "zip": (zipped, good_zip),
    "format": (formatted, lambda: format_file("link")),
    "frame": (frame, lambda: b"\x01\x40\x00\x00\x00" + compress(Codec.LZ4, b"a" * 64)),
}


def survive(name: str, data: bytes) -> None:
    """Run a target; only the errors that callers handle may come out."""
    target, _ = TARGETS[name]
    try:
        target(data)
    except CasinductorError as error:
        assert len(str(error).splitlines()) <= 1 or name == "zip"
    except ValueError:
        assert name == "format"  # its caller turns this into "damaged"
