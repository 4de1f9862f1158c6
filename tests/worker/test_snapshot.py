"""What came since the load, what was used, and what belongs to somebody else."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from casinductor.deadline import Deadline, bounded
from casinductor.errors import DeadlineExceeded
from casinductor.inductor.directory import walk
from casinductor.worker import snapshot as module
from casinductor.worker.lock import directory_lock
from casinductor.worker.ownership import Ownership, read_records, write_record
from casinductor.worker.snapshot import take_snapshot
from tests.conftest import Tree

NAMES = [f"bb/c{letter * 51}.py" for letter in "abc"]


def test_use_and_change_are_told_apart(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    for name in NAMES:
        tree.write(name, b"text of a module")
    root = str(tmp_path)
    snapshot = take_snapshot(root, walk(root).files, {NAMES[0]: b""}, {})
    if not snapshot.keeps_atime:
        pytest.skip("this mount keeps no access times")
    found = walk(root).files
    assert not any(snapshot.changed(name, found[name]) for name in NAMES)
    assert not snapshot.used(found[NAMES[1]])
    (tmp_path / NAMES[1]).read_bytes()
    (tmp_path / NAMES[2]).write_bytes(b"other text")
    found = walk(root).files
    assert snapshot.used(found[NAMES[1]])
    assert not snapshot.changed(NAMES[1], found[NAMES[1]])
    assert snapshot.changed(NAMES[2], found[NAMES[2]])
    assert snapshot.own == {NAMES[0]}


def test_own_content_changed_behind_the_same_times_is_noticed(tmp_path: Path) -> None:
    path = Tree(tmp_path).write(NAMES[0], b"text")
    root = str(tmp_path)
    snapshot = take_snapshot(root, walk(root).files, {NAMES[0]: b""}, {})
    status = path.stat()
    path.write_bytes(b"TEXT")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert snapshot.changed(NAMES[0], walk(root).files[NAMES[0]])


def test_a_mount_without_access_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "keeps_atime", lambda root: False)
    Tree(tmp_path).write(NAMES[0], b"text")
    root = str(tmp_path)
    snapshot = take_snapshot(root, walk(root).files, {}, {})
    (tmp_path / NAMES[0]).read_bytes()
    assert not snapshot.used(walk(root).files[NAMES[0]])


def test_records_survive_and_damage_is_passed_over(tmp_path: Path) -> None:
    record = Ownership("H100/m", {"a/b": ((1, 2, 3, 4), b"h" * 32)})
    write_record(str(tmp_path), "aa", record)
    write_record(str(tmp_path), "bb", record)
    (tmp_path / ".casinductor/owners/bb").write_bytes(b"\xff\xff")
    assert read_records(str(tmp_path)) == {"aa": record}
    assert read_records(str(tmp_path / "nowhere")) == {}


def test_one_process_at_a_time(tmp_path: Path) -> None:
    root = str(tmp_path)
    with directory_lock(root, Deadline(1)) as first:
        assert first
        with directory_lock(root, Deadline(0.05)) as second:
            assert not second
    with directory_lock(root, Deadline(0.05)) as third:
        assert third


def test_stuck_work_is_left_behind_and_stopped() -> None:
    steps: list[str] = []

    def stuck(deadline: Deadline) -> None:
        time.sleep(0.3)
        deadline.check()
        steps.append("went on")

    with pytest.raises(DeadlineExceeded, match="reading the moon did not finish within"):
        bounded(stuck, Deadline(0.05, "reading the moon"))
    time.sleep(0.4)
    assert steps == []


def test_errors_and_results_pass_through() -> None:
    assert bounded(lambda deadline: 7, Deadline(5)) == 7
    with pytest.raises(KeyError):
        bounded(lambda deadline: dict[str, int]()["x"], Deadline(5))
