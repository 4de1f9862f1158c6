"""Causes of misses and rebuilds: their kinds, order and what to do about each.

Invariant: every cause has advice; causes sort by what most likely brought the others about.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from casinductor.inductor import differences

ADVICE = {
    "compiler": "install g++ on every worker, or set CXX: torch asks it for its version before it "
    "loads a C++ kernel, cached or not",
    "worker": "the entry cannot run on this worker; workers of one kind share, the others compile "
    "once for themselves",
    "lost": "run casinductor repair; the next sync of a worker that has it heals it",
    "gone": "let nothing delete files of the local directory between the restore and the compile",
    "moved torch": "install torch at one path on all workers (the same image or virtualenv path), "
    "as the path is part of the name of every C++ kernel",
    "moved cache": "use one CASINDUCTOR_LOCAL_DIR on all workers: autotuning results are found at "
    "the producer's path only",
    "command": "use one compiler, one Python and the same compiler flags on all workers",
    "engine": "start all workers with the same model path, limits and variables (docs/families.md, "
    "vLLM), or give each configuration a cache key of its own",
    "header": "set TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS=0 on all workers: the header lies "
    "outside the cache and is rebuilt on every new machine",
    "guard": "warm up these sizes too, so that an entry with guards for them is stored",
    "late": "nothing: the next worker restores it",
    "unrestored": "look at the restore's own report; a deadline or another local directory may "
    "have kept it away",
    "empty": "nothing: the first worker compiles",
    "bypass": "torch does not cache this graph, see the reason; the rest of the model is cached",
    "custom autograd": "set TORCHINDUCTOR_AUTOGRAD_CACHE_ALLOW_CUSTOM_AUTOGRAD=1 on all workers, "
    "if what your autograd.Function computes depends on nothing but its code and inputs; without "
    "it the graphs are cached, AOTAutograd's work is not",
    "autocast": "enter autocast outside of what is compiled, or cast in the model: with it inside, "
    "torch caches the graphs and not AOTAutograd's work (pytorch#191363)",
    "refused": "workers of one kind share a cache; this one compiles for itself",
    "seed": "set PYTHONHASHSEED to one value (0 will do) on all workers; until then each new seed "
    "may miss until the cache holds its variant",
    "restart": "nothing is compiled again, but the analysis takes its time at each start: avoid "
    "graph breaks (TORCH_LOGS=graph_breaks,recompiles names them); for training, run one backward "
    "in the block",
    "absent": "nothing: this sync published it, the next worker restores it",
    "follows": "nothing of its own: it misses because its graphs do",
    "unknown": "see docs/explain.md for what torch does not tell",
    **differences.ADVICE,
}
#: The kinds that stand for a graph that torch does not cache.
BYPASSES = ("bypass", "custom autograd", "autocast")
_ORDER = {kind: number for number, kind in enumerate(ADVICE)}
_LAST = {"follows", "unknown", "absent", "empty", "late"}


@dataclass
class Cause:
    """One cause and the graphs or files that it explains; ``rank`` orders within a graph."""

    kind: str
    text: str
    rank: float = 0.0
    explains: list[str] = field(default_factory=list)
    nearest: str = ""

    @property
    def advice(self) -> str:
        return ADVICE[self.kind]

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "advice": self.advice}


def bypass_kind(reason: str) -> str:
    """The kind of cause that torch's reason for not caching a graph stands for, as 2.13 words it
    (``torch/_functorch/_aot_autograd/autograd_cache.py``).
    """
    if "autograd_function_apply" in reason or "autograd.function.FunctionCtx" in reason:
        return "custom autograd"
    return "autocast" if "_enter_autocast" in reason else "bypass"


def merge_causes(lists: Iterable[list[Cause]]) -> list[Cause]:
    """The causes of several graphs, each once: first causes first, then by how much they explain.

    A cause counts as often as it stands first, so that what follows from it stays behind.
    """
    firsts: dict[tuple[str, str], Cause] = {}
    others: dict[tuple[str, str], Cause] = {}
    for causes in lists:
        for number, cause in enumerate(causes):
            target = firsts if number == 0 else others
            known = target.setdefault(
                (cause.kind, cause.text), Cause(cause.kind, cause.text, cause.rank)
            )
            known.explains += [name for name in cause.explains if name not in known.explains]
            known.nearest = known.nearest or cause.nearest
    behind = [cause for name, cause in others.items() if name not in firsts]
    return [*sorted(firsts.values(), key=_weight), *sorted(behind, key=_weight)]


def _weight(cause: Cause) -> tuple[bool, bool, int, float, int]:
    stops = cause.kind != "compiler"  # without one nothing works
    count = -len(cause.explains)
    return stops, cause.kind in _LAST, count, cause.rank, _ORDER[cause.kind]
