"""The decision over a plan: what it rests on, how far it looks, and what it does not depend on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from execution.decision.beliefs import BeliefTable
from execution.decision.sizing import SizingSettings
from execution.decision.trader import Trader
from execution.orders.lending import MarginTerms
from forecasting.baseline import RandomWalk
from forecasting.forecast import HORIZON, ForecastTable, Progress, no_progress
from forecasting.moments import cumulative_variance
from sizing.settings import PriorSettings
from tests.execution.traders import LAST, MIDDAY, NIGHT, STOCKS, Tilted, decided, known, trader_of
from trainingdata.bars import Bars
from trainingdata.instruments import AssetClass
from trainingdata.long_run_variance import long_run_variances
from trainingdata.market import Market
from trainingdata.timeframe import HOURLY


def trader(
    left: float = 0.0, skill: float = 0.0, *, prior: PriorSettings | None = None, **more: Any
) -> Trader:
    basis_points = {s: more.pop(s) for s in list(more) if s.startswith("SY")}
    parts = {"costs": more.pop("costs", None), "margin": more.pop("margin", MarginTerms())}
    forecaster = Tilted(at_once=True, left=left, skill=skill, **basis_points)
    sizing = SizingSettings(**more)
    return trader_of(forecaster, sizing, prior=prior or PriorSettings(), **parts)


def believed(market: Bars, at: str, who: Trader) -> BeliefTable:
    panel = known(market, at)
    found = who.build_beliefs(Market(panel, len(panel.times) - 1)).at_instant(panel.last_instant)
    assert found is not None
    return found


def test_flat_forecasts_trade_only_on_the_risk_premium(market: Bars) -> None:
    bought = decided(market, MIDDAY, trader())
    assert {o.symbol: o.side for o in bought.orders} == dict.fromkeys(STOCKS, "buy")
    for at in (MIDDAY, LAST, NIGHT):
        assert decided(market, at, trader(prior=PriorSettings(stock_sharpe=0.0))).orders == ()
    unpaid = PriorSettings(crypto_sharpe=0.0)
    assert decided(market, NIGHT, trader(prior=unpaid)).orders == ()
    implied = decided(market, NIGHT, trader())
    assert {o.side for o in implied.orders} == {"buy"}, "crypto shares the risk of stocks"
    coins = decided(market, NIGHT, trader(prior=PriorSettings(crypto_sharpe=0.6)))
    assert {o.side for o in coins.orders} == {"buy"}


def test_only_symbols_with_new_bar_and_forecast_trade(market: Bars) -> None:
    @dataclass(frozen=True)
    class Late(RandomWalk):
        """The last bar of SYA has no forecast yet."""

        def forecast(
            self, bars: Bars, since: Any, progress: Progress = no_progress
        ) -> ForecastTable:
            table = super().forecast(bars, bars.times[-30])
            latest = table.latest_window_index.copy()
            latest[bars.symbols.index("SYA"), -1] -= 1
            return replace(table, latest_window_index=latest)

    def adjustable(at: str, who: Trader) -> set[str]:
        belief = believed(market, at, who)
        return {s for s, each in zip(market.symbols, belief.is_adjustable[0], strict=True) if each}

    coins = {s for s, coin in zip(market.symbols, market.crypto, strict=True) if coin}
    assert adjustable(MIDDAY, trader()) == set(STOCKS)
    assert adjustable(MIDDAY, trader_of(Late())) == {"SYB", "SYC"}
    assert adjustable("2024-03-05T21:00", trader()) == coins, "stocks have closed, and are shut"


@pytest.mark.parametrize(
    ("at", "ends", "nights"),
    [
        # 12:30: four bars today, two tomorrow
        (MIDDAY, ["2024-03-05T18:30", "2024-03-06T16:30", "2024-04-02T17:30"], [0, 1, 27]),
        # clocks change: the close is before 20:30 by then
        (LAST, ["2024-03-06T15:30", "2024-03-06T19:30", "2024-04-02T20:30"], [1, 0, 28]),
        (NIGHT, ["2024-03-06T04:00", "2024-03-06T09:00", "2024-04-03T03:00"], [0, 0, 28]),
    ],
)
def test_plan_periods_end_at_decision_signal_and_horizon(
    market: Bars, at: str, ends: list[str], nights: list[int]
) -> None:
    belief = believed(market, at, trader(signal_bars=6))
    assert [str(end)[:16] for end in belief.period_ends[0]] == ends
    assert belief.interest_night_count[0].tolist() == nights
    for s, kind in enumerate([AssetClass.STOCK] * 3 + [AssetClass.CRYPTO] * 2):
        whole = {AssetClass.STOCK: 19 * 7, AssetClass.CRYPTO: 28 * 24}[kind] / HOURLY.clock(
            kind
        ).bars_per_year
        assert belief.symbol_trading_years[0, :, s].sum() == pytest.approx(whole, rel=0.06)
    assert believed(market, at, trader(holding="next")).first_period_end == belief.first_period_end
    assert believed(market, at, trader(holding="session")).mu.shape == (1, 1, len(market.symbols))


def test_variance_beyond_forecasts_reverts_to_long_run_variance(market: Bars) -> None:
    """The last step's own variance is never extrapolated."""
    panel = known(market, MIDDAY)
    belief = believed(market, MIDDAY, trader())
    table = RandomWalk().forecast(panel, panel.last_instant)
    last = table.latest_window_index[:, -1].astype(np.int64)
    _, slow = long_run_variances(panel, np.array([panel.last_instant]))

    def until(bars: float) -> np.ndarray:
        places = np.full(len(last), bars)
        none = np.zeros(len(last))
        return cumulative_variance(
            table.quantiles[last], table.price[last], places, "quantile", none
        )

    year = HOURLY.clock(AssetClass.STOCK).bars_per_year
    for s in range(3):
        bars = belief.symbol_trading_years[0, :, s] * year
        day = until(24.0)[s]
        beyond = np.sqrt(day * year / HORIZON * slow[0, s]) * (bars.sum() - HORIZON) / year
        expected = day - until(round(bars[:2].sum()))[s] + beyond
        assert belief.sigma[0, 2, s] ** 2 == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("left", [0.0, 0.6, 0.95])
def test_forecast_signal_decays_geometrically_over_later_periods(market: Bars, left: float) -> None:
    """The mean is m1·(φ + φ² + …) over the bars of each later block; the second forecast step has
    no influence.
    """
    belief = believed(market, MIDDAY, trader(left, SYA=10.0))
    s = market.symbols.index("SYA")
    ends = np.cumsum(
        np.round(
            belief.symbol_trading_years[0, :, s] * HOURLY.clock(AssetClass.STOCK).bars_per_year
        )
    )
    assert belief.mu[0, 0, s] == pytest.approx(1e-3, rel=1e-3)
    for k in (1, 2):
        fading = sum(left**j for j in range(int(ends[k - 1]), int(ends[k])))
        assert belief.mu[0, k, s] == pytest.approx(1e-3 * fading, rel=1e-3, abs=1e-9)


def test_forecast_signal_size_is_skill_times_hourly_deviation(market: Bars) -> None:
    belief = believed(market, MIDDAY, trader(0.6, 0.1, SYA=10.0))
    s = market.symbols.index("SYA")
    sigma, years = belief.sigma[0, :2, s], belief.symbol_trading_years[0, :2, s]
    hourly = np.sqrt(sigma @ sigma / (years.sum() * HOURLY.clock(AssetClass.STOCK).bars_per_year))
    assert belief.signal_rms[0, s] == pytest.approx(0.1 * hourly / 0.4, rel=0.5)


@pytest.mark.parametrize("name", ["Kelly_50pct", "KELLY_50PCT", "kelly_50pct", "Kelly_50"])
def test_kelly_50pct_is_an_alias_of_half_kelly(name: str) -> None:
    assert SizingSettings(strategy=name).build_strategy() == SizingSettings().build_strategy()


def test_horizon_before_signal_end_empties_the_last_period(market: Bars) -> None:
    who = trader(signal_bars=24, prior=PriorSettings(horizon_days=1))
    belief = believed(market, MIDDAY, who)
    assert belief.period_ends[0, 2] == belief.period_ends[0, 1] > belief.first_period_end
    assert not belief.class_trading_years[0, 2].any()
    assert not np.nan_to_num(belief.sigma[0, 2]).any()
    assert decided(market, MIDDAY, who).sizing_failure == ""
