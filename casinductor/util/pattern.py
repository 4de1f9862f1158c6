"""Regular expressions that are compiled when they are first asked.

Invariant: matches exactly as ``re.compile`` of the same text; compiling the forty of all families
takes longer than a restore of a small cache, and a worker asks few of them.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any, AnyStr, Generic


class Pattern(Generic[AnyStr]):
    """As ``re.compile(text)``, later. Raises ``re.error`` where it is first used, not here."""

    def __init__(self, text: AnyStr) -> None:
        self.text: AnyStr = text

    @cached_property
    def _compiled(self) -> re.Pattern[Any]:
        return re.compile(self.text)

    @property
    def groups(self) -> int:
        """How many groups it has."""
        return self._compiled.groups

    def fullmatch(self, string: AnyStr) -> re.Match[AnyStr] | None:
        return self._compiled.fullmatch(string)

    def match(self, string: AnyStr) -> re.Match[AnyStr] | None:
        return self._compiled.match(string)

    def search(self, string: AnyStr) -> re.Match[AnyStr] | None:
        return self._compiled.search(string)

    def findall(self, string: AnyStr) -> list[Any]:
        return self._compiled.findall(string)

    def sub(self, new: AnyStr, string: AnyStr, count: int = 0) -> AnyStr:
        found: AnyStr = self._compiled.sub(new, string, count)
        return found
