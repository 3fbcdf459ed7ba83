"""The picture of accounts that sell spreads: their balances by day, and their falls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from foundation.arrays import Array
from option_spreads.simulation.account_picture import BLACK, BLUE, RED, percent_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = (BLUE, "#c2700c", "#2e7d4f", "#7a4fb5", "#8a8f98")  # the first is the account's


@dataclass(frozen=True, eq=False, slots=True)
class BalancePicture:
    """What is drawn.

    heading: of the whole.
    dates: sessions [D].
    balances: USD by name of the account, each [D + 1], the one it began with first; the first
        account is the one that counts.
    floor: balance below which nothing is sold, USD.
    marks: numbers of sessions after which figures are given as well.
    """

    heading: str
    dates: npt.NDArray[np.datetime64]
    balances: Mapping[str, Array]
    floor: float
    marks: tuple[int, ...] = ()


def draw(picture: BalancePicture, path: Path) -> None:
    """Write the picture as a PNG."""
    drawn(picture).savefig(path, format="png", dpi=110)


def drawn(picture: BalancePicture) -> Figure:
    """The figure: balances above, how far they are below their peaks underneath."""
    # Imported here: a run that is refused needs no plots.
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator, StrMethodFormatter

    figure = Figure(figsize=(11, 6.4), layout="constrained")
    # Between two dollar signs matplotlib reads mathematics.
    figure.suptitle(picture.heading.replace("$", r"\$"), fontsize=12, fontweight="bold")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2.4, 1))
    # Each account begins on the day before the first session, with what it began with.
    days = np.concatenate([picture.dates[:1] - 1, picture.dates])
    for number, (name, balance) in enumerate(picture.balances.items()):
        color = COLORS[number % len(COLORS)]
        width = 1.1 if number else 2.2
        fall = balance / np.maximum.accumulate(balance) - 1
        # The account that counts lies above the others.
        upper.plot(days, balance, color=color, linewidth=width, label=name, zorder=3 - bool(number))
        lower.plot(days, fall, color=color, linewidth=width, zorder=3 - bool(number))
    label = f"halt ${picture.floor:,.0f}"
    upper.axhline(picture.floor, color=RED, linestyle="--", linewidth=1.2, label=label)
    for panel in (upper, lower):
        for mark in picture.marks:
            panel.axvline(days[mark], color=BLACK, linestyle=":", linewidth=1.0)
        panel.spines[["top", "right"]].set_visible(False)
        panel.margins(x=0)
    upper.set(title="balance at the end of each session")
    upper.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    upper.yaxis.set_major_formatter(StrMethodFormatter("${x:,.0f}"))
    upper.legend(loc="best", framealpha=0.85, edgecolor="none", fontsize=8)
    lower.set(title="below its peak until then")
    lower.yaxis.set_major_formatter(FuncFormatter(lambda share, _: percent_text(share)))
    return figure
