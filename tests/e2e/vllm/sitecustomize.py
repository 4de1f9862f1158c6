"""Keeps vLLM's own piecewise compiler, which GPUs use, on its CPU platform, which falls back to
another mode that rejects its own file at the second start (vLLM 0.32.0). Nothing else changes.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import inspect
import re
import sys
from typing import Any


def _keep_the_mode(module: Any) -> None:
    platform = module.CpuPlatform
    original = platform.check_and_update_config.__func__

    def check_and_update_config(cls: Any, vllm_config: Any) -> None:
        from vllm.config import CompilationMode

        wanted = vllm_config.compilation_config
        mode = wanted.mode
        original(cls, vllm_config)
        if mode == CompilationMode.VLLM_COMPILE:
            wanted.mode, wanted.backend = mode, "inductor"
            wanted.compile_sizes = wanted.compile_sizes or []

    platform.check_and_update_config = classmethod(check_and_update_config)


def _define_what_a_cpu_lacks(module: Any) -> None:
    """The pass names operators of CUDA's extension, whose absence ends it."""
    import torch

    module.kept = library = torch.library.Library("_C", "FRAGMENT")
    for name in sorted(set(re.findall(r"torch\.ops\._C\.(\w+)", inspect.getsource(module)))):
        if not hasattr(torch.ops._C, name):
            library.define(name + "() -> ()")


_AFTER = {
    "vllm.platforms.cpu": _keep_the_mode,
    "vllm.compilation.passes.utility.fix_functionalization": _define_what_a_cpu_lacks,
}


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        del path, target
        if name not in _AFTER:
            return None
        change = _AFTER.pop(name)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            change(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, _Finder())
