"""Copies between stores and bundles: everything arrives, whatever dies or collects meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from casinductor.cache import Cache
from casinductor.errors import CasinductorError, StoreReadOnly, StoreUnavailable
from casinductor.store.backends.address import open_backend
from casinductor.store.backends.bundle import beside, open_bundle
from casinductor.store.backends.writing import writable
from casinductor.store.format.names import CacheId
from casinductor.store.maintain import copying
from casinductor.store.maintain.collect import collect
from casinductor.store.maintain.copying import CopyReport, copy_cache
from casinductor.store.opening import with_fresh_store, with_store
from casinductor.store.store import Store
from casinductor.store.verify.check import check
from tests.conftest import Fleet, Tree, content

V1 = CacheId("H100", "model/v1")
#: Publishes a chunk, says so, and takes its time, so that it can be killed between two.
SLOWLY = """
import time
from casinductor.store.write import publish
real = publish.publish
def slowly(*given):
    done = real(*given)
    print("one", flush=True)
    time.sleep(0.3)
    return done
from casinductor.store.maintain import copying
copying.publish = slowly
from casinductor.cli.main import main
main()
"""


def kill_a_copy(state: Path, source: str, target: str, slowly: str = SLOWLY) -> None:
    """Run the command, and kill it once it said four times that something is done."""
    process = subprocess.Popen(
        [sys.executable, "-c", slowly, "--gpu", "H100", "copy", source, target],
        stdout=subprocess.PIPE,
        env={**os.environ, "CASINDUCTOR_STATE_DIR": str(state)},
    )
    assert process.stdout is not None
    for _ in range(4):
        assert process.stdout.readline() == b"one\n"
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()


def copied(fleet: Fleet, target: str, source: str | None = None) -> CopyReport:
    """Copy the cache, as the command does."""
    origin = replace(fleet.settings("copier"), store=source or str(fleet.store))
    there = replace(origin, store=target)
    with writable(target):
        return with_store(origin, lambda s: with_store(there, lambda t: copy_cache(s, t, V1)))


def restored(fleet: Fleet, store: str, name: str) -> dict[str, bytes]:
    local = fleet.folder / "local/reader"  # always the same path, which some files hold
    shutil.rmtree(local, ignore_errors=True)
    cache = Cache("model/v1", settings=replace(fleet.settings(name), store=store, local_dir=local))
    report = cache.restore("all")
    assert (report.lost, report.refused, report.damage) == (0, {}, [])
    return content(local)


PLACES: dict[str, Callable[[Path], str]] = {
    "directory": lambda folder: str(folder / "other"),
    "bundle": lambda folder: str(folder / "other.casi"),
}


@pytest.mark.parametrize("place", PLACES)
def test_everything_arrives_and_only_once(two: Fleet, place: str) -> None:
    target = PLACES[place](two.folder)
    expected = restored(two, str(two.store), "reader")
    first = copied(two, target)
    assert (first.groups, first.groups_there, first.lost) == (10, 0, [])
    assert first.files == len(expected)
    assert restored(two, target, "elsewhere") == expected
    again = copied(two, target)
    assert (again.groups, again.groups_there, again.bytes_written) == (0, 10, 0)
    Tree(two.folder / "local/ef", seed=9).model("ef")
    two.cache("ef").sync()
    more = copied(two, target)
    assert (more.groups, more.groups_there) == (5, 10)
    assert restored(two, target, "later") == restored(two, str(two.store), "reader2")
    back = copied(two, str(two.folder / "back"), target)
    assert back.groups == 15
    assert restored(two, str(two.folder / "back"), "home") == restored(two, target, "later2")


def test_races_resolve_as_at_the_source(fleet: Fleet) -> None:
    """Two workers made the same group: the copy's winner is the source's."""
    for number in (1, 2):
        tree = Tree(fleet.folder / f"local/w{number}", seed=number)
        tree.tuning("ab")
        fleet.cache(f"w{number}").sync()
    copied(fleet, str(fleet.folder / "other"))
    here = restored(fleet, str(fleet.store), "here")
    assert restored(fleet, str(fleet.folder / "other"), "there") == here


def test_what_is_hidden_or_removed_stays_behind(two: Fleet) -> None:
    from casinductor.store.maintain.hiding import hide
    from casinductor.store.maintain.removal import remove

    with_fresh_store(two.settings("x"), lambda store: hide(store, V1, lambda v: v.kind == "triton"))
    target = str(two.folder / "other")
    assert copied(two, target).groups == 8
    assert not [path for path in restored(two, target, "reader") if "triton" in path]
    with_fresh_store(two.settings("x"), lambda store: remove(store, V1))
    assert copied(two, str(two.folder / "third")).groups == 0


def test_lost_blobs_cost_their_groups_only(two: Fleet) -> None:
    whole = len(restored(two, str(two.store), "before"))
    two.files("*.pack")[0].unlink()
    report = copied(two, str(two.folder / "other"))
    assert report.lost
    assert report.groups + len(report.lost) == 10, report.lost
    assert 0 < len(restored(two, str(two.folder / "other"), "reader")) < whole


def test_collectors_on_both_sides_lose_nothing(two: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection that spares nothing runs at the destination after the first packs, and a
    compaction at the source.
    """
    from casinductor.store.maintain.compact import compact
    from casinductor.store.write import publish

    expected = restored(two, str(two.store), "reader")
    target = replace(two.settings("collector"), store=str(two.folder / "other"))
    real, left = publish._write_packs, [3]

    def greedy(store: Store, *rest: Any) -> Any:
        packs = real(store, *rest)
        if left[0] > 0:
            left[0] -= 1
            with_fresh_store(target, lambda s: collect(s, apply=True, min_age_seconds=0, grace=0))
            with_fresh_store(two.settings("compactor"), lambda s: compact(s, V1, grace=0))
        return packs

    monkeypatch.setattr(publish, "_write_packs", greedy)
    copied(two, str(two.folder / "other"))
    monkeypatch.undo()
    with_fresh_store(target, lambda s: collect(s, apply=True, min_age_seconds=0, grace=0))
    assert restored(two, str(two.folder / "other"), "there") == expected
    assert with_fresh_store(target, lambda s: check(s, data=1.0)).problems == []


@pytest.mark.parametrize("place", PLACES)
def test_a_copy_that_is_killed_goes_on(
    fleet: Fleet, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        Tree(fleet.folder / "local/w", seed=number).model("abcdefghijkl"[number] * 2)
        fleet.cache("w").sync()
    expected = restored(fleet, str(fleet.store), "reader")
    target = PLACES[place](fleet.folder)
    kill_a_copy(fleet.folder / "state/killed", str(fleet.store), target)
    if place == "bundle":
        assert not Path(target).exists()
        assert beside(Path(target)).is_dir()
    report = copied(fleet, target)
    assert report.groups_there >= 15
    assert report.groups + report.groups_there == 60
    assert restored(fleet, target, "there") == expected
    assert not beside(Path(target)).exists()


def test_large_caches_go_in_pieces(two: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "CHUNK_BYTES", 1)
    report = copied(two, str(two.folder / "other"))
    assert len(report.manifests) == 10
    assert restored(two, str(two.folder / "other"), "x") == restored(two, str(two.store), "y")


class TestBundles:
    @pytest.fixture
    def bundle(self, two: Fleet) -> Path:
        path = two.folder / "a.casi"
        copied(two, str(path))
        return path

    def test_it_is_a_store_that_nobody_changes(self, two: Fleet, bundle: Path) -> None:
        before = bundle.read_bytes()
        here = replace(two.settings("reader"), store=str(bundle))
        assert with_fresh_store(here, lambda s: check(s, data=1.0)).problems == []
        assert restored(two, str(bundle), "reader") == restored(two, str(two.store), "other")
        Tree(two.folder / "local/gh", seed=5).model("gh")
        cache = Cache("model/v1", settings=replace(here, local_dir=two.folder / "local/gh"))
        with pytest.raises(StoreReadOnly, match="is sealed"):
            cache.sync()
        assert bundle.read_bytes() == before

    def test_push_writes_one_whole(self, two: Fleet, bundle: Path) -> None:
        Tree(two.folder / "local/gh", seed=5).model("gh")
        here = replace(two.settings("w"), store=str(bundle), local_dir=two.folder / "local/gh")
        with writable(str(bundle)):
            assert Cache("model/v1", settings=here).sync().groups_added == 5
        assert len(restored(two, str(bundle), "reader")) == 3 * 8
        assert not beside(bundle).exists()

    def test_what_raises_leaves_the_old_one(self, two: Fleet, bundle: Path) -> None:
        before = bundle.read_bytes()
        with pytest.raises(KeyError), writable(str(bundle)):
            raise KeyError
        assert bundle.read_bytes() == before

    def test_one_writer_at_a_time(self, bundle: Path) -> None:
        with (
            writable(str(bundle)),
            pytest.raises(StoreUnavailable, match="another process"),
            writable(str(bundle)),
        ):
            pass

    def test_the_archive_is_plain(self, bundle: Path, tmp_path: Path, two: Fleet) -> None:
        """Whoever has no casinductor unpacks it, and has a store."""
        with zipfile.ZipFile(bundle) as archive:
            assert archive.testzip() is None
            archive.extractall(tmp_path / "unpacked")
        assert restored(two, str(tmp_path / "unpacked"), "a") == restored(two, str(bundle), "b")

    def test_strange_members_are_not_looked_at(self, two: Fleet, bundle: Path) -> None:
        with zipfile.ZipFile(bundle, "a") as archive:
            archive.writestr("../../etc/passwd", "x")
            archive.writestr("manifests/../FORMAT", "x")
            archive.writestr("packs/zz/nothing.pack", "x")
            archive.writestr("uses/H100/model/v1/2026-01-01", "")
        assert set(open_bundle(bundle).objects) == {
            name
            for name in zipfile.ZipFile(bundle).namelist()
            if name == "FORMAT" or name.endswith((".manifest", ".pack"))
        } - {"packs/zz/nothing.pack"}
        assert restored(two, str(bundle), "reader")

    def test_compressed_members_are_refused(self, two: Fleet, tmp_path: Path) -> None:
        path = tmp_path / "b.casi"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("FORMAT", "x" * 1000)
        with pytest.raises(CasinductorError, match="is no bundle: FORMAT is compressed"):
            open_backend(str(path))

    @given(where=st.floats(0, 1), value=st.integers(0, 255))
    @settings(
        max_examples=60,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    def test_damage_is_found_or_harmless(
        self, two: Fleet, bundle: Path, where: float, value: int
    ) -> None:
        """One changed byte anywhere: an error of ours, or exactly what was stored."""
        data = bytearray(bundle.read_bytes())
        data[min(int(where * len(data)), len(data) - 1)] = value
        damaged = bundle.with_name("damaged.casi")
        damaged.write_bytes(data)
        sound = restored(two, str(two.store), "sound")
        local = two.folder / "local/reader"
        shutil.rmtree(local)
        here = replace(two.settings("reader"), store=str(damaged), local_dir=local)
        try:
            report = Cache("model/v1", settings=here).restore("all")
        except CasinductorError:
            return
        for path, found in content(local).items() if report.files_written else ():
            assert sound[path] == found


def test_the_command_takes_patterns_and_names(two: Fleet) -> None:
    Tree(two.folder / "local/x", seed=7).model("ef")
    two.cache("x", "other/v2").sync()
    environment = {**os.environ, "CASINDUCTOR_STATE_DIR": str(two.folder / "state/cli")}

    def copy(*caches: str) -> list[str]:
        target = str(two.folder / f"t{len(caches)}{caches[:1]}".replace("/", "-").replace("*", ""))
        command = [sys.executable, "-m", "casinductor", "--gpu", "H100", "--json", "copy"]
        said = subprocess.run(
            [*command, str(two.store), target, *caches],
            env=environment,
            capture_output=True,
            check=True,
        )
        return [report["cache"] for report in json.loads(said.stdout)]

    assert copy() == ["H100/model/v1", "H100/other/v2"]
    assert copy("H100/oth*") == ["H100/other/v2"]
    assert copy("model/v1") == ["H100/model/v1"]
    assert copy("H100/model/v1", "*") == ["H100/model/v1", "H100/other/v2"]
    for words, told in (
        ((str(two.store), str(two.folder / "x"), "nope*"), "matches nope*"),
        ((str(two.store), str(two.folder / "x"), "modle/v1"), "did you mean H100/model/v1?"),
        ((str(two.folder / "nowhere"), str(two.folder / "x")), "no such directory"),
    ):
        said = subprocess.run(
            [sys.executable, "-m", "casinductor", "--gpu", "H100", "copy", *words],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert said.returncode in (3, 5)
        assert told in said.stderr
    assert not (two.folder / "x").exists()
