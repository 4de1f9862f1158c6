"""The boards of this machine as its GPU driver lists them, found without torch.

Invariant: nothing here raises, and no subprocess is started where a file or NVML can answer; the
order is the bus's, as NVML and ``nvidia-smi`` number boards.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from glob import glob
from pathlib import Path

import msgspec

NVIDIA = "/proc/driver/nvidia"
#: What shows that there is a GPU, even where nothing can name it.
_NODES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd")
_NAME_SIZE, _UUID_SIZE = 96, 96  # NVML_DEVICE_NAME_V2_BUFFER_SIZE, NVML_DEVICE_UUID_V2_BUFFER_SIZE


class Board(msgspec.Struct, frozen=True):
    """One board: its maker's name, its UUID where known, and whether it is cut into slices."""

    name: str
    uuid: str = ""
    sliced: bool = False


def boards() -> list[Board]:
    """The boards that this process may see, in the order of the bus; an unnamed one has no name."""
    for source in (_from_proc, _from_nvml, _from_sysfs):
        try:
            found = source()
        except Exception:
            found = []
        if found:
            return found
    if not any(map(os.path.exists, _NODES)):
        return []
    try:
        return _from_tools() or [Board("")]
    except Exception:
        return [Board("")]


def driver_version() -> str:
    """The version of NVIDIA's kernel module, such as ``580.65.06``; ``none`` without one."""
    try:
        text = Path(NVIDIA, "version").read_text(errors="replace")
    except OSError:
        return "none"
    match = re.search(r"Kernel Module\D*?\s(\d[\d.]+)\s", text)
    return match[1] if match else "none"


def slice_name(board: Board, uuid: str | None) -> str | None:
    """The name of a slice (MIG), of this UUID or else the first of ``board``; None if unknown."""
    try:
        with _nvml() as nvml:
            if uuid is not None:
                return _name(nvml, _handle(nvml.nvmlDeviceGetHandleByUUID, uuid.encode()))
            parent = _handle(nvml.nvmlDeviceGetHandleByUUID, board.uuid.encode())
            first = _handle(nvml.nvmlDeviceGetMigDeviceHandleByIndex, parent, 0)
            return _name(nvml, first)
    except Exception:
        return None


def _from_proc() -> list[Board]:
    """The driver's own files, one folder per board (NVIDIA's README, chapter "Using the /proc
    Filesystem Interface"); instances of MIG are listed among its capabilities.
    """
    found = []
    for path in sorted(glob(f"{NVIDIA}/gpus/*/information")):
        fields = dict(
            re.findall(
                r"^([^:\n]+):\s*(.*?)\s*$", Path(path).read_text(errors="replace"), re.MULTILINE
            )
        )
        name = fields.get("Model", "")
        if "unknown" in name.lower():
            return []
        minor = fields.get("Device Minor", "")
        sliced = bool(minor and glob(f"{NVIDIA}/capabilities/gpu{minor}/mig/gi*"))
        found.append(Board(name, fields.get("GPU UUID", ""), sliced))
    return found if all(board.name for board in found) else []


def _from_nvml() -> list[Board]:
    if not (os.path.exists("/dev/nvidiactl") or os.path.exists("/dev/dxg")):
        return []
    with _nvml() as nvml:
        count = ctypes.c_uint()
        _require(nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)))
        return [_board(nvml, index) for index in range(count.value)]


def _board(nvml: ctypes.CDLL, index: int) -> Board:
    handle = _handle(nvml.nvmlDeviceGetHandleByIndex_v2, index)
    uuid = ctypes.create_string_buffer(_UUID_SIZE)
    _require(nvml.nvmlDeviceGetUUID(handle, uuid, len(uuid)))
    current, pending = ctypes.c_uint(), ctypes.c_uint()
    try:
        answer = nvml.nvmlDeviceGetMigMode(handle, ctypes.byref(current), ctypes.byref(pending))
    except AttributeError:  # a driver from before MIG
        answer = 1
    sliced = answer == 0 and current.value == 1
    return Board(_name(nvml, handle), uuid.value.decode("ascii", "replace"), sliced)


@contextmanager
def _nvml() -> Iterator[ctypes.CDLL]:
    """The driver's library; its ABI (``nvml.h``) is stable across releases."""
    nvml = ctypes.CDLL("libnvidia-ml.so.1")
    _require(nvml.nvmlInit_v2())
    try:
        yield nvml
    finally:
        nvml.nvmlShutdown()


def _handle(find: Callable[..., int], *given: object) -> ctypes.c_void_p:
    handle = ctypes.c_void_p()
    _require(find(*given, ctypes.byref(handle)))
    return handle


def _name(nvml: ctypes.CDLL, handle: ctypes.c_void_p) -> str:
    text = ctypes.create_string_buffer(_NAME_SIZE)
    _require(nvml.nvmlDeviceGetName(handle, text, len(text)))
    return text.value.decode("utf-8", "replace")


def _require(status: int) -> None:
    if status != 0:  # NVML_SUCCESS
        raise OSError(f"NVML answered {status}")


def _from_sysfs() -> list[Board]:
    names = (
        Path(path).read_text(errors="replace").strip()
        for path in sorted(glob("/sys/class/drm/card*/device/product_name"))
    )
    return [Board(name) for name in names if name]


def _from_tools() -> list[Board]:
    """The vendors' command-line tools: slow, so only where all else failed."""
    import subprocess

    queries = (
        (["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], r"^\s*(.+?)\s*$"),
        (["rocm-smi", "--showproductname"], r"Card [Ss]eries:\s*(.+?)\s*$"),
    )
    for command, pattern in queries:
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.SubprocessError):
            continue
        names = re.findall(pattern, result.stdout, re.MULTILINE)
        if result.returncode == 0 and names:
            return [Board(name) for name in names]
    return []
