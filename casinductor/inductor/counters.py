"""torch's own counters of what its compile caches did, read where torch is imported already.

Invariant: reading changes nothing and imports nothing; names are those of
``torch._dynamo.utils.counters`` ("inductor" and "aot_autograd", torch 2.5 and later).
"""

from __future__ import annotations

import sys

#: Our names, torch's section and torch's name.
_COUNTED = {
    "fxgraph_hit": ("inductor", "fxgraph_cache_hit"),
    "fxgraph_miss": ("inductor", "fxgraph_cache_miss"),
    "fxgraph_bypass": ("inductor", "fxgraph_cache_bypass"),
    "aotautograd_hit": ("aot_autograd", "autograd_cache_hit"),
    "aotautograd_miss": ("aot_autograd", "autograd_cache_miss"),
    "aotautograd_bypass": ("aot_autograd", "autograd_cache_bypass"),
    "bundle_emitted": ("inductor", "triton_bundler_read_and_emit_kernel"),
}
_BENCHMARKS = "benchmarking."


def read_counters() -> dict[str, int]:
    """The counters as they stand; zeros where torch was not imported yet.

    ``benchmarks`` sums torch's ``benchmarking.*`` counters: what autotuning timed.
    """
    found = dict.fromkeys([*_COUNTED, "benchmarks"], 0)
    counters = getattr(sys.modules.get("torch._dynamo.utils"), "counters", None)
    if not isinstance(counters, dict):
        return found
    for name, (section, counter) in _COUNTED.items():
        found[name] = int(counters.get(section, {}).get(counter, 0))
    found["benchmarks"] = sum(
        int(value)
        for name, value in counters.get("inductor", {}).items()
        if str(name).startswith(_BENCHMARKS)
    )
    return found


def since(before: dict[str, int]) -> dict[str, int]:
    """What was counted since ``before``; counters that were cleared meanwhile count from zero."""
    now = read_counters()
    return {
        name: value - before.get(name, 0) if value >= before.get(name, 0) else value
        for name, value in now.items()
    }
