"""Publishes what is finished when a process is asked to end while a block is open.

Invariant: SIGTERM ends the process as before, a bounded time later, and only where nothing else
handles it; a forked child never publishes, and after the block the signal is as it was.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from casinductor.util.voice import say

#: Kubernetes kills 30 s after it asked (terminationGracePeriodSeconds).
PUBLISH_SECONDS = 20.0

_hooked = False
_owner = 0
_ours: Callable[[int, FrameType | None], None] | None = None


@contextmanager
def publish_on_termination(publish: Callable[[], None]) -> Iterator[None]:
    """Let SIGTERM call ``publish`` before it ends the process, while the block is open.

    Only in the main thread, as Python handles signals nowhere else, and only where the signal would
    end the process at once.
    """
    global _owner, _ours
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() == _owner:
            say(f"asked to end: publishing what is finished, for {PUBLISH_SECONDS:g} s at most")
            # Beside the main thread, which may hold any lock just now.
            worker = threading.Thread(target=publish, name="casinductor-publish", daemon=True)
            worker.start()
            worker.join(PUBLISH_SECONDS)
        os.kill(os.getpid(), number)

    _hook_forks()
    _owner, _ours = os.getpid(), handle
    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        _ours = None
        if signal.getsignal(signal.SIGTERM) is handle:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _hook_forks() -> None:
    """A forked child ends at once when it is asked to, as without us: its parent waits for that."""
    global _hooked
    if not _hooked:
        _hooked = True
        os.register_at_fork(after_in_child=_let_go)


def _let_go() -> None:
    with suppress(ValueError):  # forked in another thread than the main one
        if _ours is not None and signal.getsignal(signal.SIGTERM) is _ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
