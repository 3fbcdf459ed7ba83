"""What trading spreads has cost, by kind, from the trades themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import numpy as np

from execution.option_orders import SHARES
from foundation.arrays import Array
from option_spreads.selling.rules import SpreadCosts
from option_spreads.simulation.path import IndexDays
from option_spreads.simulation.pricing import Smile, black_scholes
from option_spreads.simulation.selling import SpreadTrade, years_left


def cost_figures(
    trades: Sequence[SpreadTrade], days: IndexDays, costs: SpreadCosts, smile: Smile
) -> dict[str, float]:
    """Costs of trades by kind and in all, USD of all contracts; their results hold them.

    `slippage` is what prices were worse than the model's values, whole cents against the trader
    among it, in whole cents a trade, so that the parts of an account add up; `commission` is the
    broker's, `fee` that of exchange and OCC.

    costs, smile: that the trades were made with.
    """
    broker = replace(costs, fee=0.0)
    commission = sum((broker.fees(t.spread, t.orders) * t.contracts for t in trades), Decimal(0))
    fees = sum((costs.fees(t.spread, t.orders) * t.contracts for t in trades), Decimal(0))
    slippage = _slippage(trades, days, costs, smile)
    return {
        "slippage": float(slippage),
        "commission": float(commission),
        "fee": float(fees - commission),
        "total": float(slippage + fees),
    }


def _slippage(
    trades: Sequence[SpreadTrade], days: IndexDays, costs: SpreadCosts, smile: Smile
) -> Decimal:
    """USD by which sales brought in less than the values, and purchases cost more."""
    is_bought = np.array([trade.orders == 2 for trade in trades], dtype=bool)
    bought = [trade for trade in trades if trade.orders == 2]
    sale_values = _values(trades, [trade.entry_row for trade in trades], days, smile)
    purchase_values = _values(bought, [trade.exit_row for trade in bought], days, smile)
    points = sale_values - [trade.credit for trade in trades]
    points[is_bought] += [_payment(trade, costs) for trade in bought] - purchase_values
    cents = np.rint(points * SHARES * [trade.contracts for trade in trades] * 100).astype(int)
    return Decimal(int(cents.sum())) / 100


def _payment(trade: SpreadTrade, costs: SpreadCosts) -> float:
    """Points that buying a spread back has cost."""
    gain = float(trade.result) + float(costs.fees(trade.spread, trade.orders))
    return trade.credit - gain / SHARES


def _values(
    trades: Sequence[SpreadTrade], rows: Sequence[int], days: IndexDays, smile: Smile
) -> Array:
    """What spreads are worth by the model at points of their days [N], points; rows: one each."""
    legs = [(number, leg) for number, trade in enumerate(trades) for leg in trade.spread.legs]
    at = np.array([number for number, _ in legs], dtype=int)
    strike = np.array([leg.strike for _, leg in legs])
    call = np.array([leg.call for _, leg in legs], dtype=bool)
    sign = np.array([1.0 if leg.sold else -1.0 for _, leg in legs])
    day = np.array([trade.day for trade in trades], dtype=int)[at]
    row = np.array(rows, dtype=int)[at]
    spot = days.spot[day, row]
    years = years_left(days.minutes[row], smile)
    volatility = smile.volatility(days.vix[day, row], spot, strike, years)
    values = black_scholes(spot, strike, years, volatility, call=call)
    return np.asarray(np.bincount(at, values * sign, len(trades)), dtype=float)
