"""The directories that one worker shares: torch's and those of other families.

Invariant: nothing is restored into, or published from, a directory that somebody else can write,
unless the user insists; torch's decides whether anything is shared at all, another family's only
whether that family is.
"""

from __future__ import annotations

import os

from casinductor.errors import LocalDirectory
from casinductor.families.choice import parse
from casinductor.settings import Settings
from casinductor.util.roots import Roots
from casinductor.worker.readiness import exposed_folder, problem_with, writable_by_others


class Directories:
    """The directories of a worker with these ``settings`` in this process's environment."""

    def __init__(self, settings: Settings) -> None:
        choice = parse(settings.families)
        self.tag = choice.tag
        self.roots: Roots = choice.roots(os.path.abspath(settings.local_dir), os.environ)
        self._trusting = settings.trust_local
        self._named = bool(settings.families)
        self._limit = settings.local_bytes

    def unusable(self) -> str | None:
        """Why torch's directory cannot be used, None if it can; it is created if need be."""
        return problem_with(self.roots.main, trust=self._trusting)

    def require(self) -> list[str]:
        """Raise :class:`LocalDirectory` where torch's cannot be used; share no other root that
        somebody else can write, and return a sentence for each.
        """
        if reason := self.unusable():
            raise LocalDirectory(f"cannot use the local directory {self.roots.main}: {reason}")
        return self._leave_out_exposed() + (self._pruned() if self._limit else [])

    def _pruned(self) -> list[str]:
        """Keep torch's directory below its size; a sentence where something went or would have."""
        from casinductor.pruning import prune  # only where a size is set

        report = prune(self.roots.main, self._limit)
        return [report.summary()] if report.groups_removed or report.groups_in_use else []

    def _leave_out_exposed(self) -> list[str]:
        told = []
        for family, root in list(self.roots.others.items()):
            if reason := exposed_folder(root):
                told.append(f"family {family} is not shared: {reason}")
                self.roots = self.roots.without(family)
        return told

    def require_private(self) -> list[str]:
        """Raise :class:`LocalDirectory` where others may have planted what would be published of
        torch's; publish no other root that they can write, and return a sentence for each.
        """
        main = self.roots.main
        exposed = not self._trusting and os.path.isdir(main) and self.roots.torch
        if exposed and (reason := writable_by_others(main)):
            raise LocalDirectory(
                f"{reason}, so nothing of it is published; CASINDUCTOR_TRUST_LOCAL=1 publishes "
                "what torch announced in this process"
            )
        return self._leave_out_exposed()

    def published(self, *, loaded: bool) -> Roots:
        """What a sync publishes from: of directories that were not ``loaded`` before everything
        would go, so that of other families than torch's the user must name them.
        """
        return self.roots if loaded or self._named else Roots(self.roots.main)

    def described(self) -> tuple[str, ...]:
        """Where the other families lie, as the fingerprint has it."""
        return tuple(f"{family}={root}" for family, root in self.roots.others.items())
