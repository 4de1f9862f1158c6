"""Checks this worker: its local directory, environment, compiler and what splits a fleet.

Invariant: reads the environment and the disk, imports no torch, and changes nothing but a probe
file of its own.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from casinductor.inductor.fingerprint import worker_fingerprint
from casinductor.inductor.flags import PRECOMPILE, precompiles, switched_off
from casinductor.inductor.gpu import device
from casinductor.inspect.checkup import Checkup, ok
from casinductor.inspect.familycheck import check_families, check_faults, check_seed
from casinductor.inspect.startcheck import check_start
from casinductor.inspect.storecheck import local_or_network, space
from casinductor.settings import Settings, default_state_dir
from casinductor.util.mounts import is_local
from casinductor.worker.readiness import exposed
from casinductor.worker.snapshot import keeps_atime

_HEADERS = "TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS"
_ISA_OK = "TORCHINDUCTOR_VEC_ISA_OK"
#: Variables that torch reads and that no key holds, or that only say where things are.
_HARMLESS = {
    "TORCHINDUCTOR_CACHE_DIR",
    "TORCHINDUCTOR_COMPILE_THREADS",
    "TORCHINDUCTOR_FX_GRAPH_CACHE",
    "TORCHINDUCTOR_FX_GRAPH_REMOTE_CACHE",
    "TORCHINDUCTOR_AUTOGRAD_CACHE",
    "TORCHINDUCTOR_AUTOGRAD_REMOTE_CACHE",
    "TORCHINDUCTOR_WORKER_START",
}


def check_worker(settings: Settings, environ: Mapping[str, str] | None = None) -> list[Checkup]:
    """All checks of this worker."""
    env = os.environ if environ is None else environ
    return [
        *_directory(settings),
        _redirected("TORCHINDUCTOR_CACHE_DIR", env, str(settings.local_dir)),
        _state(settings),
        *_node(settings),
        _torch(),
        *_device(),
        _compiler(env),
        *_cpu(env),
        *_flags(env),
        _splits(env),
        check_seed(env),
        *check_start(env),
        *check_faults(env),
        *check_families(settings, env),
    ]


def _directory(settings: Settings) -> list[Checkup]:
    """The local directory, or the nearest folder above it that exists."""
    path = os.path.abspath(settings.local_dir)
    there = path
    while not os.path.exists(there) and there != os.path.dirname(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there) or not os.access(there, os.W_OK | os.X_OK):
        return [
            Checkup(
                "local directory",
                "problem",
                f"{there} is not a directory that this user can write",
                "set CASINDUCTOR_LOCAL_DIR to one that every worker can write, the same on all",
            )
        ]
    checks = []
    if os.statvfs(there).f_flag & os.ST_NOEXEC:
        advice = "put it on a mount without noexec: torch loads compiled libraries from it"
        checks.append(Checkup("local directory", "problem", f"{there} is mounted noexec", advice))
    if not is_local(there):
        advice = "use a local disk; the store is what workers share"
        told = f"{path} is on {local_or_network(there)}"
        checks.append(Checkup("local directory", "warning", told, advice))
    if os.path.isdir(path) and not settings.trust_local and (reason := exposed(path)):
        advice = "use one of your own (a folder inside it is made so), as on a volume of a pod"
        checks.append(Checkup("local directory", "problem", reason, advice))
    if not checks:
        checks.append(ok("local directory", f"{path} on {local_or_network(there)}"))
    if os.path.isdir(path) and not keeps_atime(path):
        advice = "mount it with relatime (the default), so that unused artifacts can be told"
        checks.append(Checkup("access times", "advice", f"the mount of {path} keeps none", advice))
    return checks + space("local", there)


def _redirected(name: str, env: Mapping[str, str], local: str) -> Checkup:
    value = env.get(name)
    if not value or os.path.abspath(value) == os.path.abspath(local):
        return ok(name, f"{name} is {'as the local directory' if value else 'not set'}")
    told = f"{name} is {value}, but CASINDUCTOR_LOCAL_DIR has torch compile in {local}"
    advice = f"unset one of the two, or set CASINDUCTOR_LOCAL_DIR={value} on all workers"
    return Checkup(name, "warning", told, advice)


def _state(settings: Settings) -> Checkup:
    path = settings.state_dir or default_state_dir()
    if path is None:
        advice = "set CASINDUCTOR_STATE_DIR or TMPDIR to a folder that this user can write"
        told = "there is no temporary directory, so catalogs are kept in memory and read anew"
        return Checkup("state directory", "warning", told, advice)
    there = path if path.exists() else Path(tempfile.gettempdir())
    if not is_local(str(there)):
        advice = "set CASINDUCTOR_STATE_DIR to a local disk: SQLite does not work on networks"
        return Checkup("state directory", "warning", f"{path} is on a network", advice)
    if path.exists() and (path.stat().st_uid != os.getuid() or path.stat().st_mode & 0o022):
        advice = f"remove it, or chmod go-w {path}; until then nothing is remembered there"
        return Checkup("state directory", "warning", f"others can write {path}", advice)
    return ok("state directory", f"{path} on {local_or_network(str(there))}")


def _node(settings: Settings) -> list[Checkup]:
    """The directory that this host's processes share, if there is one."""
    if settings.node_dir is None:
        return []
    path = str(settings.node_dir)
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        advice = "mend it or unset CASINDUCTOR_NODE_DIR; until then every process fetches alone"
        told = f"{path} cannot be written: {error.strerror or error}"
        return [Checkup("node", "warning", told, advice)]
    if not is_local(path):
        advice = "point CASINDUCTOR_NODE_DIR at a disk of the host"
        return [Checkup("node", "warning", f"{path} is on {local_or_network(path)}", advice)]
    return [ok("node", f"{path} is on {local_or_network(path)}"), *space("node", path)]


def _torch() -> Checkup:
    worker = worker_fingerprint()
    if worker.torch == "none":
        return Checkup(
            "torch",
            "warning",
            f"no torch is installed for {sys.executable}",
            "run doctor with the Python that runs the model",
        )
    parts = [f"torch {worker.torch}", f"accelerator {worker.accelerator}", worker.python]
    return ok("torch", ", ".join([*parts, f"device {worker.device}"]))


def _device() -> list[Checkup]:
    """Whether this worker's device is known before torch begins with it."""
    found = device()
    if not found.doubt:
        return []
    told = f"{found.doubt}; until then devices are not compared"
    return [Checkup("device", "advice", told, "set CASINDUCTOR_GPU_TYPE on workers that differ")]


def _compiler(env: Mapping[str, str]) -> Checkup:
    wanted = env.get("CXX") or "g++"
    found = shutil.which(wanted, path=env.get("PATH"))
    if found:
        return ok("compiler", f"{wanted} is {found}")
    return Checkup(
        "compiler",
        "problem" if worker_fingerprint().device == "none" else "warning",
        f"there is no {wanted} in PATH",
        "install g++: torch needs it on CPUs even if everything is cached, and Triton needs a C "
        "compiler once on each machine",
    )


def _cpu(env: Mapping[str, str]) -> list[Checkup]:
    """Where C++ kernels are compiled: threads, and what torch does once on every new machine."""
    worker = worker_fingerprint()
    told = f"vector ISA {worker.isa or 'unknown'}, {len(worker.flags)} compiler-relevant CPU flags"
    checks = [ok("processor", told)]
    if worker.device != "none":
        return checks
    if "OMP_NUM_THREADS" in env:
        checks.append(ok("threads", f"OMP_NUM_THREADS is {env['OMP_NUM_THREADS']}"))
    else:
        told = f"OMP_NUM_THREADS is not set, so the key holds this machine's {os.cpu_count()} CPUs"
        advice = "set it to one number on all workers (torch 2.13 and later)"
        checks.append(Checkup("threads", "advice", told, advice))
    slow = [name for name, wish in ((_HEADERS, "0"), (_ISA_OK, "1")) if env.get(name) != wish]
    if slow:
        advice = (
            f"set {_HEADERS}=0 and {_ISA_OK}=1 on all workers, producers too, as both are part of "
            "every key: a warm start on a new CPU machine took 0.5 s instead of 6.9 s for an MLP"
        )
        told = f"{' and '.join(slow)} not set so: torch builds a 149 MB header on a new machine"
        checks.append(Checkup("precompiled header", "advice", told, advice))
    else:
        checks.append(ok("precompiled header", "torch builds none and probes no compiler"))
    return checks


def _flags(env: Mapping[str, str]) -> list[Checkup]:
    """Settings under which there is nothing to share."""
    checks = [
        Checkup("caches", "problem", f"{setting}: torch caches nothing there", "unset it")
        for setting in switched_off(env)
    ]
    if precompiles(env):
        told = f"{PRECOMPILE} is set: torch's aotautograd entries get keys that no process hits"
        checks.append(Checkup("precompile", "warning", told, f"unset {PRECOMPILE}"))
    return checks


def _splits(env: Mapping[str, str]) -> Checkup:
    """Variables that are part of every key."""
    found = sorted(
        name
        for name in env
        if (name.startswith("TORCHINDUCTOR_") and name not in _HARMLESS)
        or name in ("TORCH_COMPILE_CACHE_KEY_TAG", "ATEN_CPU_CAPABILITY")
    )
    if not found:
        return ok("settings", "no variable is set that is part of torch's keys")
    told = ", ".join(f"{name}={env[name][:60]}" for name in found)
    advice = "set these alike on all workers that share a cache, or their keys differ"
    return Checkup("settings", "advice", told, advice)
