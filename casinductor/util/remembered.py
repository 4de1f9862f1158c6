"""Opens small SQLite files that only spare work: what is wrong with one is forgotten with it.

Invariant: a usable database is always returned; a damaged or foreign file is removed, and where
there can be none the database is in memory.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def open_remembered(
    path: Path | None, prepare: Callable[[sqlite3.Connection], None], *, autocommit: bool = False
) -> sqlite3.Connection:
    """The database at ``path`` (None: in memory) once ``prepare`` made and read its tables."""
    for place in (str(path) if path else ":memory:", ":memory:"):
        try:
            db = sqlite3.connect(
                place, timeout=10, isolation_level=None if autocommit else "DEFERRED"
            )
            prepare(db)
        except sqlite3.Error:
            if path is not None:
                with suppress(OSError):
                    path.unlink()
            continue
        return db
    raise AssertionError("SQLite cannot even work in memory")
