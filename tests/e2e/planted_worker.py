"""A worker with things planted that make it miss: restores, compiles with torch, syncs.

Arguments: cache keys, each with what is planted behind an equals sign, and a folder of local
directories. Prints one line of JSON for each: the warm-up and torch's counters.
``/casinductor-begin`` and ``/casinductor-end`` are asked for around the compile, so that a system
call trace shows what belongs to it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any


def main() -> None:
    folder, *jobs = sys.argv[1:]
    for job in jobs:
        key, _, planted = job.partition("=")
        os.environ["CASINDUCTOR_LOCAL_DIR"] = str(Path(folder, planted))
        print(json.dumps({"planted": planted, **work(key, planted)}))


def work(key: str, planted: str) -> dict[str, object]:
    from casinductor import Cache

    cache = Cache(key)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache.root
    cache.restore("all" if planted == "everything" else None)

    import torch
    import torch._inductor.config
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    restored = cached(cache.root)
    undo = prepare(planted, cache.root, torch)
    gone = sorted(restored - cached(cache.root))
    with suppress(OSError):
        os.stat("/casinductor-begin")
    dtype = torch.float64 if planted == "dtype" else torch.float32
    size = 5 if planted == "shape" else 3
    if planted == "compiler":
        with suppress(Exception):
            torch.compile(plain)(torch.ones(3, 16), torch.ones(16, 8))
    elif planted != "guard":
        compute = torch.compile(outer if planted == "code" else plain)
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
    undo()
    report = cache.sync()
    cache.close()
    assert report.warmup is not None
    said = {"warmup": report.warmup.as_dict(), "counters": counted}
    return {**said, "restored": sorted(restored), "gone": gone}


def cached(root: str) -> set[str]:
    """The files of torch's cache, without casinductor's own."""
    return {
        str(path.relative_to(root))
        for path in Path(root).rglob("*")
        if path.is_file() and ".casinductor" not in path.parts
    }


def prepare(planted: str, root: str, torch: Any) -> Callable[[], None]:
    """Plant what has to be planted inside the process; returns what takes it out again."""
    from torch._inductor import codecache

    cache_base: Any = codecache.CacheBase
    system = cache_base.get_system
    if planted == "config":
        torch._inductor.config.epilogue_fusion = False
    elif planted == "device":
        told = {**cache_base.get_system(), "device": {"name": "NVIDIA H100"}}
        cache_base.get_system = staticmethod(lambda: told)
    elif planted == "missing":
        (library,) = [path for path in Path(root).glob("*/*.main.so") if b"_cosf" in unseen(path)]
        library.unlink()  # that of ``plain``

    def undo() -> None:
        torch._inductor.config.epilogue_fusion = True
        cache_base.get_system = staticmethod(system)

    return undo


def unseen(path: Path) -> bytes:
    """A file's bytes, read without moving its access time."""
    with open(os.open(path, os.O_RDONLY | os.O_NOATIME), "rb") as file:
        return file.read()


def plain(x: Any, a: Any) -> Any:
    return (x @ a).cos() + 1


def outer(x: Any, a: Any) -> Any:
    return (x @ a).sin() + 1


def reduced(x: Any) -> Any:
    return x.sin().sum(0)


main()
