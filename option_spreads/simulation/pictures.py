"""Pictures of accounts: of resampled runs where they end, how they get there and how far they fall;
of accounts that sell spreads their balances by day, and their falls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from foundation.arrays import Array
from option_spreads.simulation.resampling import AccountPaths

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

BINS = 60
CUT = 0.995  # quantile of all final balances at which their axis ends: a few runs are far beyond
BLUE, ORANGE, RED, BLACK = "#2456c8", "#c2700c", "#b42318", "#1c2430"
COLORS = (BLUE, "#c2700c", "#2e7d4f", "#7a4fb5", "#8a8f98")  # the first is the account's
WORDS = {"iid": "one by one", "block": "in blocks", "stress": "with maximum losses"}


def write_picture(figure: Figure, path: Path) -> None:
    figure.savefig(path, format="png", dpi=110)


def runs_figure(
    heading: str, sets: Mapping[str, AccountPaths], floor: float, halt: float | None
) -> Figure:
    """Runs, a row for each set; panels of a column share their axes, to be read side by side.

    sets: runs by name, at least one.
    floor: balance below which nothing is traded, USD.
    halt: fall from the peak at which trading stops; none for no such halt.
    """
    # Imported here: reading a sample, as other commands do, needs no plots.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 0.7 + 3.4 * len(sets)), layout="constrained")
    _title(figure, heading, 14)
    axes = figure.subplots(len(sets), 3, squeeze=False, sharex="col", sharey="col")
    finals = np.concatenate([runs.balances[:, -1] for runs in sets.values()])
    balances = np.linspace(*_balance_range(sets, floor, finals), BINS + 1)
    deepest = max(float(runs.drawdown.max()) for runs in sets.values())
    falls = np.linspace(0.0, max(deepest, halt or 0.0, 0.01), BINS + 1)
    for (name, runs), row in zip(sets.items(), axes, strict=True):
        words = f"{name}, {WORDS[name]}" if name in WORDS else name
        _draw_final(row[0], runs, balances, floor)
        _draw_balances(row[1], runs, floor)
        _draw_falls(row[2], runs, falls, halt)
        row[0].set(title=f"{words}: final balance", ylabel="runs")
        row[1].set(title=f"{words}: balance by day")
        row[2].set(title=f"{words}: largest drawdown")
        for axis in (row[0].yaxis, row[2].yaxis, row[1].xaxis):
            _whole_numbers(axis)
        _whole_numbers(row[0].xaxis, "$", parts=5)
        _whole_numbers(row[1].yaxis, "$")
        _percent(row[2].xaxis)
        for panel in row:
            panel.tick_params(labelbottom=True, labelleft=True)
            _finish(panel)
            _legend(panel)
    axes[-1][0].set_xlabel("USD")
    axes[-1][1].set_xlabel("trading days")
    axes[-1][2].set_xlabel("of a run, below its peak until then")
    return figure


def balances_figure(
    heading: str,
    dates: npt.NDArray[np.datetime64],
    balances: Mapping[str, Array],
    floor: float,
    marks: Sequence[int] = (),
) -> Figure:
    """Balances above, how far they are below their peaks underneath.

    dates: sessions [D].
    balances: USD by name of the account, each [D + 1], the one it began with first; the first
        account is the one that counts.
    floor: balance below which nothing is sold, USD.
    marks: numbers of sessions after which figures are given as well.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.4), layout="constrained")
    _title(figure, heading, 12)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2.4, 1))
    # Each account begins on the day before the first session, with what it began with.
    days = np.concatenate([dates[:1] - 1, dates])
    for number, (name, balance) in enumerate(balances.items()):
        color = COLORS[number % len(COLORS)]
        width = 1.1 if number else 2.2
        fall = balance / np.maximum.accumulate(balance) - 1
        # The account that counts lies above the others.
        upper.plot(days, balance, color=color, linewidth=width, label=name, zorder=3 - bool(number))
        lower.plot(days, fall, color=color, linewidth=width, zorder=3 - bool(number))
    label = f"halt ${floor:,.0f}"
    upper.axhline(floor, color=RED, linestyle="--", linewidth=1.2, label=label)
    for panel in (upper, lower):
        for mark in marks:
            panel.axvline(days[mark], color=BLACK, linestyle=":", linewidth=1.0)
        _finish(panel)
    upper.set(title="balance at the end of each session")
    _whole_numbers(upper.yaxis, "$")
    _legend(upper)
    lower.set(title="below its peak until then")
    _percent(lower.yaxis)
    return figure


def _whole_numbers(axis: Axis, unit: str = "", parts: int = 10) -> None:
    """Runs, days or whole dollars: a tick between two of them would be labelled as another."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axis.set_major_locator(MaxNLocator(parts, integer=True, min_n_ticks=1))
    axis.set_major_formatter(StrMethodFormatter(f"{unit}{{x:,.0f}}"))


def _percent(axis: Axis) -> None:
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda share, _: percent_text(share)))


def _finish(panel: Axes) -> None:
    """No frame above and at the right, and lines from edge to edge."""
    panel.spines[["top", "right"]].set_visible(False)
    panel.margins(x=0)


def _legend(panel: Axes) -> None:
    panel.legend(loc="best", framealpha=0.85, edgecolor="none", fontsize=8)


def percent_text(share: float) -> str:
    """A fraction in percent, with a digit after the point only where it has one: 5%, 7.5%."""
    return f"{round(100 * share, 3):g}%"


def _title(figure: Figure, heading: str, size: int) -> None:
    # Between two dollar signs matplotlib reads mathematics.
    figure.suptitle(heading.replace("$", r"\$"), fontsize=size, fontweight="bold")


def _balance_range(
    sets: Mapping[str, AccountPaths], floor: float, finals: Array
) -> tuple[float, float]:
    """From the lowest that is drawn to the highest but a few."""
    starts = [runs.start for runs in sets.values()]
    low = min(float(finals.min()), floor, *starts)
    high = max(float(np.quantile(finals, CUT)), *starts)
    room = 0.03 * (high - low) or 1.0
    return low - room, high + room


def _draw_final(panel: Axes, runs: AccountPaths, edges: Array, floor: float) -> None:
    final = runs.balances[:, -1]
    panel.hist(np.clip(final, edges[0], edges[-1]), bins=edges.tolist(), color=BLUE, alpha=0.55)
    for value, color, style, label in _levels(runs, floor, float(np.median(final))):
        panel.axvline(value, color=color, linestyle=style, linewidth=1.4, label=label)
    if beyond := int((final > edges[-1]).sum()):
        panel.plot([], [], " ", label=f"last bar holds {beyond:,} beyond it")


def _draw_balances(panel: Axes, runs: AccountPaths, floor: float) -> None:
    days = np.arange(runs.balances.shape[1] + 1)
    low, lower, median, upper, high = np.percentile(runs.course, (5, 25, 50, 75, 95), axis=0)
    panel.fill_between(days, low, high, color=BLUE, alpha=0.18, linewidth=0, label="5 to 95 %")
    panel.fill_between(days, lower, upper, color=BLUE, alpha=0.38, linewidth=0, label="25 to 75 %")
    panel.plot(days, median, color=ORANGE, linewidth=1.6, label="median")
    for value, color, style, label in _levels(runs, floor, None):
        panel.axhline(value, color=color, linestyle=style, linewidth=1.4, label=label)


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


def _levels(
    runs: AccountPaths, floor: float, median: float | None
) -> Iterator[tuple[float, str, str, str]]:
    """Value, colour, style and label of the lines that balances are read against."""
    yield runs.start, BLACK, "-", f"start ${runs.start:,.0f}"
    if median is not None:
        yield median, ORANGE, "-", f"median ${median:,.0f}"
    yield floor, RED, "--", f"halt ${floor:,.0f}"
