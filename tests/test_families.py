"""Caches of several families: shared together, restored elsewhere, refused where they break."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from casinductor.cache import Cache
from casinductor.inductor.fingerprint import Fingerprint, worker_fingerprint
from casinductor.inductor.requirements import refusal
from casinductor.inductor.sources import changed_source, source_marks
from tests.conftest import Fleet, Tree
from tests.needs import need

AOT = "torch_compile_cache/torch_aot_compile/" + "ab" * 32
HASH = "K" * 52
VLLM = ("vllm 0.32.0",)


@dataclass
class Machine:
    """A worker with roots of its own, as a host has them."""

    fleet: Fleet
    name: str
    worker: Fingerprint

    def root(self, family: str) -> Path:
        return self.fleet.folder / self.name / family

    def cache(self, key: str = "m/v1", *families: str) -> Cache:
        chosen = families or ("inductor", "vllm", "triton", "torch_extensions")
        words = tuple(w if w == "inductor" or "=" in w else f"{w}={self.root(w)}" for w in chosen)
        settings = replace(self.fleet.settings(self.name), families=words)
        return Cache(key, settings=settings, worker=self.worker)

    def engine(self, seed: int = 0, rank: int = 0, aot: str = AOT, model: bytes = b"") -> None:
        """What vLLM leaves behind: one rank's model, and Inductor's directory beside it."""
        root = self.root("vllm")
        Tree(root, seed).write("modelinfos/llama.json", b'{"hash": 1}')
        body = model or b"pickled " + bytes([65 + seed]) * 5000
        Tree(root, seed).write(f"{aot}/rank_{rank}_0/model", body)
        Tree(root / aot / "inductor_cache", seed).model("ab").probe("pr")
        Tree(root, seed).write("startup_plan/a.json", b"{}")

    def kernel(self) -> None:
        folder = self.root("triton") / HASH
        tree = Tree(folder)
        tree.write("k.cubin", tree.noise(900))
        paths = {"child_paths": {"k.cubin": str(folder / "k.cubin")}}
        tree.write("__grp__k.json", json.dumps(paths).encode())

    def files(self, family: str) -> dict[str, bytes]:
        root = self.root(family)
        return {
            str(path.relative_to(root)): path.read_bytes()
            for path in sorted(root.rglob("*"))
            if path.is_file() and ".casinductor" not in path.parts
        }


Maker = Callable[..., Machine]


@pytest.fixture
def machine(fleet: Fleet) -> Maker:
    def make(name: str, **different: object) -> Machine:
        known = {"packages": VLLM, **different}
        return Machine(fleet, name, replace(worker_fingerprint(), **known))

    return make


def publish(maker: Machine, key: str = "m/v1") -> None:
    report = maker.cache(key).sync()
    assert report.manifest is not None
    assert not report.unknown


class TestSharing:
    def test_all_families_are_restored_at_other_roots(self, machine: Maker) -> None:
        one, two = machine("one"), machine("two")
        one.engine()
        one.kernel()
        Tree(one.fleet.folder / "local/one").model("zz")
        publish(one)
        report = two.cache().restore("all")
        assert report.refused == {}
        assert two.files("vllm") == {
            path: data for path, data in one.files("vllm").items() if "startup_plan" not in path
        } | {path: data for path, data in two.files("vllm").items() if "__grp__" in path}
        names = json.loads((two.root("triton") / HASH / "__grp__k.json").read_bytes())
        assert names["child_paths"]["k.cubin"] == str(two.root("triton") / HASH / "k.cubin")
        assert two.cache().sync().manifest is None, "nothing is new"

    def test_the_same_graphs_below_two_keys_of_vllms_stay_two(self, machine: Maker) -> None:
        one, two = machine("one"), machine("two")
        other = AOT.replace("ab" * 32, "cd" * 32)
        one.engine()
        one.engine(aot=other)
        publish(one)
        two.cache().restore("all")
        for aot in (AOT, other):
            entries = [
                p for p in two.files("vllm") if p.startswith(f"{aot}/inductor_cache/fxgraph")
            ]
            assert len(entries) == 1

    def test_a_family_without_a_root_is_left_out_and_named(self, machine: Maker) -> None:
        one, two = machine("one"), machine("two")
        one.engine()
        one.kernel()
        publish(one)
        report = two.cache("m/v1", "inductor", "triton").restore()
        assert report.elsewhere == {"vllm": 8}
        assert "8 groups of family vllm left out (--family vllm)" in report.summary()
        assert not two.files("vllm")
        assert two.files("triton")

    def test_what_came_since_the_restore_is_published_as_a_whole(self, machine: Maker) -> None:
        one, two = machine("one"), machine("two")
        index = "torch_compile_cache/0123456789/rank_0_0/backbone"
        cache = one.cache()
        cache.restore()
        tree = Tree(one.root("vllm"))
        tree.write(f"{index}/artifact_compile_range_1_8_subgraph_0", b"a" * 100)
        tree.write(f"{index}/vllm_compile_cache.py", b"{1: 'range_1_8'}")
        cache.publish()
        tree.write(f"{index}/artifact_compile_range_9_16_subgraph_0", b"b" * 100)
        tree.write(f"{index}/vllm_compile_cache.py", b"{1: 'range_1_8', 2: 'range_9_16'}")
        cache.sync()
        two.cache().restore()
        assert two.files("vllm") == one.files("vllm"), "the later index, with all it names"

    def test_a_root_inside_torchs_is_seen_once(self, machine: Maker) -> None:
        one = machine("one")
        main = one.fleet.folder / "local/one"
        Tree(main).triton("ab")
        cache = one.cache("m/v1", "inductor", f"triton={main}/triton/0")
        assert "triton" not in cache.roots.others
        assert cache.sync().groups_added == 1

    def test_torchs_directory_inside_vllms_is_seen_once(self, machine: Maker) -> None:
        one = machine("one")
        one.engine()
        inner = one.root("vllm") / AOT / "inductor_cache"
        settings = replace(one.cache().settings, local_dir=inner)
        report = Cache("m/v1", settings=settings, worker=one.worker).sync()
        assert report.files_seen == len(one.files("vllm"))
        assert report.groups_added == 8


class TestRefusal:
    def test_another_version_of_the_engine(self, machine: Maker) -> None:
        one, two = machine("one"), machine("two", packages=("vllm 0.31.0",))
        one.engine()
        publish(one)
        report = two.cache().restore()
        assert report.refused == {"made with vllm 0.32.0, this worker has vllm 0.31.0": 2}
        assert not (two.root("vllm") / AOT / "rank_0_0").exists()

    def test_kernels_of_tritons_own_outlive_another_torch(self, machine: Maker) -> None:
        one, two = machine("one"), machine("two", torch="9.9 (x)")
        one.kernel()
        publish(one)
        assert two.cache().restore().files_written == 2

    def test_code_for_one_device_goes_to_ranks_that_have_it(self, machine: Maker) -> None:
        code = b"with torch.cuda._DeviceGuard(%d):" * 3
        gpus = {"device": "NVIDIA H100", "devices": 2}
        one = machine("one", **gpus)
        one.engine(rank=0, model=code % (0, 0, 0))
        one.engine(rank=1, model=code % (1, 1, 1))
        publish(one)
        two = machine("two", **gpus)
        assert two.cache().restore().refused == {}
        alone = machine("alone", device="NVIDIA H100", devices=1)
        reasons = alone.cache().restore().refused
        assert reasons == {"made for device 1 in rank 1, which is another one here": 1}

    def test_what_an_unusual_rank_made_is_kept_back(self, machine: Maker) -> None:
        one = machine("one", device="NVIDIA H100", devices=2)
        one.engine(rank=0, model=b"get_raw_stream(1)")
        report = one.cache().sync()
        assert any("rank 0 was compiled for device 1" in note for note in report.notes)
        two = machine("two", device="NVIDIA H100", devices=2)
        two.cache().restore()
        assert not (two.root("vllm") / AOT / "rank_0_0").exists()

    def test_files_demand_the_users_tag(self, machine: Maker) -> None:
        one, two = machine("one"), machine("two")
        Tree(one.root("files")).write("a.engine", b"x" * 50)
        assert one.cache("m/v1", f"files={one.root('files')}#seven").sync().manifest
        refused = two.cache("m/v1", f"files={two.root('files')}#eight").restore()
        assert refused.refused == {"made for tag seven, this worker has eight": 1}
        assert two.cache("m/v1", f"files={two.root('files')}#seven").restore().files_written == 1

    def test_the_drivers_cache_demands_the_driver(self, machine: Maker) -> None:
        one = machine("one", driver="580.1")
        Tree(one.root("nv")).write("0/a/index", b"x" * 50)
        assert one.cache("m/v1", f"nv={one.root('nv')}").sync().manifest
        two = machine("two", driver="581.2")
        refused = two.cache("m/v1", f"nv={two.root('nv')}").restore().refused
        assert refused == {"made for driver 580.1, this worker has 581.2": 1}

    @pytest.mark.parametrize(
        ("demands", "reason"),
        [
            ({"rank_device": "x"}, "which this version does not know"),
            ({"packages": "vllm"}, "made with ?"),
            ({"roots": ["vllm=/a"]}, "valid at /a only"),
            ({"sources": ["0 /no/such"]}, "built from another /no/such"),
            ({"something": "new"}, "which this version does not know"),
        ],
    )
    def test_strange_demands_are_refused(self, demands: dict[str, object], reason: str) -> None:
        assert reason in str(refusal(demands, worker_fingerprint()))


class TestSafety:
    def test_a_root_that_others_can_write_is_left_out(self, machine: Maker) -> None:
        one, two = machine("one"), machine("two")
        one.engine()
        one.kernel()
        publish(one)
        two.root("vllm").mkdir(parents=True)
        two.root("vllm").chmod(0o777)
        report = two.cache().restore()
        assert any("family vllm is not shared: others can write" in n for n in report.notes)
        assert not two.files("vllm")
        assert two.files("triton")

    def test_nothing_is_written_through_a_link(self, machine: Maker, tmp_path: Path) -> None:
        one, two = machine("one"), machine("two")
        one.engine()
        publish(one)
        (tmp_path / "elsewhere").mkdir()
        two.root("vllm").mkdir(parents=True)
        (two.root("vllm") / "torch_compile_cache").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(Exception, match="nothing is written through it"):
            two.cache().restore()
        assert not list((tmp_path / "elsewhere").iterdir())


class TestNinja:
    @pytest.fixture
    def built(self, machine: Maker) -> Machine:
        """A machine on which ninja built an extension from a header of the user's."""
        need("ninja", "g++")
        one = machine("one")
        folder = one.root("torch_extensions") / "py311_cpu/x"
        folder.mkdir(parents=True)
        self.header(one).write_text("#define N 1\n")
        source = self.header(one).with_name("a.cpp")
        source.write_text('#include "a.h"\nint f() { return N; }\n')
        (folder / "build.ninja").write_text(
            f"cxx = {shutil.which('g++')}\n"
            "rule c\n  command = $cxx -MMD -MF $out.d -c $in -o $out\n  depfile = $out.d\n"
            "  deps = gcc\nrule l\n  command = $cxx -shared $in -o $out\n"
            f"build a.o: c {source}\nbuild a.so: l a.o\n"
        )
        assert self.ninja(one) == 2
        publish(one)
        return one

    def header(self, one: Machine) -> Path:
        return one.fleet.folder / "a.h"

    def ninja(self, one: Machine) -> int:
        folder = one.root("torch_extensions") / "py311_cpu/x"
        done = subprocess.run(["ninja", "-C", folder], capture_output=True, text=True, check=True)
        return done.stdout.count("\n[") + done.stdout.startswith("[")

    def test_a_restored_build_is_up_to_date(self, built: Machine) -> None:
        shutil.rmtree(built.root("torch_extensions"))
        report = built.cache().restore()
        assert report.files_written == 5
        assert self.ninja(built) == 0
        assert built.cache().restore().files_written == 0, "it is already there"
        assert built.cache().sync().manifest is None

    def test_another_header_is_noticed(self, built: Machine) -> None:
        shutil.rmtree(built.root("torch_extensions"))
        self.header(built).write_text("#define N 2\n")
        os.utime(self.header(built), (1, 1))  # as an image has it: older than any restore
        report = built.cache().restore()
        assert report.refused == {
            f"built from another {self.header(built)} than this worker has": 1
        }
        assert not built.files("torch_extensions")

    def test_another_path_is_refused(self, built: Machine, machine: Maker) -> None:
        two = machine("two")
        (reason,) = two.cache().restore().refused
        assert f"valid at {built.root('torch_extensions')} only" in reason

    def test_a_build_that_goes_on_is_not_shared(self, machine: Maker) -> None:
        one = machine("one")
        tree = Tree(one.root("torch_extensions"))
        tree.write("x/build.ninja", b"rule c\n")
        tree.write("x/a.o", b"half")
        tree.write("x/.ninja_log", b"# ninja log v7\n")
        report = one.cache().sync()
        assert report.manifest is None
        assert report.unstable == 3


def test_marks_of_sources_name_what_lies_outside(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "a.h").write_text("a")
    inputs = [str(tmp_path / "a.h"), "own.cpp", "../a.h", "/x/site-packages/torch/include/t.h"]
    out = str(tmp_path / "out")
    marks = source_marks(inputs, b"cxx = sh\nnvcc = /no/nvcc\n", out, out)
    assert [mark.partition(" ")[2] for mark in marks] == ["/no/nvcc", str(tmp_path / "a.h"), "sh"]
    assert changed_source(marks) is None, "what is nowhere is nowhere"
    (tmp_path / "a.h").write_text("b!")
    assert changed_source(marks) == str(tmp_path / "a.h")


def test_collectives_demand_the_rank_that_made_them(fleet: Fleet) -> None:
    """torch's keys omit the rank, which such graphs' code may hold: they stay side by side."""
    source = "import torch\ntorch.ops._c10d_functional.all_gather_into_tensor(x)\n"
    caches = {}
    for rank in ("0 of 2", "1 of 2"):
        name = rank[0]
        worker = replace(worker_fingerprint(), rank=rank)
        caches[rank] = Cache("m/v1", settings=fleet.settings(name), worker=worker)
        caches[rank].restore()
        code = f"{source}# rank {name}\n"
        Tree(fleet.folder / "local" / name, int(name)).graph("ab", guards="", source=code)
        assert caches[rank].sync().groups_added == 1
    for rank in caches:
        fresh = fleet.settings(f"fresh-{rank[0]}")
        worker = replace(worker_fingerprint(), rank=rank)
        report = Cache("m/v1", settings=fresh, worker=worker).restore()
        assert report.groups == 1
        (entry,) = (fleet.folder / f"local/fresh-{rank[0]}/fxgraph").rglob("*/*/*")
        assert f"# rank {rank[0]}".encode() in entry.read_bytes()
