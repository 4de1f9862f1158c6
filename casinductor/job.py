"""A job: what one restore or sync of a worker is about, handed on as one value.

Invariant: nothing in it changes while the work is done; only its deadline runs down.
"""

from __future__ import annotations

import msgspec

from casinductor.deadline import UNLIMITED, Deadline
from casinductor.inductor.fingerprint import Fingerprint
from casinductor.reports.transfer import Progress, no_progress
from casinductor.store.format.frame import blake3_digest
from casinductor.store.format.names import CacheId
from casinductor.util.roots import Roots


class Job(msgspec.Struct, frozen=True):
    """``cache`` and the directories ``roots``, for a ``worker``, by a ``deadline``; ``progress`` is
    told the bytes done and the bytes in all; ``only``: the one group that it is about, else all.
    """

    cache: CacheId
    roots: Roots
    worker: Fingerprint
    deadline: Deadline = UNLIMITED
    progress: Progress = no_progress
    only: str = ""

    @property
    def root(self) -> str:
        """Torch's directory, which also holds what we keep for ourselves."""
        return self.roots.main

    def record_name(self, url: str) -> str:
        """The name of this cache's record of ownership in a local directory, by its store."""
        return blake3_digest(f"{url}\0{self.cache}".encode()).hex()[:32]
