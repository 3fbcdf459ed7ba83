"""Spans of days of a nested walk-forward search: choose settings on some, test on the next.

The days of a run are divided into spans of equal length. A span ends with its last day; the next
span starts at that instant, so that settings are chosen from bars known by then.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foundation.arrays import Array, Index
from foundation.errors import InputError
from marketsimulator.results.metrics import day_end_rows, returns_until_ruin
from marketsimulator.results.significance import MIN_DAYS_FOR_INTERVALS
from marketsimulator.settings import BacktestSettings
from trainingdata.instants import new_york_date
from trainingdata.market import Market


@dataclass(frozen=True, eq=False, slots=True)
class SearchSpan:
    """A run over some days of a market, which starts in cash.

    market: bars up to the end of the span; the run starts at `market.start_row`.
    day_end_rows: [D] rows of the bars at the end of each day.
    """

    market: Market
    day_end_rows: Index

    @property
    def date_range(self) -> tuple[str, str]:
        """Return the New York dates of the first and the last instant."""
        times = self.market.bars.times
        first, last = new_york_date(times[[self.market.start_row, -1]])
        return str(first), str(last)

    def daily_returns(self, equity: Array, capital: float) -> Array:
        """Return the daily returns [D] of equity [N] at the run's instants."""
        daily = np.append(capital, equity[self.day_end_rows - self.market.start_row])
        return returns_until_ruin(daily)


@dataclass(frozen=True, slots=True)
class Fold:
    """A training span, and the span after it on which the choice is tested.

    number: number of the fold, from 1.
    training_span: span on which the settings are chosen.
    test_span: next span, on which they are tested; None after the last training span.
    """

    number: int
    training_span: SearchSpan
    test_span: SearchSpan | None


def build_whole_span(market: Market) -> SearchSpan:
    """Return all days of a market's run as one span."""
    rows, _ = day_end_rows(market.run_bars.times, has_crypto=bool(market.bars.crypto.any()))
    marks = market.start_row + rows
    # A run that starts at 16:00 has no return of that day.
    return SearchSpan(market, marks[marks > market.start_row])


def build_walk_forward_folds(
    settings: BacktestSettings, market: Market, span_count: int, training_span_count: int | None
) -> list[Fold]:
    """Return the folds of a walk-forward search over a market.

    span_count: number of spans; each but the first is a test span once.
    training_span_count: number of training spans before each test span; None: all earlier ones.
    Raises `InputError` if a span has fewer than `MIN_DAYS_FOR_INTERVALS` days.
    """
    marks = build_whole_span(market).day_end_rows
    if len(marks) < span_count * MIN_DAYS_FOR_INTERVALS:
        raise InputError(
            f"spans: {len(marks)} days in {span_count} spans are {len(marks) // span_count} days"
            f" per span, fewer than {MIN_DAYS_FOR_INTERVALS}; set fewer spans or a longer period"
        )
    ends = [len(marks) * k // span_count for k in range(span_count + 1)]
    edges = [market.start_row, *(int(marks[end - 1]) for end in ends[1:])]

    def build_span(begin: int, end: int) -> SearchSpan:
        bars = market.bars.slice_rows(0, edges[end] + 1)
        cut = settings.data.build_market(bars, edges[begin])
        return SearchSpan(settings.data.with_finer_bars(cut), marks[ends[begin] : ends[end]])

    folds = []
    for k in range(1, span_count + 1):
        train = build_span(0 if training_span_count is None else max(0, k - training_span_count), k)
        folds.append(Fold(k, train, build_span(k, k + 1) if k < span_count else None))
    return folds
