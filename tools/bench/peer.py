"""The peer: the functions of the installed ``fal.toolkit``, pointed at directories of a run.

Invariant: the code that runs is fal's own file, unchanged; only its three directory constants and
its GPU detection (which would start nvidia-smi) are set.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
from pathlib import Path
from typing import Any


class Fal:
    """fal's load and sync on a store of its own below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.module: Any = load()  # its constants are set from outside
        self.store = folder / "zip"
        self.module.GLOBAL_INDUCTOR_CACHES_DIR = self.store
        self.module.PERSISTENT_TMP_DIR = folder / "zip-tmp"
        self.module.get_gpu_type = lambda: "H100"

    def load(self, key: str, local: Path) -> str:
        self.module.LOCAL_INDUCTOR_CACHE_DIR = local
        with contextlib.redirect_stdout(io.StringIO()):
            return str(self.module.load_inductor_cache(key))

    def sync(self, key: str, local: Path, state: str = "") -> None:
        self.module.LOCAL_INDUCTOR_CACHE_DIR = local
        with contextlib.redirect_stdout(io.StringIO()):
            self.module.sync_inductor_cache(key, state)

    def stored_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.store.rglob("*.zip"))


def load() -> Any:
    """``fal.toolkit.compilation`` by its file, as importing fal needs dozens of packages."""
    found = importlib.util.find_spec("fal")
    if found is None or found.origin is None:
        raise SystemExit("the peer is missing: pip install --no-deps fal")
    path = Path(found.origin).parent / "toolkit" / "compilation.py"
    spec = importlib.util.spec_from_file_location("fal_compilation", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
