"""Graphs are named by what they compute."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from casinductor.inductor.titles import graph_title

SOURCE = """# AOT ID: ['3_forward']
# Topologically Sorted Source Nodes: [linear, view], Original ATen: [aten.addmm, aten.view]
# Topologically Sorted Source Nodes: [gelu], Original ATen: [aten.gelu]
    # Topologically Sorted Source Nodes: [gelu], Original ATen: [aten.gelu]
"""
GRAPH = """def forward(self, x):
    addmm = torch.ops.aten.addmm.default(b, x, w)
    addmm_1 = torch.ops.aten.addmm.default(b, addmm, w)
    view = torch.ops.aten.view.default(addmm_1, [1])
    gelu = torch.ops.aten.gelu.default(view)
    y = torch.ops.mylib.fancy.default(gelu)
"""


def test_the_graph_counts_and_the_wrapper_names() -> None:
    told = graph_title(SOURCE, GRAPH)
    assert told == "3_forward: addmm x2, gelu, mylib.fancy (linear … gelu)"
    assert graph_title(SOURCE) == "3_forward: addmm, gelu (linear … gelu)"
    assert graph_title("", GRAPH) == "addmm x2, gelu, mylib.fancy"
    assert graph_title("# AOT ID: ['0_inference']") == "0_inference"
    assert graph_title("nothing of that") == ""


def test_views_are_named_where_there_is_nothing_else() -> None:
    assert graph_title("", "a = torch.ops.aten.view.default(x)") == "view"


@given(st.text(max_size=300), st.text(max_size=300))
def test_anything_gives_a_short_line(source: str, graph: str) -> None:
    assert len(graph_title(source, graph)) <= 120
