"""One whole start of a worker, alone in its process: ``python -m tools.bench.ready_worker``.

Invariant: everything is on the clock, from the process's first line on, and told in one JSON line:
wall and processor seconds of importing torch, loading the cache, the first call, the second, and
the sync. Arguments: way (``none``, ``casinductor``, ``zip``), model, folder of the store, and a
module to import once torch is there, if any: what a driver that stands in for CUDA needs.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

START = time.perf_counter()


def main() -> None:
    way, name, store, *beside = sys.argv[1:]
    clock = Clock()
    import torch
    import torch._inductor.compile_fx

    for module in beside:
        import_module(module)
    clock.note("import")
    load, sync = ways(way, Path(store))
    state = load()
    clock.note("load")
    call = models()[name](torch)
    clock.note("model")
    call()
    clock.note("first call")
    call()
    clock.note("second call")
    sync(state)
    clock.note("sync")
    print("READY " + json.dumps({"wall": clock.wall, "processor": clock.processor}))


class Clock:
    """Seconds of each step, by name; processor seconds with those of children that ended."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = {}
        self.processor: dict[str, float] = {}
        self._at = START
        self._used = 0.0

    def note(self, name: str) -> None:
        now, times = time.perf_counter(), os.times()
        used = times.user + times.system + times.children_user + times.children_system
        self.wall[name], self.processor[name] = now - self._at, used - self._used
        self._at, self._used = now, used


def ways(way: str, store: Path) -> tuple[Callable[[], str], Callable[[str], None]]:
    """Load and sync by a way; ``none`` leaves torch to its directory."""
    if way == "none":
        return lambda: "", lambda _: None
    if way == "casinductor":
        from casinductor import load_inductor_cache, sync_inductor_cache

        return lambda: load_inductor_cache("m/v1"), lambda s: sync_inductor_cache("m/v1", s)
    from tools.bench.peer import Fal

    fal, local = Fal(store), Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    return lambda: fal.load("m/v1", local), lambda s: fal.sync("m/v1", local, s)


Call = Callable[[], object]


def models() -> dict[str, Callable[[Any], Call]]:
    return {
        "graph": graph,
        "blocks": blocks,
        "training": training,
        "convolutions": convolutions,
        "unet": unet,
        "unet-dynamic": partial(unet, dynamic=True),
    }


def graph(torch: Any) -> Call:
    """One tiny graph."""
    compiled = torch.compile(lambda x: torch.relu(x * 2 + 1).sum(-1))
    return in_inference(torch, compiled, torch.ones(4, 64))


def blocks(torch: Any) -> Call:
    """Twelve transformer blocks, each of its own shape class, without gradients."""
    model = transformer(torch, 12)  # in eval mode each block is one operator: nothing to compile
    return in_inference(torch, torch.compile(model), torch.ones(2, 32, 128))


def training(torch: Any) -> Call:
    """Four transformer blocks, forward and backward."""
    model, x = torch.compile(transformer(torch, 4)), torch.ones(2, 32, 128)
    return lambda: model(x).sum().backward()


def convolutions(torch: Any) -> Call:
    """A net of twelve convolutions with normalization and skips."""
    nn = torch.nn

    class Block(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(16, 16, 3, padding=1), nn.GroupNorm(4, 16)

        def forward(self, x: Any) -> Any:
            return x + torch.nn.functional.silu(self.norm(self.conv(x)))

    model = nn.Sequential(*[Block() for _ in range(12)]).eval()
    return in_inference(torch, torch.compile(model), torch.ones(1, 16, 32, 32))


def unet(torch: Any, *, dynamic: bool = False) -> Call:
    """SD-Turbo's UNet (its config.json on the hub) in half precision on a GPU, with weights at
    random: one picture of 512 times 512 pixels, or with ``dynamic`` shapes one of 768 beside it.
    """
    from diffusers import UNet2DConditionModel

    model = UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(320, 640, 1280, 1280),
        cross_attention_dim=1024,
        attention_head_dim=[5, 10, 20, 20],
        use_linear_projection=True,
    )
    model = model.to("cuda", torch.float16).eval().requires_grad_(False)
    compiled = torch.compile(model, dynamic=True if dynamic else None)
    step = torch.zeros((), device="cuda", dtype=torch.long)
    text = torch.randn(1, 77, 1024, device="cuda", dtype=torch.float16)
    widths = (64, 96) if dynamic else (64,)
    noises = [torch.randn(1, 4, 64, w, device="cuda", dtype=torch.float16) for w in widths]

    def call() -> None:
        with torch.no_grad():
            for noise in noises:
                compiled(noise, step, text, return_dict=False)
        torch.cuda.synchronize()

    return call


def transformer(torch: Any, layers: int) -> Any:
    nn = torch.nn
    block = nn.TransformerEncoderLayer(128, 4, 256, dropout=0.0, batch_first=True, norm_first=True)
    return nn.Sequential(
        *[
            type(block)(128, 4, 256, dropout=0.0, batch_first=True, norm_first=True)
            for _ in range(layers)
        ]
    )


def in_inference(torch: Any, model: Any, x: Any) -> Call:
    def call() -> object:
        with torch.no_grad():
            return model(x)

    return call


if __name__ == "__main__":
    main()
