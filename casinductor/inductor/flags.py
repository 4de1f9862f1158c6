"""Settings of torch under which it caches nothing, or what no other process can hit.

Invariant: a module of torch is asked only where it is imported already, else the variable it reads
at import (``torch/_inductor/config.py``, ``torch/_dynamo/config.py``); nothing is changed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

PRECOMPILE = "TORCH_CACHING_PRECOMPILE"
#: Variable, module and attribute of what switches caches off, and the value that does.
_SWITCHES = (
    ("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "torch._inductor.config", "force_disable_caches", True),
    ("TORCHINDUCTOR_FX_GRAPH_CACHE", "torch._inductor.config", "fx_graph_cache", False),
)


def precompiles(environ: Mapping[str, str] | None = None) -> bool:
    """Whether torch saves aotautograd entries for its precompile packages: their keys differ in
    each process, so none is ever hit (torch 2.9 and later).
    """
    return _value(PRECOMPILE, "torch._dynamo.config", "caching_precompile", environ) is True


def switched_off(environ: Mapping[str, str] | None = None) -> list[str]:
    """The settings by which torch's local caches are off, as a user would write them."""
    return [
        f"{variable}={int(off)} ({module}.{name})"
        for variable, module, name, off in _SWITCHES
        if _value(variable, module, name, environ) is off
    ]


def _value(variable: str, module: str, name: str, environ: Mapping[str, str] | None) -> object:
    """What is set; None where neither torch nor the environment says."""
    imported = sys.modules.get(module)
    if imported is not None and environ is None:
        return getattr(imported, name, None)
    text = (os.environ if environ is None else environ).get(variable)
    return None if text is None else text == "1"
