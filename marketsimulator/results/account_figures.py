"""What a run's account rows and fills add up to: costs, exposure, and each symbol's share."""

from __future__ import annotations

import numpy as np

from execution.records import Row, Run
from trainingdata.bars import Bars


def costs_by_kind(rows: list[Row]) -> dict[str, float]:
    """USD of each kind of cost, positive when paid."""
    return {
        "spread": sum(row.spread for row in rows),
        "slippage": sum(row.slippage for row in rows),
        # A day's fees are rounded up to the cent in their sum: the rounding is a fee as well.
        "fees": sum(row.fees + row.rounding for row in rows),
        "coin_fees": sum(row.coin_fees for row in rows),
        "interest": sum(row.interest for row in rows),
        "borrow": sum(row.borrow for row in rows),
    }


def trade_count(run: Run) -> int:
    """Number of trades; coin fees and splits are on the tape as fills at price 0."""
    return sum(fill.price > 0 for fill in run.fills)


def exposure(rows: list[Row]) -> dict[str, float | None]:
    """Gross exposure over equity, stocks and coins together: mean, largest; share of time in it."""
    gross = np.array([row.gross_stock + row.gross_crypto for row in rows])
    equity = np.array([row.equity for row in rows])
    solvent = equity > 0
    leverage = gross[solvent] / equity[solvent]
    return {
        "mean_leverage": float(leverage.mean()) if len(leverage) else None,
        "max_leverage": float(leverage.max()) if len(leverage) else None,
        "time_invested": float((gross > 0).mean()),
    }


def contributions(bars: Bars, run: Run, capital: float) -> dict[str, float]:
    """What each symbol's trades and positions added to total_return, after their fees.

    With `interest` and all other cash, `other`, they add up to total_return. Dividends, borrow and
    the rounding of a day's fees are in `other`.
    """
    earned = dict.fromkeys(bars.symbols, 0.0)
    quantity = dict.fromkeys(bars.symbols, 0.0)
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
        "interest": -sum(row.interest for row in run.rows) / capital,
        "other": sum(row.other for row in run.rows) / capital,
    }
