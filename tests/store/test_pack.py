"""Packs hold what was put in and describe themselves."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casinductor.errors import Damaged
from casinductor.store.backends.filesystem import FilesystemBackend
from casinductor.store.format import packing
from casinductor.store.format.frame import Codec, blake3_digest, decompress
from casinductor.store.format.names import pack as pack_name
from casinductor.store.format.pack import BREAK, Blob, read_footer
from casinductor.store.format.packing import write_packs


def blob(data: bytes) -> Blob:
    return Blob(blake3_digest(data), data)


def read_back(backend: FilesystemBackend, ulid: str, size: int) -> dict[bytes, bytes]:
    footer = read_footer(backend, ulid, size)
    ranges = [(frame.offset, frame.stored) for frame in footer.frames]
    raws = [
        decompress(frame.codec, stored, frame.raw)
        for frame, stored in zip(
            footer.frames, backend.get_ranges(pack_name(ulid), ranges), strict=True
        )
    ]
    return {s.hash: raws[s.frame][s.offset : s.offset + s.size] for s in footer.spots()}


@given(
    st.lists(st.binary(min_size=1, max_size=2000), min_size=1, max_size=40, unique=True),
    st.sampled_from(Codec),
    st.integers(0, 40),
)
@settings(max_examples=50, deadline=None)
def test_a_pack_alone_gives_back_every_blob(
    tmp_path_factory: pytest.TempPathFactory, contents: list[bytes], codec: Codec, at: int
) -> None:
    backend = FilesystemBackend(tmp_path_factory.mktemp("pack"))
    blobs = [blob(data) for data in contents]
    stream = [*blobs[:at], BREAK, *blobs[at:]]
    (written,) = write_packs(backend, iter(stream), codec)
    found = read_back(backend, written.ulid, written.size)
    assert found == {b.hash: b.data for b in blobs}
    split = {b.hash for b in blobs[:at]}
    frames_before = {s.frame for s in written.spots if s.hash in split}
    frames_after = {s.frame for s in written.spots if s.hash not in split}
    assert not frames_before & frames_after


def test_large_packs_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "PACK_BYTES", 300_000)
    monkeypatch.setattr(packing, "GATHER_BYTES", 100_000)
    backend = FilesystemBackend(tmp_path)
    source = random.Random(1)
    blobs = [blob(source.randbytes(20_000)) for _ in range(320)]
    written = list(write_packs(backend, iter(blobs), Codec.LZ4))
    assert len(written) >= 3
    assert sum(len(pack.spots) for pack in written) == 320
    for pack in written:
        assert backend.size(pack_name(pack.ulid)) == pack.size
        assert read_back(backend, pack.ulid, pack.size).keys() == {s.hash for s in pack.spots}


def test_no_blobs_no_pack(tmp_path: Path) -> None:
    assert list(write_packs(FilesystemBackend(tmp_path), iter([BREAK, BREAK]), Codec.LZ4)) == []


def test_a_failing_source_publishes_nothing(tmp_path: Path) -> None:
    def source() -> Iterator[Blob]:
        yield blob(b"one")
        raise OSError("disk")

    backend = FilesystemBackend(tmp_path)
    with pytest.raises(Exception, match="disk"):
        list(write_packs(backend, source(), Codec.LZ4))
    assert backend.list("packs/", recursive=True) == []


def test_a_damaged_footer_is_noticed(tmp_path: Path) -> None:
    backend = FilesystemBackend(tmp_path)
    (written,) = write_packs(backend, iter([blob(b"x" * 100), blob(b"y" * 90)]), Codec.LZ4)
    path = tmp_path / pack_name(written.ulid)
    good = path.read_bytes()
    start = written.frames[-1].offset + written.frames[-1].stored
    for at in range(start, len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(Damaged):
            read_footer(backend, written.ulid, len(good))
    for length in (0, 10, len(good) - 1):
        path.write_bytes(good[:length])
        with pytest.raises(Damaged):
            read_footer(backend, written.ulid, length)
    (other,) = write_packs(backend, iter([blob(b"z" * 100)]), Codec.LZ4)
    path.write_bytes((tmp_path / pack_name(other.ulid)).read_bytes())
    with pytest.raises(Damaged, match="another pack"):
        read_footer(backend, written.ulid, other.size)
