"""What tests of runs begin from: settings of a command's words, traders of them, a synthetic market
made rough; and a walk that is what the same trader does who is asked step by step.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from execution.decision.beliefs import BeliefTable
from execution.decision.decision import Decision
from execution.decision.trader import Trader
from foundation.compose import compose_config
from marketsimulator.run_result import Run
from marketsimulator.runs.decisions import CompiledDecisions
from marketsimulator.runs.simulate import simulate_stepwise, simulate_trading
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import CLOSE, HIGH, LOW, OPEN, VOLUME, Bars, build_panel
from trainingdata.market import Market

# Ten weeks of the synthetic market, and a run over the last four of them.
BARS = ("data.start=2024-01-02", "data.end=2024-03-08", "trials=null")
SPAN = ("start=2024-02-12", *BARS)
NEAR = {"rtol": 1e-9, "atol": 1e-12}
# 15:30 New York: the last decision of the day has been made.
CRASH = np.datetime64("2024-02-20T20:30", "ns")


def settings_of(*words: str) -> BacktestSettings:
    return BacktestSettings.from_config(compose_config("backtest", list(words)))


def trader_of(settings: BacktestSettings, market: Market) -> Trader:
    return settings.build_trader(settings.forecaster.build(market.bars.symbols))


def eager_trader(
    settings: BacktestSettings, switch: str = "2024-02-17", seed: int = 1
) -> tuple[Market, Trader]:
    """The settings' market made rough, and their trader made eager to trade."""
    market = settings.load_market()
    market = market.with_bars(wild(market.bars))
    trader = trader_of(settings, market)
    return market, replace(
        trader, belief_table=eager(trader.build_beliefs(market), switch, seed=seed)
    )


def wild(bars: Bars) -> Bars:
    """One bar in thirty missing, thin trading, and stocks a quarter lower from one session's
    last half hour on.
    """
    rng = np.random.default_rng(5)
    parts = []
    for s, item in enumerate(bars.instruments):
        times, values = bars.bars_of_symbol(s)
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
    return build_panel(parts, "synthetic bars, thinned and crashed", bars.timeframe)


def eager(table: BeliefTable, switch: str, seed: int = 1) -> BeliefTable:
    """Expected returns that are noise, large enough to trade on at every bar; coins look best
    before `switch`, then stocks.

    At the last decision of every second session nothing is forecast of two stocks in three.
    """
    noise = np.random.default_rng(seed).normal(0.0, 0.5, table.mu.shape)
    early = (table.instants < np.datetime64(switch))[:, None]
    liked = np.where(early == table.crypto, np.where(table.crypto, 2.0, 0.6), 0.0)
    sized = (noise + liked[:, None]) * np.where(table.sigma > 0, table.sigma, 0.0)
    evenings = np.flatnonzero(table.can_trim_overnight)[::2]
    blind = np.zeros(table.is_adjustable.shape, dtype=bool)
    blind[np.ix_(evenings, np.flatnonzero(~table.crypto)[:2])] = True
    return table._replace(
        is_adjustable=table.is_adjustable & ~blind,
        sigma=np.where(blind[:, None], np.nan, table.sigma),
        mu=np.where(
            blind[:, None], np.nan, np.where(table.is_adjustable[:, None], sized, table.mu)
        ),
    )


def walked_as_stepped(settings: BacktestSettings, market: Market, trader: Trader) -> Run:
    """The backtest of a trader on its table, once it has been found to be what a trader asked at
    every instant does.
    """
    own = replace(settings.build_trader(trader.forecaster), belief_table=trader.belief_table)
    walked = simulate_trading(settings, market, "x", own)
    assert isinstance(walked.decisions, CompiledDecisions)
    stepped = simulate_stepwise(settings, market, "x", own, settings.build_broker(market))
    assert walked.fills == stepped.fills
    assert walked.equity_rows == stepped.equity_rows
    assert walked.margin_event_counts == stepped.margin_event_counts
    assert walked.bookings == stepped.bookings
    (exact, near), (same, close) = map(told, (walked.decisions, stepped.decisions))
    assert exact == same
    np.testing.assert_allclose(near, close, **NEAR)
    pd.testing.assert_frame_equal(walked.decision_frame(), stepped.decision_frame(), **NEAR)
    pd.testing.assert_frame_equal(walked.order_frame(), stepped.order_frame())
    assert walked.decision_log.instants.tolist() == stepped.decision_log.instants.tolist()
    assert (
        walked.decision_log.stock_ceilings.tolist() == stepped.decision_log.stock_ceilings.tolist()
    )
    assert walked.decision_log.failure_count == stepped.decision_log.failure_count
    assert walked.count_incomplete_orders() == stepped.count_incomplete_orders()
    return walked


def told(decisions: Iterable[Decision]) -> tuple[list[str], list[float]]:
    """What decisions say to the last digit, and the figures that explain them, whose last bits may
    differ; None counts as no number.
    """
    exact: list[str] = []
    near: list[Any] = []
    for d in decisions:
        exact.append(
            f"{d.at} {d.interval_end} {d.equity!r} {d.stock_ceiling!r} {d.sizing_rules}"
            f" {d.sizing_failure}"
        )
        exact.append(f"{d.orders_to_cancel}")
        exact += [f"{o.client_order_id} {o.side} {o.qty} {o.reduces} {o.tif}" for o in d.orders]
        for c in d.choices:
            sizes = tuple(
                map(
                    float,
                    (c.mu, c.sigma, c.held_weight, c.target_weight, c.qty, c.price, c.unit_cost),
                )
            )
            exact.append(
                f"{c.symbol} {sizes} {list(c.binding_shadow_prices)}"
                f" {c.rationale.shrinkage is None}"
            )
            near += [c.kelly, *c.rationale, *c.binding_shadow_prices.values()]
    return exact, np.array(near, dtype=float).tolist()
