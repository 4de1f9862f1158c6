"""The device of a worker is the one torch will use: visible ones, slices, mixed boards.

The driver's files have the form of NVIDIA's README ("Using the /proc Filesystem Interface"); the
NVML double is a library that answers as NVIDIA's API reference says, loaded as the real one is.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from casinductor.inductor import driver, gpu
from casinductor.inductor.fingerprint import worker_fingerprint
from casinductor.inductor.requirements import refusal, requirement

H100, A100, T4 = "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-40GB", "Tesla T4"
Machine = Callable[..., None]

INFORMATION = """Model: \t\t {name}
IRQ:   \t\t 35
GPU UUID: \t {uuid}
Video BIOS: \t ??.??.??.??.??
Bus Type: \t PCIe
DMA Size: \t 52 bits
Bus Location: \t 0000:{bus:02x}:00.0
Device Minor: \t {minor}
GPU Excluded:\t No
"""

# nvmlDeviceGetName "when used with MIG device handles returns MIG device names";
# nvmlDeviceGetHandleByUUID takes "the UUID of the target GPU or MIG instance"; status 0 is
# NVML_SUCCESS, 6 NVML_ERROR_NOT_FOUND (nvml.h).
NVML = r"""
#include <string.h>
typedef void *dev;
static const char *uuids[] = {"GPU-aaaa", "MIG-1111", "MIG-2222"};
static const char *names[] = {"NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
                              "NVIDIA A100-SXM4-40GB MIG 3g.20gb"};
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, dev *d) { *d = (dev)1; return i ? 6 : 0; }
int nvmlDeviceGetHandleByUUID(const char *uuid, dev *d) {
    for (long i = 0; i < 3; i++) if (!strcmp(uuid, uuids[i])) { *d = (dev)(i + 1); return 0; }
    return 6;
}
int nvmlDeviceGetMigDeviceHandleByIndex(dev parent, unsigned i, dev *d) {
    if (parent != (dev)1 || i > 1) return 6;
    *d = (dev)(long)(i + 2); return 0;
}
int nvmlDeviceGetMigMode(dev d, unsigned *now, unsigned *next) { *now = *next = 1; return 0; }
int nvmlDeviceGetUUID(dev d, char *t, unsigned n) { strncpy(t, uuids[(long)d - 1], n); return 0; }
int nvmlDeviceGetName(dev d, char *t, unsigned n) { strncpy(t, names[(long)d - 1], n); return 0; }
"""


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in (*gpu.VISIBLE, "CUDA_DEVICE_ORDER", "CASINDUCTOR_GPU_TYPE"):
        monkeypatch.delenv(name, raising=False)
    gpu._from_driver.cache_clear()
    yield
    gpu._from_driver.cache_clear()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine with these boards, as its driver's files say."""

    def build(*names: str, sliced: bool = False) -> None:
        for minor, name in enumerate(names):
            folder = tmp_path / f"gpus/0000:{minor + 1:02x}:00.0"
            folder.mkdir(parents=True)
            uuid = "GPU-" + "abcdef"[minor] * 4
            text = INFORMATION.format(name=name, uuid=uuid, minor=minor, bus=minor + 1)
            (folder / "information").write_text(text)
        if sliced:
            (tmp_path / "capabilities/gpu0/mig/gi1").mkdir(parents=True)
        monkeypatch.setattr(driver, "NVIDIA", str(tmp_path))

    return build


def test_the_first_visible_board_is_this_workers(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(T4, H100)
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert gpu.device() == gpu.Device(T4)
    for visible, name in (("1", H100), ("1,0", H100), ("GPU-bb", H100), ("0", T4)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert gpu.device() == gpu.Device(name)
        assert gpu.get_gpu_type() == gpu.short_name(name)


@pytest.mark.parametrize("hidden", ["", "-1", "7", "NoDevFiles"])
def test_a_worker_whose_boards_are_hidden_has_none(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, hidden: str
) -> None:
    machine(H100)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert gpu.get_gpu_type() == "CPU"
    assert worker_fingerprint().device == "none"


def test_equal_boards_are_known_whatever_the_order(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(H100, H100)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert gpu.device() == gpu.Device(H100)


def test_mixed_boards_in_cudas_order_are_not_compared(machine: Machine) -> None:
    machine(T4, H100)
    found = gpu.device()
    assert f"which of {H100}, {T4} comes first is CUDA's choice" in found.doubt
    worker = worker_fingerprint()
    assert worker.device == "unsure"
    assert refusal({"device": "NVIDIA L4"}, worker) is None
    demands = requirement(worker, machine_code=False, device=None, on_device=True)
    assert "device" not in demands


def test_a_board_that_is_not_here_is_not_guessed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(H100)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-zz")
    assert "no board of this machine is called GPU-zz" in gpu.device().doubt


def test_torchs_own_word_is_taken(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(T4, H100)
    cuda = types.ModuleType("torch.cuda")
    begun = False
    cuda.is_initialized = lambda: begun  # type: ignore[attr-defined]
    cuda.current_device = lambda: 0  # type: ignore[attr-defined]
    cuda.get_device_name = lambda index: H100  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.cuda", cuda)
    assert gpu.device().doubt
    begun = True
    assert gpu.device() == gpu.Device(H100)


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nvml")
    (folder / "nvml.c").write_text(NVML)
    library = str(folder / "libnvidia-ml.so.1")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, str(folder / "nvml.c")], check=True)
    return folder


@pytest.mark.parametrize(
    ("visible", "gpu_type"),
    [("", "A100-MIG-1g.5gb"), ("MIG-2222", "A100-MIG-3g.20gb"), ("GPU-aa", "A100-MIG-1g.5gb")],
)
def test_a_slice_is_a_type_of_its_own(
    machine: Machine, nvml: Path, tmp_path: Path, visible: str, gpu_type: str
) -> None:
    machine(A100, sliced=True)
    code = f"""
from casinductor.inductor import driver, gpu
driver.NVIDIA = {str(tmp_path)!r}
print(gpu.get_gpu_type()); print(gpu.device().name); print(gpu.device().doubt)"""
    environment = {"LD_LIBRARY_PATH": str(nvml)}
    if visible:
        environment["CUDA_VISIBLE_DEVICES"] = visible
    said = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(Path(gpu.__file__).parents[2]), **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert said[0] == gpu_type
    assert said[1] == f"{A100} {gpu_type[5:].replace('-', ' ')}"
    assert "MIG" in said[2]  # torch's exact name is compared only when torch has said it


def test_nvml_lists_the_boards_where_the_driver_has_no_files(
    nvml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "exists", lambda path: path == "/dev/dxg")
    load = ctypes.CDLL
    monkeypatch.setattr(ctypes, "CDLL", lambda name: load(str(nvml / name)))
    assert driver._from_nvml() == [driver.Board(A100, "GPU-aaaa", sliced=True)]


def test_a_slice_that_nothing_can_name_is_unknown(machine: Machine) -> None:
    machine(A100, sliced=True)
    assert gpu.get_gpu_type() == "UNKNOWN"


def test_an_amd_board_is_named_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    product = tmp_path / "product_name"
    product.write_text("AMD Instinct MI300X OAM\n")

    def one(pattern: str) -> list[str]:
        return [str(product)] if "drm" in pattern else []

    monkeypatch.setattr(driver, "glob", one)
    assert gpu.get_gpu_type() == "MI300X"
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "")
    assert gpu.get_gpu_type() == "CPU"


def test_a_machine_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_NODES", ())
    monkeypatch.setattr(driver, "glob", lambda pattern: [])
    assert gpu.get_gpu_type() == "CPU"


def broken(pattern: str) -> list[str]:
    raise OSError("driver")


def test_a_gpu_that_cannot_be_named_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_NODES", ("/",))
    monkeypatch.setattr(driver, "glob", broken)
    monkeypatch.setenv("PATH", "")
    assert gpu.get_gpu_type() == "UNKNOWN"
