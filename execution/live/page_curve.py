"""What an account was worth over time: what it has earned, its equity and its drawdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from execution.journal.linked_returns import Point
from execution.journal.marks import AccountMark
from execution.live.page_words import day, percent, usd
from foundation.arrays import Array, Instants
from foundation.charts import WIDTH, Chart, Line, axis_of, chart_of, line_path, thinned


class Curve:
    """The marks of an account, oldest first, as far as they were read.

    at: [T] their instants.
    equity: [T] USD.
    flows: [T] USD paid in less taken out since the mark before.
    index: [T] of linked returns, 0 once everything was lost.
    drawdowns: [T] share lost since the index's peak, 0 … 1.
    earned_today: share, on the New York date of the last mark.
    """

    def __init__(self) -> None:
        self.at: Instants = np.array([], dtype="datetime64[ns]")
        self.equity: Array = np.array([])
        self.flows: Array = np.array([])
        self.index: Array = np.array([])
        self.drawdowns: Array = np.array([])
        self.earned_today = 0.0

    @property
    def last_at(self) -> np.datetime64:
        """The last mark's instant, from which on marks may be new."""
        return self.at[-1] if len(self.at) else np.datetime64(0, "ns")

    def extend(self, marks: Sequence[AccountMark], points: Sequence[Point]) -> None:
        """Add marks from `last_at` on, with their points; of one instant the last word counts."""
        at = np.array([mark.at for mark in marks], dtype="datetime64[ns]")
        self.at = np.append(self.at[:-1], at)
        self.equity = np.append(self.equity[:-1], [mark.equity for mark in marks])
        self.flows = np.append(self.flows[:-1], [mark.flows for mark in marks])
        self.index = np.append(self.index[:-1], [float(point.index) for point in points])
        lost = [float(point.drawdown) for point in points]
        self.drawdowns = np.append(self.drawdowns[:-1], lost)
        self.earned_today = -float(points[-1].daily_loss) if points else self.earned_today

    @property
    def paid_in(self) -> float:
        """USD paid in less taken out since the first mark."""
        return float(self.flows[1:].sum())

    @property
    def earned(self) -> float:
        """USD since the first mark; what was paid in or taken out is no part of it."""
        return float(self.equity[-1] - self.equity[0]) - self.paid_in

    @property
    def share_earned(self) -> float:
        """Linked return since the first mark; NaN where everything was lost meanwhile."""
        # Nothing leads back from 0: the index has then begun anew.
        return float(self.index[-1] / self.index[0] - 1.0) if np.all(self.index > 0) else math.nan

    def charts(self, limit: float) -> list[Chart]:
        """Equity beside what was paid in, and the drawdown; none before the second mark.

        limit: drawdown at which the account halts.
        """
        if len(self.at) < 2:
            return []
        paid = self.equity[0] + np.append(0.0, np.cumsum(self.flows[1:]))
        lost = -self.drawdowns
        return [
            self._chart("Equity", self.equity, "equity", paid, "paid in", usd),
            self._chart(
                "Drawdown", lost, "below the peak", np.full(len(lost), -limit), "halts", percent
            ),
        ]

    def _chart(
        self,
        title: str,
        values: Array,
        name: str,
        beside: Array,
        name_beside: str,
        text: Callable[[float], str],
    ) -> Chart:
        """A curve, and another one in steps beside it."""
        both = np.append(values, beside)
        axis = axis_of(float(both.min()), float(both.max()))
        kept = thinned(values)
        seconds = (self.at[kept] - self.at[0]) / np.timedelta64(1, "s")
        places = np.asarray(WIDTH * seconds / max(seconds[-1], 1.0))
        first, last = pd.Timestamp(self.at[0]), pd.Timestamp(self.at[-1])
        style = "%d %b %H:%M" if last - first < pd.Timedelta(days=4) else "%d %b %Y"
        return chart_of(
            f"{title} from {day(self.at[0])} to {day(self.at[-1])}: {text(values[0])} to"
            f" {text(values[-1])}, lowest {text(values.min())}, highest {text(values.max())}.",
            tuple(f"{each:{style}}" for each in (first, first + (last - first) / 2, last)),
            axis,
            text,
            Line(name_beside, "limit", line_path(places, axis.heights(beside[kept]), steps=True)),
            Line(name, "first", line_path(places, axis.heights(values[kept]))),
        )
