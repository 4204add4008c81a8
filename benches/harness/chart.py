"""Draws the chart: {"panels": {title: {contender: value}}, "caption": …} from standard input.

Usage: chart.py FILE.svg
"""

import json
import sys

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

# Medium colours on a transparent background are readable on white and on dark pages.
TEXT = "#7d8590"
OURS = "#2da44e"
OTHERS = "#8c959f"
LIMIT = "#bf8700"

COLUMNS = 2


def draw(data, path):
    """Draws every panel as a bar chart, with the best value at the top."""
    panels = data["panels"]
    rows = -(-len(panels) // COLUMNS)
    plt.rcParams.update(
        {
            "font.family": "sans-serif",
            "font.size": 9,
            "text.color": TEXT,
            "axes.labelcolor": TEXT,
            "xtick.color": TEXT,
            "ytick.color": TEXT,
            # With a fixed salt the same figures give the same file.
            "svg.hashsalt": "greenapi",
        }
    )
    heights = [
        max(len(bars) for bars in list(panels.values())[row * COLUMNS : (row + 1) * COLUMNS])
        for row in range(rows)
    ]
    figure, axes = plt.subplots(
        rows,
        COLUMNS,
        squeeze=False,
        figsize=(11, sum(heights) * 0.27 + rows * 0.6 + 0.3),
        gridspec_kw={"height_ratios": heights},
        layout="constrained",
    )
    axes = axes.flatten()
    for axis, (title, bars) in zip(axes, panels.items(), strict=False):
        _panel(axis, title, bars)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    figure.supxlabel(data["caption"], fontsize=8, color=TEXT, x=0.995, ha="right")
    figure.savefig(path, transparent=True, metadata={"Date": None})


def _panel(axis, title, bars):
    more_is_better = "per second" in title or title.startswith("Right")
    names = sorted(bars, key=bars.get, reverse=more_is_better)
    values = [bars[name] for name in names]
    drawn = axis.barh(names, values, color=[_colour(name) for name in names], height=0.72)
    labels = [
        f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"
        for value in values
    ]
    axis.bar_label(drawn, labels, padding=3, color=TEXT)
    axis.set_title(title, loc="left", fontsize=10.5, fontweight="bold")
    axis.invert_yaxis()
    axis.set_xlim(0, max(values) * 1.16 or 1)
    axis.set_xticks([])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def _colour(name):
    if name.startswith("greenapi"):
        return OURS
    return LIMIT if "limit" in name else OTHERS


draw(json.load(sys.stdin), sys.argv[1])
