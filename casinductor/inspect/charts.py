"""The charts of a report page, made with Plotly.

Invariant: a chart shows the figures it is given and no others; fonts and lines take their colours
from the page, so that light and dark both read well. Needs the extra ``report``.
"""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import datetime, timezone
from typing import Any

from casinductor.errors import Unsupported
from casinductor.inspect.summary import Leaf, Summary
from casinductor.inspect.tables import GraphRow

#: Kinds and their colours in every chart: Okabe and Ito's palette, safe for colour-blind eyes.
COLOURS = {
    "fxgraph": "#0072B2",
    "aotautograd": "#56B4E9",
    "triton": "#E69F00",
    "cpp": "#009E73",
    "module": "#CC79A7",
    "best_config": "#999999",
}
#: Boxes that hold the kinds of one cache.
_CACHE = "#5b6570"
HIT, MISS, BYPASS = "#009E73", "#D55E00", "#999999"
_SAVED, _STORED = "#0072B2", "#E69F00"
#: More named boxes than this make a treemap unreadable and slow; the rest is merge_causes up.
_LEAVES = 300
#: Keeps the names of bars apart that would read alike; it takes no room.
_MARK = "\u200b"
_BARS = 20


def plotly_js() -> str:
    """Plotly's JavaScript, to stand in the page itself. Raises :class:`Unsupported`."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise Unsupported(
            "a report needs plotly, which is not installed: pip install 'casinductor[report]'"
        ) from error
    return str(get_plotlyjs())


def charts(summary: Summary) -> dict[str, str]:
    """Plotly figures as JSON by the id of the element that shows them."""
    made = {"treemap": _treemap(summary), "dedup": _dedup(summary), "growth": _growth(summary)}
    if summary.runs:
        made["history"] = _history(summary)
    if summary.graphs:
        made["slowest"] = _slowest(summary)
    return {name: figure.to_json().replace("</", "<\\/") for name, figure in made.items()}


def _figure(*traces: Any, **layout: Any) -> Any:
    import plotly.graph_objects as go

    common: dict[str, Any] = {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 64, "r": 16, "t": 12, "b": 48},
        "hoverlabel": {"align": "left"},
        "legend": {"orientation": "h", "y": 1.12},
    }
    figure = go.Figure(list(traces), layout_template="none")
    figure.update_layout({**common, **layout})
    return figure


def _treemap(summary: Summary) -> Any:
    import plotly.graph_objects as go

    several = len(summary.caches) > 1
    biggest = sorted(summary.leaves, key=lambda leaf: -leaf.bytes)
    shown = biggest[:_LEAVES] + _rest(biggest[_LEAVES:])
    ids, labels, parents, values, colours = ["all"], ["all"], [""], [0], ["rgba(0,0,0,0)"]
    inner: dict[tuple[str, ...], int] = defaultdict(int)
    for leaf in shown:
        path: tuple[str, ...] = (leaf.cache, leaf.kind) if several else (leaf.kind,)
        for depth in range(1, len(path) + 1):
            inner[path[:depth]] += leaf.bytes
        ids.append(json.dumps([*path, leaf.name]))
        labels.append(leaf.name)
        parents.append(json.dumps(list(path)))
        values.append(leaf.bytes)
        colours.append(COLOURS.get(leaf.kind, "#999999"))
    for path, size in inner.items():
        ids.append(json.dumps(list(path)))
        labels.append(path[-1])
        parents.append(json.dumps(list(path[:-1])) if len(path) > 1 else "all")
        values.append(size)
        colours.append(COLOURS.get(path[-1], _CACHE) if len(path) > several else _CACHE)
    values[0] = sum(leaf.bytes for leaf in shown)
    return _figure(
        go.Treemap(
            ids=ids,
            labels=labels,
            parents=parents,
            values=values,
            branchvalues="total",
            marker={"colors": colours, "line": {"width": 1, "color": "rgba(255,255,255,0.55)"}},
            texttemplate="%{label}<br>%{value:.3s}B",
            hovertemplate="%{label}<br>%{value:,} bytes<br>%{percentRoot:.1%}<extra></extra>",
            tiling={"pad": 1},
            pathbar={"visible": True},
        ),
        height=560,
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        uniformtext={"minsize": 9, "mode": "hide"},
    )


def _rest(leaves: list[Leaf]) -> list[Leaf]:
    total: dict[tuple[str, str], list[int]] = defaultdict(list)
    for leaf in leaves:
        total[leaf.cache, leaf.kind].append(leaf.bytes)
    return [
        Leaf(cache, kind, f"{len(sizes):,} smaller ones", sum(sizes))
        for (cache, kind), sizes in total.items()
    ]


def _dedup(summary: Summary) -> Any:
    import plotly.graph_objects as go

    f = summary.figures
    names = ["stored", "unique", "logical"]
    values = [f.stored_bytes, f.unique_bytes, f.logical_bytes]
    return _figure(
        go.Bar(
            x=values,
            y=names,
            orientation="h",
            marker={"color": [_STORED, "#56B4E9", _SAVED]},
            texttemplate="%{x:.3s}B",
            textposition="auto",
            textangle=0,
            hovertemplate="%{y}: %{x:,} bytes<extra></extra>",
        ),
        height=300,
        xaxis={"tickformat": ".2s", "ticksuffix": "B"},
    )


def _growth(summary: Summary) -> Any:
    import plotly.graph_objects as go

    times = [_time(when) for when, _, _ in summary.growth]
    traces = [
        go.Scatter(
            x=times,
            y=[point[column] for point in summary.growth],
            name=name,
            mode="lines+markers",
            line={"shape": "hv", "color": colour},
            hovertemplate="%{x}<br>%{y:,} bytes<extra>" + name + "</extra>",
        )
        for column, name, colour in ((1, "logical", _SAVED), (2, "stored", _STORED))
    ]
    return _figure(*traces, height=300, yaxis={"tickformat": ".2s", "ticksuffix": "B"})


def _history(summary: Summary) -> Any:
    """Each worker's runs as bars side by side in the order of time."""
    import plotly.graph_objects as go

    names = [
        f"{_time(run.record.made_ms):%m-%d %H:%M:%S}<br>{run.report.worker.get('host', '?')}"
        for run in summary.runs
    ]
    places = [f"{name}{_MARK * number}" for number, name in enumerate(names)]
    notes = [
        "<br>".join(_escaped(text[:120]) for text in (run.report.cache, name, *run.reasons))
        for name, run in zip(names, summary.runs, strict=True)
    ]
    traces = [
        go.Bar(
            x=places,
            y=[run.report.count(status) for run in summary.runs],
            name=label,
            marker={"color": colour},
            customdata=notes,
            hovertemplate="%{y} " + label + "<br>%{customdata}<extra></extra>",
        )
        for status, label, colour in (
            ("hit", "hit", HIT),
            ("miss", "missed", MISS),
            ("bypass", "bypassed", BYPASS),
        )
    ]
    few = len(places) <= 12
    axis = {"type": "category", "showticklabels": few, "tickangle": 0, "automargin": True}
    layout = {"barmode": "stack", "bargap": 1 - 0.8 * min(1.0, len(places) / 10)}
    return _figure(*traces, height=320, xaxis=axis, yaxis={"title": "graphs"}, **layout)


def _slowest(summary: Summary) -> Any:
    import plotly.graph_objects as go

    once: dict[tuple[str, str | None], tuple[str, GraphRow]] = {}
    for cache, row in summary.graphs:  # caches may share a graph
        if row.own_seconds:
            once.setdefault((row.key, row.guards), (cache, row))
    rows = list(once.values())[:_BARS][::-1]
    return _figure(
        go.Bar(
            x=[row.own_seconds for _, row in rows],
            y=[f"{row.key[:12]} {row.kind}{_MARK * i}" for i, (_, row) in enumerate(rows)],
            orientation="h",
            marker={"color": [COLOURS.get(row.kind, "#999999") for _, row in rows]},
            customdata=[[_escaped(cache), row.bytes, row.kernels] for cache, row in rows],
            hovertemplate="%{y}<br>%{x:.2f} s, %{customdata[1]:,} bytes, %{customdata[2]} kernels"
            "<br>%{customdata[0]}<extra></extra>",
        ),
        height=max(160, 60 + 26 * len(rows)),
        xaxis={"title": "seconds to compile"},
        yaxis={"automargin": True},
    )


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, timezone.utc)


def _escaped(text: str) -> str:
    """Plotly reads some HTML in hover texts; names from a store must stay text."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
