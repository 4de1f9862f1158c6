"""The fingerprint of a worker that runs under another interpreter than this one.

Invariant: the interpreter is asked, or was asked where it runs; nothing about it is guessed, and
nothing of ours needs to be installed for it. The machine is this one.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import msgspec
from msgspec.structs import replace

from casinductor.errors import InvalidName
from casinductor.families.table import PACKAGES
from casinductor.inductor.fingerprint import Fingerprint, parse_version, worker_fingerprint

_SECONDS = 60.0
#: Runs under Python 3.8 and later and imports neither torch nor Triton.
_ASK = """
import json, platform, sys
from importlib import metadata, util
from importlib.machinery import EXTENSION_SUFFIXES
spec = util.find_spec("torch")
folder = spec.submodule_search_locations[0] if spec and spec.submodule_search_locations else None
try:
    text = open(folder + "/version.py").read() if folder else ""
except OSError:
    text = ""
triton = "none"
for name in ("triton", "pytorch-triton", "pytorch-triton-rocm", "triton-rocm"):
    try:
        triton = metadata.version(name)
        break
    except metadata.PackageNotFoundError:
        pass
tag = EXTENSION_SUFFIXES[0].split(".")[1] if EXTENSION_SUFFIXES else ""
python = tag if tag not in ("", "so") else str(sys.implementation.cache_tag)
libc = "-".join(platform.libc_ver()) if sys.platform == "linux" else platform.release()
found = []
for name in PACKAGES:
    try:
        found.append(name + " " + metadata.version(name))
    except metadata.PackageNotFoundError:
        pass
told = {"version": text, "triton": triton, "python": python, "libc": libc, "packages": found}
print(json.dumps(told))
"""


class Interpreter(msgspec.Struct, gc=False):
    """What an interpreter has: ``torch`` with its build, the ``accelerator`` it was built for,
    ``triton``, the ABI of ``python`` and of ``libc``, and ``packages`` that families demand.
    """

    torch: str
    accelerator: str
    triton: str
    python: str
    libc: str
    packages: list[str] = []

    def as_dict(self) -> dict[str, str | list[str]]:
        """For JSON."""
        told: dict[str, str | list[str]] = msgspec.to_builtins(self)
        return told


def fingerprint_of(python: str) -> Fingerprint:
    """What a worker on this machine is that runs the interpreter at this path or of this name, or
    the one that a file ``*.json`` of ``casinductor worker`` describes.

    Raises :class:`InvalidName` where it cannot be run, read, or has no torch.
    """
    found = _read(python) if python.endswith(".json") else ask(python)
    return replace(
        worker_fingerprint(),
        torch=found.torch,
        accelerator=found.accelerator,
        triton=found.triton,
        python=found.python,
        libc=found.libc,
        packages=tuple(found.packages),
    )


def ask(python: str) -> Interpreter:
    """What an interpreter says of itself. Raises :class:`InvalidName`."""
    try:
        program = f"PACKAGES = {PACKAGES!r}\n{_ASK}"
        done = subprocess.run(
            [python, "-c", program], capture_output=True, text=True, timeout=_SECONDS, check=True
        )
        told = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise InvalidName(f"{python} cannot be run as a Python: {error}") from error
    torch, accelerator = parse_version(told["version"])
    if torch == "none":
        raise InvalidName(f"{python} has no torch")
    return Interpreter(
        torch,
        accelerator,
        told["triton"],
        told["python"],
        told["libc"],
        list(map(str, told["packages"])),
    )


def _read(path: str) -> Interpreter:
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=Interpreter)
    except (OSError, msgspec.MsgspecError) as error:
        raise InvalidName(f"{path} is no description by casinductor worker: {error}") from error
