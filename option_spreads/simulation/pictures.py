"""Pictures of resampled runs: where they end and how far they fall."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from foundation.arrays import Array
from option_spreads.simulation.resampling import AccountPaths

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 60
CUT = 0.995  # quantile of all final balances at which their axis ends: a few runs are far beyond
BLUE, ORANGE, RED, BLACK = "#2456c8", "#c2700c", "#b42318", "#1c2430"
WORDS = {"iid": "one by one", "block": "in blocks", "stress": "with maximum losses"}


def runs_figure(heading: str, sets: Mapping[str, AccountPaths], floor: float) -> Figure:
    """Runs, a row for each set; panels of a column share their axes, to be read side by side.

    sets: runs by name, at least one, which begin alike.
    floor: balance below which nothing is traded, USD.
    """
    # Imported here: reading a sample, as other commands do, needs no plots.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 0.7 + 3.4 * len(sets)), layout="constrained")
    figure.suptitle(heading, fontsize=14, fontweight="bold")
    axes = figure.subplots(len(sets), 2, squeeze=False, sharex="col", sharey="col")
    finals = np.concatenate([runs.balances[:, -1] for runs in sets.values()])
    start = next(iter(sets.values())).start
    most = max(float(np.quantile(finals, CUT)), start)
    balances = np.linspace(min(float(finals.min()), floor, start), most, BINS + 1)
    deepest = max(float(runs.drawdown.max()) for runs in sets.values())
    falls = np.linspace(0.0, max(deepest, 0.01), BINS + 1)
    for (name, runs), (ends, drawdowns) in zip(sets.items(), axes, strict=True):
        final = runs.balances[:, -1]
        words = f"{name}, {WORDS.get(name, name)}"
        # The last bar holds what is beyond it.
        _histogram(ends, np.minimum(final, most), balances, f"{words}: final balance")
        middle = float(np.median(final))
        for value, color, label in ((start, BLACK, "start"), (middle, ORANGE, "median")):
            ends.axvline(value, color=color, linewidth=1.4, label=f"{label} ${value:,.0f}")
        ends.axvline(floor, color=RED, linestyle="--", linewidth=1.4, label=f"halt ${floor:,.0f}")
        _histogram(drawdowns, runs.drawdown, falls, f"{words}: largest drawdown")
        for quantile, color in ((0.5, ORANGE), (0.95, BLACK)):
            fall = float(np.quantile(runs.drawdown, quantile))
            label = f"{quantile:.0%} within {fall:.0%}"
            drawdowns.axvline(fall, color=color, linewidth=1.4, label=label)
        for panel, form in ((ends, "${x:,.0f}"), (drawdowns, "{x:.1%}")):
            panel.xaxis.set_major_formatter(form)
            _finish(panel)
    return figure


def _histogram(panel: Axes, values: Array, edges: Array, title: str) -> None:
    panel.hist(values, bins=edges.tolist(), color=BLUE, alpha=0.55)
    panel.set(title=title, ylabel="runs")
    panel.tick_params(labelbottom=True, labelleft=True)


def _finish(panel: Axes) -> None:
    """No frame above and at the right, lines from edge to edge, and what they are."""
    panel.spines[["top", "right"]].set_visible(False)
    panel.margins(x=0)
    panel.legend(loc="best", framealpha=0.85, edgecolor="none", fontsize=8)
