"""Bars written by hand, and an account on them; and a synthetic market made rough."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np

from execution.beliefs import BeliefTable
from execution.fees import TradingCosts
from execution.lending import MarginTerms
from execution.orders import Fill, Order
from marketsimulator.account.broker import SimulatedBroker
from marketsimulator.account.terms import FillTerms
from tests.marketsimulator.accounts import FREE, account_on, panel_of, stock_ends
from trainingdata.actions import Action
from trainingdata.bars import CLOSE, HIGH, LOW, OPEN, VOLUME, Bars, panel

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
    return market({"BTCUSD": (HOURS[: len(bars)], bars)}, volume=volume, **more)


def stock(*bars: Any, volume: float = 1e6, **more: Any) -> SimulatedBroker:
    """The same on the regular bars of one stock, from 2024-10-02 on."""
    return market({"AAA": (stock_ends("2024-10-02", len(bars)), bars)}, volume=volume, **more)


def market(
    tables: dict[str, Any],
    capital: float = 100_000.0,
    *,
    volume: float = 1e6,
    costs: TradingCosts = FREE,
    fills: FillTerms = FILLS,
    actions: tuple[Action, ...] = (),
    **margin: Any,
) -> SimulatedBroker:
    terms = {"fills": fills, "margin": MarginTerms(**margin)}
    return account_on(panel_of(tables, volume), capital, costs=costs, actions=actions, **terms)


def order(
    side: str, qty: float, type_: str = "market", name: str = "o", symbol: str = "AAA", **more: Any
) -> Order:
    fraction = qty != int(qty) and not symbol.endswith("USD")
    more.setdefault("tif", "day" if fraction else "gtc")
    return Order(name, symbol, side, Decimal(str(qty)), "test", type=type_, **more)  # type: ignore[arg-type]


def prices(fills: list[Fill]) -> list[tuple[float, float]]:
    return [(float(f.qty), f.price) for f in fills if f.price > 0]


def walk(broker: SimulatedBroker, instants: int) -> list[tuple[float, float]]:
    """All fills once so many instants have passed."""
    for step in range(1, instants + 1):
        broker.advance(step)
        broker.open()
    return prices(broker.fills)


FLAT = (100.0, 101.0, 99.0, 100.0)


CRASH = np.datetime64(
    "2024-02-20T20:30", "ns"
)  # 15:30 New York: the last decision of the day has been made


def wild(bars: Bars) -> Bars:
    """One bar in thirty missing, thin trading, and stocks a quarter lower from one session's
    last half hour on.
    """
    rng = np.random.default_rng(5)
    parts = []
    for s, item in enumerate(bars.instruments):
        times, values = bars.real_bars(s)
        kept = rng.random(len(times)) > 1 / 30
        values = values.copy()
        values[:, VOLUME] *= 0.2
        if not bars.crypto[s]:
            later = times > CRASH
            values[later, OPEN : CLOSE + 1] *= 0.75
            first = int(np.flatnonzero(later)[0])
            values[first, OPEN] = values[first - 1, CLOSE]
            values[first, HIGH] = max(values[first, [OPEN, CLOSE, HIGH]])
            values[first, LOW] = min(values[first, [OPEN, CLOSE, LOW]])
        parts.append((item, times[kept], values[kept]))
    return panel(parts, "synthetic bars, thinned and crashed", bars.timeframe)


def eager(table: BeliefTable, switch: str, seed: int = 1) -> BeliefTable:
    """Expected returns that are noise, large enough to trade on at every bar; coins look best
    before `switch`, then stocks.

    At the last decision of every second session nothing is forecast of two stocks in three.
    """
    noise = np.random.default_rng(seed).normal(0.0, 0.5, table.mu.shape)
    early = (table.at < np.datetime64(switch))[:, None]
    liked = np.where(early == table.crypto, np.where(table.crypto, 2.0, 0.6), 0.0)
    sized = (noise + liked[:, None]) * np.where(table.sigma > 0, table.sigma, 0.0)
    evenings = np.flatnonzero(table.cuts)[::2]
    blind = np.zeros(table.deciding.shape, dtype=bool)
    blind[np.ix_(evenings, np.flatnonzero(~table.crypto)[:2])] = True
    return replace(
        table,
        deciding=table.deciding & ~blind,
        sigma=np.where(blind[:, None], np.nan, table.sigma),
        mu=np.where(blind[:, None], np.nan, np.where(table.deciding[:, None], sized, table.mu)),
    )
