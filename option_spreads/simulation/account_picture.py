"""The picture of resampled accounts: where they end, how they get there, how far they fall."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
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


@dataclass(frozen=True, eq=False, slots=True)
class Picture:
    """What is drawn, a row for each set of runs.

    heading: of the whole.
    sets: runs by name, at least one.
    floor: balance below which nothing is traded, USD.
    halt: fall from the peak at which trading stops; none for no such halt.
    """

    heading: str
    sets: Mapping[str, AccountPaths]
    floor: float
    halt: float | None


def draw(picture: Picture, path: Path) -> None:
    """Write the picture as a PNG."""
    drawn(picture).savefig(path, format="png", dpi=110)


def drawn(picture: Picture) -> Figure:
    """The figure: panels of a column share their axes, so that sets can be read side by side."""
    # Imported here: reading a sample, as other commands do, needs no plots.
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator, StrMethodFormatter

    sets = picture.sets
    figure = Figure(figsize=(15, 0.7 + 3.4 * len(sets)), layout="constrained")
    # Between two dollar signs matplotlib reads mathematics.
    figure.suptitle(picture.heading.replace("$", r"\$"), fontsize=14, fontweight="bold")
    axes = figure.subplots(len(sets), 3, squeeze=False, sharex="col", sharey="col")
    finals = np.concatenate([runs.balances[:, -1] for runs in sets.values()])
    balances = np.linspace(*_balance_range(picture, finals), BINS + 1)
    deepest = max(float(runs.drawdown.max()) for runs in sets.values())
    falls = np.linspace(0.0, max(deepest, picture.halt or 0.0, 0.01), BINS + 1)
    for (name, runs), row in zip(sets.items(), axes, strict=True):
        words = f"{name}, {WORDS[name]}" if name in WORDS else name
        _draw_final(row[0], runs, balances, picture.floor)
        _draw_balances(row[1], runs, picture.floor)
        _draw_falls(row[2], runs, falls, picture.halt)
        row[0].set(title=f"{words}: final balance", ylabel="runs")
        row[1].set(title=f"{words}: balance by day")
        row[2].set(title=f"{words}: largest drawdown")
        # Runs, days and whole dollars: a tick between two of them would be labelled as another.
        for panel in (row[0].yaxis, row[2].yaxis, row[1].xaxis):
            panel.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            panel.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        row[0].xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        row[1].yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        row[0].xaxis.set_major_formatter(StrMethodFormatter("${x:,.0f}"))
        row[1].yaxis.set_major_formatter(StrMethodFormatter("${x:,.0f}"))
        row[2].xaxis.set_major_formatter(FuncFormatter(lambda share, _: percent_text(share)))
        for panel in row:
            panel.tick_params(labelbottom=True, labelleft=True)
            panel.spines[["top", "right"]].set_visible(False)
            panel.legend(loc="best", framealpha=0.85, edgecolor="none", fontsize=8)
    axes[-1][0].set_xlabel("USD")
    axes[-1][1].set_xlabel("trading days")
    axes[-1][2].set_xlabel("of a run, below its peak until then")
    return figure


def percent_text(share: float) -> str:
    """A fraction in percent, with a digit after the point only where it has one: 5%, 7.5%."""
    return f"{round(100 * share, 3):g}%"


def _balance_range(picture: Picture, finals: Array) -> tuple[float, float]:
    """From the lowest that is drawn to the highest but a few."""
    starts = [runs.start for runs in picture.sets.values()]
    low = min(float(finals.min()), picture.floor, *starts)
    high = max(float(np.quantile(finals, CUT)), *starts)
    room = 0.03 * (high - low) or 1.0
    return low - room, high + room


def _draw_final(panel: Axes, runs: AccountPaths, edges: Array, floor: float) -> None:
    final = runs.balances[:, -1]
    panel.hist(np.clip(final, edges[0], edges[-1]), bins=edges.tolist(), color=BLUE, alpha=0.55)
    for value, color, style, label in _levels(runs, floor, float(np.median(final))):
        panel.axvline(value, color=color, linestyle=style, linewidth=1.4, label=label)
    beyond = int((final > edges[-1]).sum())
    panel.margins(x=0)
    if beyond:
        panel.plot([], [], " ", label=f"last bar holds {beyond:,} beyond it")


def _draw_balances(panel: Axes, runs: AccountPaths, floor: float) -> None:
    days = np.arange(runs.balances.shape[1] + 1)
    begins = np.full((len(runs.balances), 1), runs.start)
    balances = np.concatenate([begins, runs.balances], axis=1)
    low, lower, median, upper, high = np.percentile(balances, (5, 25, 50, 75, 95), axis=0)
    panel.fill_between(days, low, high, color=BLUE, alpha=0.18, linewidth=0, label="5 to 95 %")
    panel.fill_between(days, lower, upper, color=BLUE, alpha=0.38, linewidth=0, label="25 to 75 %")
    panel.plot(days, median, color=ORANGE, linewidth=1.6, label="median")
    for value, color, style, label in _levels(runs, floor, None):
        panel.axhline(value, color=color, linestyle=style, linewidth=1.4, label=label)
    panel.margins(x=0)


def _draw_falls(panel: Axes, runs: AccountPaths, edges: Array, halt: float | None) -> None:
    panel.hist(runs.drawdown, bins=edges.tolist(), color=BLUE, alpha=0.55)
    median = float(np.median(runs.drawdown))
    panel.axvline(median, color=ORANGE, linewidth=1.4, label=f"median {median:.0%}")
    worst = float(np.quantile(runs.drawdown, 0.95))
    panel.axvline(
        worst, color=BLACK, linestyle=":", linewidth=1.4, label=f"95 % within {worst:.0%}"
    )
    if halt is not None:
        panel.axvline(halt, color=RED, linestyle="--", linewidth=1.4, label=f"halt {halt:.0%}")
    panel.margins(x=0)


def _levels(
    runs: AccountPaths, floor: float, median: float | None
) -> Iterator[tuple[float, str, str, str]]:
    """Value, colour, style and label of the lines that balances are read against."""
    yield runs.start, BLACK, "-", f"start ${runs.start:,.0f}"
    if median is not None:
        yield median, ORANGE, "-", f"median ${median:,.0f}"
    yield floor, RED, "--", f"halt ${floor:,.0f}"
