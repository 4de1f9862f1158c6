"""What a compiled graph computes and which part of a model it is, in a few words.

Invariant: made of the comments that Inductor writes into the wrapper (``# AOT ID: [...]`` and
``Source Nodes: [...], Original ATen: [...]``, ``torch/_inductor/codegen/wrapper.py``, torch 2.5 to
2.15) and of the graph's calls, and nothing else; where both lack the title is empty.
"""

from __future__ import annotations

import re
from collections import Counter

_ID = re.compile(r"# AOT ID: \['([\w]{1,80})'\]")
_STEP = re.compile(r"Source Nodes: \[([^\]\n]*)\](?:, Original ATen: \[([^\]\n]*)\])?")
_CALL = re.compile(r"= torch\.ops\.(?:aten\.|prims\.|higher_order\.)?([\w.]*?\w)(?:\.\w+)?\(")
#: What moves or renames data: told only where a graph does nothing else.
_VIEWS = {
    *("view", "_unsafe_view", "reshape", "t", "transpose", "permute", "expand", "slice", "select"),
    *("unsqueeze", "squeeze", "clone", "cat", "split", "_to_copy", "detach", "alias", "copy_"),
    *("convert_element_type", "empty", "full"),
}
#: What most of a graph's time usually goes into.
_HEAVY = re.compile(r"mm$|matmul|linear|conv|attention|_scaled_dot|_softmax|scan|sort|fft")
_TOLD, _LONGEST = 4, 120


def graph_title(source: str, graph: str = "") -> str:
    """Such as ``0_forward: addmm x8, bmm x4, gelu (linear … pooled_output)``.

    ``source`` is the wrapper; ``graph`` the graph's own code, by which operations are counted:
    without it, as before torch 2.8, they are only named.
    """
    found = _ID.search(source)
    steps = list(dict.fromkeys(match.groups() for match in _STEP.finditer(source)))
    operations = Counter(_CALL.findall(graph))
    if not operations:
        named = {name.strip() for _, told in steps for name in (told or "").split(",")} - {""}
        operations = Counter(name.removeprefix("aten.") for name in named)
    text = _told(operations)
    nodes = [node.strip() for named, _ in steps for node in named.split(",") if node.strip()]
    if nodes:
        ends = nodes[0] if nodes[0] == nodes[-1] else f"{nodes[0]} … {nodes[-1]}"
        text += f" ({ends})"
    title = f"{found[1]}: {text}" if found and text else (found[1] if found else text.strip())
    return title if len(title) <= _LONGEST else title[: _LONGEST - 1] + "…"


def _told(operations: Counter[str]) -> str:
    """The heaviest operations first, then the most frequent."""
    computing = {name: n for name, n in operations.items() if name not in _VIEWS} or operations
    ranked = sorted(computing, key=lambda n: (_HEAVY.search(n) is None, -computing[n], n))
    words = [name if computing[name] == 1 else f"{name} x{computing[name]}" for name in ranked]
    return ", ".join(words[:_TOLD]) + (", …" if len(words) > _TOLD else "")
