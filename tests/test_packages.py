"""Packages: made once, whole, for workers of one kind; a store's fault only costs the making."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from msgspec.structs import replace

from casinductor.cache import Cache
from casinductor.errors import InvalidName
from casinductor.inductor.fingerprint import worker_fingerprint
from casinductor.store.maintain.collect import collect
from casinductor.store.maintain.retention import Policy
from casinductor.store.opening import with_fresh_store
from tests.conftest import Fleet, Tree


class Builder:
    """Makes a package, and counts how often."""

    def __init__(self, data: bytes = b"package" * 1000) -> None:
        self.data = data
        self.made = 0

    def file(self, path: str) -> None:
        self.made += 1
        Path(path).write_bytes(self.data)

    def directory(self, path: str) -> None:
        self.made += 1
        tree = Tree(Path(path))
        tree.write("weights.pt", self.data)
        tree.write("lib/kernel.so", self.data[:50], 0o755)
        tree.write("lib/__init__.py", b"")

    def nothing(self, path: str) -> None:
        self.made += 1


def test_the_second_worker_gets_what_the_first_made(fleet: Fleet) -> None:
    builder = Builder()
    first = fleet.cache("one").package("unet.pt2", builder.file)
    second = fleet.cache("two").package("unet.pt2", builder.file)
    assert builder.made == 1
    assert first != second
    assert Path(second).read_bytes() == builder.data
    assert fleet.cache("two").package("unet.pt2", builder.file) == second, "it is there"
    assert Path(second).name == "unet.pt2"


def test_a_directory_with_any_files(fleet: Fleet) -> None:
    builder = Builder()
    fleet.cache("one").package("engine", builder.directory)
    path = Path(fleet.cache("two").package("engine", builder.directory))
    assert builder.made == 1
    assert (path / "weights.pt").read_bytes() == builder.data
    assert (path / "lib/__init__.py").read_bytes() == b""
    assert os.access(path / "lib/kernel.so", os.X_OK)
    assert not [p for p in path.parent.parent.iterdir() if p.name.startswith("aside-")]


def test_a_worker_of_another_kind_makes_its_own(fleet: Fleet) -> None:
    builder = Builder()
    other = replace(worker_fingerprint(), torch="9.9 (x)")
    fleet.cache("one").package("a", builder.file)
    settings = fleet.settings("two")
    Cache("model/v1", settings=settings, worker=other).package("a", builder.file)
    assert builder.made == 2
    fleet.cache("three").package("a", builder.file)
    Cache("model/v1", settings=fleet.settings("four"), worker=other).package("a", builder.file)
    assert builder.made == 2, "both are kept side by side"


def test_packages_are_no_part_of_a_restore(fleet: Fleet) -> None:
    fleet.cache("one").package("a", Builder().file)
    Tree(fleet.folder / "local/one").model("ab")
    fleet.cache("one").sync()
    report = fleet.cache("two").restore("all")
    assert report.groups == 5
    assert report.elsewhere == {}
    assert "left out" not in report.summary()


def test_they_are_collected_like_everything_else(fleet: Fleet) -> None:
    cache = fleet.cache("one")
    cache.package("a", Builder().file)
    policy = Policy(max_bytes=0)
    with_fresh_store(
        cache.settings,
        lambda store: collect(store, policy, apply=True, grace=0.0, min_age_seconds=0.0),
    )
    again = Builder()
    fleet.cache("two").package("a", again.file)
    assert again.made == 1


def test_a_store_that_cannot_be_had_costs_the_making(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    builder = Builder()
    settings = replace(fleet.settings("one"), store="/dev/null/store", wait=5.0)
    path = Cache("model/v1", settings=settings).package("a", builder.file)
    assert Path(path).read_bytes() == builder.data
    assert "cannot publish package a" in caplog.text


def test_what_making_raises_is_raised_and_nothing_is_left(fleet: Fleet) -> None:
    def fails(path: str) -> None:
        Path(path).write_bytes(b"half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fleet.cache("one").package("a", fails)
    with pytest.raises(InvalidName, match="made nothing"):
        fleet.cache("one").package("a", Builder().nothing)
    assert fleet.cache("one").package("a", Builder().file)


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a!b", "a\0", "x" * 300, "con:"])
def test_names_that_no_store_could_hold(fleet: Fleet, name: str) -> None:
    with pytest.raises(InvalidName, match="package"):
        fleet.cache("one").package(name, Builder().file)


def test_one_that_cannot_be_stored_is_used_and_said(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    def hidden(path: str) -> None:
        Tree(Path(path)).write(".config", b"x")

    path = fleet.cache("one").package("a", hidden)
    assert (Path(path) / ".config").exists()
    assert "cannot publish package a" in caplog.text
    assert not fleet.files("manifests/**/*")


def test_of_workers_that_want_it_at_once_one_makes_it(fleet: Fleet) -> None:
    builder = Builder()
    paths: list[str] = []

    def want(number: int) -> None:
        settings = replace(fleet.settings(f"w{number}"), wait=60.0)
        paths.append(Cache("model/v1", settings=settings).package("a", builder.file))

    threads = [threading.Thread(target=want, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert builder.made == 1
    assert len({Path(path).read_bytes() for path in paths}) == 1
    assert len(set(paths)) == 4
