"""What other processes of one worker heard from torch: one small file for each, in one folder.

Invariant: a line is one event, appended by one write, so that a process that is killed leaves whole
lines; whoever owns the folder reads it, counts nothing of its own there, and removes it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path

import msgspec

from casinductor.inductor.trace import MAX_EVENTS, TRACE, Event
from casinductor.observe.engine import engine_facts

#: Names the folder to the processes that a worker starts.
VARIABLE = "CASINDUCTOR_SPOOL"  # also in plugin.py, which imports nothing while it is asleep
_FOLDER = "spools"
_MAX_BYTES = 16 << 20
_ABANDONED_SECONDS = 7 * 86_400
_DECODER = msgspec.json.Decoder(Event)  # built at import, as two threads must not
_FACTS = msgspec.json.Decoder(dict[str, str])


class Spool:
    """The folder at ``path``."""

    def __init__(self, path: str) -> None:
        self.path = path

    def write(self, event: Event) -> None:
        """Append what this process heard; a folder that is gone takes nothing."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        with suppress(OSError):
            descriptor = os.open(os.path.join(self.path, f"{os.getpid()}.events"), flags, 0o600)
            try:
                os.write(descriptor, msgspec.json.encode(event) + b"\n")
            finally:
                os.close(descriptor)

    def introduce(self, facts: dict[str, str]) -> None:
        """Say once what the engine of this process is."""
        path = os.path.join(self.path, f"{os.getpid()}.engine")
        if facts and not os.path.exists(path):
            with suppress(OSError), open(path, "xb") as file:
                file.write(msgspec.json.encode(facts))

    def engine(self) -> dict[str, str]:
        """What the first process that said it is."""
        for path in sorted(Path(self.path).glob("*.engine")):
            with suppress(OSError, msgspec.MsgspecError):
                return _FACTS.decode(path.read_bytes()[:_MAX_BYTES])
        return {}

    def events(self) -> list[Event]:
        """All that was heard so far, in the order of the files' names; torn lines are left out."""
        found: list[Event] = []
        with suppress(OSError):
            for path in sorted(Path(self.path).glob("*.events")):
                with path.open("rb") as file:
                    for line in file.read(_MAX_BYTES).splitlines():
                        with suppress(msgspec.MsgspecError):
                            found.append(_DECODER.decode(line))
        return found[:MAX_EVENTS]

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


class Own:
    """The spool that this process owns, if any."""

    def __init__(self) -> None:
        self.spool: Spool | None = None
        self._pid = 0

    def take(self, spool: Spool | None) -> None:
        self.spool, self._pid = spool, os.getpid()

    @property
    def here(self) -> bool:
        """Whether it is this process's, and not that of one that was forked from it."""
        return self.spool is not None and self._pid == os.getpid()

    def events(self) -> list[Event]:
        """What the other processes heard so far."""
        return self.spool.events() if self.spool is not None and self.here else []

    def engine(self) -> dict[str, str]:
        return self.spool.engine() if self.spool is not None and self.here else {}

    def bytes(self) -> int:
        """The size of all that they wrote, which tells whether there is more."""
        if self.spool is None or not self.here:
            return 0
        with suppress(OSError):
            return sum(entry.stat().st_size for entry in os.scandir(self.spool.path))
        return 0


#: The one of this process.
OWN = Own()


def begin(state: Path | None, environ: MutableMapping[str, str]) -> None:
    """Own a new spool below ``state`` and name it in the environment of processes to be started;
    without a directory to keep it in, their events are not heard.
    """
    if state is None:
        return
    folder = state / _FOLDER
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep(folder)
        spool = Spool(tempfile.mkdtemp(dir=folder))
        OWN.take(spool)
        environ[VARIABLE] = spool.path


def end() -> None:
    """Own none any more."""
    if OWN.spool is not None and OWN.here:
        OWN.spool.remove()
        OWN.take(None)


def listen(path: str) -> None:
    """Append from now on what torch says in this process; a second call does nothing."""
    if TRACE.sink is None:
        spool = Spool(path)

        def take(event: Event) -> None:
            spool.introduce(engine_facts())
            spool.write(event)

        TRACE.sink = take
        TRACE.start()


def _sweep(folder: Path) -> None:
    """Remove what killed owners left behind."""
    for path in folder.iterdir():
        if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
            shutil.rmtree(path, ignore_errors=True)
