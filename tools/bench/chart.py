"""``python -m tools.bench.chart``: draws ``docs/figures/whole-starts.json`` for the README, light
and dark. Needs Matplotlib (``pip install matplotlib``).

Invariant: a bar is a median that stands in the file, its whisker the least and the most beside it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FIGURES = Path(__file__).resolve().parents[2] / "docs" / "figures"
#: Okabe and Ito's palette, safe for colour-blind eyes: ours, the peer's, the floor.
COLOURS = {"casinductor": "#0072B2", "fal's zip": "#E69F00", "floor": "#999999"}
INKS = {"light": "#1f2328", "dark": "#e6edf3"}


def draw(models: list[dict[str, Any]], ink: str, target: Path) -> None:
    """One panel a model; its bars from the top."""
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    mpl.rcParams.update(
        {
            "svg.hashsalt": "casinductor",
            "font.size": 10,
            "text.color": ink,
            "axes.labelcolor": ink,
            "xtick.color": ink,
            "ytick.color": ink,
            "axes.edgecolor": ink,
        }
    )
    rows = [len(model["starts"]) for model in models]
    figure, panels = plt.subplots(
        len(models), 1, figsize=(8, 0.42 * sum(rows) + 0.9 * len(models)), squeeze=False,
        gridspec_kw={"height_ratios": rows},
    )  # fmt: skip
    for model, panel in zip(models, panels[:, 0], strict=True):
        starts = model["starts"][::-1]
        middles = [start["median"] for start in starts]
        less = [start["median"] - start["least"] for start in starts]
        more = [start["most"] - start["median"] for start in starts]
        colours = [COLOURS[start["by"]] for start in starts]
        labels = [start["what"] for start in starts]
        panel.barh(labels, middles, color=colours, height=0.66)
        panel.errorbar(middles, labels, xerr=[less, more], fmt="none", ecolor=ink, elinewidth=0.8)
        for place, start in enumerate(starts):
            text = f"{start['median']:.1f} s"
            panel.annotate(
                text, (start["most"], place), xytext=(5, 0), textcoords="offset points", va="center"
            )
        panel.set_title(model["title"], loc="left", fontsize=10, color=ink)
        panel.set_xlim(0, max(start["most"] for start in starts) * 1.12)
        for side in ("top", "right", "left"):
            panel.spines[side].set_visible(False)
        panel.tick_params(left=False)
    panels[-1, 0].set_xlabel("seconds until the first answer")
    figure.tight_layout()
    figure.savefig(target, transparent=True, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    models = json.loads((FIGURES / "whole-starts.json").read_text("utf-8"))
    for name, ink in INKS.items():
        draw(models, ink, FIGURES / f"whole-starts-{name}.svg")


if __name__ == "__main__":
    main()
