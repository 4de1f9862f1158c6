"""What every path of every family is, and which families a worker shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casinductor.errors import HostilePath, InvalidName
from casinductor.families import choice
from casinductor.families.place import JUNK, UNKNOWN, Fate, Kind, shared
from casinductor.families.table import FAMILIES, PACKAGES, classify, family_of
from casinductor.store.format.paths import check_path
from casinductor.util.roots import Roots, locate, split

AOT = "vllm!torch_compile_cache/torch_aot_compile/" + "ab" * 32
INDEX = "vllm!torch_compile_cache/9abe0bcfe3/rank_1_0/backbone"
HASH = "A" * 52
SHARED = [
    (f"{AOT}/rank_0_0/model", Kind.MODEL, f"{AOT}/rank_0_0/model", True),
    (f"{INDEX}/vllm_compile_cache.py", Kind.INDEX, INDEX, True),
    (f"{INDEX}/artifact_compile_range_1_2_subgraph_0", Kind.INDEX, INDEX, True),
    (f"{INDEX}/computation_graph.py", Kind.INDEX, INDEX, False),
    (f"{AOT}/inductor_cache/ab/cabc.main.so", Kind.CPP, f"{AOT}/inductor_cache/ab/cabc.main", True),
    (
        f"{AOT}/inductor_cache/triton/0/{HASH}/k.cubin",
        Kind.TRITON,
        f"{AOT}/inductor_cache/triton/0/{HASH}",
        False,
    ),
    (f"vllm!triton_cache/{HASH}/k.json", Kind.TRITON, f"vllm!triton_cache/{HASH}", True),
    ("vllm!modelinfos/a.json", Kind.SIDE, "vllm!modelinfos/a.json", True),
    (
        "vllm!deep_gemm/cache/kernel.gemm.ab/kernel.cubin",
        Kind.KERNEL,
        "vllm!deep_gemm/cache/kernel.gemm.ab",
        True,
    ),
    (f"triton!{HASH}/k.cubin", Kind.TRITON, f"triton!{HASH}", True),
    ("sglang!inductor/ab/cabc.py", Kind.MODULE, "sglang!inductor/ab/cabc.py", False),
    (f"sglang!triton/{HASH}/k.json", Kind.TRITON, f"sglang!triton/{HASH}", True),
    (
        "sglang!jit/sm_90/mod/build-0123/deps-4567/mod.so",
        Kind.KERNEL,
        "sglang!jit/sm_90/mod/build-0123/deps-4567",
        True,
    ),
    ("deepgemm!cache/kernel.a.b/kernel.cu", Kind.KERNEL, "deepgemm!cache/kernel.a.b", True),
    (
        f"tilelang!0.1/linux-x86_64/kernels/{'c' * 64}/kernel_lib.so",
        Kind.KERNEL,
        f"tilelang!0.1/linux-x86_64/kernels/{'c' * 64}",
        True,
    ),
    (
        f"tilelang!0.1/cuda-binaries/{'c' * 64}/kernel.cubin",
        Kind.KERNEL,
        f"tilelang!0.1/cuda-binaries/{'c' * 64}",
        True,
    ),
    ("cutedsl!cute_dsl_ab.mlir", Kind.KERNEL, "cutedsl!cute_dsl_ab.mlir", True),
    ("quack!fp/0123ab.o", Kind.KERNEL, "quack!fp/0123ab.o", True),
    (
        "flashinfer!0.3/90a/cached_ops/mla/build.ninja",
        Kind.BUILD,
        "flashinfer!0.3/90a/cached_ops/mla",
        True,
    ),
    (
        "flashinfer!0.3/90a/generated/mla/a.cu",
        Kind.SIDE,
        "flashinfer!0.3/90a/generated/mla/a.cu",
        True,
    ),
    (
        "flashinfer!0.3/90a/cached_ops/m_sm90_cute_dsl/meta.json",
        Kind.KERNEL,
        "flashinfer!0.3/90a/cached_ops/m_sm90_cute_dsl",
        True,
    ),
    ("tvm_ffi!a_0123456789ab/main.so", Kind.BUILD, "tvm_ffi!a_0123456789ab", True),
    (
        "torch_extensions!py311_cpu/x/%2Eninja_log",
        Kind.BUILD,
        "torch_extensions!py311_cpu/x",
        True,
    ),
    ("torch_extensions!x/x.so", Kind.BUILD, "torch_extensions!x", True),
    ("nv!0/1/index", Kind.DRIVER, "nv!tree", True),
    ("files!a/b.engine", Kind.FILE, "files!a/b.engine", True),
]


@pytest.mark.parametrize(("path", "kind", "group", "needed"), SHARED, ids=lambda v: str(v)[:40])
def test_what_is_shared(path: str, kind: Kind, group: str, needed: bool) -> None:
    place = classify(path)
    assert (place.fate, place.kind, place.group, place.needed) == (Fate.SHARE, kind, group, needed)
    assert check_path(path) == path
    assert group.startswith(place.prefix)


@pytest.mark.parametrize(
    "path",
    [
        "vllm!gpu_p2p_access_cache_for_0,1.json",
        "vllm!startup_plan/a.json",
        f"{AOT}/inductor_cache/locks/x.lock",
        f"{AOT}/rank_0_0/model.123.tmp",
        "sglang!nv/index",
        "sglang!torch_compile_cache/0123456789/rank_0_0/backbone/computation_graph.py",
        "torch_extensions!x/lock",
        "flashinfer!0.3/90a/cubins/ab.cubin",
        "flashinfer!0.3/90a/flashinfer_jit.log",
        "flashinfer!0.3/90a/cached_ops/tmp/x.lock",
        "deepgemm!tmp/1234/kernel.cu",
        "tilelang!0.1/linux/.staging/x/kernel_lib.so",
        "files!.secret",
    ],
)
def test_what_is_never_shared(path: str) -> None:
    assert classify(path) == JUNK


@pytest.mark.parametrize(
    "path", ["vllm!assets/x", "triton!short/x", "unheard!of/x", "deepgemm!x", "tvm_ffi!x/y/z", "!x"]
)
def test_what_no_rule_knows_is_named(path: str) -> None:
    assert classify(path) == UNKNOWN


@given(st.text("ab!/.%2E_0", max_size=40), st.sampled_from(sorted(FAMILIES)))
def test_any_path_has_a_place_and_stays_in_its_family(rest: str, family: str) -> None:
    place = classify(f"{family}!{rest}")
    if shared(place, 1):
        assert place.group.startswith(f"{family}!")
        assert family_of(place.group) is FAMILIES[family]


def test_the_same_key_below_two_directories_is_two_places() -> None:
    one, other = (
        f"vllm!torch_compile_cache/torch_aot_compile/{c * 64}/inductor_cache/" for c in "ab"
    )
    path = "aotautograd/akey/entry"
    assert classify(one + path).prefix == one
    assert classify(other + path).prefix == other
    assert classify(one + path).group != classify(other + path).group


class TestRoots:
    def test_a_path_leads_below_its_familys_root(self) -> None:
        roots = Roots("/t", {"vllm": "/v"})
        assert locate(roots, "ab/c.py") == "/t/ab/c.py"
        assert locate(roots, "vllm!a/model") == "/v/a/model"
        assert locate(roots, "vllm!x/%2Eninja_log") == "/v/x/.ninja_log"
        assert roots.holds("vllm!a")
        assert not roots.holds("triton!a")

    @pytest.mark.parametrize(
        "path",
        [
            "triton!a/b",
            "vllm!x/%2E",
            "vllm!x/%2E.",
            "vllm!%2E",
            "vllm!/etc/passwd",
            "vllm!",
            "vllm!.",
            "vllm!..",
            "vllm!../x",
            "vllm!x/../../y",
        ],
    )
    def test_no_path_leads_anywhere_else(self, path: str) -> None:
        with pytest.raises(HostilePath):
            locate(Roots("/t", {"vllm": "/v"}), path)

    @given(st.text("ab!/%2E.", max_size=30))
    def test_what_passes_the_checks_stays_inside(self, path: str) -> None:
        roots = Roots("/t", {"a": "/v", "b": "/w"})
        try:
            found = locate(roots, check_path(path))
        except HostilePath:
            return
        assert os.path.normpath(found).startswith(("/t/", "/v/", "/w/"))


class TestChoice:
    def test_all_but_what_must_be_named(self) -> None:
        names = set(choice.parse(()).names)
        assert names == {"inductor"} | {n for n, f in FAMILIES.items() if not f.opt_in}

    def test_roots_follow_the_variables_of_the_programs(self) -> None:
        environ = {
            "HOME": "/home/u",
            "VLLM_CACHE_ROOT": "/v",
            "TRITON_CACHE_DIR": "/t",
            "FLASHINFER_WORKSPACE_BASE": "/f",
            "XDG_CACHE_HOME": "/x",
            "TMPDIR": "/tmp/mine",
            "USER": "u",
        }
        roots = choice.parse(()).roots("/main", environ).others
        assert roots["vllm"] == "/v"
        assert roots["triton"] == "/t"
        assert roots["flashinfer"] == "/f/.cache/flashinfer"
        assert roots["sglang"] == "/x/sglang"
        assert roots["deepgemm"] == "/home/u/.deep_gemm"
        assert roots["quack"] == "/tmp/mine/u/quack_cache"
        assert roots["torch_extensions"] == "/home/u/.cache/torch_extensions"
        assert "sglang_jit" not in roots
        assert "nv" not in roots

    def test_a_root_inside_another_is_the_others(self) -> None:
        environ = {"HOME": "/h", "VLLM_CACHE_ROOT": "/v", "DG_JIT_CACHE_DIR": "/v/deep_gemm"}
        environ["TRITON_CACHE_DIR"] = "/main/triton/0"
        roots = choice.parse(()).roots("/main", environ).others
        assert roots["vllm"] == "/v"
        assert not {"deepgemm", "triton"} & set(roots)

    def test_what_the_user_names(self) -> None:
        chosen = choice.parse(("vllm=/elsewhere", "files=/d#build-7"))
        assert not chosen.torch
        assert chosen.tag == "build-7"
        assert chosen.roots("/m", {}).others == {"vllm": "/elsewhere", "files": "/d"}

    @pytest.mark.parametrize("word", ["vlm", "files", "files=/d", "files=#t", "vllm!"])
    def test_what_makes_no_sense_is_an_error(self, word: str) -> None:
        with pytest.raises(InvalidName, match="famil"):
            choice.parse((word,))

    @pytest.mark.parametrize(
        ("made", "family"),
        [
            ("torch_compile_cache/x", "vllm"),
            (f"{HASH}/k.json", "triton"),
            ("cache/kernel.a.b/kernel.cu", None),
            ("ab/cabc.so", None),
        ],
    )
    def test_a_root_is_recognized(self, tmp_path: Path, made: str, family: str | None) -> None:
        (tmp_path / made).parent.mkdir(parents=True)
        (tmp_path / made).write_bytes(b"x")
        assert choice.recognize(str(tmp_path)) == family


def test_the_page_names_every_family_and_variable() -> None:
    text = (Path(__file__).parents[2] / "docs/families.md").read_text()
    for name in FAMILIES:
        assert f"`{name}`" in text, name
    for path, *_ in SHARED:
        assert split(path)[0].removesuffix("!") in FAMILIES
    assert len(PACKAGES) == len(set(PACKAGES))
