"""The code of two graphs, compared: which statements differ, and how alike the operators are.

Invariant: comparing takes bounded time however long the code is.
"""

from __future__ import annotations

import re
from collections import Counter
from difflib import SequenceMatcher

_OPERATOR = re.compile(r"torch\.ops\.[\w.]+|operator\.\w+|torch\.[\w.]+(?=\()|call_\w+")
#: Comparing takes time that grows with the square of the lines.
_COMPARED = 1000
_LONGEST = 160


def shortened(value: str) -> str:
    """A value in one line of at most 160 characters."""
    line = " ".join(value.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."


def code_change(old: str, new: str) -> str:
    """The first lines of the graph's code that differ, and how many do."""
    one, two = _trimmed(_lines(old), _lines(new))
    if not one and not two:
        return "graph code: the same lines, other attributes"
    before, after = (shortened(lines[0]) if lines else "nothing" for lines in (one, two))
    count = _unlike_lines(one, two)
    more = f" ({count} lines differ)" if count > 1 else ""
    return f"graph code: {before} -> {after}{more}"


def _trimmed(one: list[str], two: list[str]) -> tuple[list[str], list[str]]:
    """Without the lines that both begin with, and those that both end with."""
    start, shorter = 0, min(len(one), len(two))
    while start < shorter and one[start] == two[start]:
        start += 1
    end = 0
    while end < shorter - start and one[-1 - end] == two[-1 - end]:
        end += 1
    return one[start : len(one) - end], two[start : len(two) - end]


def _unlike_lines(one: list[str], two: list[str]) -> int:
    """How many lines differ; of long texts, as many as lie between the first and the last."""
    if max(len(one), len(two)) > _COMPARED:
        return max(len(one), len(two))
    matcher = SequenceMatcher(None, one, two, autojunk=False)
    changed = [c for c in matcher.get_opcodes() if c[0] != "equal"]
    return sum(max(c[2] - c[1], c[4] - c[3]) for c in changed)


def _lines(code: str) -> list[str]:
    """A graph's statements, without the releases of values behind them."""
    lines = (line.strip().partition(";  ")[0] for line in code.splitlines())
    skipped = ("#", "def forward(", "GraphModule(", "<lambda>(")
    return [line for line in lines if line and not line.startswith(skipped)]


def operators(code: str) -> list[str]:
    """The operators of a graph's code in a fixed order: shapes may move statements about."""
    return sorted(_OPERATOR.findall(code))


def likeness_of(one: str, two: str) -> float:
    a, b = Counter(_OPERATOR.findall(one)), Counter(_OPERATOR.findall(two))
    total = max(sum(a.values()), sum(b.values()))
    return sum((a & b).values()) / total if total else float(one == two)
