"""A worker in a fresh process: restores, compiles with the real torch, syncs, reports.

Reads a JSON object from argv: ``jobs`` is a list of {key, sizes, seed, width, dynamic}; ``foreign``
sizes are compiled before anything is loaded. Prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    order = json.loads(sys.argv[1])
    from casinductor.cache import Cache

    os.environ["TORCHINDUCTOR_CACHE_DIR"] = os.environ["CASINDUCTOR_LOCAL_DIR"]
    import torch
    from torch._dynamo.utils import counters

    def compute(job: dict[str, Any]) -> list[float]:
        torch._dynamo.reset()
        torch.manual_seed(job.get("seed", 0))
        width = job.get("width", 32)
        layers: list[torch.nn.Module] = [
            torch.nn.Linear(16, width),
            torch.nn.ReLU(),
            torch.nn.Linear(width, 8),
        ]
        if job.get("tanh"):
            layers.insert(1, torch.nn.Tanh())
        model = torch.compile(torch.nn.Sequential(*layers), dynamic=job.get("dynamic", False))
        results = []
        for size in job["sizes"]:
            torch.manual_seed(size)
            output = model(torch.randn(size, 16)).softmax(-1)
            if job.get("train", True):
                output.square().sum().backward()
            results.append(float(output.detach().double().square().sum()))
        return results

    said: dict[str, list[Any]] = {"jobs": []}
    if order.get("foreign"):
        compute(order["foreign"])
    barrier = order.get("barrier")
    for job in order["jobs"]:
        cache = Cache(job["key"])
        restored = cache.restore()
        if barrier:
            Path(barrier, str(os.getpid())).touch()
            while len(list(Path(barrier).iterdir())) < order["workers"]:
                time.sleep(0.02)
        counters.clear()
        before = gxx_runs()
        start = time.perf_counter()
        results = compute(job)
        seconds = time.perf_counter() - start
        inductor, autograd = counters["inductor"], counters["aot_autograd"]
        said["jobs"].append(
            {
                "hit": inductor["fxgraph_cache_hit"],
                "miss": inductor["fxgraph_cache_miss"],
                "autograd_hit": autograd["autograd_cache_hit"],
                "autograd_miss": autograd["autograd_cache_miss"],
                "kernels_compiled": gxx_runs() - before,
                "results": results,
                "seconds": seconds,
                "restore": restored.as_dict(),
                "sync": cache.sync().as_dict(),
            }
        )
    print(json.dumps(said))


def gxx_runs() -> int:
    """How often g++ was run to make a shared library of a kernel, from the log of the shim."""
    log = Path(os.environ["GXX_LOG"])
    if not log.exists():
        return 0
    return sum("-shared" in line and ".main.cpp" in line for line in log.read_text().splitlines())


main()
