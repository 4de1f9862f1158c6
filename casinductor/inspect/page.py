"""A report as one HTML page that needs nothing else: no network, no other file.

Invariant: every text from a store is escaped, and the page loads nothing from anywhere.
"""

from __future__ import annotations

import json
import time
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from casinductor import __version__
from casinductor.inspect.charts import charts, plotly_js
from casinductor.inspect.summary import Summary
from casinductor.inspect.tables import told
from casinductor.util.human import duration, size

_TITLES = {
    "treemap": ("Where the bytes are", "By kind and by graph or kernel; click to look closer."),
    "dedup": (
        "Deduplication",
        (
            "Logical: every artifact of every cache. Unique: every blob once. Stored: what packs "
            "and manifests take."
        ),
    ),
    "growth": ("Growth", "Logical and stored bytes as workers published them (UTC)."),
    "history": (
        "Hits and misses by worker",
        "One bar for each warm-up, fxgraph and aotautograd together; hover for the reasons.",
    ),
    "slowest": ("Slowest graphs", "What a hit saves."),
}
_ROWS = 50


def page(summary: Summary) -> str:
    """The page. Raises :class:`~casinductor.errors.Unsupported` without Plotly."""
    script = plotly_js()
    figures = charts(summary)
    name = str(summary.caches[0]) if len(summary.caches) == 1 else "All caches"
    sections = [_chart(chart) for chart in _TITLES if chart in figures]
    sections += [_runs(summary), _graphs(summary), _kernels(summary), _idle(summary)]
    text = files("casinductor.inspect").joinpath("page.html").read_text("utf-8")
    return Template(text).substitute(
        title=escape(name),
        store=escape(summary.store),
        made=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        version=escape(__version__),
        cards="".join(_cards(summary)),
        sections="".join(section for section in sections if section),
        plotly=script,
        figures=json.dumps(list(figures)),
        data="".join(
            f'<script type="application/json" id="data-{chart}">{figure}</script>\n'
            for chart, figure in figures.items()
        ),
    )


def _cards(summary: Summary) -> list[str]:
    f = summary.figures
    ratio = f.logical_bytes / f.stored_bytes if f.stored_bytes else 0
    saved = sum(run.report.saved_seconds for run in summary.runs)
    rate = f"{100 * summary.hits / summary.lookups:.1f} %" if summary.lookups else "no runs yet"
    many = f" of {f.caches:,} caches" if f.caches > 1 else ""
    cards = [
        ("stored", size(f.stored_bytes), f"in {f.packs:,} packs, {f.manifests:,} manifests"),
        ("logical", size(f.logical_bytes), f"{ratio:.1f} times what is stored"),
        ("artifacts", f"{f.artifacts:,}", f"in {f.groups:,} groups{many}"),
        ("graphs hit", rate, f"in {len(summary.runs):,} warm-ups"),
        ("compiling saved", duration(saved), "by the entries that hit"),
    ]
    return [
        f'<div class="card"><div class="label">{label}</div><div class="value" '
        f'id="card-{label.replace(" ", "-")}">{value}</div><div class="note">{note}</div></div>'
        for label, value, note in cards
    ]


def _chart(name: str) -> str:
    title, note = _TITLES[name]
    return (
        f'<section class="{name}"><h2>{title}</h2><p class="note">{note}</p>'
        f'<div class="chart" id="{name}"></div></section>'
    )


def _table(
    summary: Summary, name: str, title: str, note: str, columns: list[str], rows: list[list[Any]]
) -> str:
    if not rows:
        return ""
    if len(summary.caches) == 1:
        at = columns.index("cache")  # the page's title says it
        columns = columns[:at] + columns[at + 1 :]
        rows = [row[:at] + row[at + 1 :] for row in rows]
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(
        "<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows[:_ROWS]
    )
    more = f'<p class="note">and {len(rows) - _ROWS:,} more</p>' if len(rows) > _ROWS else ""
    return (
        f'<section class="wide"><h2>{title}</h2><p class="note">{note}</p>'
        f'<div class="scroll"><table id="{name}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{more}</section>"
    )


def _cell(value: Any) -> str:
    figure = ' class="figure"' if isinstance(value, (int, float)) else ""
    shown = f"{value:,}" if isinstance(value, int) else value
    shown = f"{value:.2f}" if isinstance(value, float) else shown
    return f"<td{figure}>{escape(str(shown))}</td>"


def _runs(summary: Summary) -> str:
    rows = []
    for run in reversed(summary.runs):
        report = run.report
        restored = f"{report.files_used if report.files_used is not None else '?'}"
        rows.append(
            [
                time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(run.record.made_ms / 1000)),
                str(report.worker.get("host", "?")),
                report.cache,
                report.count("hit"),
                report.count("miss"),
                report.count("bypass"),
                len(report.rebuilt),
                f"{restored} of {report.files_restored:,}",
                report.saved_seconds,
                report.spent_seconds,
                "; ".join(run.reasons) or ("nothing missed" if not report.count("miss") else ""),
            ]
        )
    columns = ["time (UTC)", "worker", "cache", "hit", "missed", "bypassed", "rebuilt"]
    columns += ["files read", "s saved", "s spent", "why"]
    note = "The newest first; reasons as casinductor explain gives them."
    return _table(summary, "runs", "Warm-ups", note, columns, rows)


def _graphs(summary: Summary) -> str:
    rows = [
        [
            row.title or "-",
            row.key[:16],
            row.kind,
            cache,
            row.own_seconds if row.own_seconds is not None else "?",
            row.bytes,
            row.kernels,
            row.opaque or (row.guards or "none")[:80],
            f"{row.used} of {row.restored}" if row.restored else "-",
        ]
        for cache, row in summary.graphs
    ]
    columns = ["graph", "key", "kind", "cache", "own seconds", "bytes", "kernels", "guards", "used"]
    note = "The slowest first; an aotautograd entry's own seconds are those beyond its graphs'."
    return _table(summary, "graphs", "Graphs", note, columns, rows)


def _kernels(summary: Summary) -> str:
    rows = [
        [
            row.name,
            row.hash[:12],
            row.kind,
            cache,
            row.target or "?",
            *("?" if n is None else n for n in (row.warps, row.shared, row.registers)),
            "?" if row.stack_bytes is None else row.stack_bytes,
            row.bytes,
            told(row.config) or "-",
        ]
        for cache, row in summary.kernels
    ]
    columns = ["kernel", "hash", "kind", "cache", "target", "warps", "shared bytes", "registers"]
    columns += ["stack bytes", "bytes", "configuration"]
    note = "Those with the most local memory first, then with the most registers."
    return _table(summary, "kernels", "Kernels", note, columns, rows)


def _idle(summary: Summary) -> str:
    rows = [[i.name, i.kind, i.cache, i.bytes, i.restored] for i in summary.idle]
    note = "Restored by warm-ups that are on record and never read by one."
    columns = ["name", "kind", "cache", "bytes", "restored"]
    return _table(summary, "idle", "Unused artifacts", note, columns, rows)
