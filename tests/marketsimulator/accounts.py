"""Accounts on bars made by hand."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np

from execution.fees import FeeSchedule, TradingCosts
from execution.lending import MarginTerms
from execution.orders import Order, OrderTerms
from marketsimulator.account.book import new_book
from marketsimulator.account.broker import SimulatedBroker
from marketsimulator.account.terms import FillTerms, holdings_of, tier_table
from marketsimulator.account.timeline import timeline
from trainingdata.actions import Action
from trainingdata.bars import Bars, panel
from trainingdata.endings import Endings
from trainingdata.instruments import instrument
from trainingdata.market import Market
from trainingdata.timeframe import HOURLY, Timeframe

FREE = TradingCosts(0, 0, 0, 0, 0, 0)
COINLESS = FeeSchedule()
NO_LIMIT = OrderTerms(largest_coin=1e15)


def stock_ends(since: str, bars: int) -> np.ndarray:
    """When so many regular bars become known, from a New York date on."""
    ends = HOURLY.stocks.ends
    first = int(np.searchsorted(ends, np.datetime64(since, "ns")))
    return ends[first : first + bars]


def panel_of(
    tables: dict[str, tuple[Any, Any]], volume: float = 1e6, timeframe: Timeframe = HOURLY
) -> Bars:
    """symbol → instants and rows (open, high, low, close), or (…, volume)."""
    parts = []
    for symbol, (times, rows) in tables.items():
        values = np.array([(*row, volume) if len(row) == 4 else row for row in rows], dtype=float)
        parts.append((instrument(symbol), np.asarray(times, dtype="datetime64[ns]"), values))
    return panel(parts, "by hand", timeframe=timeframe)


def account_on(
    place: Bars | Market,
    capital: float = 100_000.0,
    *,
    costs: TradingCosts = FREE,
    fees: FeeSchedule = COINLESS,
    fills: FillTerms | None = None,
    margin: MarginTerms | None = None,
    impact: bool = False,
    actions: tuple[Action, ...] = (),
    endings: Endings | None = None,
) -> SimulatedBroker:
    """An account in cash at a panel's first instant, or where a market's run begins."""
    where = place
    if isinstance(where, Bars):
        where = Market(where, actions=actions, endings=endings or Endings())
    terms = margin or MarginTerms()
    filling = fills or FillTerms(volume_share=None)
    book = new_book(capital, holdings_of(where.bars.instruments, costs, terms), tier_table(fees))
    line = timeline(where, fees, terms, filling, impact=impact)
    cancels = filling.remainder == "cancel"
    return SimulatedBroker(where, line, book, NO_LIMIT, cancels=cancels)


def market(name: str, symbol: str, qty: float) -> Order:
    """A market order: bought above 0, sold below."""
    coin = symbol.endswith("USD")
    return Order(
        name,
        symbol,
        "buy" if qty > 0 else "sell",
        Decimal(repr(abs(qty))),
        "test",
        tif="gtc" if coin else "day",
    )
