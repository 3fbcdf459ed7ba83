"""A picture of resampled runs: where they end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from foundation.arrays import Array
from foundation.figures import counted
from option_spreads.simulation.resampling import AccountPaths

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 60
CUT = 0.995  # quantile of all final balances at which their axis ends: a few runs are far beyond
BLUE, ORANGE, RED, BLACK = "#2456c8", "#c2700c", "#b42318", "#1c2430"
WORDS = {"iid": "one by one", "block": "in blocks", "stress": "with maximum losses"}


def runs_figure(heading: str, sets: Mapping[str, AccountPaths], floor: float) -> Figure:
    """Final balances, a panel for each set; panels share their axes, to be read below each other.

    sets: runs by name, at least one, which begin alike.
    floor: balance below which nothing is traded, USD.
    """
    # Imported here: reading a sample, as other commands do, needs no plots.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.7 + 3.2 * len(sets)), layout="constrained")
    figure.suptitle(heading, fontsize=14, fontweight="bold")
    panels = figure.subplots(len(sets), squeeze=False, sharex=True, sharey=True)[:, 0]
    finals = np.concatenate([runs.balances[:, -1] for runs in sets.values()])
    start = next(iter(sets.values())).start
    most = max(float(np.quantile(finals, CUT)), start)
    least = min(float(finals.min()), floor, start)
    edges = np.linspace(least, most, BINS + 1)
    for (name, runs), panel in zip(sets.items(), panels, strict=True):
        final = runs.balances[:, -1]
        panel.hist(final[final <= most], bins=edges.tolist(), color=BLUE, alpha=0.55)
        if text := tail_text(final, most):
            panel.annotate(
                text, (0.99, 0.03), xycoords="axes fraction", ha="right", va="bottom", fontsize=8
            )
        middle = float(np.median(final))
        for value, color, label in ((start, BLACK, "start"), (middle, ORANGE, "median")):
            panel.axvline(value, color=color, linewidth=1.4, label=f"{label} ${value:,.0f}")
        panel.axvline(floor, color=RED, linestyle="--", linewidth=1.4, label=f"halt ${floor:,.0f}")
        panel.set(title=f"{name}, {WORDS.get(name, name)}: final balance", ylabel="runs")
        panel.tick_params(labelbottom=True, labelleft=True)
        panel.xaxis.set_major_formatter("${x:,.0f}")
        # No frame above and at the right, lines from edge to edge, and what they are.
        panel.spines[["top", "right"]].set_visible(False)
        panel.margins(x=0)
        panel.legend(loc="best", framealpha=0.85, edgecolor="none", fontsize=8)
    return figure


def tail_text(final: Array, most: float) -> str:
    """Describe runs that end beyond the axis: their number and maximum; empty without any."""
    beyond = final[final > most]
    if not len(beyond):
        return ""
    return (
        f"not drawn: {counted(len(beyond), 'run')} above ${most:,.0f}, up to ${beyond.max():,.0f} →"
    )
