"""What runs inside: casinductor's verbs on a mounted store, telling the host what was acknowledged.

Usage: guest.py VERB STORE LOG [ARGUMENTS]; LOG lies on the host's disk, so it survives the guest.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from casinductor.cache import Cache
from casinductor.errors import CasinductorError
from casinductor.settings import Settings
from casinductor.store.maintain.collect import collect
from casinductor.store.maintain.compact import compact
from casinductor.store.opening import with_fresh_store
from casinductor.store.verify.check import check
from tools.soak.race import hashes, make_tree


def settings_of(store: str, local: Path) -> Settings:
    return Settings(store=store, local_dir=local, gpu_type="H100", state_dir=local / "../state")


def note(log: str, record: object) -> None:
    with Path(log).open("a") as file:
        file.write(json.dumps(record) + "\n")
        file.flush()
        os.fsync(file.fileno())


def work(store: str, log: str, first: str, count: str, seconds: str = "0") -> None:
    """Sync again and again; compact and collect now and then. The power goes at some moment."""
    grace = float(seconds)
    with tempfile.TemporaryDirectory(dir="/run") as folder:
        for index in range(int(first), int(first) + int(count)):
            local = Path(folder) / f"tree{index}"
            make_tree(local, index)
            settings = settings_of(store, local)
            try:
                Cache("model", settings=settings).sync()
                note(log, hashes(local))
                if index % 4 == 3:
                    cache = Cache("model", settings=settings)
                    with_fresh_store(settings, partial(compact, cache=cache.id, grace=grace))
                if index % 8 == 7:
                    with_fresh_store(
                        settings, lambda s: collect(s, apply=True, min_age_seconds=0.0, grace=grace)
                    )
            except CasinductorError as error:
                note(log + ".errors", str(error))


def look(store: str, log: str) -> None:
    """Restore everything, check every byte, collect; what is there goes to the log."""
    with tempfile.TemporaryDirectory(dir="/run") as folder:
        local = Path(folder) / "tree"
        settings = settings_of(store, local)
        restored = Cache("model", settings=settings).restore("all")
        report = with_fresh_store(settings, lambda s: check(s, data=1.0))
        with_fresh_store(settings, lambda s: collect(s, apply=True, min_age_seconds=0.0, grace=0.0))
        note(
            log,
            {
                "files": hashes(local) if local.is_dir() else {},
                "lost": restored.lost,
                "problems": [p.sentence() for p in report.problems],
            },
        )


if __name__ == "__main__":
    verbs: dict[str, Callable[..., None]] = {"work": work, "look": look}
    verbs[sys.argv[1]](*sys.argv[2:])
