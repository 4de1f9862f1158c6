"""A worker with one thing planted that makes it miss: restores, compiles with torch, syncs.

Arguments: the cache key and the name of what is planted. Prints the warm-up and torch's counters as
one line of JSON. ``/casinductor-begin`` and ``/casinductor-end`` are asked for around the body, so
that a system call trace shows what belongs to it.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path


def main() -> None:
    key, planted = sys.argv[1:]
    from casinductor import Cache

    cache = Cache(key)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache.root
    cache.restore("all" if planted == "everything" else None)

    import torch
    import torch._inductor.config
    from torch._dynamo.utils import counters

    restored = cached(cache.root)
    prepare(planted, cache.root, torch)
    gone = sorted(restored - cached(cache.root))
    compute = torch.compile(outer if planted == "code" else plain)
    before = dict(counters["inductor"]), dict(counters["aot_autograd"])
    assert before == ({}, {})
    with suppress(OSError):
        os.stat("/casinductor-begin")
    dtype = torch.float64 if planted == "dtype" else torch.float32
    size = 5 if planted == "shape" else 3
    if planted != "guard":
        compute(torch.ones(size, 16, dtype=dtype), torch.ones(16, 8, dtype=dtype))
    if planted in ("base", "guard", "everything"):
        batch = torch.ones(5000 if planted == "guard" else 3, 16)
        torch._dynamo.mark_dynamic(batch, 0)
        torch.compile(reduced)(batch)
    with suppress(OSError):
        os.stat("/casinductor-end")
    counted = {
        f"{cache_}_{status}": counters[section][f"{name}_cache_{status}"]
        for cache_, section, name in (
            ("fxgraph", "inductor", "fxgraph"),
            ("aotautograd", "aot_autograd", "autograd"),
        )
        for status in ("hit", "miss", "bypass")
    }
    report = cache.sync()
    assert report.warmup is not None
    said = {"warmup": report.warmup.as_dict(), "counters": counted}
    print(json.dumps({**said, "restored": sorted(restored), "gone": gone}))


def cached(root: str) -> set[str]:
    """The files of torch's cache, without casinductor's own."""
    return {
        str(path.relative_to(root))
        for path in Path(root).rglob("*")
        if path.is_file() and ".casinductor" not in path.parts
    }


def prepare(planted: str, root: str, torch) -> None:
    """Plant what has to be planted inside the process."""
    if planted == "config":
        torch._inductor.config.epilogue_fusion = False
    elif planted == "device":
        from torch._inductor.codecache import CacheBase

        system = CacheBase.get_system()
        CacheBase.get_system = staticmethod(lambda: {**system, "device": {"name": "NVIDIA H100"}})
    elif planted == "missing":
        (library,) = list(Path(root).glob("*/*.main.so"))[:1]
        library.unlink()


def plain(x, a):
    return (x @ a).cos() + 1


def outer(x, a):
    return (x @ a).sin() + 1


def reduced(x):
    return x.sin().sum(0)


main()
