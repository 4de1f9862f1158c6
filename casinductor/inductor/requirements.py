"""What artifacts require of a worker, and why one is refused.

Invariant: a requirement that is not met, or not understood, is a refusal with a reason; torch's own
key omits the CPU, so this is all that stands between a worker and another machine's code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from casinductor.inductor.fingerprint import Fingerprint
from casinductor.inductor.sources import changed_source

#: What an artifact demands: a field of the fingerprint and its value (some: a list).
Requirement = dict[str, "str | list[str]"]

#: The words for a worker that has no device, or does not know which.
NO_DEVICE = ("none", "unsure")

_COMMON = ("torch", "triton", "accelerator", "python", "platform")
_MACHINE_CODE = ("libc", "isa", "flags")


def requirement(
    fingerprint: Fingerprint, *, machine_code: bool, device: str | None, on_device: bool
) -> Requirement:
    """What an artifact made under ``fingerprint`` demands of the worker that loads it.

    ``machine_code``: it is, or compiles, code for the CPU. ``on_device``: it is for a GPU, whose
    name is ``device`` where the artifact says so, else the producer's.
    """
    known = fingerprint.as_dict()
    names = _COMMON + (_MACHINE_CODE if machine_code else ())
    demands: Requirement = {name: known[name] for name in names}
    gpu = device or (fingerprint.device if on_device else None)
    return demand_device(demands, gpu)


def demand_device(demands: Requirement, gpu: str | None) -> Requirement:
    """``demands``, and a GPU of this name, where it is one."""
    if gpu and gpu not in NO_DEVICE:
        demands["device"] = gpu
    return demands


def refusal(demands: Mapping[str, object], worker: Fingerprint) -> str | None:
    """Why this worker may not load an artifact with these demands, or None when it may.

    A device's name is compared only where this worker has a device and knows which: without one
    nothing runs, and torch's key holds the name too.
    """
    known: dict[str, str | list[str]] = worker.as_dict()
    order = list(known)
    for name, wanted in sorted(
        demands.items(), key=lambda item: order.index(item[0]) if item[0] in known else -1
    ):
        have = known.get(name)
        if name in _JUDGES:
            if reason := _JUDGES[name](wanted, worker):
                return reason
        elif have is None:
            return f"it demands {name!r}, which this version does not know"
        elif wanted != have and not (name == "device" and have in NO_DEVICE):
            return f"made for {_LABEL.get(name, name)} {wanted}, this worker has {have}"
    return None


def _missing_flags(wanted: object, worker: Fingerprint) -> str | None:
    missing = _listed(wanted) - set(worker.flags)
    if not missing:
        return None
    return f"its code uses CPU flags missing here: {' '.join(sorted(missing)[:8])}"


def _other_packages(wanted: object, worker: Fingerprint) -> str | None:
    missing = sorted(_listed(wanted) - set(worker.packages))
    if not missing:
        return None
    name = missing[0].rpartition(" ")[0]
    here = [package for package in worker.packages if package.rpartition(" ")[0] == name]
    return f"made with {missing[0]}, this worker has {here[0] if here else 'none'}"


def _other_roots(wanted: object, worker: Fingerprint) -> str | None:
    missing = sorted(_listed(wanted) - set(worker.roots))
    if not missing:
        return None
    family, _, path = missing[0].partition("=")
    here = [root.partition("=")[2] for root in worker.roots if root.startswith(family + "=")]
    return f"valid at {path} only, family {family} lies at {here[0] if here else 'none'} here"


def _other_sources(wanted: object, worker: Fingerprint) -> str | None:
    del worker
    changed = changed_source(sorted(_listed(wanted)))
    return f"built from another {changed} than this worker has" if changed else None


def _other_index(wanted: object, worker: Fingerprint) -> str | None:
    """Of a rank and its device's index, as ``3:3``: whether the rank has that device here."""
    rank, _, index = str(wanted).partition(":")
    if not (rank.isdecimal() and index.isdecimal()):
        return f"it demands rank_device {wanted!r}, which this version does not know"
    if not worker.devices or int(rank) % worker.devices == int(index):
        return None
    return f"made for device {index} in rank {rank}, which is another one here"


def _other_rank(wanted: object, worker: Fingerprint) -> str | None:
    """Which rank made it; a process of no job restores for all ranks, as torch would find them."""
    if not worker.rank or wanted == worker.rank:
        return None
    return f"made by rank {wanted}, this worker is rank {worker.rank}"


def _listed(wanted: object) -> set[str]:
    return set(map(str, wanted)) if isinstance(wanted, list) else {"?"}


#: How a demand is judged that is more than equality of one word.
_JUDGES: dict[str, Callable[[object, Fingerprint], str | None]] = {
    "flags": _missing_flags,
    "packages": _other_packages,
    "roots": _other_roots,
    "sources": _other_sources,
    "rank_device": _other_index,
    "rank": _other_rank,
}
_LABEL = {"isa": "vector ISA", "torch": "torch", "python": "Python ABI", "device": "device"}
