"""What an engine's own configuration says of what its compile cache depends on.

Invariant: nothing is imported that the engine has not, nothing raises, and only names and numbers
that stand in its cache key are taken: no paths of secrets, no request, no token.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

#: Parts of vLLM's configuration and the fields of each that its key contains (vLLM 0.32.0).
_FIELDS = {
    "model_config": ("model", "dtype", "quantization", "max_model_len"),
    "parallel_config": ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"),
    "scheduler_config": ("max_num_seqs", "max_num_batched_tokens"),
    "cache_config": ("block_size", "cache_dtype"),
}
_LONGEST = 500
_FRAMES = 400


def engine_facts() -> dict[str, str]:
    """The facts of the engine that this process belongs to; empty where none tells."""
    if "vllm" not in sys.modules:
        return {}
    try:
        config = _configuration()
        return _of(config) if config is not None else {}
    except Exception:  # another version keeps it elsewhere
        return {}


def _configuration() -> Any:
    """vLLM's configuration: of those that called us while they compile or load, whoever has it."""
    frame: FrameType | None = sys._getframe(1)
    for _ in range(_FRAMES):
        if frame is None:
            return None
        known = frame.f_locals
        found = known.get("vllm_config") or getattr(known.get("self"), "vllm_config", None)
        if hasattr(found, "model_config"):
            return found
        frame = frame.f_back
    return None


def _of(config: Any) -> dict[str, str]:
    found = {}
    for part, names in _FIELDS.items():
        held = getattr(config, part, None)
        for name in names:
            value = getattr(held, name, None)
            if value is not None:
                found[name] = str(value)[:_LONGEST]
    if version := getattr(sys.modules.get("vllm"), "__version__", ""):
        found["vllm"] = str(version)
    return found
