"""Compiles a broad set of graphs in one process; prints the files that casinductor does not know.

Run by ``test_known_files`` with whichever torch is installed; argument: the local directory.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any


def main() -> None:
    root = sys.argv[1]
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = root
    import torch

    said: dict[str, Any] = {"torch": torch.__version__, "failed": {}, "compiled": []}
    for name, work in graphs(torch):
        torch._dynamo.reset()
        try:
            work()
        except Exception as error:  # not every torch can do everything, on every machine
            said["failed"][name] = f"{type(error).__name__}: {error}"[:300]
        else:
            said["compiled"].append(name)
    from casinductor.inductor.directory import walk

    found = walk(root)
    said["unknown"] = found.unknown
    said["kinds"] = sorted({file.place.kind for file in found.files.values() if file.place.kind})
    said["marks"] = sum(file.place.mark for file in found.files.values())
    print(json.dumps(said))


def graphs(torch: Any) -> list[tuple[str, Callable[[], object]]]:
    """Kinds of compiles that write files of their own."""
    functional = torch.nn.functional

    def run(function: Any, *tensors: Any, **options: Any) -> Any:
        return torch.compile(function, **options)(*tensors)

    def backward() -> None:
        leaf = torch.ones(8, 16, requires_grad=True)
        run(lambda x: (x.sin() @ x.T).softmax(-1).sum(), leaf).backward()

    def dynamic() -> None:
        compiled = torch.compile(lambda x: x.cumsum(0).sort(0).values, dynamic=True)
        compiled(torch.ones(5, 4))
        compiled(torch.ones(70, 4))

    def options(**values: Any) -> None:
        import torch._inductor.config as config

        with config.patch(**values):
            run(lambda x, w: functional.relu(x @ w) + 1, torch.ones(64, 64), torch.ones(64, 64))

    def frozen() -> None:
        import torch._inductor.config as config

        model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()).eval()
        with config.patch(freezing=True), torch.no_grad():
            torch.compile(model)(torch.ones(1, 3, 8, 8))

    def attention() -> None:
        from torch.nn.attention.flex_attention import flex_attention

        query = torch.ones(1, 2, 128, 16)
        with torch.no_grad():
            run(lambda q: flex_attention(q, q, q), query)

    def job() -> None:
        os.environ["TORCH_COMPILE_JOB_ID"] = "job"
        try:
            run(lambda x: x.cos() + 2, torch.ones(9), dynamic=None)
        finally:
            del os.environ["TORCH_COMPILE_JOB_ID"]

    def packaged() -> None:
        exported = torch.export.export(torch.nn.Linear(4, 4), (torch.ones(2, 4),))
        torch._inductor.aoti_compile_and_package(exported)

    return [
        ("backward", backward),
        ("dynamic", dynamic),
        ("random", lambda: run(lambda x: functional.dropout(x, 0.5), torch.ones(64))),
        ("autotuned", lambda: options(max_autotune=True)),
        ("cpp wrapper", lambda: options(cpp_wrapper=True)),
        ("frozen", frozen),
        ("attention", attention),
        ("job", job),
        ("packaged", packaged),
        ("vmap", lambda: run(torch.vmap(lambda x: x.sin().sum()), torch.ones(3, 4))),
        ("complex", lambda: run(lambda x: torch.fft.fft(x).abs(), torch.ones(16))),
    ]


if __name__ == "__main__":
    main()
