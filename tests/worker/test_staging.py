"""Nothing half written appears, nothing is written elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from casinductor.deadline import Deadline
from casinductor.errors import DeadlineExceeded, HostilePath, LocalDirectory
from casinductor.worker import staging as module
from casinductor.worker.staging import staging, sweep_stages

NEVER = Deadline(None)


def test_files_appear_on_commit_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    placed: list[str] = []
    real = os.replace

    def replace(source: str, target: str) -> None:
        placed.append(target)
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with staging(str(tmp_path)) as stage:
        stage.write(stage.add("x/late", 0o644, 5, 3), b"abc")
        stage.write(stage.add("x/early", 0o755, 0, 2), b"so")
        assert not (tmp_path / "x").exists()
        stage.commit(stage.complete(), NEVER)
    assert [os.path.basename(path) for path in placed] == ["early", "late"]
    assert (tmp_path / "x/early").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "x/late").read_bytes() == b"abc"
    assert not list((tmp_path / ".casinductor").glob("stage-*"))


@pytest.mark.parametrize("memory", [0, 1 << 20])
def test_parts_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int) -> None:
    monkeypatch.setattr(module, "_GATHER_BYTES", memory)
    monkeypatch.setattr(module, "_MAX_OPEN", 2)
    with staging(str(tmp_path)) as stage:
        files = [stage.add(f"f{n}", 0o644, 0, 6) for n in range(5)]
        for offset, data in ((3, b"def"), (0, b"abc")):
            for file in files:
                assert file.path not in stage.complete()
                stage.write_at(file, offset, data)
        stage.commit(stage.complete(), NEVER)
    assert all((tmp_path / f"f{n}").read_bytes() == b"abcdef" for n in range(5))


def test_incomplete_files_never_appear(tmp_path: Path) -> None:
    with staging(str(tmp_path)) as stage:
        stage.write_at(stage.add("f", 0o644, 0, 6), 0, b"abc")
        stage.commit(stage.complete(), NEVER)
    assert not (tmp_path / "f").exists()


def test_folders_are_placed_whole(tmp_path: Path) -> None:
    (tmp_path / "t/H").mkdir(parents=True)
    (tmp_path / "t/H/old").write_text("old")
    with staging(str(tmp_path)) as stage:
        stage.write(stage.add("t/H/a", 0o644, 0, 1, "t/H"), b"a")
        stage.write(stage.add("t/H/b", 0o644, 0, 1, "t/H"), b"b")
        stage.commit(stage.complete(), NEVER)
    assert sorted(path.name for path in (tmp_path / "t/H").iterdir()) == ["a", "b"]


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    root = tmp_path / "root"
    root.mkdir()
    (root / "x").symlink_to(outside)
    with pytest.raises(HostilePath), staging(str(root)) as stage:
        stage.write(stage.add("x/file", 0o644, 0, 1), b"a")
        stage.commit(stage.complete(), NEVER)
    assert list(outside.iterdir()) == []


def test_a_link_in_a_files_place_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("precious")
    root = tmp_path / "root"
    (root / "x").mkdir(parents=True)
    (root / "x/file").symlink_to(target)
    with staging(str(root)) as stage:
        stage.write(stage.add("x/file", 0o644, 0, 1), b"a")
        stage.commit(stage.complete(), NEVER)
    assert target.read_text() == "precious"
    assert (root / "x/file").read_bytes() == b"a"


def test_time_out_places_nothing_more(tmp_path: Path) -> None:
    over = Deadline(1000)
    over.cancel()
    with pytest.raises(DeadlineExceeded), staging(str(tmp_path)) as stage:
        stage.write(stage.add("f", 0o644, 0, 1), b"a")
        stage.commit(stage.complete(), over)
    assert not (tmp_path / "f").exists()


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("x")
    with pytest.raises(LocalDirectory, match=str(blocker)), staging(str(blocker)) as stage:
        stage.add("x", 0o644, 0, 1)


def test_a_narrow_umask_does_not_change_modes(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with staging(str(tmp_path)) as stage:
            stage.write(stage.add("f", 0o755, 0, 1), b"a")
            stage.commit(stage.complete(), NEVER)
    finally:
        os.umask(before)
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o755


def test_stages_of_killed_processes_are_swept(tmp_path: Path) -> None:
    left = tmp_path / ".casinductor/stage-1-2"
    left.mkdir(parents=True)
    (left / "0").write_text("x")
    sweep_stages(str(tmp_path))
    assert not left.exists()


def test_nothing_ends_in_another_users_folder(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("giving a directory to another user needs root: sudo make test")
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 12345, 12345)
    with staging(str(tmp_path)) as stage:
        stage.write(stage.add("theirs/file", 0o644, 0, 3), b"abc")
        with pytest.raises(LocalDirectory, match="belongs to user 12345"):
            stage.commit(stage.complete(), NEVER)
    assert not list((tmp_path / "theirs").iterdir())


def test_folders_are_this_users_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with staging(str(tmp_path)) as stage:
            stage.write(stage.add("ab/file", 0o644, 0, 3), b"abc")
            stage.commit(stage.complete(), NEVER)
    finally:
        os.umask(before)
    assert (tmp_path / "ab").stat().st_mode & 0o022 == 0
