"""The name of this worker's GPU type, found without torch.

Invariant: detection never raises and never starts a subprocess where a file or NVML can answer;
two different boards of different capability never get the same name.
"""

from __future__ import annotations

import ctypes
import os
import re
from functools import lru_cache
from glob import glob
from pathlib import Path

UNKNOWN = "UNKNOWN"
CPU = "CPU"

# H100, A100, L40S, A10G, GH200, T4, MI300X: a letter or two, digits, a letter or two. Boards of
# this shape differ in memory and socket only, and fal.toolkit calls them by this word too.
_DATACENTER = re.compile(r"((?:[A-Z]{1,3})\d+[A-Z]{0,2})(?=$|[\s-])")
_MAKERS = re.compile(r"^(?:NVIDIA|AMD)\s+|^(?:Tesla|GRID|Instinct|GeForce|Radeon)\s+")
_FILLER = {"Generation", "GPU", "Graphics"}


def get_gpu_type() -> str:
    """The GPU type of this worker, such as ``H100`` or ``RTX-4090``.

    ``CPU`` without a GPU, ``UNKNOWN`` when there is one that cannot be named;
    ``CASINDUCTOR_GPU_TYPE`` overrides both. Never raises.
    """
    override = os.environ.get("CASINDUCTOR_GPU_TYPE")
    if override:
        return override
    name = device_name()
    return name if name in (CPU, UNKNOWN) else short_name(name)


@lru_cache(maxsize=1)
def device_name() -> str:
    """The driver's full name of the first GPU, ``CPU`` or ``UNKNOWN``; found once per process."""
    for source in (_nvidia_from_proc, _nvidia_from_nvml, _amd_from_sysfs):
        try:
            name = source()
        except Exception:
            name = None
        if name:
            return name
    if _has_gpu():
        try:
            return _from_tools() or UNKNOWN
        except Exception:
            return UNKNOWN
    return CPU


def short_name(name: str) -> str:
    """A full device name as one path-safe word; ``UNKNOWN`` when nothing is left of it."""
    rest = name.strip()
    while (stripped := _MAKERS.sub("", rest, count=1)) != rest:
        rest = stripped
    if match := _DATACENTER.match(rest):
        return match[1]
    words = re.findall(r"[0-9A-Za-z.]+", rest)
    kept = [word for word in words if word not in _FILLER]
    return "-".join(kept) or UNKNOWN


def _nvidia_from_proc() -> str | None:
    for path in sorted(glob("/proc/driver/nvidia/gpus/*/information")):
        match = re.search(
            r"^Model:\s*(.+?)\s*$", Path(path).read_text(errors="replace"), re.MULTILINE
        )
        if match and "unknown" not in match[1].lower():
            return match[1]
    return None


def _nvidia_from_nvml() -> str | None:
    """Ask the driver's library; its ABI (``nvml.h``) is stable across releases."""
    if not (os.path.exists("/dev/nvidiactl") or os.path.exists("/dev/dxg")):
        return None
    nvml = ctypes.CDLL("libnvidia-ml.so.1")
    if nvml.nvmlInit_v2() != 0:
        return None
    try:
        handle, text = ctypes.c_void_p(), ctypes.create_string_buffer(96)
        if nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(handle)) != 0:
            return None
        if nvml.nvmlDeviceGetName(handle, text, len(text)) != 0:
            return None
        return text.value.decode("utf-8", "replace")
    finally:
        nvml.nvmlShutdown()


def _amd_from_sysfs() -> str | None:
    for path in sorted(glob("/sys/class/drm/card*/device/product_name")):
        name = Path(path).read_text(errors="replace").strip()
        if name:
            return name
    return None


def _has_gpu() -> bool:
    return any(map(os.path.exists, ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd")))


def _from_tools() -> str | None:
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
        match = re.search(pattern, result.stdout, re.MULTILINE)
        if result.returncode == 0 and match:
            return match[1]
    return None
