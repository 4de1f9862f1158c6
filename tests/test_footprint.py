"""What a block leaves behind in its process: nothing that runs later, nothing that others see."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

LOOK = """
import atexit, json, logging, os, signal, sys, threading

def look():
    loggers = [logging.getLogger(name) for name in (None, "torch", "torch.__trace")]
    return {
        "exit hooks": atexit._ncallbacks(),
        "signals": {n: str(signal.getsignal(n)) for n in signal.valid_signals()},
        "threads": [t.name for t in threading.enumerate()],
        "importers": [str(finder) for finder in sys.meta_path],
        "handlers": [[str(h) for h in logger.handlers] for logger in loggers],
        "lists": [type(logger.handlers).__name__ for logger in loggers],
        "levels": [(logger.level, str(logger.filters)) for logger in loggers],
        "hooks": [str(hook) for hook in (sys.excepthook, threading.excepthook, sys.displayhook)],
        "environment": dict(os.environ),
        "folder": os.getcwd(),
    }
"""


def run(script: str, tmp_path: Path) -> str:
    environment = {
        **os.environ,
        "CASINDUCTOR_STORE": str(tmp_path / "store"),
        "CASINDUCTOR_LOCAL_DIR": str(tmp_path / "local"),
        "CASINDUCTOR_STATE_DIR": str(tmp_path / "state"),
    }
    path = tmp_path / "script.py"
    path.write_text(script)
    result = subprocess.run(
        [sys.executable, str(path)], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


BLOCK = """
from casinductor import synchronized_inductor_cache
import os, pathlib
def block():
    with synchronized_inductor_cache("m/v1"):
        root = pathlib.Path(os.environ["TORCHINDUCTOR_CACHE_DIR"], "ab")
        root.mkdir(parents=True, exist_ok=True)
        (root / ("c" + "b" * 51 + ".py")).write_text("# module")
"""


@pytest.mark.parametrize("trace", ["0", "1"])
def test_a_block_leaves_the_process_as_it_found_it(
    tmp_path: Path, trace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CASINDUCTOR_TRACE", trace)
    ends = "before = look(); block(); after = look(); print(json.dumps([before, after]))"
    before, after = json.loads(run(f"{LOOK}{BLOCK}{ends}", tmp_path))
    known: dict[str, Any] = {**before["environment"]}
    assert after["environment"].pop("TORCHINDUCTOR_CACHE_DIR") == str(tmp_path / "local")
    assert after.pop("environment") == known
    del before["environment"]
    assert after == before


def test_what_a_script_ends_at_its_exit_is_not_waited_for(tmp_path: Path) -> None:
    """An engine ends its children by finalizers; a hook registered before multiprocessing's own
    would run them after it joined those children.
    """
    script = f"""{BLOCK}
import os, pathlib, sys, time, weakref
def child(path):
    time.sleep(8)
    pathlib.Path(path).touch()
block()
import multiprocessing
class Owner: pass
keep = Owner()
def main():
    where = {str(tmp_path / "lived")!r}
    process = multiprocessing.get_context("spawn").Process(target=child, args=(where,))
    process.start()
    keep.owner = Owner()
    weakref.finalize(keep.owner, process.terminate)
if __name__ == "__main__":
    main()
"""
    run(script, tmp_path)
    assert not (tmp_path / "lived").exists()
