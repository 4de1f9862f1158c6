"""Compiles a part of one of torch's databases: DATABASE FIRST LAST DEVICE [MODULE...]; prints one
line of JSON. The modules are imported beside torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import Any


def main() -> None:
    database, first, last, device, *beside = sys.argv[1:]
    warnings.simplefilter("ignore")
    from casinductor import Cache
    from casinductor.inductor.directory import walk

    cache = Cache("databases")
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache.root
    cache.restore()
    import torch
    from torch._dynamo.utils import counters

    for module in beside:
        import_module(module)
    torch.manual_seed(0)
    listed = operators if database == "operators" else modules
    cases = list(listed(torch, device))
    said: dict[str, Any] = {"count": len(cases), "outputs": {}, "failed": {}}
    for name, work in cases[int(first) : int(last)]:
        torch._dynamo.reset()
        torch.manual_seed(0)
        try:
            said["outputs"][name] = digest(torch, work(), blank="empty" in name)
        except Exception as error:  # not every operator compiles
            said["failed"][name] = f"{type(error).__name__}: {str(error)[:120]}"
    said["counters"] = {
        name: value
        for section in ("inductor", "aot_autograd")
        for name, value in counters[section].items()
        if "cache_" in name and name.rpartition("_")[2] in ("hit", "miss", "bypass")
    }
    cache.sync()
    said["unknown"] = walk(cache.root).unknown
    print(json.dumps(said))


def operators(torch: Any, device: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """One sample of each operator that takes floats."""
    from torch.testing._internal.common_methods_invocations import op_db

    for number, op in enumerate(op_db):
        name = f"{number} {op.name} {op.variant_test_name}".strip()
        yield name, partial(_operator, torch, op, device)


def _operator(torch: Any, op: Any, device: str) -> Any:
    if not op.supports_dtype(torch.float32, device):
        raise NotImplementedError(f"no float32 on {device}")
    sample = next(iter(op.sample_inputs(device, torch.float32, requires_grad=False)))

    def call(value: Any, *args: Any, **kwargs: Any) -> Any:
        return op.op(value, *args, **kwargs)

    return torch.compile(call)(sample.input, *sample.args, **sample.kwargs)


def modules(torch: Any, device: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """One sample of each module, with its backward."""
    from torch.testing._internal.common_modules import module_db

    for number, info in enumerate(module_db):
        yield f"{number} {info.name}", partial(_module, torch, info, device)


def _module(torch: Any, info: Any, device: str) -> Any:
    samples = info.module_inputs_func(
        info, device=device, dtype=torch.float32, requires_grad=True, training=True
    )
    sample = next(iter(samples))
    build, forward = sample.constructor_input, sample.forward_input
    torch.manual_seed(0)
    module = info.module_cls(*build.args, **build.kwargs).to(device)
    output = torch.compile(module)(*forward.args, **forward.kwargs)
    results = [value for value in flat(output) if isinstance(value, torch.Tensor)]
    for value in results:
        if value.requires_grad:
            value.sum().backward(retain_graph=True)
    return [*results, *(p.grad for p in module.parameters() if p.grad is not None)]


def flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from flat(item)
    else:
        yield value


def digest(torch: Any, value: Any, *, blank: bool) -> str:
    """A hash of all tensors of an output; ``blank`` ones hold whatever lay in memory, so they count
    by their shape.
    """
    found = hashlib.sha256()
    for item in flat(value):
        if isinstance(item, torch.Tensor):
            array = item.detach()
            array = array.to_dense() if array.layout is not torch.strided else array
            found.update(str((tuple(array.shape), array.dtype)).encode())
            if not blank:
                found.update(array.resolve_conj().resolve_neg().cpu().numpy().tobytes())
        else:
            found.update(repr(item).encode())
    return found.hexdigest()[:16]


if __name__ == "__main__":
    main()
