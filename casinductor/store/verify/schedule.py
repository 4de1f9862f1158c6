"""The memory of which packs were read through longest ago.

Invariant: it only orders work. It counts readings, so a clock that jumps does not confuse it;
losing the file, which lies on this machine's own disk, means to begin again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from casinductor.settings import Settings
from casinductor.store.backends.address import open_backend
from casinductor.store.opening import state_path
from casinductor.util.remembered import open_remembered


class VerificationLog:
    """A table of packs and the number of the reading that verified each; None forgets at once."""

    def __init__(self, path: Path | None) -> None:
        self._db = open_remembered(path, _prepare, autocommit=True)

    def oldest_first(self, packs: Iterable[str]) -> list[str]:
        """Packs never read through first, then by how long ago they were."""
        with suppress(sqlite3.Error):
            known = dict(self._db.execute("SELECT ulid, reading FROM pack"))
            return sorted(packs, key=lambda ulid: (known.get(ulid, 0), ulid))
        return sorted(packs)

    def note(self, ulid: str) -> None:
        """This pack was read through and is good."""
        with suppress(sqlite3.Error):
            self._db.execute(
                "INSERT OR REPLACE INTO pack SELECT ?, COALESCE(MAX(reading), 0) + 1 FROM pack",
                (ulid,),
            )

    def forget_others(self, packs: set[str]) -> None:
        """Drop packs that are gone from the store."""
        with suppress(sqlite3.Error):
            known = {row[0] for row in self._db.execute("SELECT ulid FROM pack")}
            self._db.executemany("DELETE FROM pack WHERE ulid = ?", [(u,) for u in known - packs])

    def close(self) -> None:
        self._db.close()


@contextmanager
def verification_log(settings: Settings) -> Iterator[VerificationLog]:
    """What this machine remembers of the checks of a store."""
    path = state_path(settings, open_backend(settings.store).url)
    log = VerificationLog(path.with_suffix(".checked") if path else None)
    try:
        yield log
    finally:
        log.close()


def _prepare(db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE IF NOT EXISTS pack(ulid TEXT PRIMARY KEY, reading INT)")
    db.execute("SELECT COUNT(*) FROM pack").fetchone()
