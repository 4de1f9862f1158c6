"""Marks, which torch writes empty and looks for: they go with the library they stand beside."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from msgspec.structs import replace

from casinductor.cache import Cache
from casinductor.errors import Damaged
from casinductor.inductor.fingerprint import worker_fingerprint
from casinductor.store.format.frame import blake3_digest
from casinductor.store.format.manifest import Artifact, _check_artifact
from casinductor.store.maintain.compact import compact
from casinductor.store.opening import with_store
from tests.conftest import Fleet, Tree


def marks(root: Path) -> list[Path]:
    return sorted(root.rglob("*.load_ok"))


def test_a_mark_comes_back_empty_beside_its_library(any_fleet: Fleet) -> None:
    library = Tree(any_fleet.folder / "local/w").probe("ab")
    any_fleet.cache("w").sync()
    cache = any_fleet.cache("v")
    report = cache.restore()
    (mark,) = marks(any_fleet.folder / "local/v")
    assert mark.name == f"{library.name}.load_ok"
    assert mark.stat().st_size == 0
    assert mark.stat().st_mode & 0o777 == 0o644
    assert report.files_written == 2, "the library and its mark"
    assert cache.sync().manifest is None
    assert any_fleet.cache("v").restore().files_written == 0, "it is there already"


def test_a_mark_survives_compaction_and_the_node(fleet: Fleet, tmp_path: Path) -> None:
    Tree(fleet.folder / "local/w").model("ab").probe("cd")
    fleet.cache("w").sync()
    with_store(fleet.settings("w"), lambda store: compact(store, fleet.cache("w").id))
    for worker in ("u", "v"):
        settings = replace(fleet.settings(worker), node_dir=tmp_path / "node")
        Cache("model/v1", settings=settings).restore()
        assert len(marks(fleet.folder / "local" / worker)) == 1


def test_a_worker_elsewhere_gets_neither(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    Tree(fleet.folder / "local/w").probe("ab")
    fleet.cache("w").sync()
    other = replace(worker_fingerprint(), isa="another")
    monkeypatch.setattr("casinductor.cache.worker_fingerprint", lambda: other)
    report = fleet.cache("v").restore()
    assert report.groups_refused == 1
    assert not marks(fleet.folder / "local/v")


def test_a_group_that_lacked_its_mark_is_completed(fleet: Fleet) -> None:
    Tree(fleet.folder / "local/w").probe("ab", loads=False)
    fleet.cache("w").sync()
    cache = fleet.cache("v")
    cache.restore()
    (library,) = (fleet.folder / "local/v").rglob("*.so")
    Path(f"{library}.load_ok").touch()
    assert cache.sync().groups_added == 1
    fleet.cache("u").restore()
    assert len(marks(fleet.folder / "local/u")) == 1


def test_a_mark_is_no_file_that_was_restored_and_not_read(fleet: Fleet) -> None:
    Tree(fleet.folder / "local/w").probe("ab")
    fleet.cache("w").sync()
    cache = fleet.cache("v")
    cache.restore()
    warmup = cache.warmup()
    assert warmup is not None
    assert warmup.files_restored == 1


def test_zips_bring_their_marks(fleet: Fleet) -> None:
    tree = Tree(fleet.folder / "made")
    tree.probe("ab")
    fleet.store.mkdir()
    cache = fleet.cache("v")
    target = fleet.store / cache.id.zip
    target.parent.mkdir(parents=True)
    with zipfile.ZipFile(target, "w") as zf:
        for path in sorted(tree.content()):
            zf.write(tree.root / path, path)
    cache.restore()
    assert len(marks(fleet.folder / "local/v")) == 1


def test_only_marks_may_be_empty(fleet: Fleet) -> None:
    nothing = blake3_digest(b"")
    _check_artifact(Artifact("ab/c.so.load_ok", 0o644, 0, nothing, True, []), [])
    for digest, size in ((nothing, 1), (b"", 0), (b"\0" * 32, 0)):
        with pytest.raises(ValueError, match="artifact"):
            _check_artifact(Artifact("ab/c.so.load_ok", 0o644, size, digest, True, []), [])


def test_a_manifest_with_an_empty_library_is_refused(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose rules call a library a mark publishes an empty one; nobody restores it."""
    tree = Tree(fleet.folder / "local/w")
    tree.probe("ab", loads=False).write_bytes(b"")
    monkeypatch.setattr("casinductor.inductor.directory.shared", lambda place, size: True)
    fleet.cache("w").sync()
    monkeypatch.undo()
    cache = fleet.cache("v")
    report = cache.restore("all")
    assert report.groups_restored == 0
    assert "is no cpp artifact" in next(iter(report.refused))
    assert not list((fleet.folder / "local/v").rglob("*.so"))


def test_unknown_files_are_named(fleet: Fleet) -> None:
    tree = Tree(fleet.folder / "local/w").model("ab")
    tree.write("newkind/thing", b"x")
    tree.write("newkind/empty", b"")
    cache = fleet.cache("w")
    pushed = fleet.cache("w").sync()
    assert (
        "2 files of no known kind are not shared (docs/families.md): newkind/empty"
        in pushed.summary()
    )
    cache.restore()
    synced = cache.sync()
    assert synced.warmup is not None
    assert synced.warmup.unknown == ["newkind/empty", "newkind/thing"]
    assert (
        "2 files of no known kind are not shared (docs/families.md): newkind/empty"
        in synced.warmup.summary()
    )
    assert "no known kind" not in synced.summary(), "once is enough"


def test_damage_to_a_manifest_with_marks_is_found(fleet: Fleet) -> None:
    Tree(fleet.folder / "local/w").probe("ab")
    fleet.cache("w").sync()
    (manifest,) = fleet.files("*.manifest")
    data = bytearray(manifest.read_bytes())
    data[-3] ^= 1
    manifest.write_bytes(bytes(data))
    with pytest.raises(Damaged):
        fleet.cache("v").restore()
