"""The fingerprint of this worker: what decides whether an artifact may run here.

Invariant: nothing here imports torch; versions are read from the installed packages' files, and
what cannot be known is "none", never guessed.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from functools import lru_cache
from importlib import metadata, util
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import msgspec
from msgspec.structs import asdict, replace

from casinductor.families.table import PACKAGES
from casinductor.inductor.driver import driver_version
from casinductor.inductor.gpu import CPU, UNKNOWN, device, visible_devices

# Flags of /proc/cpuinfo that GCC and Clang turn into instructions under -march=native; the rest
# (power management, virtualization, mitigations) varies by kernel without meaning to code.
_COMPILER_FLAG = re.compile(
    r"3dnow.*|abm|adx|aes|amx_.*|avx.*|bmi[12]|cldemote|clflushopt|clwb|clzero|cx16|f16c|fma4?"
    r"|fsgsbase|fxsr|gfni|lahf_lm|lzcnt|mmx|movbe|movdir.*|mwaitx|pclmulqdq|pku|popcnt|prefetchw"
    r"|ptwrite|rdpid|rdrand|rdseed|rtm|serialize|sha_ni|sha512|sm[34]|sse.*|pni|ssse3|tbm|vaes"
    r"|vpclmulqdq|waitpkg|wbnoinvd|xop|xsave.*|asimd.*|sve.*|fp|fphp|crc32|atomics|bf16|i8mm|sha[123].*"
)


class Fingerprint(msgspec.Struct, frozen=True):
    """What decides whether an artifact may run here. Absent packages are ``none``.

    ``accelerator`` is the CUDA or ROCm release torch was built with, ``device`` the GPU's full
    name (``none`` without one, ``unsure`` where it may be another one), ``isa`` the vector
    instructions torch would choose, ``flags`` the processor's flags that a compiler uses,
    ``driver`` the GPU driver's version, ``devices`` how many GPUs are visible, ``packages`` names
    and versions of what families demand, ``roots`` where families lie (``family=path``), ``tag``
    what the user calls the files of a directory of no family, ``rank`` which process of a
    distributed job this is, as ``3 of 8``.
    """

    torch: str
    triton: str
    accelerator: str
    python: str
    platform: str
    libc: str
    device: str
    isa: str
    flags: tuple[str, ...]
    driver: str = "none"
    devices: int = 0
    packages: tuple[str, ...] = ()
    roots: tuple[str, ...] = ()
    tag: str = ""
    rank: str = ""

    def as_dict(self) -> dict[str, str | list[str]]:
        """For a manifest: strings, and lists of them."""
        known: dict[str, str | list[str]] = {}
        for name, value in asdict(self).items():
            known[name] = list(value) if isinstance(value, tuple) else str(value)
        return known

    def told(self) -> dict[str, str | list[str]]:
        """For people: as a record keeps it, without what is empty and where this worker's families
        lie.
        """
        told = self.as_dict()
        del told["roots"]
        for name in ("driver", "devices", "packages", "tag", "rank"):
            if told[name] in ("none", "0", "", []):
                del told[name]
        return told


def worker_fingerprint() -> Fingerprint:
    """The fingerprint of this process. Cheap after the first call; never imports torch."""
    return replace(
        _installed(),
        isa=_vector_isa(_installed().flags),
        device=_device(),
        devices=visible_devices(),
        rank=_rank(),
    )


@lru_cache(maxsize=1)
def _installed() -> Fingerprint:
    """The parts that cannot change while the process lives."""
    torch, accelerator = _torch_version()
    return Fingerprint(
        torch=torch,
        triton=_package_version("triton", "pytorch-triton", "pytorch-triton-rocm", "triton-rocm"),
        accelerator=accelerator,
        python=_python_abi(),
        platform=f"{sys.platform}-{platform.machine()}",
        libc="-".join(platform.libc_ver()) if sys.platform == "linux" else platform.release(),
        device="none",
        isa="",
        flags=_cpu_flags(),
        driver=driver_version(),
        packages=tuple(
            f"{name} {version}"
            for name in PACKAGES
            if (version := _package_version(name)) != "none"
        ),
    )


def _python_abi() -> str:
    """The tag of extension modules, such as ``cpython-311-x86_64-linux-gnu``.

    Not from ``sysconfig``: of two threads that ask it first, one may see it half filled (seen with
    Python 3.11), and a worker would refuse what all others made.
    """
    tag = EXTENSION_SUFFIXES[0].split(".")[1] if EXTENSION_SUFFIXES else ""
    return tag if tag not in ("", "so") else str(sys.implementation.cache_tag)


def _torch_version() -> tuple[str, str]:
    """torch's version with its build, and its CUDA or ROCm release, from ``torch/version.py``."""
    try:
        spec = util.find_spec("torch")
        folder = Path(spec.origin).parent if spec and spec.origin else None
        text = (folder / "version.py").read_text() if folder else ""
    except (OSError, ValueError, ImportError):
        text = ""
    return parse_version(text)


def parse_version(text: str) -> tuple[str, str]:
    """torch's version with its build, and its CUDA or ROCm release, from ``torch/version.py``."""
    found = dict(re.findall(r"^(\w+)(?:\s*:[^=\n]*)?\s*=\s*'([^']*)'", text, re.MULTILINE))
    if "__version__" not in found:
        return "none", "none"
    version = f"{found['__version__']} ({found.get('git_version', 'unknown build')[:12]})"
    if cuda := found.get("cuda"):
        return version, f"cuda {cuda}"
    if hip := found.get("hip"):
        return version, f"rocm {hip}"
    return version, "none"


def _package_version(*names: str) -> str:
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "none"


def _rank() -> str:
    """The rank and size of the job that this process is one of (torchrun), "" if of none."""
    rank, size = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "")
    many = rank.isdecimal() and size.isdecimal() and int(size) > 1
    return f"{rank} of {size}" if many else ""


def _device() -> str:
    found = device()
    if found.doubt:
        return "unsure"
    return "none" if found.name in (CPU, UNKNOWN) else found.name


def _cpu_flags() -> tuple[str, ...]:
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return ()
    match = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", text, re.MULTILINE)
    flags = match[1].split() if match else []
    return tuple(sorted({flag for flag in flags if _COMPILER_FLAG.fullmatch(flag)}))


def _vector_isa(flags: tuple[str, ...]) -> str:
    """The vector ISA that ``torch._inductor.cpu_vec_isa.pick_vec_isa`` would choose.

    Its rules: the widest the processor has, limited by ``ATEN_CPU_CAPABILITY``, switched off by
    ``TORCHINDUCTOR_VEC_ISA_OK=0``, or chosen by width with ``torch._inductor.config.cpp.simdlen``.
    """
    width = _simdlen()
    capability = os.environ.get("ATEN_CPU_CAPABILITY", "")
    if os.environ.get("TORCHINDUCTOR_VEC_ISA_OK") == "0" or capability == "default":
        return "none"
    have = set(flags)
    avx512 = {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= have
    if avx512 and capability != "avx2" and width in (None, 512):
        extras = [name for name in ("avx512_vnni", "amx_tile") if name in have]
        return " ".join(["avx512", *extras])
    if "avx2" in have and width in (None, 256):
        return "avx2"
    if "asimd" in have:
        return "sve" if {"sve", "bf16"} <= have else "neon"
    return "none" if platform.machine() in ("x86_64", "AMD64") else platform.machine()


def _simdlen() -> int | None:
    """A width set in torch's configuration; torch is asked only where it is imported already."""
    config = sys.modules.get("torch._inductor.config")
    width = getattr(getattr(config, "cpp", None), "simdlen", None)
    return width if isinstance(width, int) else None
