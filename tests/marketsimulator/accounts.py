"""Accounts on bars made by hand, and what is sent to them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
from hypothesis import strategies as st

from execution.orders.fees import FeeSchedule, TradingCosts
from execution.orders.lending import MarginTerms
from execution.orders.orders import Fill, Order, OrderSizeLimits
from marketsimulator.account.book import create_book
from marketsimulator.account.broker import SimulatedBroker
from marketsimulator.account.terms import FillTerms, create_holdings, fee_tier_table
from marketsimulator.account.timeline import build_timeline
from trainingdata.bars import Bars, build_panel
from trainingdata.corporate_actions import CorporateAction
from trainingdata.delistings import DelistingRules
from trainingdata.instruments import instrument
from trainingdata.market import Market
from trainingdata.timeframe import HOURLY, Timeframe

FREE = TradingCosts(0, 0, 0, 0, 0, 0)
COINLESS = FeeSchedule()
NO_LIMIT = OrderSizeLimits(min_crypto_value=0.0, crypto_dust=0.0, max_crypto_value=1e15)
FLAT = (100.0, 101.0, 99.0, 100.0)


def stock_ends(since: str, bars: int) -> np.ndarray:
    """When so many regular bars become known, from a New York date on."""
    ends = HOURLY.stock_clock.ends
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
    return build_panel(parts, "by hand", timeframe=timeframe)


def ended(bars: Bars, last: dict[str, Any]) -> Bars:
    """A panel in which these symbols have no bar after an instant."""
    parts = []
    for s, item in enumerate(bars.instruments):
        at, values = bars.bars_of_symbol(s)
        kept = at <= np.datetime64(last.get(item.symbol, bars.last_instant), "ns")
        parts.append((item, at[kept], values[kept]))
    return build_panel(parts, bars.source, bars.timeframe)


def account_on(
    place: Bars | Market,
    capital: float = 100_000.0,
    *,
    costs: TradingCosts = FREE,
    fees: FeeSchedule = COINLESS,
    fills: FillTerms | None = None,
    margin: MarginTerms | None = None,
    impact: bool = False,
    actions: tuple[CorporateAction, ...] = (),
    endings: DelistingRules | None = None,
    orders: OrderSizeLimits = NO_LIMIT,
) -> SimulatedBroker:
    """An account in cash at a panel's first instant, or where a market's run begins."""
    where = place
    if isinstance(where, Bars):
        where = Market(where, actions=actions, delisting_rules=endings or DelistingRules())
    terms = margin or MarginTerms()
    filling = fills or FillTerms(volume_share=None)
    holding = create_holdings(where.bars.instruments, costs, terms, orders)
    book = create_book(capital, holding, fee_tier_table(fees))
    line = build_timeline(where, fees, terms, filling, impact=impact)
    cancel_remainders = filling.remainder == "cancel"
    return SimulatedBroker(where, line, book, orders, cancel_remainders=cancel_remainders)


FILLS = FillTerms()
HOURS = np.arange(
    np.datetime64("2024-10-02T01:00", "ns"),
    np.datetime64("2024-10-03", "ns"),
    np.timedelta64(1, "h"),
)


def coin(
    *bars: tuple[float, float, float, float], volume: float = 1e6, **more: Any
) -> SimulatedBroker:
    """An account of 100,000 on hourly bars (open, high, low, close) of one coin, from the
    instant the first is known.
    """
    return account_in({"BTCUSD": (HOURS[: len(bars)], bars)}, volume=volume, **more)


def stock(*bars: Any, volume: float = 1e6, **more: Any) -> SimulatedBroker:
    """The same on the regular bars of one stock, from 2024-10-02 on."""
    return account_in({"AAA": (stock_ends("2024-10-02", len(bars)), bars)}, volume=volume, **more)


def account_in(
    tables: dict[str, Any],
    capital: float = 100_000.0,
    *,
    volume: float = 1e6,
    costs: TradingCosts = FREE,
    fills: FillTerms = FILLS,
    actions: tuple[CorporateAction, ...] = (),
    orders: OrderSizeLimits = NO_LIMIT,
    **margin: Any,
) -> SimulatedBroker:
    terms = {"fills": fills, "margin": MarginTerms(**margin), "orders": orders}
    return account_on(panel_of(tables, volume), capital, costs=costs, actions=actions, **terms)


def order(
    side: str, qty: float, type_: str = "market", name: str = "o", symbol: str = "AAA", **more: Any
) -> Order:
    fraction = qty != int(qty) and not symbol.endswith("USD")
    more.setdefault("tif", "day" if fraction else "gtc")
    return Order(name, symbol, side, Decimal(str(qty)), "test", type=type_, **more)  # type: ignore[arg-type]


@st.composite
def orders(draw: st.DrawFn, more: tuple[str, ...] = ()) -> Order:
    """An order of a stock that may wait, near 100; more: other types."""
    kind = draw(st.sampled_from(["limit", "stop", "stop_limit", "trailing_stop", *more]))
    near = st.integers(94, 106).map(float)
    prices: dict[str, float] = {}
    if "limit" in kind:
        prices["limit_price"] = draw(near)
    if kind in ("stop", "stop_limit"):
        prices["stop_price"] = draw(near)
    if kind == "trailing_stop":
        prices["trail_price"] = draw(st.integers(1, 5).map(float))
    side, qty = draw(st.sampled_from(["buy", "sell"])), draw(st.sampled_from([1, 10, 60]))
    return order(side, qty, kind, **prices)


def prices(fills: list[Fill]) -> list[tuple[float, float]]:
    return [(float(f.qty), f.price) for f in fills if f.price > 0]


def walk(broker: SimulatedBroker, instants: int) -> list[tuple[float, float]]:
    """All fills once so many instants have passed."""
    for step in range(1, instants + 1):
        broker.advance(step)
        broker.open_bars()
    return prices(broker.fills)


def market(name: str, symbol: str, qty: float) -> Order:
    """A market order: bought above 0, sold below."""
    tif = "gtc" if symbol.endswith("USD") else "day"
    return order("buy" if qty > 0 else "sell", abs(qty), name=name, symbol=symbol, tif=tif)
