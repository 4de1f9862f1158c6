"""Check and repair: the damage matrix is found, named, and healed or quarantined."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from casinductor.errors import Damaged
from casinductor.store.format.pack import read_footer
from casinductor.store.maintain.compact import compact
from casinductor.store.opening import with_fresh_store
from casinductor.store.verify.check import CheckReport, check
from casinductor.store.verify.repair import RepairReport, repair
from casinductor.store.verify.schedule import VerificationLog
from tests.conftest import Fleet, Tree, content
from tests.store.test_collection import gc
from tests.test_damage import WAYS, another, offset, target

PARTS = ("FORMAT", "manifest", "pack body", "pack footer")


def checked(fleet: Fleet, data: float = 1.0, **options: Any) -> CheckReport:
    return with_fresh_store(fleet.settings("c"), lambda s: check(s, data=data, **options))


def repaired(fleet: Fleet, data: float = 1.0, **options: Any) -> RepairReport:
    return with_fresh_store(
        fleet.settings("c"), lambda s: repair(s, data=data, grace=0.0, **options)
    )


@pytest.fixture
def whole(fleet: Fleet) -> dict[str, bytes]:
    """What a worker restores of a cache that is in order."""
    Tree(fleet.folder / "local/w").model("ab")
    fleet.cache("w").sync()
    fleet.cache("v").restore("all")
    there = content(fleet.folder / "local/v")
    shutil.rmtree(fleet.folder / "local/v")
    return there


def test_a_store_in_order(fleet: Fleet, whole: dict[str, bytes]) -> None:
    report = checked(fleet)
    assert report.problems == []
    assert (report.manifests, report.packs, report.packs_read) == (1, 1, 1)
    assert report.bytes_read > 0
    assert repaired(fleet).done == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("part", PARTS)
def test_the_matrix(
    fleet: Fleet, whole: dict[str, bytes], tmp_path: Path, part: str, way: str
) -> None:
    path = target(fleet, part)
    name = str(path.relative_to(fleet.store))
    WAYS[way](path, offset(part, path.stat().st_size), another(fleet, tmp_path, part))
    found = checked(fleet)
    missing = part == "manifest" and way in ("delete", "make unreadable")
    swapped = part == "FORMAT" and way == "replace"  # any store's FORMAT is as good
    if missing:
        assert found.orphaned == {"H100/model/v1": 5}
    elif not swapped:
        assert name in {problem.name for problem in found.problems}
        assert all(len(problem.sentence().splitlines()) == 1 for problem in found.problems)
        if part != "FORMAT":
            assert all(problem.caches == ["H100/model/v1"] for problem in found.problems)
    if part == "FORMAT" and way == "make unreadable":
        path.rmdir()  # what stands in the way must be taken out by hand: no store contains folders
    report = repaired(fleet, from_packs=missing)
    lost = report.lost.get("H100/model/v1", [])
    shutil.rmtree(fleet.folder / "local/v", ignore_errors=True)
    there = fleet.cache("v").restore("all")
    assert there.lost == 0, "nothing points at missing data after a repair"
    files = content(fleet.folder / "local/v")
    assert all(files[path] == whole[path] for path in files)
    if part in ("FORMAT", "manifest"):
        assert lost == []
        assert files == whole
    elif part == "pack footer" and way in ("flip", "truncate"):
        assert (lost, files) == ([], whole), "its frames are good: they moved to a new pack"
    else:
        assert lost, "blobs are gone, and are said to be"
        assert files.keys() < whole.keys()
    assert [p for p in checked(fleet).problems if p.kind != "mark"] == []
    gc(fleet)
    assert checked(fleet).problems == []
    fleet.cache("w").sync()
    assert fleet.cache("fresh").restore("all").files_written == len(whole)


def test_a_damaged_manifest_is_kept_in_quarantine(fleet: Fleet, whole: dict[str, bytes]) -> None:
    (path,) = fleet.files("*.manifest")
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    bad = path.read_bytes()
    report = repaired(fleet)
    assert report.groups_rebuilt == 5
    assert (fleet.store / "quarantine" / path.name).read_bytes() == bad
    assert fleet.cache("v").restore("all").files_written == len(whole)


def test_lent_blobs_come_back_too(fleet: Fleet) -> None:
    """The second cache's pack holds only what the first one's lacks."""
    Tree(fleet.folder / "local/w").model("ab")
    fleet.cache("w", "one").sync()
    Tree(fleet.folder / "local/w", seed=5).kernel("cd")
    fleet.cache("w", "two").sync()
    fleet.cache("v", "two").restore("all")
    whole = content(fleet.folder / "local/v")
    (path,) = (fleet.store / "manifests/H100/two").iterdir()
    path.write_bytes(b"x" * 300)
    assert repaired(fleet).groups_rebuilt == 6
    shutil.rmtree(fleet.folder / "local/v")
    fleet.cache("v", "two").restore("all")
    assert content(fleet.folder / "local/v") == whole


def test_a_liar_loses_nobody_anything(fleet: Fleet, whole: dict[str, bytes]) -> None:
    """A worker with bad memory marks good frames; nothing is given up on its word."""
    (pack,) = fleet.files("*.pack")
    (fleet.store / "quarantine").mkdir()
    (fleet.store / f"quarantine/{pack.stem}-16.mark").write_text("{}")
    (fleet.store / f"quarantine/{pack.stem}.mark").write_text("{}")
    assert {problem.kind for problem in checked(fleet).problems} == {"mark"}
    cache = fleet.cache("c")
    compaction = with_fresh_store(cache.settings, lambda s: compact(s, cache.id, grace=0.0))
    assert compaction.groups_lost == 0
    assert fleet.cache("v").restore("all").files_written == len(whole)


def test_a_false_mark_is_taken_away(fleet: Fleet, whole: dict[str, bytes]) -> None:
    (pack,) = fleet.files("*.pack")
    (fleet.store / "quarantine").mkdir()
    (fleet.store / f"quarantine/{pack.stem}-16.mark").write_text("{}")
    report = repaired(fleet)
    assert report.lost == {}
    assert any("can be read" in line for line in report.done)
    assert fleet.files("quarantine/*") == []
    assert fleet.files("*.pack") == [pack]


def test_reading_goes_on_where_it_was_left(fleet: Fleet, tmp_path: Path) -> None:
    for number, name in enumerate(("ab", "cd", "ef", "gh")):
        Tree(fleet.folder / "local" / name, number).model(name)
        fleet.cache(name).sync()
    memory = VerificationLog(tmp_path / "memory")
    seen: set[str] = set()
    for _ in range(4):
        report = checked(fleet, 0.2, memory=memory)
        assert report.packs_read == 1
        now = {row[0] for row in memory._db.execute("SELECT ulid FROM pack")}
        assert len(now) == len(seen) + 1
        seen = now
    memory.close()
    memory = VerificationLog(tmp_path / "memory")
    order = memory.oldest_first(seen)
    checked(fleet, 0.2, memory=memory)
    assert memory.oldest_first(seen) == [*order[1:], order[0]]
    assert checked(fleet, 1.0, seconds=0.0, memory=memory).packs_read == 0
    (tmp_path / "memory").write_bytes(b"no database at all" * 100)
    assert checked(fleet, 1.0, memory=VerificationLog(tmp_path / "memory")).packs_read == 4


def test_check_changes_nothing(fleet: Fleet, whole: dict[str, bytes]) -> None:
    (pack,) = fleet.files("*.pack")
    data = bytearray(pack.read_bytes())
    data[100] ^= 1
    pack.write_bytes(data)
    before = {path: path.read_bytes() for path in fleet.files("*")}
    assert checked(fleet).problems
    assert {path: path.read_bytes() for path in fleet.files("*")} == before


def test_a_footer_that_lies_is_damage(fleet: Fleet, whole: dict[str, bytes]) -> None:
    from casinductor.store.backends.address import open_backend
    from casinductor.store.format.pack import HEADER
    from casinductor.store.format.packing import _PackStream

    backend = open_backend(str(fleet.store))
    (pack,) = fleet.files("*.pack")
    footer = read_footer(backend, pack.stem, pack.stat().st_size)
    assert footer.frames[0].offset == len(HEADER)
    for column, value in (("frame", 99), ("offset", 1 << 30), ("size", -1)):
        bad = read_footer(backend, pack.stem, pack.stat().st_size)
        getattr(bad, column)[0] = value
        stream = _PackStream.__new__(_PackStream)
        stream.frames, stream.spots, stream._offset = bad.frames, list(bad.spots()), len(HEADER)
        ulid = pack.stem[:-1] + ("A" if pack.stem[-1] != "A" else "B")
        backend.put(
            f"packs/{ulid[-2:].lower()}/{ulid}.pack",
            [HEADER, *stream._end(ulid, [s.hash for s in bad.spots()], b"")],
        )
        path = fleet.store / f"packs/{ulid[-2:].lower()}/{ulid}.pack"
        with pytest.raises(Damaged):
            read_footer(backend, ulid, path.stat().st_size)
        path.unlink()


@pytest.mark.parametrize("way", WAYS)
def test_a_damaged_catalog_is_not_believed(
    fleet: Fleet, whole: dict[str, bytes], tmp_path: Path, way: str
) -> None:
    """It lies on the worker's own disk; what decides on deletions reads the manifests anew."""
    path = target(fleet, "catalog")
    WAYS[way](path, offset("catalog", path.stat().st_size), another(fleet, tmp_path, "catalog"))
    assert checked(fleet).problems == []
    assert repaired(fleet).done == []
    assert gc(fleet).packs == 0
    assert fleet.cache("v").restore("all").files_written == len(whole)


@pytest.mark.parametrize("way", ["delete", "truncate", "flip", "replace"])
def test_a_damaged_local_file_is_healed_by_the_next_restore(
    fleet: Fleet, whole: dict[str, bytes], tmp_path: Path, way: str
) -> None:
    fleet.cache("v").restore("all")
    path = target(fleet, "local file")
    WAYS[way](
        path, offset("local file", path.stat().st_size), another(fleet, tmp_path, "local file")
    )
    assert fleet.cache("v").restore("all").files_written == 1
    assert content(fleet.folder / "local/v") == whole
