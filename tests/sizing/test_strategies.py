"""Every strategy behind one interface and under the same limits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from foundation.errors import InputError
from sizing.allocation import allocate
from sizing.limits import Limits
from sizing.situation import Situation
from sizing.strategies import NAMES, Kelly, equal_risk, named
from trainingdata.instruments import Kind


def situation(seed: int, n: int = 6, **fields: Any) -> Situation:
    """A random book of stocks and coins with a random part of it deciding."""
    rng = np.random.default_rng(seed)
    factors = rng.normal(0, 0.01, (n, n + 2))
    crypto = rng.random(n) < 0.3
    held = rng.uniform(-0.9, 0.9, n)
    values = {
        "mu": rng.normal(0, 10.0 ** rng.uniform(-5, -2), n),
        "covariance": factors @ factors.T / n,
        "held": np.where(crypto, np.abs(held) / 2, held),
        "cost": np.where(crypto, 28e-4, 2e-4),
        "crypto": crypto,
        "long_only": crypto | (rng.random(n) < 0.1),
        "deciding": rng.random(n) < 0.7,
        "universe": np.ones(n, dtype=bool),
        "years": np.where(crypto, 24 / 8766, 1 / 252),
        "equity": 10.0 ** rng.uniform(3, 6),
        "stock_ceiling": float(rng.choice([1.0, 1.96, 4.0])),
        "unborrowed": float(rng.uniform(0, 1)),
    }
    return Situation(**{**values, **fields})


def flat(n: int = 4, **fields: Any) -> Situation:
    """Stocks alone, nothing held, all deciding, rich."""
    values: dict[str, Any] = {
        "years": np.full(n, 1 / 252),
        "held": np.zeros(n),
        "crypto": np.zeros(n, dtype=bool),
        "long_only": np.asarray(fields.get("crypto", np.zeros(n, dtype=bool))),
        "deciding": np.ones(n, dtype=bool),
        "equity": 1e5,
        "stock_ceiling": 4.0,
        "unborrowed": 1.0,
        "cost": np.full(n, 2e-4),
    }
    return situation(3, n, **{**values, **fields})


@given(st.integers(0, 100_000), st.sampled_from(NAMES), st.floats(0.05, 1.0))
def test_every_strategy_stays_within_every_limit_and_moves_only_what_decides(
    seed: int, name: str, cap: float
) -> None:
    s = situation(seed)
    limits = Limits(symbol_cap=cap)
    target = named(name).allocate(s, limits).target
    assert (target[~s.deciding] == s.held[~s.deciding]).all()
    lower, upper = limits.bounds(
        long_only=s.long_only, deciding=s.deciding, held=s.held, equity=s.equity
    )
    assert (target >= lower).all()
    assert (target <= upper).all()
    for ceiling in limits.ceilings(
        crypto=s.crypto, held=s.held, stock_ceiling=s.stock_ceiling, unborrowed=s.unborrowed
    ):
        fixed = float(ceiling.coefficients[~s.deciding] @ np.abs(s.held[~s.deciding]))
        assert float(ceiling.coefficients @ np.abs(target)) <= max(ceiling.limit, fixed) + 1e-9


@given(st.integers(0, 100_000), st.sampled_from(NAMES))
def test_what_binds_is_named_with_a_price_that_is_never_negative(seed: int, name: str) -> None:
    s = situation(seed)
    for k, bound in enumerate(named(name).allocate(s, Limits()).binding):
        assert s.deciding[k] or bound == {}
        assert all(price != price or price >= -1e-12 for price in bound.values())


def test_kelly_names_are_fractions() -> None:
    s = flat(mu=np.full(4, 2e-5))
    for name, fraction in (
        ("kelly_10", 0.1),
        ("kelly_25", 0.25),
        ("kelly_50", 0.5),
        ("kelly_100", 1.0),
        ("kelly_12.5", 0.125),
    ):
        np.testing.assert_array_equal(
            named(name).allocate(s, Limits()).target, allocate(s, Limits(), fraction).target
        )
    assert named("kelly_50", fraction=0.2) == Kelly(0.2)


def test_the_multiplier_is_four_times_in_stocks_and_once_in_coins() -> None:
    crypto = np.array([False, False, True])
    s = flat(3, crypto=crypto, mu=np.full(3, 1e-6), covariance=np.eye(3) * 1e-4, cost=np.zeros(3))
    once, four = (named(name).allocate(s, Limits()).target for name in ("kelly_50", "kelly_50_x4"))
    np.testing.assert_allclose(four, once * np.array([4, 4, 1]), rtol=1e-6)
    assert once[0] == pytest.approx(0.005, rel=1e-6)


def test_four_times_half_kelly_has_no_expected_growth() -> None:
    """Twice full Kelly: mu'w = w'Σw / 2 · 2, so growth mu'w - w'Σw / 2 is nil."""
    s = flat(1, mu=np.array([1e-5]), covariance=np.array([[1e-4]]), cost=np.zeros(1))
    w = named("kelly_50_x4").allocate(s, Limits()).target[0]
    assert w == pytest.approx(0.2, rel=1e-6)
    assert s.mu[0] * w - s.covariance[0, 0] * w * w / 2 == pytest.approx(0, abs=1e-12)


def test_a_shadow_price_is_what_more_of_the_limit_adds() -> None:
    """Of the cap and of the joint ceiling, by solving again with a little more of each."""
    covariance = np.diag([1e-4, 4e-4, 1e-4, 1e-4])
    s = flat(mu=np.array([6e-4, -7e-4, 1e-5, 0.0]), covariance=covariance, stock_ceiling=1.0)

    def value(now: Situation, limits: Limits) -> float:
        w = allocate(now, limits, 0.5).target
        return float(now.mu @ w - w @ covariance @ w - now.cost @ np.abs(w - now.held))

    allocation = allocate(s, Limits(), 0.5)
    assert allocation.target[0] == pytest.approx(0.6)
    assert set(allocation.binding[0]) == {"symbol_cap", "stock_gross", "joint"}
    step = 1e-5
    looser = value(replace(s, stock_ceiling=1.0 + step), Limits(symbol_cap=0.6)) - value(
        s, Limits()
    )
    assert allocation.binding[0]["stock_gross"] + allocation.binding[0]["joint"] == pytest.approx(
        looser / step, rel=1e-2
    )
    wider = value(s, Limits(symbol_cap=0.6 + step)) - value(s, Limits())
    assert allocation.binding[0]["symbol_cap"] == pytest.approx(wider / step, rel=1e-2)


def test_what_would_not_pay_is_bound_by_cost() -> None:
    allocation = allocate(flat(mu=np.full(4, 1e-4)), Limits(), 0.5)
    assert [set(bound) for bound in allocation.binding] == [{"cost"}] * 4


def test_equal_weight_is_one_in_all_and_leaves_small_drifts_alone() -> None:
    assert named("equal_weight").allocate(flat(), Limits()).target.tolist() == [0.25] * 4
    drifted = flat(held=np.array([0.31, 0.19, 0.32, 0.18]))
    assert named("equal_weight").allocate(drifted, Limits()).target.tolist() == [
        0.31,
        0.19,
        0.25,
        0.25,
    ]
    assert named("equal_weight", band=0.0).allocate(drifted, Limits()).target.tolist() == [0.25] * 4


def test_buy_and_hold_buys_once_and_holds() -> None:
    s = flat(held=np.array([0.0, 0.3, 0.55, 0.01]))
    assert named("buy_and_hold").allocate(s, Limits()).target.tolist() == [0.25, 0.3, 0.55, 0.01]


def test_fixed_fraction_follows_a_forecast_that_pays_for_coming_and_going() -> None:
    s = flat(
        5, mu=np.array([5e-4, -5e-4, 1e-4, 1e-4, -1e-4]), held=np.array([0.0, 0.0, 0.0, -0.1, -0.1])
    )
    assert named("fixed_fraction", size=0.1).allocate(s, Limits()).target.tolist() == [
        0.1,
        -0.1,
        0.0,
        0.0,
        -0.1,
    ]


def test_vol_target_has_the_deviation_it_names() -> None:
    s = flat()
    w = named("vol_target", deviation=0.03).allocate(s, Limits(symbol_cap=9.0)).target
    assert np.sqrt(w @ s.covariance @ w * 252) == pytest.approx(0.03, rel=1e-6)
    spread = w * np.sqrt(np.diag(s.covariance))
    np.testing.assert_allclose(spread, spread[0], rtol=1e-6)


@given(st.integers(0, 10_000), st.integers(1, 12))
@example(5248, 7)  # nearly singular
def test_risk_parity_gives_every_symbol_the_same_part_of_the_variance(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(n, n + 1))
    covariance = factors @ factors.T * 1e-4
    w = equal_risk(covariance)
    assert w.sum() == pytest.approx(1)
    assert (w > 0).all()
    parts = w * (covariance @ w)
    np.testing.assert_allclose(parts, parts.mean(), rtol=1e-9)


def test_where_a_market_is_shut_for_part_of_the_day_risks_do_not_compare_and_nothing_moves() -> (
    None
):
    held = np.array([0.1, 0.2, 0.3, 0.1])
    shut = flat(
        held=held, covariance=np.diag([1e-4, 1e-4, 0.0, 1e-4]), years=np.array([1, 1, 0, 1]) / 252
    )
    partly = flat(held=held, years=np.array([1, 1, 1, 0.5]) / 252)
    for name in ("vol_target", "risk_parity"):
        assert named(name).allocate(shut, Limits()).target.tolist() == held.tolist()
        assert named(name).allocate(partly, Limits()).target.tolist() == held.tolist()


def test_risks_compare_over_each_symbols_own_year() -> None:
    """Over a weekend a coin trades three days and a stock one: its variance of three days is no
    more risk a year.
    """
    s = flat(
        2,
        crypto=np.array([False, True]),
        covariance=np.diag([1e-4, 3e-4]),
        years=np.array([1 / 252, 72 / 8766]),
    )
    w = named("risk_parity").allocate(s, Limits()).target
    a_year = np.sqrt(np.array([1e-4 * 252, 3e-4 * 8766 / 72]))
    np.testing.assert_allclose(w * a_year, (w * a_year).mean(), rtol=1e-6)


def test_legacy_takes_half_of_what_power_is_left_in_turn() -> None:
    """4x: half of 4 is 2, cut to the cap; the second gets half of 4 - 0.6 and so on; the sign
    is the forecast's.
    """
    s = flat(4, mu=np.array([1e-5, -1e-5, 1e-5, 1e-5]))
    assert named("legacy").allocate(s, Limits()).target.tolist() == [0.6, -0.6, 0.6, 0.6]
    wide = named("legacy").allocate(s, Limits(symbol_cap=9.0)).target
    np.testing.assert_allclose(wide, [2.0, -1.0, 0.5, 0.25], rtol=1e-9)
    halved = named("legacy", risk_multiplier=0.5).allocate(s, Limits(symbol_cap=9.0)).target
    np.testing.assert_allclose(halved[:2], [1.0, -0.75], rtol=1e-9)
    coin = flat(1, crypto=np.array([True]), mu=np.array([-1.0]))
    assert named("legacy").allocate(coin, Limits()).target.tolist() == [0.5]


def test_strategies_say_how_they_size() -> None:
    assert named("kelly_25").phrase(Kind.STOCK, 4.0) == "Enhanced Kelly sizing with 4.0x leverage"
    assert (
        named("kelly_25").phrase(Kind.CRYPTO, 4.0)
        == "Enhanced Kelly sizing with no leverage (crypto)"
    )
    assert named("legacy").phrase(Kind.STOCK, 4.0) == "Legacy sizing"
    assert named("risk_parity").phrase(Kind.STOCK, 4.0) == "risk_parity sizing"


@pytest.mark.parametrize(
    ("name", "fraction", "says"),
    [
        ("kelly", None, "sizing.strategy: 'kelly' is none of kelly_10"),
        ("kelly_0", None, "sizing.strategy: kelly_0 is 0 % of Kelly; .* kelly_50 is half"),
        ("premium_0.5", None, "premium_0.5 is 0.5 % of Kelly; .* premium_50 is half"),
        ("kelly_150", None, "sizing.strategy: kelly_150 is 150 % of Kelly, and more than 100"),
        ("kelly_1000", None, "kelly_1000 is 1000 % of Kelly, and more than 100 is refused"),
        ("kelly_50", 1.5, "sizing.fraction: 1.5 is outside 0 … 1; 0.5 is half of full Kelly"),
        ("equal_weight", 0.5, "sizing.fraction: equal_weight has none"),
    ],
)
def test_a_name_that_is_none_is_refused(name: str, fraction: float | None, says: str) -> None:
    with pytest.raises(InputError, match=says):
        named(name, fraction=fraction)
