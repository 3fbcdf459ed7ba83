"""Comparison of the last month's trades with a Monte Carlo of earlier trades, per contract."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from foundation.arrays import Array
from foundation.errors import InputError
from foundation.figures import FEWEST_FILLS, counted, number, usd
from foundation.tables import Table
from option_spreads.autoscaler.rules import AutoscalingSettings
from option_spreads.simulation.resampled_accounts import limits_text, simulate_accounts
from option_spreads.simulation.resampling import UNIT
from option_spreads.simulation.settings import MonteCarloSettings
from option_spreads.simulation.trade_sample import TradeRow, TradeSample, read_trades, sample_of
from trainingdata.instants import new_york_date
from trainingdata.sessions import calendar

SESSIONS = 21  # of a month
RANGE = (5.0, 95.0)  # percentiles of the 90 % range
CAPITAL = 1e9  # USD; no run of single contracts can lose it
SETS = {"iid": "one by one", "block": "in blocks of a week", "stress": "with maximum losses"}


@dataclass(frozen=True, eq=False, slots=True)
class Review:
    """The last month of an account, per contract.

    first, last: New York dates of its sessions.
    trades: number of closed trades entered in it.
    profit: their sum, USD a contract.
    before: number of closed trades before it, the Monte Carlo's sample.
    profits: simulated sums over as many sessions [R], USD, by set of runs.
    limits: of resampling, in words.
    """

    first: np.datetime64
    last: np.datetime64
    trades: int
    profit: float
    before: int
    profits: Mapping[str, Array]
    limits: str

    def percentile(self, name: str) -> float:
        """Return the month's percentile among the runs of a set; half of equal runs count."""
        runs = self.profits[name]
        below, equal = (runs < self.profit).mean(), (runs == self.profit).mean()
        return float(100 * (below + equal / 2))


def review_of(path: Path, settings: AutoscalingSettings, now: np.datetime64) -> Review:
    """Compare the last 21 sessions of a file of trades with a Monte Carlo of earlier ones.

    Both sides count single contracts, so that a change of size has no effect.

    Raises InputError if a trade has no time of entry, if the month has no trade, or for fewer
    than 30 trades before it.
    """
    today = new_york_date(np.array([now]))[0]
    dates = calendar().dates
    dates = dates[dates <= today][-SESSIONS:]
    trades = read_trades(path, now)
    if any(trade.entered is None for trade in trades):
        raise InputError(f"{path}: review needs Timestamp_ET of every closed trade")
    entered = new_york_date(np.array([trade.entered for trade in trades], dtype="datetime64[ns]"))
    month = [trade for trade, day in zip(trades, entered, strict=True) if day >= dates[0]]
    before = [trade for trade, day in zip(trades, entered, strict=True) if day < dates[0]]
    if not month:
        raise InputError(f"{path}: no closed trade was entered from {dates[0]} to {dates[-1]}")
    if len(before) < FEWEST_FILLS:
        raise InputError(
            f"{path}: {counted(len(before), 'closed trade')} before {dates[0]}; a review needs"
            f" {FEWEST_FILLS}"
        )
    sample = sample_of(before)
    options = MonteCarloSettings(
        STARTING_CAPITAL=CAPITAL,
        SAFETY_HALT_PCT=0.0,
        AUTOSCALING_ENABLED=False,
        FEE_PER_CONTRACT=settings.FEE_PER_CONTRACT,
        days=len(dates),
    )
    return Review(
        first=dates[0],
        last=dates[-1],
        trades=len(month),
        profit=_profit(month, settings),
        before=len(before),
        profits=_simulated_profits(sample, options),
        limits=limits_text(sample, options),
    )


def _profit(trades: list[TradeRow], settings: AutoscalingSettings) -> float:
    """Return the sum of trades at one contract each, after fees not yet in results, USD."""
    fee = Fraction(str(settings.FEE_PER_CONTRACT))
    return float(sum((trade.result - fee for trade in trades), Fraction(0)))


def _simulated_profits(sample: TradeSample, options: MonteCarloSettings) -> dict[str, Array]:
    sets = simulate_accounts(sample, options)
    return {
        name: np.rint((runs.balances[:, -1] - runs.start) * UNIT) / UNIT
        for name, runs in sets.items()
    }


def review_parts(review: Review) -> Iterator[RenderableType]:
    """Yield the verdict, a table of percentiles, and their limits."""
    yield Text(verdict_text(review))
    rows = []
    for name, runs in review.profits.items():
        low, middle, high = np.percentile(runs, [RANGE[0], 50, RANGE[1]])
        figures = (usd(value, 2, sign=True) for value in (low, middle, high))
        rows.append((SETS[name], *figures, number(review.percentile(name), 0)))
    heads = ("runs", "5 %", "median", "95 %", "percentile of the month")
    title = f"{counted(review.before, 'trade')} before {review.first}, resampled"
    yield Table(title, heads, rows)
    yield Text(f"USD of one contract a trade, sizes left out. {review.limits}")


def verdict_text(review: Review) -> str:
    """Return a sentence on the month's percentile among block runs, and their 90 % range."""
    place = review.percentile("block")
    inside = RANGE[0] <= place <= RANGE[1]
    return (
        f"Last {SESSIONS} sessions, {review.first} to {review.last}:"
        f" {counted(review.trades, 'trade')}, {usd(review.profit, 2, sign=True)} a contract, at"
        f" percentile {number(place, 0)} of the Monte Carlo:"
        f" {'within' if inside else 'outside'} its 90 % range."
    )
