"""Walking and reading a directory that something else is writing to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from casinductor.errors import LocalDirectory
from casinductor.inductor.directory import Unstable, read_stable, walk
from casinductor.inductor.graphs import Graphs
from tests.conftest import Tree

MODULE = f"bb/c{'b' * 51}.py"


def test_an_absent_directory_is_empty(tmp_path: Path) -> None:
    assert not walk(str(tmp_path / "nowhere")).files


def test_no_link_is_followed(tmp_path: Path) -> None:
    outside = Tree(tmp_path / "outside").model("ab").root
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "fxgraph").symlink_to(outside / "fxgraph")
    assert not walk(str(inside)).files


def test_a_file_that_changes_is_unstable(tmp_path: Path) -> None:
    path = Tree(tmp_path).write(MODULE, b"first")
    found = walk(str(tmp_path)).files[MODULE]
    assert read_stable(str(tmp_path), found) == b"first"
    path.write_bytes(b"later")
    with pytest.raises(Unstable):
        read_stable(str(tmp_path), found)
    path.unlink()
    with pytest.raises(Unstable):
        read_stable(str(tmp_path), found)


def test_reading_leaves_no_access_time(tmp_path: Path) -> None:
    path = Tree(tmp_path).write(MODULE, b"first")
    modified = path.stat().st_mtime_ns
    os.utime(path, ns=(modified - 10**9, modified))
    found = walk(str(tmp_path)).files[MODULE]
    read_stable(str(tmp_path), found)
    assert path.stat().st_atime_ns == modified - 10**9


def test_a_file_of_another_user_can_be_named(tmp_path: Path) -> None:
    path = Tree(tmp_path).write(MODULE, b"first")
    found = walk(str(tmp_path)).files[MODULE]
    path.unlink()
    os.mkfifo(path)
    with pytest.raises((Unstable, LocalDirectory)):
        read_stable(str(tmp_path), found)


def test_graphs_know_what_they_bundle(tmp_path: Path) -> None:
    from tests.conftest import entry_bytes

    tree = Tree(tmp_path)
    key = "f" + "q" * 51
    tree.write(f"fxgraph/qq/{key}/{'a' * 51}", entry_bytes(key, bundled=("Z" * 52,)))
    graphs = Graphs(str(tmp_path), walk(str(tmp_path)))
    assert graphs.bundled() == {"Z" * 52}
    assert not graphs.compiles_cpp(key)
    assert graphs.compiles_cpp("f" + "x" * 51), "an absent graph demands more, not less"
