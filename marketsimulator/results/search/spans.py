"""Spans of days: settings are chosen on some and tested on the next one (nested walk-forward).

The days of a run are cut into spans of equal length. A span ends at 16:00 New York of its last day,
and the next one begins at that instant: settings chosen from bars known then trade from then on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foundation.arrays import Array, Index
from foundation.errors import InputError
from marketsimulator.results.metrics import daily_rows, returns_until_ruin
from marketsimulator.results.significance import MIN_INTERVAL_DAYS
from marketsimulator.settings import BacktestSettings
from trainingdata.instants import new_york_date
from trainingdata.market import Market


@dataclass(frozen=True, eq=False, slots=True)
class Span:
    """A run over some days of a market: it starts in cash and knows no bar after its end.

    market: bars up to the end of the span; the run starts at `market.first`.
    marks: [D] rows of 16:00 New York of its days, in the bars.
    """

    market: Market
    marks: Index

    @property
    def dates(self) -> tuple[str, str]:
        """Return the New York dates of the first and the last instant."""
        times = self.market.bars.times
        first, last = new_york_date(times[[self.market.start_row, -1]])
        return str(first), str(last)

    def daily_returns(self, equity: Array, capital: float) -> Array:
        """Return the daily returns [D] of equity [N] at the run's instants, from 16:00 to 16:00."""
        daily = np.append(capital, equity[self.marks - self.market.start_row])
        return returns_until_ruin(daily)


@dataclass(frozen=True, slots=True)
class Fold:
    """A training span, and the span after it on which the choice is tested.

    number: number of the fold, from 1.
    train: span that chooses.
    test: span that tests; None for the last training span, whose choice is for the time after.
    """

    number: int
    train: Span
    test: Span | None


def whole_span(market: Market) -> Span:
    """Return all days of a market's run as one span."""
    rows, _ = daily_rows(market.run_bars.times, has_crypto=bool(market.bars.crypto.any()))
    marks = market.start_row + rows
    # A run that starts at 16:00 has no return of that day.
    return Span(market, marks[marks > market.start_row])


def walk_forward(
    settings: BacktestSettings, market: Market, count: int, window: int | None
) -> list[Fold]:
    """Return the folds of a walk-forward search over a market.

    count: number of spans; each but the first is tested on once.
    window: spans before a test that its choice is trained on; None: all before.
    Raises `InputError` if a span has fewer than `MIN_INTERVAL_DAYS` days.
    """
    marks = whole_span(market).marks
    if len(marks) < count * MIN_INTERVAL_DAYS:
        raise InputError(
            f"spans: {count} spans of {len(marks)} days have {len(marks) // count} each; a span"
            f" needs {MIN_INTERVAL_DAYS}, so name fewer spans or a longer period"
        )
    ends = [len(marks) * k // count for k in range(count + 1)]
    edges = [market.start_row, *(int(marks[end - 1]) for end in ends[1:])]

    def span(begin: int, end: int) -> Span:
        bars = market.bars.slice_rows(0, edges[end] + 1)
        cut = settings.data.market(bars, edges[begin])
        return Span(settings.data.with_finer_bars(cut), marks[ends[begin] : ends[end]])

    folds = []
    for k in range(1, count + 1):
        train = span(0 if window is None else max(0, k - window), k)
        folds.append(Fold(k, train, span(k, k + 1) if k < count else None))
    return folds
