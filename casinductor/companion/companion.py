"""Shares a cache for a process beside this one: restores before it, publishes while it runs.

Invariant: what is finished and at rest is in the store a few seconds later, so that a process that
is killed loses no more; looking costs at most a hundredth of one processor.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from casinductor.cache import Cache
from casinductor.companion.rest import Rest
from casinductor.errors import CasinductorError
from casinductor.families.place import COMPILED_KINDS, GRAPH_KINDS
from casinductor.inductor.directory import walk
from casinductor.observe import spool
from casinductor.observe.spool import OWN
from casinductor.reports.transfer import RestoreReport
from casinductor.reports.warmup import WarmupReport
from casinductor.storm.cold import lead_or_wait
from casinductor.storm.leader import Leader

#: A directory that did not change for so long is at rest.
REST_SECONDS = 3.0
#: The same where a whole graph came since the last publication: what it needs came before it.
GRAPH_REST_SECONDS = 1.0
_LOOK_SECONDS = 1.0
#: What is told and kept of a worker that does not say when its warm-up ends: after such a rest, and
#: for the first time where nothing ever came.
RECORD_SECONDS, FIRST_RECORD_SECONDS = 10.0, 300.0
#: A program that does not end is taken to have compiled all that others wait for once nothing that
#: is compiled came for so long. A gap between two graphs is shorter as a rule.
LEAD_SECONDS = 30.0
#: How long such a worker's end waits for the last publication, and how often an end is looked for.
LAST_SECONDS, _END_SECONDS = 20.0, 0.2
#: Of one processor, what looking may take; of the time, what publishing may, unless ``every`` asks
#: for more.
_SHARE, _PUBLISHING = 0.01, 0.05

#: What is told: a kind of event, a sentence, and its fields.
Tell = Callable[[str, str, dict[str, object]], None]


class Look(NamedTuple):
    """How many ``files`` there are, when the ``newest`` came (nanoseconds since 1970), how many of
    them were ``compiled``, and how many hold whole ``graphs``.
    """

    files: int = 0
    newest: int = 0
    compiled: int = 0
    graphs: int = 0


class Companion:
    """One cache, shared for whoever compiles into its local directory.

    ``every``: seconds after which what is finished is published although more keeps coming.
    ``records``: warm-ups are told and kept when all has been at rest for a while, since nobody will
    say when they end. ``state`` identifies what was restored. ``tell`` gets the events
    ``restored``, ``waiting``, ``published``, ``finished`` and ``failed``.
    """

    def __init__(self, cache: Cache, every: float, tell: Tell, *, records: bool = False) -> None:
        self.cache = cache
        self.state = ""
        self._every = every
        self._tell = tell
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._seen: Look | None = None
        self._published, self._took = 0.0, 0.0
        self._leader: Leader | None = None
        self._lead_rest = Rest(LEAD_SECONDS, cache.settings.wait)
        self._rest = Rest(RECORD_SECONDS, FIRST_RECORD_SECONDS) if records else None

    def prepare(self) -> bool:
        """Restore; whether the local directory can be used at all. Failures are told."""
        cache = self.cache
        reason = cache.unusable()
        if cache.worker.torch == "none":
            reason = "there is no torch; --python names the interpreter that has it"
        if reason:
            told = f"{cache.id}: cannot share {cache.root}: {reason}"
            self._tell("failed", told, {"verb": "restore"})
            return False
        try:
            report = cache.restore()
        except CasinductorError as error:
            self._tell("failed", f"{cache.id}: cannot restore: {error}", {"verb": "restore"})
        else:
            self.state = report.state
            self._tell("restored", report.summary(), report.as_dict())
            self._leader = lead_or_wait(cache, report, self._tell_waiting)
        self._seen = self._look()  # what comes from now on is to be published
        return True

    def _tell_waiting(self, sentence: str, report: RestoreReport | None) -> None:
        self.state = report.state if report else self.state
        self._tell(
            "restored" if report else "waiting", sentence, report.as_dict() if report else {}
        )

    def start(self) -> None:
        """Publish in the background from now on."""
        self._seen = self._look() if self._seen is None else self._seen
        self._published = time.monotonic()
        self._thread = threading.Thread(
            target=self._work, name="casinductor-live", daemon=not self._rest
        )
        self._thread.start()

    def stop(self, seconds: float | None = None) -> None:
        """Publish no more in the background; waits ``seconds`` for what is on its way."""
        self._ended.set()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(seconds)

    def finish(self, seconds: float | None = None) -> WarmupReport | None:
        """Publish the rest within ``seconds`` and return the whole warm-up, which is told."""
        end = None if seconds is None else time.monotonic() + seconds
        self.stop(seconds)
        warmup = self._sync(None if end is None else max(0.0, end - time.monotonic()))
        self.cache.close()
        self._let_others_go()
        return warmup

    def _let_others_go(self) -> None:
        """What they wait for is published."""
        if self._leader is not None:
            self._leader.finish()
            self._leader = None

    def _sync(self, seconds: float | None) -> WarmupReport | None:
        """Publish, and tell and keep what happened since the last time."""
        try:
            report = self.cache.sync(seconds)
        except CasinductorError as error:
            self._tell("failed", f"{self.cache.id}: cannot publish: {error}", {"verb": "sync"})
            return None
        self._tell("published", report.summary(), report.as_dict())
        warmup = report.warmup
        if warmup is not None:
            self._tell("finished", warmup.summary(), warmup.as_dict())
        return warmup

    def _work(self) -> None:
        pause = _LOOK_SECONDS
        while not self._over(pause):
            before = time.thread_time()
            try:
                now = self._look()
                pause = max(_LOOK_SECONDS, (time.thread_time() - before) / _SHARE)
                self._publish_if_due(now)
                if self._leader and self._lead_rest.reached(
                    (now.compiled, now.graphs), time.monotonic()
                ):
                    self._let_others_go()
                if self._rest and self._rest.reached((*now, OWN.bytes()), time.monotonic()):
                    self._sync(None)
            except Exception as error:
                if not _ending():
                    self._tell("failed", f"{self.cache.id}: cannot share it live: {error}", {})
        if self._rest and not self._ended.is_set():
            self._sync(LAST_SECONDS)
            self.cache.close()
            spool.end()

    def _over(self, pause: float) -> bool:
        """Wait; whether to share no more. A worker whose warm-ups are kept from here is waited for
        at its end by this thread instead of an exit hook.
        """
        if not self._rest:
            return self._ended.wait(pause)
        until = time.monotonic() + pause
        while not self._ended.wait(_END_SECONDS):
            if _ending():
                return True
            if time.monotonic() >= until:
                return False
        return True

    def _publish_if_due(self, now: Look) -> None:
        if now == self._seen:
            return
        waited = time.monotonic() - self._published
        graphs_before = self._seen.graphs if self._seen else 0
        rest = GRAPH_REST_SECONDS if now.graphs > graphs_before else REST_SECONDS
        if time.time() - now.newest / 1e9 < rest and waited < self._every:
            return
        if waited < min(self._took / _PUBLISHING, self._every):
            return
        self._seen, self._published = now, time.monotonic()
        try:
            report = self.cache.publish()
        except CasinductorError as error:
            self._tell("failed", f"{self.cache.id}: cannot publish: {error}", {"verb": "publish"})
            return
        finally:
            self._took = time.monotonic() - self._published
        if report.manifest is not None:
            self._tell("published", report.summary(), report.as_dict())

    def _look(self) -> Look:
        try:
            files = walk(self.cache.roots).files.values()
        except CasinductorError:
            return self._seen or Look()
        newest = max((file.stamp.mtime for file in files), default=0)
        compiled = sum(file.place.kind in COMPILED_KINDS for file in files)
        graphs = sum(file.place.kind in GRAPH_KINDS for file in files)
        return Look(len(files), newest, compiled, graphs)


def _ending() -> bool:
    """Whether the program is over and Python about to end."""
    return not threading.main_thread().is_alive()
