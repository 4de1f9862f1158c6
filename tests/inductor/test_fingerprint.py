"""What artifacts demand of a worker, and that a mismatch is refused in words."""

from __future__ import annotations

import subprocess
import sys
import sysconfig

import msgspec
import pytest

from casinductor.inductor import fingerprint as fp
from casinductor.inductor import requirements
from tests.needs import need_package

BASE = fp.Fingerprint(
    torch="2.13.0 (abc)",
    triton="3.8.0",
    accelerator="cuda 13.0",
    python="cpython-311",
    platform="linux-x86_64",
    libc="glibc-2.36",
    device="NVIDIA H100 80GB HBM3",
    isa="avx512",
    flags=("avx2", "avx512f", "fma"),
)
CUDA = requirements.requirement(BASE, machine_code=False, device=BASE.device, on_device=True)
MACHINE = requirements.requirement(BASE, machine_code=True, device=None, on_device=False)


def other(**changes: object) -> fp.Fingerprint:
    return msgspec.structs.replace(BASE, **changes)


@pytest.mark.parametrize("field", ["torch", "triton", "accelerator", "python", "platform"])
def test_what_all_artifacts_demand(field: str) -> None:
    for demands in (CUDA, MACHINE):
        reason = requirements.refusal(demands, other(**{field: "another"}))
        assert reason is not None
        assert "another" in reason


def test_a_cuda_cache_is_shared_between_processors() -> None:
    assert requirements.refusal(CUDA, other(isa="avx2", flags=("avx2",), libc="musl")) is None


def test_machine_code_is_not() -> None:
    assert "vector ISA" in str(requirements.refusal(MACHINE, other(isa="avx2")))
    assert "libc" in str(requirements.refusal(MACHINE, other(libc="glibc-2.31")))
    assert "avx512f" in str(requirements.refusal(MACHINE, other(flags=("avx2", "fma"))))
    more = (*BASE.flags, "amx_tile")
    assert requirements.refusal(MACHINE, other(flags=more, device="NVIDIA A100")) is None


def test_the_device_is_compared_where_there_is_one() -> None:
    assert "NVIDIA A100" in str(requirements.refusal(CUDA, other(device="NVIDIA A100")))
    assert requirements.refusal(CUDA, other(device="none")) is None
    entry = requirements.requirement(BASE, machine_code=False, device="NVIDIA H200", on_device=True)
    assert requirements.refusal(entry, BASE) is not None, (
        "the entry's word counts, not its producer's"
    )


def test_a_demand_nobody_knows_is_refused() -> None:
    assert "does not know" in str(requirements.refusal({"moon": "full"}, BASE))
    assert requirements.refusal({**MACHINE, "flags": "avx2"}, BASE) is not None


def test_this_worker() -> None:
    before = set(sys.modules)
    worker = fp.worker_fingerprint()
    assert "torch" not in set(sys.modules) - before
    assert (
        requirements.refusal(
            requirements.requirement(worker, machine_code=True, device=None, on_device=True), worker
        )
        is None
    )
    assert worker.python
    assert worker.platform.startswith("linux")


def test_the_vector_isa_follows_torchs_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = ("avx2", "avx512bw", "avx512dq", "avx512f", "avx512vl", "avx512_vnni")
    monkeypatch.setattr(fp, "_simdlen", lambda: None)
    for name in ("ATEN_CPU_CAPABILITY", "TORCHINDUCTOR_VEC_ISA_OK"):
        monkeypatch.delenv(name, raising=False)
    assert fp._vector_isa(wide) == "avx512 avx512_vnni"
    assert fp._vector_isa(("avx2",)) == "avx2"
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    assert fp._vector_isa(wide) == "avx2"
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    assert fp._vector_isa(wide) == "none"
    monkeypatch.delenv("ATEN_CPU_CAPABILITY")
    monkeypatch.setattr(fp, "_simdlen", lambda: 256)
    assert fp._vector_isa(wide) == "avx2"
    monkeypatch.setenv("TORCHINDUCTOR_VEC_ISA_OK", "0")
    assert fp._vector_isa(wide) == "none"


@pytest.mark.torch
def test_torch_agrees_on_its_own_version_and_isa() -> None:
    need_package("torch", "torch")
    import torch
    from torch._inductor.cpu_vec_isa import x86_isa_checker

    worker = fp.worker_fingerprint()
    assert worker.torch.startswith(torch.__version__ + " (")
    assert torch.version.git_version.startswith(worker.torch.split("(")[1][:-1])
    assert worker.accelerator == (f"cuda {torch.version.cuda}" if torch.version.cuda else "none")
    for name in x86_isa_checker():
        if name == "avx512":
            assert "avx512" in worker.isa


def test_many_threads_that_ask_first_agree() -> None:
    """In fresh processes, as what is looked up is kept; sysconfig once answered two ways."""
    code = (
        "import threading\n"
        "from casinductor.inductor import fingerprint\n"
        "found, start = set(), threading.Barrier(16)\n"
        "def ask():\n"
        "    start.wait()\n"
        "    found.add(fingerprint._installed.__wrapped__())\n"
        "threads = [threading.Thread(target=ask) for _ in range(16)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "assert len(found) == 1, found\n"
    )
    for _ in range(5):
        subprocess.run([sys.executable, "-c", code], check=True)


def test_the_python_abi_is_that_of_extension_modules() -> None:
    assert fp.worker_fingerprint().python == sysconfig.get_config_var("SOABI")


def test_ranks_of_a_job_get_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    demands = {"rank": "1 of 8"}
    assert requirements.refusal(demands, other(rank="1 of 8")) is None
    assert requirements.refusal(demands, other(rank="")) is None, "it restores for all of them"
    assert "made by rank 1 of 8" in str(requirements.refusal(demands, other(rank="0 of 8")))
    monkeypatch.setenv("RANK", "3")
    assert fp.worker_fingerprint().rank == ""
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert fp.worker_fingerprint().rank == "3 of 8"
