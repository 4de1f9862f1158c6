"""What ``casinductor doctor`` says of compile caches beside torch's, and of keys and hits that
torch itself gets wrong.

Invariant: only names, modes and sizes are looked at; advice is given where it is not taken yet.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from casinductor.errors import CasinductorError
from casinductor.families.choice import parse
from casinductor.inductor.directory import walk
from casinductor.inductor.faults import faults_of
from casinductor.inductor.fingerprint import worker_fingerprint
from casinductor.inspect.checkup import Checkup, ok
from casinductor.settings import Settings
from casinductor.util.human import counted
from casinductor.util.roots import Roots
from casinductor.worker.readiness import exposed_folder

_SEED = "PYTHONHASHSEED"


def check_families(settings: Settings, env: Mapping[str, str]) -> list[Checkup]:
    """Each other compile cache that there is: where it lies, and whether it is shared."""
    roots = parse(settings.families).roots(os.path.abspath(settings.local_dir), env)
    checks = []
    for family, root in roots.others.items():
        if not os.path.isdir(root):
            continue
        if reason := exposed_folder(root):
            told = f"{family} at {root} is not shared: {reason}"
            checks.append(Checkup("families", "warning", told, f"chmod go-w {root}, or move it"))
            continue
        checks.append(_looked_at(family, root))
    if not checks:
        checks.append(ok("families", "no other compile cache is there yet"))
    return checks


def _looked_at(family: str, root: str) -> Checkup:
    try:
        found = walk(Roots("", {family: root}, torch=False))
    except CasinductorError as error:
        return Checkup("families", "warning", f"{family} at {root}: {error}", "see its permissions")
    told = f"{family} at {root}: {counted(len(found.files), 'file')} to share"
    if found.unknown:
        told += f", {counted(len(found.unknown), 'file')} of no known kind"
    return ok("families", told)


def check_seed(env: Mapping[str, str]) -> Checkup:
    """Whether hash seeds are fixed, which some aotautograd keys depend on."""
    seed = env.get(_SEED) or "random"
    if seed != "random":
        return ok("hash seed", f"{_SEED} is {seed}")
    told = f"{_SEED} is not set: for some graphs torch's aotautograd key depends on it"
    return Checkup("hash seed", "advice", told, f"set {_SEED}=0 on all workers of a fleet")


def check_faults(env: Mapping[str, str]) -> list[Checkup]:
    """Faults of the installed torch by which ranks of a job are given each other's code."""
    many = env.get("WORLD_SIZE", "1") not in ("", "1")
    checks = []
    for fault in faults_of(worker_fingerprint().torch):
        told = f"pytorch#{fault.issue}: {fault.what}; here {fault.done}"
        advice = "give each rank a local directory of its own (docs/torch.md, Known faults)"
        status = Checkup("known fault", "advice", told, advice)
        checks.append(status if many else ok("known fault", f"{told}; concerns jobs of many ranks"))
    return checks
