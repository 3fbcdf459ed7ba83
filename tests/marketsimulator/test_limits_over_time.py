"""Limits and bands along whole sequences of decisions, through the broker that fills them."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import numpy.typing as npt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from execution.decision.decision import Decision
from execution.decision.sizing import SizingSettings
from execution.decision.trader import Trader
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.broker import place_orders
from execution.orders.fees import FeeSchedule, TradingCosts
from forecasting.baseline import RandomWalk
from forecasting.forecast import HORIZON, ForecastTable, Progress, no_progress
from marketsimulator.account.broker import SimulatedBroker
from sizing.settings import Limits
from sizing.strategies import STRATEGY_NAMES
from tests.marketsimulator.runs import settings_of
from trainingdata.bars import Bars
from trainingdata.correlation import CorrelationEstimator
from trainingdata.market import Market

DECIDED = 8  # instants a sequence
SETTINGS = settings_of("fills.volume_share=null", "trials=null")


class Moody:
    """A random walk whose median is moved by random basis points at every instant, wildly at
    times.
    """

    name = "moody"

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def forecast(
        self, bars: Bars, since: np.datetime64, progress: Progress = no_progress
    ) -> ForecastTable:
        table = RandomWalk().forecast(bars, since)
        rng = np.random.default_rng([self.seed, len(bars.times)])
        tilt = rng.normal(0, 1e-4 * 10.0 ** rng.uniform(0, 2.5), len(bars.symbols))[
            table.windows.symbol_index
        ]
        values = table.all_quantiles * np.maximum(
            1 + tilt[:, None, None] * np.arange(1, HORIZON + 1)[None, :, None], 0.1
        )
        return replace(table, quantiles=values.astype(np.float32))


def trader(seed: int, strategy: str) -> Trader:
    sizing = SizingSettings(strategy=strategy)
    return Trader(
        "test", Moody(seed), CorrelationEstimator(), sizing, Limits(), TradingCosts(), FeeSchedule()
    )


def broker_with(
    bars: Bars, index: int, weights: npt.NDArray[np.float64], equity: float
) -> SimulatedBroker:
    """A broker whose account already holds these weights, within limits or not."""
    book = SETTINGS.build_book(bars)
    closes = bars.slice_rows(0, index + 1).last_closes()
    for s, item in enumerate(bars.instruments):
        step = float(item.qty_increment)
        book.holdings["quantity"][s] = round(
            np.trunc(weights[s] * equity / closes[s] / step) * step, 9
        )
        book.holdings["short_proceeds"][s] = max(-book.holdings["quantity"][s] * closes[s], 0.0)
    book.account["short_proceeds"] = book.holdings["short_proceeds"].sum()
    book.account["cash"] = equity - float(book.holdings["quantity"] @ closes)
    market = Market(bars, index)
    return SimulatedBroker(market, SETTINGS.build_timeline(market), book)


def check(
    before: AccountSnapshot, after: AccountSnapshot, decision: Decision, limits: Limits
) -> None:
    """At the prices decided on: no limit is passed that the symbols which decided could keep.

    A coin that lies less than an increment beyond stays: fees taken in coin leave quantities that
    no order can name. So does one that lies less than the venue's smallest order beyond.
    """
    equity = before.equity
    prices = before.prices
    dust = 1e-6 + sum(
        (0.001 * prices[c.symbol] + (10.5 if "smallest_order" in c.binding_shadow_prices else 0))
        / equity
        for c in decision.choices
        if c.symbol.endswith("USD")
    )
    adjustable = {choice.symbol for choice in decision.choices}

    def weight(account: AccountSnapshot, symbol: str) -> float:
        return float(account.positions.get(symbol, Decimal(0))) * prices[symbol] / equity

    held = set(before.positions) | set(after.positions)
    coins, stocks = ({s for s in held if s.endswith("USD") is coin} for coin in (True, False))
    for symbol in adjustable & held:
        assert abs(weight(after, symbol)) <= limits.symbol_cap + dust
        if symbol in coins or equity < limits.margin_equity:
            assert weight(after, symbol) >= 0
    fixed_stock, stock = (
        sum(abs(weight(a, s)) for s in group)
        for a, group in ((before, stocks - adjustable), (after, stocks))
    )
    fixed_coin, coin = (
        sum(abs(weight(a, s)) for s in group)
        for a, group in ((before, coins - adjustable), (after, coins))
    )
    ceiling = decision.stock_ceiling
    assert stock <= max(ceiling, fixed_stock) + 1e-6
    assert coin <= max(limits.crypto_leverage, fixed_coin) + dust
    assert stock / ceiling + coin <= max(1.0, fixed_stock / ceiling + fixed_coin) + dust
    bought = coin - sum(abs(weight(before, s)) for s in coins)
    assert bought <= max(before.unborrowed_cash / equity, 0.0) + 1e-6


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    equity=st.sampled_from([900.0, 1_990.0, 25_000.0, 1e6]),
    strategy=st.sampled_from(STRATEGY_NAMES),
)
def test_limit_breaches_from_price_moves_are_cut_back(
    market: Bars, seed: int, equity: float, strategy: str
) -> None:
    rng = np.random.default_rng(seed)
    index = int(rng.integers(len(market.times) // 2, len(market.times) - 60))
    weights = np.where(
        market.crypto,
        rng.uniform(0, 0.8, len(market.symbols)),
        rng.normal(0, 0.9, len(market.symbols)),
    )
    broker = broker_with(market, index, weights, equity)
    who = trader(seed, strategy)
    decided = 0
    while decided < DECIDED and index < len(market.times) - 1:
        panel = market.slice_rows(0, index + 1)
        before = broker.account()
        decision = who.decide(panel, before)
        if decision is not None and before.equity > 0:
            decided += 1
            assert decision.sizing_failure == ""
            place_orders(broker, decision.orders, decision.cancelled_quantities)
            check(before, broker.account(), decision, who.limits)
        index += 1
        broker.advance(index)
