"""The fingerprint of a worker that runs under another interpreter than this one.

Invariant: the interpreter is asked, nothing about it is guessed, and nothing of ours needs to be
installed for it; the machine is this one.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace

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


def fingerprint_of(python: str) -> Fingerprint:
    """What a worker on this machine is that runs the interpreter at this path or of this name.

    Raises :class:`InvalidName` where it cannot be run or has no torch.
    """
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
    return replace(
        worker_fingerprint(),
        torch=torch,
        accelerator=accelerator,
        triton=told["triton"],
        python=told["python"],
        libc=told["libc"],
        packages=tuple(map(str, told["packages"])),
    )
