"""What a report shows beyond its summary: weights, daily leverage, amounts that add up."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_FLOOR, Decimal

import numpy as np

from execution.records import Row, Run
from foundation.arrays import Array, Index, Instants, Mask
from marketsimulator.results.report_charts import DailyLeverage
from trainingdata.bars import CLOSE, Bars
from trainingdata.instants import new_york_date
from trainingdata.sessions import sessions_between

CENT = Decimal("0.01")


def cents_that_add_up(parts: Mapping[str, float], total: Decimal) -> dict[str, Decimal]:
    """USD amounts rounded to the cent so that they add up to their total.

    Each is rounded down; the cents that are then missing go to the largest remainders.

    Raises
    ------
    ValueError
        where the parts are further from the total than rounding can be.
    """
    exact = {name: Decimal(repr(float(usd))) for name, usd in parts.items()}
    cents = {name: usd.quantize(CENT, ROUND_FLOOR) for name, usd in exact.items()}
    missing = int((total - sum(cents.values())) / CENT)
    if not 0 <= missing <= len(parts):
        raise ValueError(f"parts of {sum(parts.values())} USD do not add up to {total} USD")
    by_remainder = sorted(exact, key=lambda name: exact[name] - cents[name], reverse=True)
    for name in by_remainder[:missing]:
        cents[name] += CENT
    return cents


def to_cents(usd: float) -> Decimal:
    """USD, to the nearest cent."""
    return Decimal(repr(float(usd))).quantize(CENT)


def daily_weights(bars: Bars, run: Run, rows: Index) -> Array:
    """[S, D] position over equity, signed, at these rows of the account; 0 without equity."""
    at = np.array([run.rows[row].at for row in rows])
    equity = np.array([run.rows[row].equity for row in rows])
    held = np.zeros((len(bars.symbols), len(rows)))
    for s, symbol in enumerate(bars.symbols):
        own = [fill for fill in run.fills if fill.symbol == symbol]
        if not own:
            continue
        filled = np.array([fill.at for fill in own])
        sizes = np.cumsum([0.0, *(float(fill.qty) for fill in own)])
        times, values = bars.real_bars(s)
        closes = values[np.searchsorted(times, at, side="right") - 1, CLOSE]
        held[s] = sizes[np.searchsorted(filled, at, side="right")] * closes
    weights = np.zeros_like(held)
    np.divide(held, equity, out=weights, where=equity > 0)
    return weights


def stock_leverage(run: Run, rows: Index, marks: Instants) -> DailyLeverage:
    """That of stocks, under the ceilings of the day and of the night that decisions went by."""
    highest, held = _by_day(run.rows, rows, [row.gross_stock for row in run.rows])
    return DailyLeverage(
        bounds=np.append(run.rows[0].at, marks),
        highest=highest,
        held=held,
        ceilings=_ceilings(run, marks),
    )


def coin_leverage(run: Run, rows: Index, marks: Instants, ceiling: float) -> DailyLeverage:
    """That of coins, which one ceiling holds for by day and night."""
    highest, held = _by_day(run.rows, rows, [row.gross_crypto for row in run.rows])
    return DailyLeverage(
        bounds=np.append(run.rows[0].at, marks),
        highest=highest,
        held=held,
        ceilings=(("ceiling of coins", np.full(len(marks), ceiling)),),
    )


def _by_day(account: list[Row], rows: Index, gross: list[float]) -> tuple[Array, Array]:
    """(highest, last) gross over equity of each day that ends with one of these rows, [D]."""
    equity = np.array([row.equity for row in account])
    leverage = np.zeros(len(account))
    np.divide(np.array(gross), equity, out=leverage, where=equity > 0)
    begins = np.append(0, rows[:-1] + 1)
    return np.maximum.reduceat(leverage[: rows[-1] + 1], begins), leverage[rows]


def _ceilings(run: Run, marks: Instants) -> tuple[tuple[str, Array], ...]:
    """The highest and the lowest stock ceiling of each session, held until the next one; [D] each.

    A day without a decision keeps what was before it; those before the first have its ceilings. So
    does the night of a session without a decision for the night.
    """
    at = np.array([decision.at for decision in run.decisions], dtype="datetime64[ns]")
    ceiling = np.array([decision.stock_ceiling for decision in run.decisions])
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
