"""What a graph relies on, where files' names say what they are and where only their text does."""

from __future__ import annotations

from pathlib import Path

import pytest

from casinductor.inductor.directory import walk
from casinductor.inductor.relations import Relations
from tests.conftest import entry_bytes

KEY = "f" + "k" * 51
GRAPH = f"fxgraph/kk/{KEY}/e1"
KERNEL = 'extern "C"  void kernel(const float* in_ptr0)\n{ %s }'


def library(root: Path, stem: str, source: str) -> None:
    path = root / stem
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(path.name + ".cpp").write_text(source)
    path.with_name(path.name + ".so").write_bytes(b"code")
    path.with_name(path.name + ".so").chmod(0o755)


@pytest.mark.parametrize("ending", ["", ".main"], ids=["before 2.8", "since 2.8"])
def test_a_graph_takes_its_own_kernels_and_the_probes(tmp_path: Path, ending: str) -> None:
    library(tmp_path, f"aa/cmine{ending}", KERNEL % 1)
    library(tmp_path, f"bb/cother{ending}", KERNEL % 2)
    library(tmp_path, "cc/cprobe", 'extern "C" void __avx_chk_kernel() {}')
    source = f"async_compile.cpp_pybinding([], '''{KERNEL % 1}''')"
    (tmp_path / GRAPH).parent.mkdir(parents=True)
    (tmp_path / GRAPH).write_bytes(entry_bytes(KEY, source=source))
    found = Relations(str(tmp_path), walk(str(tmp_path))).relied_on([GRAPH])
    stems = {path.partition("/")[0] for path in found}
    assert stems == {"aa", "cc"}
