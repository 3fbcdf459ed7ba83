"""The rule of each named strategy, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from execution.decision.sizing import SizingSettings
from foundation.errors import InputError
from sizing.allocation import allocate_kelly
from sizing.inputs import SizingInputs
from sizing.settings import Limits
from sizing.strategies import (
    STRATEGY_NAMES,
    KellyStrategy,
    WeightRuleStrategy,
    equal_risk_weights,
    strategy_from_name,
    symbols_with_comparable_risk,
    vol_target,
)
from tests.sizing.books import changed, random_inputs, rich_book, under
from tests.support.messages import refused

WIDE = Limits(symbol_cap=4.0)
DAY = {False: 1 / 252, True: 24 / 8766}  # of a stock and of a coin, in years of their own


def targets(name: str, s: SizingInputs, limits: Limits = WIDE, **settings: Any) -> list[float]:
    answer: list[float] = (
        strategy_from_name(name, **settings).allocate(under(s, limits)).target_weight.tolist()
    )
    return answer


def test_kelly_multiplier_scales_only_stock_weights() -> None:
    """4 · (mu - cost) · 0.5 / σ² for a stock, a quarter of that for crypto: 1e-4 · 0.5 / 1e-2 is
    0.005.
    """
    crypto = np.array([False, True])
    s = rich_book(2, mu=np.full(2, 3e-4), covariance=np.eye(2) * 1e-2, crypto=crypto)
    assert targets("kelly_50_x4", s) == pytest.approx([0.02, 0.005], rel=1e-6)
    assert targets("kelly_50", s) == pytest.approx([0.005, 0.005], rel=1e-6)
    assert strategy_from_name("kelly_50_x4", fraction=0.25) == KellyStrategy(0.25, 4.0)
    assert (strategy_from_name("kelly_12.5"), strategy_from_name("kelly_50", fraction=1.0)) == (
        KellyStrategy(0.125),
        KellyStrategy(1.0),
    )


def test_four_times_half_kelly_has_no_expected_growth() -> None:
    """At twice full Kelly mu'w equals w'Σw / 2, so the growth mu'w - w'Σw / 2 is zero."""
    s = rich_book(1, mu=np.array([1e-5]), unit_cost=np.zeros(1))
    (w,) = targets("kelly_50_x4", s)
    assert w == pytest.approx(0.2, rel=1e-6)
    assert s.mu[0] * w - s.covariance[0, 0] * w * w / 2 == pytest.approx(0, abs=1e-12)


def test_shadow_prices_of_multiplied_kelly_are_hidden() -> None:
    s = rich_book(1, mu=np.array([1e-2]))
    (bound,) = strategy_from_name("kelly_50_x4").allocate(s).binding_shadow_prices
    assert set(bound) == {"symbol_cap"}
    assert np.isnan(bound["symbol_cap"])
    assert not np.isnan(
        strategy_from_name("kelly_50").allocate(s).binding_shadow_prices[0]["symbol_cap"]
    )
    unstretched = KellyStrategy(0.5, 1.0).allocate(s)
    assert unstretched.target_weight.tolist() == allocate_kelly(s, 0.5).target_weight.tolist()


def test_rebalance_band_keeps_weights_exactly_at_its_edge() -> None:
    """A quarter of 0.25 is 0.0625, of 0.1 it is 0.025; the band is as wide on the short side."""
    held = np.array([0.3125, 0.313, 0.1875, 0.187])
    assert targets("equal_weight", rich_book(4, held_weight=held)) == [0.3125, 0.25, 0.1875, 0.25]
    falling = rich_book(3, mu=np.full(3, -1e-3), held_weight=np.array([-0.12, -0.13, 0.0]))
    assert targets("fixed_fraction", falling) == [-0.12, -0.1, -0.1]
    assert targets("fixed_fraction", falling, band=0.0) == [-0.1, -0.1, -0.1]
    assert targets("fixed_fraction", falling, size=0.2, band=0.5) == [-0.12, -0.13, -0.2]


def test_equal_weight_counts_only_symbols_with_forecasts() -> None:
    universe = np.array([True, False, True, False])
    held = np.array([0.0, 0.2, 0.0, 0.0])
    for name in ("equal_weight", "buy_and_hold"):
        assert targets(name, rich_book(4, universe=universe, held_weight=held)) == [
            0.5,
            0.2,
            0.5,
            0.0,
        ]
    none = rich_book(2, universe=np.zeros(2, dtype=bool), held_weight=np.array([0.3, -0.1]))
    assert targets("equal_weight", none) == [0.3, -0.1]
    assert targets("buy_and_hold", rich_book(2, held_weight=np.array([-0.1, 0.0]))) == [-0.1, 0.5]


def test_fixed_fraction_needs_more_than_round_trip_cost() -> None:
    """Twice 2 basis points is not enough; a position stays until its forecast changes sign, also
    without a forecast.
    """
    mu = np.array([4e-4, 4.01e-4, -4e-4, 0.0, -1e-5, 1e-5])
    held = np.array([0.0, 0.0, 0.3, 0.3, 0.3, 0.3])
    expected = [0.0, 0.1, 0.0, 0.3, 0.0, 0.3]
    assert targets("fixed_fraction", rich_book(6, mu=mu, held_weight=held)) == expected


@given(st.integers(0, 10_000), st.floats(0.01, 0.5))
def test_vol_target_meets_its_annual_volatility(seed: int, deviation: float) -> None:
    """Correlations are included, weights are inversely proportional to σ, and symbols without a
    forecast get none.
    """
    rng = np.random.default_rng(seed)
    factors = rng.normal(0, 0.01, (4, 6))
    crypto = rng.random(4) < 0.4
    universe = np.array([True, True, rng.random() < 0.5, False])
    days = rng.integers(1, 4)
    s = rich_book(4, covariance=factors @ factors.T, crypto=crypto, universe=universe)
    s = changed(s, period_years=s.period_years * days, held_weight=np.array([0.0, 0.0, 0.0, 0.2]))
    w = vol_target(s, deviation)
    a_year = s.covariance / np.sqrt(np.outer(s.period_years, s.period_years))
    assert np.sqrt(w @ a_year @ w) == pytest.approx(deviation, rel=1e-9)
    risk = (w * np.sqrt(np.diag(a_year)))[universe]
    np.testing.assert_allclose(risk, risk[0], rtol=1e-9)
    assert (w[~universe] == 0).all()
    assert (w[universe] > 0).all()


def test_uncorrelated_risk_parity_equals_inverse_volatility_weights() -> None:
    s = rich_book(3, universe=np.array([True, True, False]), held_weight=np.array([0.0, 0.0, 0.4]))
    s = changed(s, covariance=np.diag([1e-4, 4e-4, 0.0])[None])
    assert targets("risk_parity", s) == pytest.approx([2 / 3, 1 / 3, 0.0], rel=1e-9)


@pytest.mark.parametrize("coin", [False, True])
def test_symbol_risks_are_compared_only_over_whole_days(coin: bool) -> None:
    crypto = np.array([coin, False])
    day = np.array([DAY[coin], DAY[False]])
    for years, known in (
        (day, True),
        (day * [0.999, 1], False),
        (day * [1, 0.999], False),
        (day * [3, 1], True),
    ):
        found = symbols_with_comparable_risk(rich_book(2, crypto=crypto, period_years=years))
        assert (found is not None) == known
        assert found is None or found.tolist() == [0, 1]
    short = rich_book(
        2, crypto=crypto, period_years=day * [0.5, 1], universe=np.array([False, True])
    )
    assert symbols_with_comparable_risk(short).tolist() == [1], "what has no forecast is not asked"
    assert symbols_with_comparable_risk(rich_book(2, universe=np.zeros(2, dtype=bool))) is None
    assert symbols_with_comparable_risk(rich_book(2, covariance=np.diag([1e-4, 0.0]))) is None
    still = rich_book(2, covariance=np.diag([1e-4, 0.0]), universe=np.array([True, False]))
    assert symbols_with_comparable_risk(still).tolist() == [0]


def test_risk_parity_refuses_a_symbol_without_variance() -> None:
    with refused(InputError, "risk_parity", "0"):
        equal_risk_weights(np.diag([1.0, 0.0]))
    assert equal_risk_weights(np.array([[4.0]])).tolist() == [1.0]


def test_legacy_sizing_uses_leverage_left_by_fixed_positions() -> None:
    """Ceiling 1, 0.8 fixed: half of 0.2, then half of 0.1; crypto wants half and gets what the
    joint ceiling leaves.
    """
    s = rich_book(4, crypto=np.array([False, False, False, True]), stock_ceiling=1.0)
    s = changed(
        s,
        held_weight=np.array([0.8, 0.0, 0.0, 0.0]),
        adjustable=np.array([False, True, True, True]),
    )
    s = changed(s, mu=np.array([[0.0, 1e-5, -1e-5, -1.0]]))
    allocation = strategy_from_name("legacy").allocate(under(s, WIDE))
    assert allocation.target_weight == pytest.approx([0.8, 0.1, -0.05, 0.05], abs=1e-9)
    assert np.isnan(allocation.unconstrained_weight[0])
    assert allocation.unconstrained_weight[1:] == pytest.approx([0.1, -0.05, 0.5], abs=1e-9)


def test_each_strategy_has_its_holding_interval_and_settings() -> None:
    sessions = {"equal_weight", "vol_target", "risk_parity", "buy_and_hold"}
    for name in ("kelly_50", "kelly_50_x4", "fixed_fraction", "legacy", *sessions):
        assert strategy_from_name(name).holding_interval == (
            "session" if name in sessions else None
        ), name
    for name in ("fixed_fraction", *sessions):
        pattern = strategy_from_name(name)
        assert isinstance(pattern, WeightRuleStrategy)
        assert (pattern.name, pattern.rebalance_band) == (
            name,
            0.0 if name == "buy_and_hold" else 0.25,
        )


@given(st.permutations(range(4)), st.floats(0.01, 0.6))
def test_position_is_replaced_only_beyond_the_rebalance_band(order: list[int], more: float) -> None:
    """Three of four positions are allowed; held weights drifted within the band and are kept."""
    places = np.array(order)
    held = np.array([0.24, 0.22, 0.21, 0.0])[places]
    wish = np.array([0.2, 0.2, 0.2, 0.2 * (1 + more)])[places]
    s = under(rich_book(4, held_weight=held), Limits(symbol_cap=4.0, max_positions=3))
    found = WeightRuleStrategy("any", lambda _: wish, rebalance_band=0.25).allocate(s).target_weight
    newcomer = int(np.flatnonzero(held == 0.0)[0])
    if more < 0.24:
        assert found.tolist() == held.tolist()
    elif more > 0.26:
        assert found[newcomer] == wish[newcomer]
        assert np.count_nonzero(found) == 3


def test_each_sizing_setting_changes_only_its_strategy() -> None:
    rng = np.random.default_rng(4)
    s = rich_book(
        3,
        mu=rng.normal(0, 5e-3, 3),
        covariance=np.diag(rng.uniform(0.5e-4, 2e-4, 3)),
        held_weight=np.array([0.2, 0.4, 0.29]),
    )
    changes: dict[str, dict[str, Any]] = {
        "equal_weight": {"band": 0.1},
        "fixed_fraction": {"position": 0.2},
        "vol_target": {"target_volatility": 0.05},
        "risk_parity": {"band": 0.05},
        "legacy": {"risk_multiplier": 0.1},
        "kelly_50": {"fraction": 0.001},
    }
    for name in STRATEGY_NAMES:
        plain, other = (
            SizingSettings(name, **more).build_strategy().allocate(s).target_weight
            for more in ({}, changes.get(name, {}))
        )
        assert plain.tolist() == strategy_from_name(name).allocate(s).target_weight.tolist(), (
            "the same unless given"
        )
        assert np.allclose(plain, other) == (name not in changes), name


@given(st.integers(0, 10_000), st.integers(1, 12))
@example(5248, 7)  # nearly singular
def test_risk_contributions_are_equal_to_nine_digits(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(n, n + 1))
    scale = 10.0 ** rng.uniform(-3, 0, n)
    covariance = factors @ factors.T * np.outer(scale, scale)
    w = equal_risk_weights(covariance)
    assert w.sum() == pytest.approx(1.0, abs=1e-12)
    assert (w > 0).all()
    parts = w * (covariance @ w)
    np.testing.assert_allclose(parts, parts.mean(), rtol=1e-9)


def test_partly_closed_markets_leave_risk_based_weights_unchanged() -> None:
    held = np.array([0.1, 0.2, 0.3, 0.1])
    shut = rich_book(
        4,
        held_weight=held,
        covariance=np.diag([1e-4, 1e-4, 0.0, 1e-4]),
        period_years=np.array([1, 1, 0, 1]) / 252,
    )
    partly = rich_book(4, held_weight=held, period_years=np.array([1, 1, 1, 0.5]) / 252)
    for name in ("vol_target", "risk_parity"):
        assert strategy_from_name(name).allocate(shut).target_weight.tolist() == held.tolist()
        assert strategy_from_name(name).allocate(partly).target_weight.tolist() == held.tolist()


def test_legacy_sizing_gives_each_symbol_half_remaining_leverage() -> None:
    """At 4x, half of 4 is 2, cut to the cap; the second gets half of 4 - 0.6, and so on. The sign
    is the forecast's. The multiplier applies to stocks only; crypto and the symbol's own position
    use no leverage.
    """
    s = rich_book(4, mu=np.array([1e-5, -1e-5, 1e-5, 1e-5]))
    assert targets("legacy", s, Limits()) == [0.6, -0.6, 0.6, 0.6]
    assert targets("legacy", s) == pytest.approx([2.0, -1.0, 0.5, 0.25], rel=1e-9)
    halved = targets("legacy", s, risk_multiplier=0.5)
    assert halved[:2] == pytest.approx([1.0, -0.75], rel=1e-9)
    coin = np.array([False, True])
    s = rich_book(
        2, crypto=coin, mu=np.full(2, -1.0), stock_ceiling=2.0, held_weight=np.array([0.7, 0.2])
    )
    for multiplier, wanted in ((1.0, [-1.0, 0.5]), (0.5, [-0.5, 0.5])):
        found = strategy_from_name("legacy", risk_multiplier=multiplier).allocate(s)
        assert found.unconstrained_weight.tolist() == wanted
    held, adjustable = np.array([0.0, -1.5]), np.array([True, False])
    full = rich_book(2, stock_ceiling=1.0, held_weight=held, adjustable=adjustable)
    assert targets("legacy", full) == [0.0, -1.5]


@pytest.mark.parametrize(
    ("name", "fraction", "facts"),
    [
        ("kelly", None, ("sizing.strategy", "'kelly'", "kelly_10")),
        ("kelly_0", None, ("sizing.strategy", "kelly_0", "0", "kelly_50")),
        ("premium_0.5", None, ("premium_0.5", "0.5", "premium_50")),
        ("kelly_150", None, ("sizing.strategy", "kelly_150", "150", "100")),
        ("kelly_1000", None, ("kelly_1000", "1000", "100")),
        ("kelly_50", 1.0001, ("sizing.fraction", "1.0001", "0", "1", "0.5")),
        ("kelly_50", 0.0, ("sizing.fraction", "0")),
        ("equal_weight", 0.5, ("sizing.fraction", "equal_weight")),
    ],
)
def test_unknown_strategy_name_is_refused(
    name: str, fraction: float | None, facts: tuple[str, ...]
) -> None:
    with refused(InputError, *facts):
        strategy_from_name(name, fraction=fraction)


@given(st.integers(0, 10_000))
def test_exiting_symbols_get_zero_weight_and_no_leverage(seed: int) -> None:
    """The other symbols are sized without it, and explanations omit it."""
    s = random_inputs(np.random.default_rng(seed))
    exiting = ~s.crypto & ~s.adjustable
    gone = changed(s, exiting=exiting)
    without = changed(s, held_weight=np.where(exiting, 0.0, s.held_weight))
    for name in ("kelly_50", "equal_weight", "fixed_fraction", "legacy"):
        strategy = strategy_from_name(name)
        one, other = strategy.allocate(gone), strategy.allocate(without)
        assert (one.target_weight[exiting] == 0.0).all()
        np.testing.assert_array_equal(one.target_weight, other.target_weight)
        assert np.isnan(one.unconstrained_weight[exiting]).all()
