"""Runs a command as if nothing stood before it: its signals, its status, its orphans.

Invariant: every signal that can be caught reaches the command, its exit status is returned as a
shell tells it, and as process 1 of a container this reaps whatever is left to it.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import FrameType

#: Not forwarded: what says something of this process, or stops and continues it.
_OWN = {"SIGCHLD", "SIGCLD", "SIGKILL", "SIGSTOP", "SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL"}
_OWN |= {"SIGTTIN", "SIGTTOU", "SIGTSTP", "SIGCONT", "SIGPIPE", "SIGABRT", "SIGTRAP", "SIGSYS"}
#: A shell's statuses of a command that cannot be run, and of one that is not there.
_CANNOT_RUN, _NOT_FOUND = 126, 127


class Child:
    """A command, not empty, that was started with ``environment``; raises what starting raises."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.asked_to_end = False
        self._early: list[int] = []
        self._pid = 0
        self._before = {number: signal.signal(number, self._forward) for number in _forwarded()}
        try:
            self._process = subprocess.Popen(command, env=dict(environment))
            self._pid = self._process.pid
        except BaseException:
            self._restore_signals()
            raise
        for number in self._early:
            self._send(number)

    def wait(self) -> int:
        """Its status once it ended, 128 and the signal's number where one ended it."""
        try:
            while True:
                pid, status = os.waitpid(-1, 0)  # whoever it is: process 1 gets all orphans
                if pid == self._pid:
                    code = os.waitstatus_to_exitcode(status)
                    return code if code >= 0 else 128 - code
        finally:
            self._pid = 0
            self._restore_signals()

    def _forward(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.asked_to_end |= number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        if number == signal.SIGINT and _from_terminal():
            return  # the terminal sent it to the command too
        if self._pid:
            self._send(number)
        else:
            self._early.append(number)

    def _send(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._pid, number)

    def _restore_signals(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _from_terminal() -> bool:
    """Whether this process is in the foreground of a terminal, whose keys reach all of it."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def status_of(error: OSError) -> int:
    """What a shell returns where a command cannot be started."""
    return _NOT_FOUND if isinstance(error, FileNotFoundError) else _CANNOT_RUN


def _forwarded() -> list[signal.Signals]:
    return [
        s for s in signal.valid_signals() if isinstance(s, signal.Signals) and s.name not in _OWN
    ]
