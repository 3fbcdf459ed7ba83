"""Figures of an account: returns, risk, exposure, costs, and contributions by symbol."""

from __future__ import annotations

from typing import Any

import numpy as np

from foundation.arrays import Instants
from marketsimulator.results.metrics import annual_turnover, largest_drawdown, measure_performance
from marketsimulator.run_result import Run
from marketsimulator.runs.outcome import VariantOutcome
from trainingdata.bars import Bars


def account_figures(
    instants: Instants, outcome: VariantOutcome, *, capital: float, has_crypto: bool
) -> dict[str, Any]:
    """Return an account's figures of return, risk, exposure and costs, as fractions and in USD.

    instants: [T] instants.
    outcome: equity and gross exposure at these instants, and totals of the run.
    capital: equity at the start, USD.
    has_crypto: true if the universe contains crypto, so that days are calendar days.
    """
    equity, gross, totals = outcome.equity, outcome.gross_exposure, outcome.totals
    solvent = equity > 0
    leverage = gross[solvent] / equity[solvent]
    performance = measure_performance(instants, equity, capital=capital, has_crypto=has_crypto)
    return {
        **performance.as_dict(),
        "max_drawdown_intraday": largest_drawdown(np.append(capital, equity)),
        "turnover": annual_turnover(totals.notional, equity, performance),
        "mean_leverage": float(leverage.mean()) if len(leverage) else None,
        "max_leverage": float(leverage.max()) if len(leverage) else None,
        "time_invested": float((gross > 0).mean()),
        "costs": totals.costs,
        "interest": totals.interest,
        "costs_by_kind": totals.costs_by_kind,
        "dividends": totals.dividends,
        "trades": totals.trades,
    }


def fill_figures(run: Run, capital: float) -> dict[str, float]:
    """Return the figures that differ between fills on finer and on coarser bars.

    They are equity, return, fees, costs and number of trades; the return is a fraction, amounts are
    in USD.

    capital: equity at the start, USD.
    """
    outcome = VariantOutcome.from_run(run)
    return {
        "equity": float(outcome.equity[-1]),
        "total_return": float(outcome.equity[-1] / capital - 1),
        "fees": outcome.totals.fees + outcome.totals.crypto_fees,
        "costs": outcome.totals.costs,
        "trades": outcome.totals.trades,
    }


def return_contributions(bars: Bars, run: Run, capital: float) -> dict[str, float]:
    """Return each symbol's contribution to the total return after fees, a fraction.

    Two more entries, `interest` and `other` (dividends, borrow fees, rounding of daily fees), make
    the contributions add up to the total return.
    """
    earned = dict.fromkeys(bars.symbols, 0.0)
    quantity = dict.fromkeys(bars.symbols, 0.0)
    for symbol, held in run.initial_positions.items():
        earned[symbol] -= float(held.quantity) * held.price
        quantity[symbol] += float(held.quantity)
    for fill in run.fills:
        earned[fill.symbol] -= float(fill.qty) * fill.price + fill.fee
        quantity[fill.symbol] += float(fill.qty)
    for symbol, mark in zip(bars.symbols, bars.last_closes().tolist(), strict=True):
        # A symbol that has had no bar yet has NaN for a close, and was never bought.
        if quantity[symbol]:
            earned[symbol] += quantity[symbol] * mark
    parts = {symbol: usd / capital for symbol, usd in earned.items()}
    return {
        **parts,
        "interest": -sum(row.interest for row in run.equity_rows) / capital,
        "other": sum(row.other for row in run.equity_rows) / capital,
    }
