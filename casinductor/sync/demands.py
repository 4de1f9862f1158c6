"""What a group demands of the worker that loads it.

Invariant: what cannot be read demands everything, and what no key of its program covers (processor,
device, versions of packages, the sources of a build) is demanded here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from casinductor.families import forms, ninja_files, triton, vllm
from casinductor.families.place import ENTRY_KINDS, Kind
from casinductor.families.table import family_of
from casinductor.inductor.entries import Entry
from casinductor.inductor.fingerprint import Fingerprint
from casinductor.inductor.relations import CPP_CALL
from casinductor.inductor.requirements import Requirement, demand_device, requirement
from casinductor.inductor.sources import source_marks
from casinductor.job import Job
from casinductor.util.roots import locate, split

_TORCHS_OWN = (*ENTRY_KINDS, Kind.CPP, Kind.MODULE, Kind.TUNING, Kind.DECISIONS)
_OPAQUE = (Kind.BUILD, Kind.FILE, Kind.PACKAGE)
#: The device that generated code runs on, by its index in the process (torch/_inductor/codegen).
_INDEX = re.compile(rb"_DeviceGuard\((\d+)\)|get_raw_stream\((\d+)\)|device='cuda:(\d+)'")


#: In the code of graphs whose processes speak with each other; torch's keys omit the rank, which
#: such code may hold (``inductor.faults``).
_COLLECTIVE = b"_c10d_functional"


class NotShareable(Exception):
    """No other worker may load the group; the text says why."""


@dataclass
class Traits:
    """What a group's bytes say. ``machine_code``: it is, or compiles, code for the CPU;
    ``on_device``: it is for a GPU, whose name is ``device`` where that is told, and which have the
    indexes ``indexes`` in the process that made it; ``collective``: processes of a job
    speak in it; ``inputs``: what ninja built it from.
    """

    machine_code: bool = False
    on_device: bool = False
    device: str | None = None
    library: bool = False
    collective: bool = False
    indexes: set[int] = field(default_factory=set)
    inputs: list[str] = field(default_factory=list)
    commands: bytes = b""

    def learn(self, kind: Kind, path: str, data: bytes) -> None:
        """Take in one of its files."""
        self.library |= path.endswith(".so")
        self.collective |= kind in ENTRY_KINDS and _COLLECTIVE in data
        if kind in (Kind.MODEL, Kind.INDEX):
            self.machine_code |= CPP_CALL in data
            self.indexes |= {int(next(filter(None, found))) for found in _INDEX.findall(data)}
        elif kind is Kind.BUILD and path.endswith(forms.DEPS):
            self.inputs += ninja_files.inputs(data)
        elif kind is Kind.BUILD and path.endswith("build.ninja"):
            self.commands = data

    def learn_entry(self, entry: Entry, *, names_cpp: bool) -> None:
        """Take in an entry of torch's; ``names_cpp``: a graph that it names compiles C++."""
        unread = entry.guards is None
        self.machine_code |= unread or entry.compiles_cpp or names_cpp
        self.on_device |= unread or bool(entry.bundled)
        self.device = self.device or entry.device


def demands(kind: Kind, group: str, traits: Traits, job: Job) -> Requirement:
    """What a group of this kind and id demands, made by the job's worker.

    Raises :class:`NotShareable`.
    """
    worker, family = job.worker, family_of(group)
    if kind is Kind.TRITON and (family is not None):
        names = triton.FAMILY.demands + (("python", "libc") if traits.library else ())
        return demand_device(_named(worker, names), worker.device)
    if family is not None and kind is Kind.DRIVER:
        return _named(worker, family.demands)
    found = requirement(
        worker,
        machine_code=traits.machine_code or kind is Kind.CPP or kind in _OPAQUE or traits.library,
        device=traits.device,
        on_device=traits.on_device or kind not in _TORCHS_OWN,
    )
    if traits.collective and worker.rank:
        found["rank"] = worker.rank
    if family is None or kind in _TORCHS_OWN:
        return found
    installed = [p for p in worker.packages if p.rpartition(" ")[0] in family.packages]
    if installed:
        found["packages"] = installed
    if kind is Kind.FILE:
        found["tag"] = worker.tag
    if family.bound:
        found["roots"] = [f"{family.name}={job.roots.others[family.name]}"]
    if kind is Kind.BUILD:
        folder, root = locate(job.roots, group), job.roots.others[family.name]
        found["sources"] = source_marks(traits.inputs, traits.commands, folder, root)
    if traits.indexes:
        found["rank_device"] = _rank_device(group, traits.indexes, worker.devices)
    return found


def _named(worker: Fingerprint, names: tuple[str, ...]) -> Requirement:
    known = worker.as_dict()
    return {name: known[name] for name in names}


def _rank_device(group: str, indexes: set[int], devices: int) -> str:
    """Rank and device index, as ``1:1``: torch's key has neither, and code for one device that is
    loaded by the worker of another ends it with "invalid argument" (vllm#38962).
    """
    match = vllm.RANK_IN_PATH.search(split(group)[1] + "/")
    rank = int(match[1]) if match else 0
    usual = rank % devices if devices else rank
    if indexes != {usual}:
        found = ", ".join(map(str, sorted(indexes)))
        raise NotShareable(
            f"rank {rank} was compiled for device {found}, which is not the one that it usually has"
        )
    return f"{rank}:{usual}"
