"""The name of this worker's GPU type, found without importing torch.

Invariant: detection never raises; two different boards of different capability never get the same
name; a device is compared with what artifacts demand only where it is the one torch will use.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from functools import lru_cache

import msgspec

from casinductor.inductor.driver import Board, boards, slice_name
from casinductor.util.pattern import Pattern

UNKNOWN = "UNKNOWN"
CPU = "CPU"

# H100, A100, L40S, A10G, GH200, T4, MI300X: a letter or two, digits, a letter or two. Boards of
# this shape differ in memory and socket only, and fal.toolkit calls them by this word too.
_DATACENTER = Pattern(r"((?:[A-Z]{1,3})\d+[A-Z]{0,2})(?=$|[\s-])")
_MAKERS = Pattern(r"^(?:NVIDIA|AMD)\s+|^(?:Tesla|GRID|Instinct|GeForce|Radeon)\s+")
_FILLER = {"Generation", "GPU", "Graphics"}
#: A slice in a device's name, as CUDA writes it: "NVIDIA A100-SXM4-40GB MIG 1g.5gb".
_SLICE = Pattern(r"\bMIG\s+(\d\S*)")
#: What limits the devices of a process, the narrowest first (HIP reads CUDA's name too).
VISIBLE = ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


class Device(msgspec.Struct, frozen=True):
    """The device torch will use: its full name, ``CPU`` or ``UNKNOWN``, and why it may be another
    one (empty where it is known).
    """

    name: str
    doubt: str = ""


def get_gpu_type() -> str:
    """The GPU type of this worker, such as ``H100``, ``RTX-4090`` or ``A100-MIG-1g.5gb``.

    It is that of the first device visible to this process. ``CPU`` without a GPU, ``UNKNOWN`` when
    there is one that cannot be named; ``CASINDUCTOR_GPU_TYPE`` overrides both. Never raises.
    """
    override = os.environ.get("CASINDUCTOR_GPU_TYPE")
    if override:
        return override
    name = device().name
    return name if name in (CPU, UNKNOWN) else short_name(name)


def device() -> Device:
    """The device of this process: torch's own word where it has begun with CUDA, else the first
    visible one of the driver's list.
    """
    if said := _torchs_word():
        return Device(said)
    return _from_driver(tuple(os.environ.get(name) for name in (*VISIBLE, "CUDA_DEVICE_ORDER")))


def visible_devices() -> int:
    """How many GPUs this process may see; 0 without one."""
    limits = [value for name in VISIBLE if (value := os.environ.get(name)) is not None]
    count = _board_count()
    if not limits or not count:
        return count
    named = [part for part in limits[0].split(",") if part.strip()]
    return min(len(named), max(count, 1)) if _first_visible(limits) else 0


@lru_cache(maxsize=1)
def _board_count() -> int:
    return len(boards())


def short_name(name: str) -> str:
    """A full device name as one path-safe word; ``UNKNOWN`` when nothing is left of it."""
    part = _SLICE.search(name)
    rest = name[: part.start()].strip() if part else name.strip()
    while (stripped := _MAKERS.sub("", rest, count=1)) != rest:
        rest = stripped
    match = _DATACENTER.match(rest)
    words = [match[1]] if match else re.findall(r"[0-9A-Za-z.]+", rest)
    kept = [word for word in words if word not in _FILLER]
    if part:
        kept += ["MIG", *re.findall(r"[0-9A-Za-z.]+", part[1])]
    return "-".join(kept) or UNKNOWN


def _torchs_word() -> str | None:
    """What torch calls its device, where CUDA is initialized; nothing is begun by asking."""
    cuda = sys.modules.get("torch.cuda")
    try:
        if cuda is None or not cuda.is_initialized():
            return None
        return str(cuda.get_device_name(cuda.current_device()))
    except Exception:
        return None


@lru_cache(maxsize=4)
def _from_driver(environment: tuple[str | None, ...]) -> Device:
    """The first visible device of the driver's list, found once per process and environment."""
    *limits, order = environment
    found = boards()
    if not found:
        return Device(CPU)
    wanted = _first_visible([limit for limit in limits if limit is not None])
    if wanted == "":
        return Device(CPU)
    return _chosen(found, wanted, order)


def _first_visible(limits: Sequence[str]) -> str | None:
    """The first device of the narrowest list; None without one, "" where none is visible."""
    if not limits:
        return None
    if any(not limit.strip() for limit in limits):
        return ""
    first = limits[0].split(",")[0].strip()
    return "" if first.startswith("-") or first == "NoDevFiles" else first


def _chosen(found: list[Board], wanted: str | None, order: str | None) -> Device:
    if wanted is not None and wanted.startswith("MIG-"):
        return _slice(found[0], wanted)
    if wanted is not None and not wanted.isdigit():
        named = [board for board in found if board.uuid and board.uuid.startswith(wanted)]
        if not named:
            return _first(found, f"no board of this machine is called {wanted}")
        return _first(named, "")
    index = int(wanted or 0)
    if index >= len(found):
        return Device(CPU)  # CUDA sees no device from an invalid one on
    if len({board.name for board in found}) > 1 and order != "PCI_BUS_ID":
        names = ", ".join(sorted({board.name for board in found}))
        return _first(
            found[index:],
            f"which of {names} comes first is CUDA's choice until CUDA_DEVICE_ORDER=PCI_BUS_ID, "
            "or a UUID in CUDA_VISIBLE_DEVICES, says it",
        )
    return _first(found[index:], "")


def _first(found: list[Board], doubt: str) -> Device:
    board = found[0]
    return _slice(board, None) if board.sliced else Device(board.name or UNKNOWN, doubt)


def _slice(board: Board, uuid: str | None) -> Device:
    """A slice: its GPU type is told by NVML, but torch's exact name of it only by torch."""
    doubt = "torch's name of a MIG slice is known once it has begun with CUDA"
    name = slice_name(board, uuid) or ""
    part = _SLICE.search(name)
    if part is None:
        return Device(UNKNOWN, doubt)
    whole = name[: part.start()].strip() or board.name
    return Device(f"{whole} MIG {part[1]}", doubt)
