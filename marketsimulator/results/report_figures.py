"""What a report shows beyond its summary: weights, daily leverage, amounts that add up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from execution.records import Run
from foundation.arrays import Array, Index, Instants, Mask
from foundation.cents import CENT, cents_that_add_up
from marketsimulator.results.report_charts import DailyLeverage
from marketsimulator.results.round_trips import RoundTrips
from trainingdata.bars import CLOSE, Bars
from trainingdata.instants import new_york_date
from trainingdata.sessions import sessions_between

NEAR = 1e-3  # USD within which two sums of the same floats are the same


@dataclass(frozen=True, slots=True)
class Profits:
    """Profits of a run in whole cents, rounded so that those of each list add up to their sum.

    symbols: of each symbol; the profits of its round trips and of what it still holds.
    rest: interest and other cash.
    closed: of each closed round trip, in their order.
    held: of what is still held, in its order.
    """

    symbols: dict[str, Decimal]
    rest: dict[str, Decimal]
    closed: tuple[Decimal, ...]
    held: tuple[Decimal, ...]

    @property
    def total(self) -> Decimal:
        return sum((*self.symbols.values(), *self.rest.values()), Decimal(0))


def profits_to_the_cent(
    trips: RoundTrips, symbols: Sequence[str], contributions: Mapping[str, float], capital: float
) -> Profits:
    """The total is rounded first, then what is earned in symbols, then each, then its trips.

    contributions: fractions of capital, as the summary has them.
    """
    every = (*trips.closed, *trips.held)
    numbers: dict[str, list[int]] = {symbol: [] for symbol in symbols}
    for number, trip in enumerate(every):
        numbers[trip.symbol].append(number)
    # A symbol's profit is the sum of its trips': the summary's figure is that but for the last
    # digits of a float, which could be the ones that a cent hangs on.
    earned = {
        symbol: sum((Decimal(repr(every[n].profit)) for n in own), Decimal(0))
        for symbol, own in numbers.items()
    }
    for symbol, usd in earned.items():
        if abs(float(usd) - contributions[symbol] * capital) > NEAR:
            raise ValueError(f"trips in {symbol} earn {usd} USD, no {contributions[symbol]:.6%}")
    rest = {
        name: Decimal(repr(share * capital))
        for name, share in contributions.items()
        if name not in earned
    }
    inside = sum(earned.values(), Decimal(0))
    total = (inside + sum(rest.values(), Decimal(0))).quantize(CENT)
    parts = cents_that_add_up({"": inside, **rest}, total)
    by_symbol = cents_that_add_up(earned, parts.pop(""))
    by_trip: dict[int, Decimal] = {}
    for symbol, own in numbers.items():
        exact = {n: Decimal(repr(every[n].profit)) for n in own}
        by_trip |= cents_that_add_up(exact, by_symbol[symbol])
    cents = [by_trip[number] for number in range(len(every))]
    count = len(trips.closed)
    return Profits(by_symbol, parts, tuple(cents[:count]), tuple(cents[count:]))


def daily_weights(bars: Bars, run: Run, rows: Index) -> Array:
    """[S, D] position over equity, signed, at these rows of the account; 0 without equity."""
    at = np.array([run.rows[row].at for row in rows])
    equity = np.array([run.rows[row].equity for row in rows])
    held = run.quantities(bars.symbols)[:, rows]
    for s in np.flatnonzero(held.any(axis=1)).tolist():
        times, values = bars.real_bars(s)
        held[s] *= values[np.searchsorted(times, at, side="right") - 1, CLOSE]
    weights = np.zeros_like(held)
    np.divide(held, equity, out=weights, where=equity > 0)
    return weights


def stock_leverage(run: Run, rows: Index, marks: Instants) -> DailyLeverage:
    """That of stocks, under the ceilings of the day and of the night that decisions went by."""
    gross = [row.gross_stock for row in run.rows]
    return _by_day(run, rows, marks, gross, _ceilings(run, marks))


def coin_leverage(run: Run, rows: Index, marks: Instants, ceiling: float) -> DailyLeverage:
    """That of coins, which one ceiling holds for by day and night."""
    gross = [row.gross_crypto for row in run.rows]
    ceilings = (("ceiling of coins", np.full(len(marks), ceiling)),)
    return _by_day(run, rows, marks, gross, ceilings)


def _by_day(
    run: Run,
    rows: Index,
    marks: Instants,
    gross: list[float],
    ceilings: tuple[tuple[str, Array], ...],
) -> DailyLeverage:
    """Highest and last gross over equity of each day that ends with one of these rows."""
    equity = np.array([row.equity for row in run.rows])
    leverage = np.zeros(len(equity))
    np.divide(np.array(gross), equity, out=leverage, where=equity > 0)
    begins = np.append(0, rows[:-1] + 1)
    highest = np.maximum.reduceat(leverage[: rows[-1] + 1], begins)
    bounds = np.append(run.rows[0].at, marks)
    return DailyLeverage(bounds, highest, leverage[rows], ceilings)


def _ceilings(run: Run, marks: Instants) -> tuple[tuple[str, Array], ...]:
    """The highest and the lowest stock ceiling of each session, held until the next one; [D] each.

    A day without a decision keeps what was before it; those before the first have its ceilings. So
    does the night of a session without a decision for the night.
    """
    at = run.log.at
    ceiling = run.log.stock_ceilings
    if not len(at):
        return ()
    day = np.searchsorted(marks, at, side="left")
    dates = new_york_date(marks)
    session: Mask = np.isin(dates, sessions_between(dates[0], dates[-1]))
    highest = np.full(len(marks), np.nan)
    lowest = np.full(len(marks), np.nan)
    for d in np.flatnonzero(session).tolist():
        own = ceiling[day == d]
        if len(own):
            highest[d] = own.max()
            lowest[d] = own.min() if own.min() < own.max() else np.nan
    if not np.isfinite(highest).any():
        return ()
    by_day = _held(highest)
    if not np.isfinite(lowest).any():
        return (("ceiling", by_day),)
    return ("ceiling by day", by_day), ("ceiling into the night", np.minimum(_held(lowest), by_day))


def _held(values: Array) -> Array:
    """Values [D] of which each holds until the next known one, the first from the begin on."""
    known = np.flatnonzero(np.isfinite(values))
    last = np.searchsorted(known, np.arange(len(values)), side="right") - 1
    return values[known[np.maximum(last, 0)]]
