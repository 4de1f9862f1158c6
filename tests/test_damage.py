"""The damage matrix: every part of a store or a worker, damaged in every way.

Whatever happens, a worker runs on, only misses, and the next sync of a worker that has the
artifacts heals the store.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from casinductor.errors import CasinductorError, Damaged, StoreFormat
from casinductor.store.format.declaration import format_file
from casinductor.store.format.pack import TRAILER
from tests.conftest import Fleet, Tree, content

PARTS = ("FORMAT", "manifest", "pack body", "pack footer", "local file", "catalog")


def target(fleet: Fleet, part: str) -> Path:
    patterns = {"FORMAT": "FORMAT", "manifest": "*.manifest"}
    if part == "local file":
        return next((fleet.folder / "local/v").rglob("*.so"))
    if part == "catalog":
        return next((fleet.folder / "state/v").rglob("*.db"))
    return fleet.files(patterns.get(part, "*.pack"))[0]


def offset(part: str, size: int) -> int:
    if part == "pack footer":
        return size - TRAILER.size - 40
    return 200 if part == "pack body" else size // 2


def delete(path: Path, at: int, other: Path) -> None:
    path.unlink()


def truncate(path: Path, at: int, other: Path) -> None:
    path.write_bytes(path.read_bytes()[:at])


def flip(path: Path, at: int, other: Path) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x55
    path.write_bytes(data)


def swap(path: Path, at: int, other: Path) -> None:
    path.write_bytes(other.read_bytes())


def seal_off(path: Path, at: int, other: Path) -> None:
    """Unreadable even to root: a directory stands where the file was, or an empty object."""
    path.unlink()
    if isinstance(path, Path):
        path.mkdir()
    else:
        path.write_bytes(b"")


WAYS: dict[str, Callable[[Path, int, Path], None]] = {
    "delete": delete,
    "truncate": truncate,
    "flip": flip,
    "replace": swap,
    "make unreadable": seal_off,
}


def another(fleet: Fleet, tmp_path: Path, part: str) -> Path:
    """A valid file of the same kind from another store."""
    other = Fleet(tmp_path / "other")
    Tree(other.folder / "local/v", seed=7).model("xy")
    other.cache("v").sync()
    return target(other, part)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("part", PARTS)
def test_the_matrix(any_fleet: Fleet, tmp_path: Path, part: str, way: str) -> None:
    fleet = any_fleet
    Tree(fleet.folder / "local/w").model("ab")
    fleet.cache("w").sync()
    fleet.cache("v").restore("all")
    whole = content(fleet.folder / "local/v")
    path = target(fleet, part)
    WAYS[way](path, offset(part, len(path.read_bytes())), another(fleet, tmp_path, part))
    if part != "local file":
        shutil.rmtree(fleet.folder / "local/v")

    # A worker that starts now: right files or none, never wrong ones, never a surprise.
    try:
        report = fleet.cache("v").restore("all")
        assert report.files_written <= len(whole)
    except CasinductorError as error:
        assert isinstance(error, Damaged)
        assert len(str(error).splitlines()) == 1
        where = fleet.address.partition("?")[0]
        assert where in str(error) or "H100/model/v1" in str(error)
    for name, data in content(fleet.folder / "local/v").items():
        assert data == whole[name]

    # It compiles, or another worker still has all, and syncs; that heals the store.
    fleet.cache("w").sync()
    shutil.rmtree(fleet.folder / "local/v", ignore_errors=True)
    healed = fleet.cache("v").restore("all")
    assert content(fleet.folder / "local/v") == whole
    assert healed.lost == 0
    fresh = fleet.cache("fresh").restore("all")
    assert fresh.files_written == len(whole)


def test_every_flipped_byte_of_a_pack_is_a_miss_at_worst(any_fleet: Fleet) -> None:
    fleet = any_fleet
    Tree(fleet.folder / "local/w").model("ab")
    fleet.cache("w").sync()
    fleet.cache("whole").restore("all")
    whole = {p: len(d) for p, d in content(fleet.folder / "local/whole").items()}
    (path,) = fleet.files("*.pack")
    good = path.read_bytes()
    for at in range(0, len(good), max(1, len(good) // 40)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0xFF]) + good[at + 1 :])
        shutil.rmtree(fleet.folder / "local/v", ignore_errors=True)
        report = fleet.cache("v").restore("all")
        there = {p: len(d) for p, d in content(fleet.folder / "local/v").items()}
        assert report.lost or there.keys() == whole.keys()
    path.write_bytes(good)


def test_bad_frames_are_marked_for_the_next_sync(any_fleet: Fleet) -> None:
    fleet = any_fleet
    Tree(fleet.folder / "local/w").model("ab")
    fleet.cache("w").sync()
    (path,) = fleet.files("*.pack")
    flip(path, 100, path)
    report = fleet.cache("v").restore("all")
    assert report.lost > 0
    assert any(path.stem in sentence for sentence in report.damage)
    assert len(fleet.files("quarantine/*.mark")) == 1
    again = fleet.cache("w").sync()
    assert again.groups_added == report.lost
    assert fleet.cache("u").restore("all").lost == 0


def test_a_store_of_a_later_format_is_left_alone(fleet: Fleet) -> None:
    Tree(fleet.folder / "local/w").model("ab")
    fleet.store.mkdir()
    later = format_file("link").replace(b'"format": 1', b'"format": 2')
    from casinductor.store.format.frame import blake3_digest

    line = later.splitlines()[0]
    (fleet.store / "FORMAT").write_bytes(line + b"\n" + blake3_digest(line).hex().encode() + b"\n")
    for verb in (fleet.cache("w").sync, fleet.cache("w").restore):
        with pytest.raises(StoreFormat, match="format 2"):
            verb()
    assert [path.name for path in fleet.files("*")] == ["FORMAT"]


def test_a_read_only_store_still_restores(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    from casinductor.errors import StoreReadOnly
    from casinductor.store.backends.filesystem import FilesystemBackend

    Tree(fleet.folder / "local/w").model("ab")
    fleet.cache("w").sync()

    def refuse(self: FilesystemBackend, *_: object, **__: object) -> None:
        raise StoreReadOnly("writing failed: Read-only file system")

    monkeypatch.setattr(FilesystemBackend, "put", refuse)
    assert fleet.cache("v").restore("all").files_written == 8
    Tree(fleet.folder / "local/v", seed=3).model("cd")
    with pytest.raises(StoreReadOnly):
        fleet.cache("v").sync()


def test_a_hostile_manifest_writes_nothing_outside(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    from casinductor.store.format.manifest import Manifest, decode, encode
    from casinductor.store.format.names import CacheId

    Tree(fleet.folder / "local/w").model("ab")
    fleet.cache("w").sync()
    (path,) = fleet.files("*.manifest")
    manifest: Manifest = decode(path.read_bytes(), CacheId("H100", "model/v1"), path.stem, "it")
    evil = ["../../evil", "/tmp/evil", "locks/x.lock", ".casinductor/lock", "fxgraph/../../x"]
    for group, name in zip(manifest.groups, evil, strict=True):
        group.artifacts[0].path = name
    path.write_bytes(encode(manifest))
    report = fleet.cache("v").restore("all")
    assert report.groups_refused == 5
    assert content(fleet.folder / "local/v") == {}
    assert not (fleet.folder / "evil").exists()
    assert not (fleet.folder / "local/evil").exists()


def test_a_catalog_that_lies_is_caught(fleet: Fleet) -> None:
    Tree(fleet.folder / "local/w").model("ab")
    fleet.cache("w").sync()
    fleet.cache("v").restore("all")
    whole = content(fleet.folder / "local/v")
    lies = (
        "UPDATE grp SET artifacts = CAST(replace(CAST(artifacts AS TEXT), '.py', '.so') AS BLOB)",
        "UPDATE grp SET artifacts = (SELECT g.artifacts FROM grp g WHERE g.id != grp.id)",
        "UPDATE frame SET offset = offset + 8",
        "UPDATE frame SET raw = raw - 1",
        "UPDATE pack SET ulid = '01ARZ3NDEKTSV4RRFFQ69G5FAV'",
        "UPDATE blobs SET hashes = zeroblob(length(hashes))",
        "UPDATE requirement SET demands = '{'",
    )
    for lie in lies:
        db = target(fleet, "catalog")
        with sqlite3.connect(db) as connection:
            connection.execute(lie)
        connection.close()
        shutil.rmtree(fleet.folder / "local/v")
        report = fleet.cache("v").restore("all")
        assert content(fleet.folder / "local/v") == whole, lie
        assert report.lost == 0
        assert fleet.files("quarantine/*") == [], "the store was blamed for the catalog"
