"""What a large order pays beside spread and slippage; how much, the accountant says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from execution.orders.fees import TradingCosts
from foundation.errors import InputError
from marketsimulator.account.broker import SimulatedBroker
from marketsimulator.account.impact import round_to_tick
from marketsimulator.account.terms import FillTerms
from tests.marketsimulator.accounts import account_on, market, panel_of, stock_ends
from tests.support.messages import refused
from trainingdata.bars import Bars

COSTS = TradingCosts(1.0, 2.0, 0.8, 2.0, 1.0, 0.5)
COINS = np.arange(
    np.datetime64("2024-10-02T01:00", "ns"),
    np.datetime64("2024-10-12", "ns"),
    np.timedelta64(1, "h"),
)


def rough(rng: np.random.Generator, bars: int = 80) -> Bars:
    """Bars of a stock and a coin, each with a range and a volume of its own."""
    tables: dict[str, Any] = {}
    for symbol, times in (("AAA", stock_ends("2024-10-02", bars)), ("BTCUSD", COINS[:bars])):
        close = 100 * np.exp(np.cumsum(rng.normal(0, 0.004, bars)))
        start = np.append(100.0, close[:-1])
        high, low = (
            f(start, close) * np.exp(s * rng.exponential(0.01, bars))
            for f, s in ((np.maximum, 1), (np.minimum, -1))
        )
        rows = [start, high, low, close, rng.uniform(5e3, 5e5, bars)]
        tables[symbol] = times, np.stack(rows, axis=1)
    return panel_of(tables)


def at(bars: Bars, t: int) -> SimulatedBroker:
    broker = account_on(bars, 1e9, costs=COSTS, impact=True)
    broker.advance(t)
    return broker


@settings(max_examples=15)
@given(
    seed=st.integers(0, 10**6),
    symbol=st.sampled_from(["AAA", "BTCUSD"]),
    cuts=st.lists(st.integers(1, 400), min_size=2, max_size=5),
)
def test_splitting_an_order_does_not_change_its_impact(
    seed: int, symbol: str, cuts: list[int]
) -> None:
    rng = np.random.default_rng(seed)
    bars = rough(rng)
    later = range(int(rng.integers(1, 60)), 80)
    t = next(t for t in later if at(bars, t).open_price(symbol) is not None)
    whole = at(bars, t)
    parts = at(bars, t)
    one = whole.submit([market("o", symbol, float(sum(cuts) * 100))])[0]
    fills = [
        parts.submit([market(f"p{k}", symbol, float(cut * 100))])[0] for k, cut in enumerate(cuts)
    ]
    cost = sum(float(f.qty) * f.price for f in fills)
    assert cost == pytest.approx(float(one.qty) * one.price, abs=1.1e-4 * float(one.qty) * 2)
    assert [f.price for f in fills] == sorted(f.price for f in fills)
    fresh = at(bars, t)
    fresh.submit([market("in", symbol, 100.0)])
    sold = [
        [f.price for f in broker.submit([market("out", symbol, -90.0)])]
        for broker in (parts, fresh)
    ]
    assert sold[0] == sold[1]


@given(st.floats(-17.0, 4.0), st.booleans())
def test_tick_rounding_is_at_most_one_basis_point(power: float, up: bool) -> None:
    price = 10.0**power
    rounded = round_to_tick(price, up)
    assert abs(rounded / price - 1) <= 1.0001e-4
    assert rounded >= price * (1 - 1e-9) if up else rounded <= price * (1 + 1e-9)


@given(st.integers(10_001, 2 * 10**9), st.floats(-0.4, 0.4))
def test_tick_size_depends_on_price_below_one_dollar(ticks: int, part: float) -> None:
    size = 1e-9 if ticks < 10**9 else 1e-4
    price = ticks * size
    near = (ticks + part) * size
    assert (
        round_to_tick(price, True) == round_to_tick(price, False) == pytest.approx(price, rel=1e-15)
    )
    assert (
        round_to_tick(near, True) == pytest.approx((ticks + (part > 0.02)) * size, rel=1e-15)
        or 0 < part <= 0.02
    )
    assert (
        round_to_tick(near, False) == pytest.approx((ticks - (part < -0.02)) * size, rel=1e-15)
        or -0.02 <= part < 0
    )


def test_orders_need_a_bar_and_impact_needs_volume() -> None:
    times = stock_ends("2024-10-02", 4)
    silent = (100.0, 101.0, 99.0, 100.0, 0.0)
    some = panel_of({"AAA": (times, [silent] * 4), "BBB": (times[[0, 2, 3]], [silent] * 3)})
    broker = account_on(some)
    assert len(broker.submit([market("a", "AAA", 1)])) == 1
    assert broker.submit([market("b", "BBB", 1)]) == []
    with refused(InputError, "AAA"):
        account_on(some, fills=FillTerms())
