"""A bar on standard error that says how far long work is.

Invariant: drawn on terminals only, not before the work took :data:`PATIENCE` seconds, and gone when
it is done.
"""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

PATIENCE = 0.5


class _Amount(ProgressColumn):
    """Bytes with their rate, or a count of things."""

    def __init__(self) -> None:
        super().__init__()
        self._bytes, self._rate, self._count = (
            DownloadColumn(),
            TransferSpeedColumn(),
            MofNCompleteColumn(),
        )

    def render(self, task: Task) -> Text:
        if task.fields.get("unit") == "B":
            return Text.assemble(self._bytes.render(task), " ", self._rate.render(task))
        speed = f" {task.speed:,.0f}/s" if task.speed else ""
        return Text.assemble(self._count.render(task), f" {task.fields.get('unit')}{speed}")


class Bar:
    """Shows one phase of the work at a time; use as a context manager."""

    def __init__(self) -> None:
        self._begun, self._shown = time.monotonic(), False
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            _Amount(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            expand=True,
        )
        self._phase: tuple[str, str] | None = None
        self._task = self._progress.add_task("", total=None, unit="")

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            self._progress.stop()

    def watch(self, what: str, done: int, total: int, unit: str) -> None:
        """See :data:`casinductor.util.watching.Watch`."""
        if (what, unit) != self._phase:
            self._phase = what, unit
            self._progress.reset(self._task, description=what, unit=unit)
        self._progress.update(self._task, completed=done, total=total)
        if not self._shown and time.monotonic() - self._begun > PATIENCE:
            self._shown = True
            self._progress.start()
