"""What better volatility is worth, on outcomes whose variance is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter

from forecasting.scores import clustered_mean
from foundation.arrays import Array
from studies.volatility_value import (
    CONSTANT,
    Investor,
    autocorrelation_robust_error,
    build_value_table,
    level_variance,
    trade_to_band,
    value_at_step,
    value_forecasters,
)
from trainingdata.sessions import last_friday_four_pms

DAYS = 252.0
COSTLESS = Investor(stock_cost_bps=0.0, stock_leverage=1000.0)


def frame_of(deviation: Array, returns: Array, step: int = 1, kind: str = "stock") -> pd.DataFrame:
    """Score frame of one symbol with hourly forecasts of the deviation."""
    hours = np.arange(len(returns)) * np.timedelta64(1, "h")
    issued = np.datetime64("2015-01-05T21:00", "ns") + hours
    return pd.DataFrame(
        {
            "symbol": "SYA",
            "kind": kind,
            "step": step,
            "slot": 0,
            "week": last_friday_four_pms(issued),
            "deviation": deviation,
            "squared_return": returns**2,
        }
    )


def clustered_market(seed: int, count: int = 10_000) -> tuple[Array, Array]:
    """True deviations, log-AR(1), and normal returns."""
    rng = np.random.default_rng(seed)
    true = 0.01 * np.exp(lfilter([0.1], [1.0, -0.97], rng.normal(size=count)))
    return true, true * rng.normal(size=count)


@pytest.mark.slow
@given(seed=st.integers(0, 20), scale=st.floats(0.5, 2.0), noise=st.floats(0.0, 0.5))
def test_true_volatility_beats_every_distorted_one(seed: int, scale: float, noise: float) -> None:
    """The difference is positive within its error, and significant for a large distortion."""
    true, returns = clustered_market(seed)
    wrong = scale * true * np.exp(noise * np.random.default_rng(seed + 100).normal(size=len(true)))
    frames = {"true": frame_of(true, returns), "wrong": frame_of(wrong, returns)}
    gain = value_at_step(frames, COSTLESS, DAYS)["true"]["over"]["wrong"]
    assert gain["before_costs"] > -1.6 * gain["before_costs_reach"]
    if abs(np.log(scale)) > 0.3 or noise > 0.3:
        assert gain["before_costs"] > gain["before_costs_reach"]


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.25, 2.0])
def test_constant_factor_costs_what_the_formula_says(factor: float) -> None:
    """A variance wrong by a factor k costs f · sharpe² / 2 · (1 - 1/k)²."""
    _, returns = clustered_market(1)
    exact = np.full(len(returns), np.sqrt(np.mean(returns**2)))
    frames = {
        "exact": frame_of(exact, returns),
        "wrong": frame_of(np.sqrt(factor) * exact, returns),
    }
    figures = value_at_step(frames, COSTLESS, DAYS)
    full = COSTLESS.fraction * COSTLESS.sharpe**2 / 2
    assert figures["exact"]["before_costs"] == pytest.approx(full)
    cost = figures["exact"]["over"]["wrong"]["before_costs"]
    assert cost == pytest.approx(full * (1 - 1 / factor) ** 2)
    assert figures["wrong"]["over"]["exact"]["before_costs"] == pytest.approx(-cost)
    leverage = COSTLESS.fraction * COSTLESS.sharpe / (exact[0] * np.sqrt(DAYS)) / factor
    assert figures["wrong"]["leverage"] == pytest.approx(leverage)
    assert figures["wrong"]["turnover"] == 0


def test_daily_pattern_of_a_forecaster_moves_no_weight() -> None:
    """Two symbols, with nine times the variance in the second of two slots."""
    slot = np.tile([0, 1], 500)
    level = 0.01 * np.exp(0.3 * np.random.default_rng(2).normal(size=1000).repeat(2)[:1000])
    parts = [
        frame_of(scale * level * np.where(slot == 0, 1.0, 3.0), level).assign(
            slot=slot, symbol=f"SY{scale}"
        )
        for scale in (1, 4)
    ]
    facts = pd.concat(parts, ignore_index=True)
    variance = level_variance(facts)
    np.testing.assert_allclose(variance[1000:], 16 * variance[:1000])
    np.testing.assert_allclose(variance[:1000:2], variance[1:1000:2])
    assert variance[:1000].mean() == pytest.approx((facts["deviation"][:1000] ** 2).mean())


def test_positions_within_the_band_are_not_traded() -> None:
    """Two investors take turns: within a factor 2 of the target, the first at 1, then at 2."""
    goal = np.log([1.5, 8.0, 4.0, 16.0, 2.0, 1.0])
    held, traded = trade_to_band(goal, 2, 0.0, np.log(2.0))
    np.testing.assert_allclose(held, [1.0, 4.0, 2.0, 8.0, 2.0, 2.0])
    np.testing.assert_allclose(traded, [0, 0, 1.0, 4.0, 0, 6.0])


@pytest.mark.slow
@given(leverage=st.floats(0.1, 2.0), kind=st.sampled_from(["stock", "crypto"]))
def test_leverage_is_capped_and_costs_reduce_turnover(leverage: float, kind: str) -> None:
    true, returns = clustered_market(3, 500)
    found = []
    for bps in (0.0, 1.0, 30.0):
        investor = Investor(**{f"{kind}_leverage": leverage, f"{kind}_cost_bps": bps}, sharpe=1.0)
        figures = value_at_step({"true": frame_of(true, returns, 1, kind)}, investor, DAYS)
        found.append(figures["true"])
    assert found[0]["after_costs"] == pytest.approx(found[0]["before_costs"])
    assert max(each["leverage"] for each in found) <= leverage + 1e-9
    assert found[0]["turnover"] >= found[1]["turnover"] >= found[2]["turnover"]


@pytest.mark.parametrize("bps", [1.0, 10.0])
def test_no_trade_band_beats_trading_to_the_target(bps: float) -> None:
    true, returns = clustered_market(6)
    investor = Investor(stock_cost_bps=bps, stock_leverage=1000.0)
    costless = value_at_step({"true": frame_of(true, returns)}, COSTLESS, DAYS)["true"]
    paying = value_at_step({"true": frame_of(true, returns)}, investor, DAYS)["true"]
    to_target = costless["before_costs"] - costless["turnover"] * bps / 10_000
    assert to_target < paying["after_costs"] < costless["before_costs"]


def test_value_scales_with_the_squared_sharpe_ratio() -> None:
    true, returns = clustered_market(4, 1000)
    frames = {"true": frame_of(true, returns)}
    gains = [
        value_at_step(frames, Investor(sharpe=sharpe, stock_leverage=1000.0), DAYS)["true"]["over"][
            CONSTANT
        ]["before_costs"]
        for sharpe in (0.2, 0.4)
    ]
    assert gains[1] == pytest.approx(4 * gains[0])


def test_value_table_shows_classes_steps_and_gains() -> None:
    true, returns = clustered_market(5, 3000)
    frames = {"true": pd.concat([frame_of(true, returns, step) for step in (1, 6)])}
    values = value_forecasters(frames, COSTLESS, {"stock": DAYS, "crypto": 365.25})
    assert {kind: [*steps] for kind, steps in values.items()} == {"stock": ["1", "6"]}
    table = build_value_table(
        values, {"crypto": "coins", "stock": "stocks"}, ["true", CONSTANT], [CONSTANT]
    )
    assert [tuple(map(str, row[:3])) for row in table.rows] == [
        ("stocks", step, name) for step in ("1", "6") for name in ("true", CONSTANT)
    ]
    first, second = table.rows[:2]
    assert str(first[-1]).startswith("+")
    assert "±" in str(first[-1])
    assert str(second[-1]) == ""
    assert str(second[3]) == "225.0"


def test_overlapping_weeks_raise_the_error_of_a_gain() -> None:
    """The sums of two white weeks have a correlation of one half; Bartlett weights halve it."""
    noise = np.random.default_rng(1).normal(size=2001)
    overlapping = pd.Series(noise[1:] + noise[:-1])
    first = np.datetime64("1980-01-09T15:00", "ns")
    week = pd.Series(last_friday_four_pms(first + np.arange(2000) * np.timedelta64(7, "D")))
    clustered = clustered_mean(overlapping, week)[1]
    assert autocorrelation_robust_error(overlapping, week, 0) == pytest.approx(clustered)
    robust = autocorrelation_robust_error(overlapping, week, 1)
    assert robust / clustered == pytest.approx(np.sqrt(1.5), rel=0.03)
    alternating = pd.Series(np.tile([1.0, -1.0], 1000))
    least = clustered_mean(alternating, week)[1]
    assert autocorrelation_robust_error(alternating, week, 1) == least
