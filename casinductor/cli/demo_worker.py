"""One worker of the demo: restore, compile, sync; prints what happened as one line of JSON.

Invariant: uses the library as any user would; imports torch, so nothing else imports this.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path


def main() -> None:
    from casinductor import Cache

    cache = Cache("demo/mlp")
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache.root
    restored = cache.restore()
    libraries = _libraries(cache.root)

    import torch
    from torch._dynamo.utils import counters

    torch.manual_seed(0)
    layers = (torch.nn.Linear(64, 256), torch.nn.GELU(), torch.nn.Linear(256, 64))
    model = torch.compile(torch.nn.Sequential(*layers))
    batch = torch.randn(32, 64)
    start = time.perf_counter()
    output = model(batch).softmax(-1)
    output.square().sum().backward()
    seconds = time.perf_counter() - start

    synced = cache.sync()
    count = counters["inductor"]
    print(
        json.dumps(
            {
                "first_call_seconds": seconds,
                "hits": count["fxgraph_cache_hit"],
                "misses": count["fxgraph_cache_miss"],
                "compiler_runs": len(_libraries(cache.root) - libraries),
                "checksum": float(output.detach().double().sum()),
                "restore": restored.as_dict(),
                "sync": synced.as_dict(),
                "warmup": synced.warmup.summary() if synced.warmup else "",
            }
        )
    )


def _libraries(root: str) -> set[str]:
    return {path.name for path in Path(root).glob("*/*.so")}


if __name__ == "__main__":
    main()
