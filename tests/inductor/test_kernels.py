"""Kernels, tunings and descriptions of entries: what the corpus says, and what bad bytes do."""

from __future__ import annotations

import json
import struct
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from casinductor.inductor.cubin import Resources, resources
from casinductor.inductor.description import describe, kernel_name
from casinductor.inductor.kernels import cpp_blocks, torch_folders, triton_kernel, tuning
from tests.conftest import entry_bytes
from tests.fuzz.targets import good_cubin

KEY = "f" + "k" * 51


def folders(tree: Path) -> list[Path]:
    return sorted(path for path in (tree / "triton/0").iterdir() if path.is_dir())


def test_real_kernels_tell_their_figures(corpus: Path) -> None:
    found = []
    for folder in folders(corpus / "cuda-bert4_train-cold1"):
        data = {path.name: path.read_bytes() for path in folder.iterdir()}
        found.append(triton_kernel(data, {name: len(content) for name, content in data.items()}))
    assert len(found) == 59
    for kernel in found:
        assert not kernel.opaque
        assert (kernel.backend, kernel.arch) == ("cuda", "90")
        assert kernel.name.startswith("triton_")
        assert kernel.warps in (1, 2, 4, 8, 16, 32)
        assert kernel.registers is not None
        assert 0 < kernel.registers <= 255
        assert kernel.module is not None
        assert kernel.sizes["cubin"] > 1000
    spilling = {kernel.name: kernel.stack_bytes for kernel in found if kernel.stack_bytes}
    name = "triton_per_fused_add_native_layer_norm_backward_view_13"
    assert spilling[name] == 232, "cuobjdump says 232 bytes of stack"


def test_real_entries_name_the_kernels_that_lie_beside_them(corpus: Path) -> None:
    tree = corpus / "cuda-bert4_train-cold1"
    there = {folder.name for folder in folders(tree)}
    bundled: set[str] = set()
    for path in (tree / "fxgraph").glob("*/*/*"):
        data = path.read_bytes()
        found = describe("fxgraph", path.parent.name, data)
        assert found.source is not None
        assert found.module is not None
        assert (tree / found.module[1:3] / f"{found.module}.py").exists()
        for name, spans in found.bundle.items():
            assert kernel_name(spans)
            for file, (start, end) in spans.items():
                stored = (tree / "triton/0" / name / file).read_bytes()
                if not file.startswith("__grp__"):
                    assert data[start:end] == stored
        bundled |= found.bundle.keys()
    assert bundled == there


def test_what_a_folder_lacks_is_said() -> None:
    assert triton_kernel({}, {}).opaque
    assert triton_kernel({"k.json": b"[1]"}, {}).opaque
    assert triton_kernel({"k.json": b"{" * 100_000}, {}).opaque
    odd = {"num_warps": "four", "shared": -1, "target": 7, "name": 5, "num_stages": True}
    kernel = triton_kernel({"k.json": json.dumps(odd).encode()}, {"k.json": 9})
    assert (kernel.name, kernel.warps, kernel.shared, kernel.stages) == ("k", None, None, None)


@given(st.binary(max_size=400))
def test_no_cubin_raises(data: bytes) -> None:
    assert resources(data) == Resources()
    assert resources(b"\x7fELF" + data) == Resources()


def test_the_smallest_cubin() -> None:
    assert resources(good_cubin()) == Resources(40, 16)
    assert resources(good_cubin()).stack_bytes == 16


def test_a_cubin_of_too_many_sections_is_not_walked_through() -> None:
    few, many = good_cubin(extra=100), good_cubin(extra=60_000)
    assert resources(few) == Resources(40, 16)
    assert resources(many) == Resources()


def test_a_cut_cubin_is_unknown(corpus: Path) -> None:
    data = next((corpus / "cuda-maxautotune_mlp-cold1").rglob("*.cubin")).read_bytes()
    assert resources(data).registers
    for end in range(0, len(data), 997):
        resources(data[:end])
    assert struct.calcsize("<BBH") == 4


def test_tunings(corpus: Path) -> None:
    tree = corpus / "cuda-maxautotune_mlp-cold1"
    for path in tree.rglob("*.best_config"):
        found = tuning(path.read_bytes())
        assert (tree / "triton/0" / str(found.kernel)).is_dir()
        assert found.config["num_warps"]
    assert tuning(b"nothing").opaque
    assert tuning(b"[]").opaque


def test_cpp_kernels_of_generated_code() -> None:
    source = "a = async_compile.cpp_pybinding(['float*'], r'''\none\n''')\n\nb = 3\n"
    assert cpp_blocks(source + source.replace("a =", "c =").replace("one", "two")) == {
        "a": "one",
        "c": "two",
    }
    assert cpp_blocks("x = async_compile.cpp(" * 100_000) == {}


def test_where_torch_lay() -> None:
    library = b"\0junk\0/venv/site-packages/torch/include/ATen\0x\0not/absolute/torch/include\0"
    assert torch_folders(library) == {"/venv/site-packages"}
    assert torch_folders(b"torch/include without a slash") == set()


def test_bad_entries_are_described_as_opaque() -> None:
    for data in (b"", b"\x80\x04", entry_bytes(KEY)[:-9], b"\x80\x04N."):
        found = describe("fxgraph", KEY, data)
        assert found.entry.guards is None
        assert found.entry.reason
