"""Sync and restore by the rules, on synthetic trees and on the real CUDA corpus."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from casinductor.cache import Cache
from casinductor.errors import DeadlineExceeded
from casinductor.inductor import fingerprint as fp
from casinductor.store.backends.filesystem import FilesystemBackend
from casinductor.store.maintain.compact import compact
from casinductor.store.opening import with_store
from casinductor.sync.pieces import cut
from tests.conftest import Fleet, Tree, content

MB = 1_000_000
Make = Callable[..., Tree]


def compacted(fleet: Fleet, key: str = "model/v1") -> None:
    cache = fleet.cache("compactor", key)
    with_store(cache.settings, lambda store: compact(store, cache.id))


def test_everything_comes_back(fleet: Fleet, tree: Make) -> None:
    made = tree("w").model("ab").model("cd")
    report = fleet.cache("w").sync()
    assert report.manifest
    assert (report.groups_added, report.files_added) == (10, 16)
    restored = fleet.cache("v").restore("all")
    assert restored.files_written == 16
    there = content(fleet.folder / "local/v")
    for path, data in made.content().items():
        if "__grp__" in path:
            children = json.loads(there[path])["child_paths"].values()
            assert all(Path(child).exists() for child in children)
            assert str(fleet.folder / "local/v") in there[path].decode()
        else:
            assert there[path] == data, path
    kernels = list((fleet.folder / "local/v").rglob("*.so"))
    assert all(path.stat().st_mode & 0o777 == 0o755 for path in kernels)


def test_needed_is_what_a_hit_reads(fleet: Fleet, tree: Make) -> None:
    made = tree("w").model("ab")
    bundled = "AB" * 26
    from tests.conftest import entry_bytes

    key = "f" + "z" * 51
    made.write(f"fxgraph/zz/{key}/{'e' * 51}", entry_bytes(key, bundled=(bundled,)))
    fleet.cache("w").sync()
    fleet.cache("v").restore("needed")
    kinds = {path.split("/")[0] for path in content(fleet.folder / "local/v")}
    suffixes = {Path(path).suffix for path in content(fleet.folder / "local/v")}
    assert "triton" not in kinds, "an entry bundles it"
    assert suffixes == {"", ".so", ".best_config"}


def test_triton_is_needed_where_nothing_bundles_it(fleet: Fleet, tree: Make) -> None:
    tree("w").model("ab")
    fleet.cache("w").sync()
    fleet.cache("v").restore("needed")
    assert (fleet.folder / "local/v/triton").is_dir()


def test_a_second_restore_writes_nothing(fleet: Fleet, tree: Make) -> None:
    tree("w").model("ab")
    fleet.cache("w").sync()
    for mode in ("needed", "all"):
        fleet.cache("v").restore(mode)
        before = {p: p.stat().st_mtime_ns for p in (fleet.folder / "local/v").rglob("*.so")}
        again = fleet.cache("v").restore(mode)
        assert (again.files_written, again.bytes_written, again.bytes_read) == (0, 0, 0)
        assert before == {p: p.stat().st_mtime_ns for p in before}


def test_a_sync_with_nothing_new_publishes_nothing(fleet: Fleet, tree: Make) -> None:
    tree("w").model("ab")
    cache = fleet.cache("w")
    assert cache.sync().manifest
    before = fleet.published()
    assert cache.sync().manifest is None
    assert fleet.cache("w").sync().manifest is None
    assert fleet.published() == before


def test_workers_add_to_each_other(fleet: Fleet, tree: Make) -> None:
    tree("w").model("ab")
    tree("v", seed=1).model("cd")
    fleet.cache("w").sync()
    fleet.cache("v").sync()
    fleet.cache("u").restore("all")
    paths = set(content(fleet.folder / "local/u"))
    assert paths == set(content(fleet.folder / "local/w")) | set(content(fleet.folder / "local/v"))


def test_equivalent_entries_are_stored_once(fleet: Fleet, tree: Make) -> None:
    tree("w").graph("ab", time_ns=1)
    tree("v").graph("ab", time_ns=2)
    fleet.cache("w").sync()
    report = fleet.cache("v").sync()
    assert report.manifest is None
    assert report.equivalent == 1
    fleet.cache("u").restore()
    assert content(fleet.folder / "local/u") == content(fleet.folder / "local/w")
    assert fleet.cache("v").sync(keep_equivalent=True).groups_added == 1


def test_different_guards_are_all_kept(fleet: Fleet, tree: Make) -> None:
    for worker, guards in (("w", "s0 < 64"), ("v", "s0 >= 64"), ("x", None)):
        tree(worker).graph("ab", guards=guards)
        assert fleet.cache(worker).sync().groups_added == 1
    fleet.cache("u").restore()
    assert len(content(fleet.folder / "local/u")) == 3


def test_equivalents_within_one_directory(fleet: Fleet, tree: Make) -> None:
    made = tree("w")
    made.graph("ab", time_ns=1)
    made.graph("ab", time_ns=2)
    assert fleet.cache("w").sync().groups_added == 1


def test_opaque_entries_are_their_own(fleet: Fleet, tree: Make) -> None:
    key = "f" + "o" * 51
    for worker, data in (("w", b"not a pickle"), ("v", b"nor this one")):
        tree(worker).write(f"fxgraph/oo/{key}/{worker * 51}", data)
        report = fleet.cache(worker).sync()
        assert (report.groups_added, report.opaque) == (1, 1)
    fleet.cache("u").restore()
    assert len(content(fleet.folder / "local/u")) == 2


def test_what_another_cache_brought_stays_out(fleet: Fleet, tree: Make) -> None:
    made = tree("w").model("ab")
    two = fleet.cache("w", "two")
    two.restore()
    made.model("cd")
    report = two.sync()
    assert report.foreign == 8
    fleet.cache("v", "two").restore("all")
    assert not any("ab" * 8 in path for path in content(fleet.folder / "local/v"))


def test_what_was_used_of_another_cache_comes_along(fleet: Fleet, tree: Make) -> None:
    used = tree("w").graph("ab")
    tree("w").graph("cd")
    two = fleet.cache("w", "two")
    two.restore()
    assert two.snapshot is not None
    if not two.snapshot.keeps_atime:
        pytest.skip("this mount keeps no access times")
    used.read_bytes()
    assert two.sync().groups_added == 1
    fleet.cache("v", "two").restore()
    assert list(content(fleet.folder / "local/v")) == [
        str(used.relative_to(fleet.folder / "local/w"))
    ]


def test_another_process_restoring_into_the_directory(fleet: Fleet, tree: Make) -> None:
    tree("maker").model("ab")
    fleet.cache("maker", "other").sync()
    mine = fleet.cache("w", "mine")
    mine.restore()
    fleet.cache("w", "other").restore("all")  # another process of this machine
    tree("w").model("cd")
    report = mine.sync()
    assert report.files_added == 8
    assert report.foreign == 8


def test_content_changed_under_its_name_is_published(fleet: Fleet, tree: Make) -> None:
    tree("w").tuning("ab", choice=1)
    fleet.cache("w").sync()
    cache = fleet.cache("v")
    cache.restore()
    Tree(fleet.folder / "local/v").tuning("ab", choice=2)
    assert cache.sync().groups_added == 1
    fleet.cache("u").restore()
    assert list(content(fleet.folder / "local/u").values()) == [b'{"XBLOCK": 2}']


def test_a_touched_file_is_not_published(fleet: Fleet, tree: Make) -> None:
    path = tree("w").tuning("ab")
    cache = fleet.cache("w")
    cache.sync()
    cache.restore()
    os.utime(path)
    assert cache.sync().manifest is None


def test_a_workers_own_tuning_survives_a_restore(fleet: Fleet, tree: Make) -> None:
    tree("w").tuning("ab", choice=1)
    fleet.cache("w").sync()
    tree("v").tuning("ab", choice=7)
    report = fleet.cache("v").restore()
    assert report.files_kept == 1
    assert list(content(fleet.folder / "local/v").values()) == [b'{"XBLOCK": 7}']


def test_unfinished_files_wait_for_the_next_sync(fleet: Fleet, tree: Make) -> None:
    library = tree("w").kernel("ab")
    library.chmod(0o644)
    report = fleet.cache("w").sync()
    assert report.manifest is None
    assert report.unstable == 2
    library.chmod(0o755)
    assert fleet.cache("w").sync().groups_added == 1


def test_a_triton_folder_without_all_its_children_waits(fleet: Fleet, tree: Make) -> None:
    group = tree("w").triton("ab")
    child = group.with_name("ab.cubin")
    data = child.read_bytes()
    child.unlink()
    assert fleet.cache("w").sync().manifest is None
    child.write_bytes(data)
    assert fleet.cache("w").sync().groups_added == 1


def test_caches_of_one_gpu_type_share_blobs(fleet: Fleet, tree: Make) -> None:
    data = os.urandom(100_000)
    tree("w").kernel("ab", data)
    fleet.cache("w", "one").sync()
    before = fleet.stored_bytes()
    fleet.cache("w", "two").sync()
    assert fleet.stored_bytes() - before < 3000
    shutil.rmtree(fleet.store / "manifests/H100/one")
    fleet.cache("v", "two").restore()
    assert data in content(fleet.folder / "local/v").values()


def test_a_mismatch_is_refused_and_both_keep_theirs(
    fleet: Fleet, tree: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = fp.worker_fingerprint()
    narrow = replace(worker, isa="avx2-only", flags=("avx2",))
    wide = replace(worker, isa="avx512-only", flags=("avx2", "avx512f"))
    seen = {"w": wide, "v": narrow}
    worker_of = property(lambda self: seen[Path(self.root).name[0]])
    monkeypatch.setattr(Cache, "worker", worker_of)
    tree("w").kernel("ab")
    tree("w").module("ab")
    fleet.cache("w").sync()
    restored = fleet.cache("v").restore("all")
    assert restored.groups_refused == 1
    assert "vector ISA avx512-only" in next(iter(restored.refused))
    assert [Path(p).suffix for p in content(fleet.folder / "local/v")] == [".py"]
    tree("v", seed=9).kernel("ab")
    assert fleet.cache("v").sync().groups_added == 1
    for name, origin in (("w2", "w"), ("v2", "v")):
        fleet.cache(name).restore("all")
        assert content(fleet.folder / "local" / name) == content(fleet.folder / "local" / origin)


def test_deadlines_hold_on_a_hung_store(
    fleet: Fleet, tree: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree("w").model("ab")
    fleet.cache("w").sync()
    listing = FilesystemBackend.list

    def hang(self: FilesystemBackend, prefix: str, *, recursive: bool = False) -> object:
        time.sleep(1.5)
        return listing(self, prefix, recursive=recursive)

    monkeypatch.setattr(FilesystemBackend, "list", hang)
    start = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="restoring H100/model/v1 from"):
        fleet.cache("v").restore(seconds=0.2)
    assert time.monotonic() - start < 1.4, "it waited for the hung call"
    time.sleep(1.6)
    assert content(fleet.folder / "local/v") == {}, "abandoned work wrote files"


def test_compaction_keeps_everything(fleet: Fleet, tree: Make) -> None:
    tree("w").model("ab").graph("ab", guards="s0 < 9")
    tree("v", seed=2).model("cd")
    fleet.cache("w").sync()
    fleet.cache("v").sync()
    fleet.cache("before").restore("all")
    compacted(fleet)
    assert len(fleet.files("*.manifest")) == len(fleet.files("*.pack")) == 1
    assert fleet.files("condemned/*") == []
    fleet.cache("after").restore("all")

    def same(worker: str) -> dict[str, bytes]:
        root = str(fleet.folder / "local" / worker).encode()
        return {
            p: d.replace(root, b"") for p, d in content(fleet.folder / "local" / worker).items()
        }

    assert same("after") == same("before")
    assert fleet.cache("w").sync().manifest is None, "origins and contents are the same"


def test_compaction_spares_packs_that_other_caches_name(fleet: Fleet, tree: Make) -> None:
    tree("w").kernel("ab", os.urandom(50_000))
    fleet.cache("w", "one").sync()
    fleet.cache("w", "two").sync()
    compacted(fleet, "one")
    fleet.cache("v", "two").restore("all")
    assert len(content(fleet.folder / "local/v")) == 2
    compacted(fleet, "two")
    assert len(fleet.files("*.pack")) == 1, "the second compaction uses what the first wrote"


def test_a_reader_with_an_old_catalog_survives_compaction(fleet: Fleet, tree: Make) -> None:
    tree("w").model("ab")
    fleet.cache("w").sync()
    fleet.cache("v").restore()
    compacted(fleet)
    shutil.rmtree(fleet.folder / "local/v")
    report = fleet.cache("v").restore("all")
    assert report.lost == 0
    assert report.files_written == 8


def test_large_runs_are_cut() -> None:
    data = os.urandom(9 << 20)
    blobs = cut(data, [100, 200])
    assert b"".join(blob.data for blob in blobs) == data
    assert max(len(blob.data) for blob in blobs) == 4 << 20
    assert [len(blob.data) for blob in blobs[:2]] == [100, 100]


class TestCorpus:
    """Sizes on real CUDA trees; the bounds are the promises of the README."""

    def push(self, fleet: Fleet, corpus: Path, name: str, key: str, **options: bool) -> int:
        before = fleet.stored_bytes()
        fleet.cache("w", key, corpus / name).sync(**options)
        return fleet.stored_bytes() - before

    def test_bert(self, fleet: Fleet, corpus: Path) -> None:
        assert self.push(fleet, corpus, "cuda-bert4_train-cold1", "bert") <= 2.9 * MB
        report = fleet.cache("v", "bert").restore()
        assert report.bytes_read <= 2.4 * MB
        assert report.files_written == 23
        assert self.push(fleet, corpus, "cuda-bert4_train-cold2-samepath", "bert") <= 0.05 * MB
        every = self.push(
            fleet, corpus, "cuda-bert4_train-cold2-samepath", "bert", keep_equivalent=True
        )
        assert every <= 0.7 * MB

    def test_bert_compacted(self, fleet: Fleet, corpus: Path) -> None:
        self.push(fleet, corpus, "cuda-bert4_train-cold1", "bert")
        fleet.cache("before", "bert").restore("all")
        compacted(fleet, "bert")
        assert fleet.stored_bytes() <= 1.1 * MB
        fleet.cache("after", "bert").restore("all")
        after = content(fleet.folder / "local/after")
        for path, data in content(fleet.folder / "local/before").items():
            assert after[path] == data or "__grp__" in path, path
        assert len(after) == 525

    def test_unet(self, fleet: Fleet, unet: Path) -> None:
        assert self.push(fleet, unet.parent, unet.name, "unet") <= 18.5 * MB
        assert fleet.cache("v", "unet").restore().bytes_read <= 16 * MB
        compacted(fleet, "unet")
        assert fleet.stored_bytes() <= 5.5 * MB
        fleet.cache("u", "unet").restore("all")
        there = content(fleet.folder / "local/u")
        for path, data in content(unet).items():
            if not path.startswith("cache/") and "__grp__" not in path:
                assert there[path] == data, path

    def test_the_next_version_of_a_model(self, fleet: Fleet, corpus: Path) -> None:
        self.push(fleet, corpus, "cuda-llama8-v1", "llama/v1")
        assert self.push(fleet, corpus, "cuda-llama8-v2", "llama/v2") <= 0.5 * MB
