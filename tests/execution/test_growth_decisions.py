"""Strategies of whole distributions get the forecasts' shapes; the others carry none of them."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from execution.beliefs import BeliefTable, joined_beliefs
from execution.fees import FeeSchedule, TradingCosts
from execution.orders import Account
from execution.trader import SizingSettings, Trader
from forecasting.baseline import RandomWalk
from forecasting.forecast import HORIZON, LEVELS, ForecastTable, Progress, silent
from forecasting.moments import shapes_between
from sizing.limits import Limits
from sizing.premium import PriorSettings
from trainingdata.bars import Bars
from trainingdata.correlation import CorrelationEstimator

SINCE = np.datetime64("2024-03-04T14:00", "ns")
WHEN = ("2024-03-04T17:30", "2024-03-05T03:00", "2024-03-05T20:30", "2024-03-06T16:30")


class Skewed(RandomWalk):
    """A random walk whose lower quantiles lie twice as far out, by a symbol's own measure."""

    def forecast(self, bars: Bars, since: Any, progress: Progress = silent) -> ForecastTable:
        table = super().forecast(bars, since)
        middle = table.values[..., LEVELS.index(0.5), None]
        out = np.where(np.array(LEVELS) < 0.5, 2.0 + 0.1 * table.windows.symbol[:, None, None], 1.0)
        values = np.maximum(middle + (table.values - middle) * out, 0.01).astype(np.float32)
        return replace(table, answer=values.__getitem__)


def trader(strategy: str, **more: Any) -> Trader:
    return Trader(
        "test",
        Skewed(),
        CorrelationEstimator(),
        SizingSettings(strategy=strategy, **more),
        Limits(),
        TradingCosts(),
        FeeSchedule(),
        prior=PriorSettings(crypto_sharpe=0.5),
    )


def account(bars: Bars, **weights: float) -> Account:
    prices = {
        s: float(p) for s, p in zip(bars.symbols, bars.last_closes(), strict=True) if np.isfinite(p)
    }
    positions = {s: Decimal(int(100_000 * w / prices[s])) for s, w in weights.items()}
    cash = 100_000 - sum(float(q) * prices[s] for s, q in positions.items())
    return Account(cash, positions, prices, bars.now)


@pytest.mark.parametrize("strategy", ["log_50", "risk_constrained"])
def test_a_backtest_and_a_live_loop_decide_alike_to_the_last_bit(
    market: Bars, strategy: str
) -> None:
    live = trader(strategy)
    backtest = live.over(market, SINCE)
    ordered = 0
    for when in WHEN:
        panel = market.until(np.datetime64(when, "ns"))
        for weights in ({}, {"SYA": 0.3, "SYB": -0.1}):
            mine = live.decide(panel, account(panel, **weights))
            theirs = backtest.decide(panel, account(panel, **weights))
            assert mine is not None
            assert theirs is not None
            assert not mine.failure
            assert mine.choices == theirs.choices
            assert mine.orders == theirs.orders
            ordered += len(mine.orders)
    assert ordered > 5


def test_only_who_asks_for_shapes_gets_them(market: Bars) -> None:
    tables: dict[str, BeliefTable] = {}
    for strategy in ("kelly_50", "log_50", "equal_weight", "risk_constrained"):
        tables[strategy] = trader(strategy).belief_table(market, SINCE)
    assert tables["kelly_50"].shapes is None
    assert tables["equal_weight"].shapes is None
    shapes = tables["log_50"].shapes
    assert shapes is not None
    assert shapes.shape == (*tables["log_50"].mu.shape, len(LEVELS))
    assert shapes.dtype == np.float32
    assert (shapes[..., LEVELS.index(0.5)][np.isfinite(tables["log_50"].mu)] == 1).all()
    own = trader("examples.best_two:best_two")
    assert own.belief_table(market, SINCE).shapes is None
    joined = joined_beliefs([tables["log_50"], tables["log_50"]]).shapes
    assert joined is not None
    assert len(joined) == 2 * len(shapes)
    assert joined_beliefs([tables["kelly_50"], tables["kelly_50"]]).shapes is None


def test_beliefs_without_shapes_are_refused_by_who_reads_them(market: Bars) -> None:
    table = trader("kelly_50").belief_table(market, SINCE)
    with pytest.raises(ValueError, match="no shapes of forecasts, and log_50 reads them"):
        replace(trader("log_50"), table=table)


def test_a_skewed_forecast_is_held_less_of_than_its_moments_say(market: Bars) -> None:
    panel = market.until(np.datetime64(WHEN[0], "ns"))
    free = TradingCosts(0, 0, 0, 0, 0, 0)
    kelly = {}
    for strategy in ("kelly_100", "log_100"):
        found = replace(trader(strategy), costs=free).decide(panel, account(panel))
        assert found is not None
        kelly[strategy] = {c.symbol: c.kelly for c in found.choices}
    for symbol, weight in kelly["kelly_100"].items():
        if weight > 0:
            assert 0 < kelly["log_100"][symbol] < weight


def test_a_block_has_the_shape_of_a_forecast_that_is_as_long() -> None:
    steps = np.arange(1, HORIZON + 1)
    values = np.ones((2, HORIZON, len(LEVELS)), dtype=np.float32)
    values *= (1 + np.linspace(-0.1, 0.1, len(LEVELS)) * steps[:, None]).astype(np.float32)
    place = np.array([[0.0, 1.0, 3.0, 200.0], [0.5, 2.0, 2.0, 6.25]])
    found = shapes_between(values, place)
    for row, lengths in enumerate(((1, 2, 24), (2, 1, 5))):
        for k, length in enumerate(lengths):
            assert found[row, k] == pytest.approx(values[row, length - 1], rel=1e-6)


def test_what_is_held_beside_the_panel_has_no_shape_and_is_sized_around(market: Bars) -> None:
    panel = market.until(np.datetime64(WHEN[0], "ns"))
    plain = account(panel)
    outside = Account(
        plain.cash - 20_000, {"ZZZ": Decimal(200)}, {**plain.prices, "ZZZ": 100.0}, panel.now
    )
    found = trader("log_50").decide(panel, outside)
    assert found is not None
    assert not found.failure
    assert {c.symbol for c in found.choices} <= set(panel.symbols)


def test_the_bound_and_its_price_are_written_down(market: Bars) -> None:
    panel = market.until(np.datetime64(WHEN[0], "ns"))
    found = trader("risk_constrained").decide(panel, account(panel))
    assert found is not None
    assert any("drawdown" in c.binding for c in found.choices)
    assert "Risk-constrained Kelly sizing over 1,024 scenarios" in found.rule[0].phrase
