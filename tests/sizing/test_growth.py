"""Kelly over whole distributions: its first order is the quadratic program, its limits are hard."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from scipy.stats import t as student

from foundation.arrays import Array
from foundation.errors import InputError
from sizing import Limits, Situation, check_strategy, scenarios
from sizing.conformance import random_situation
from sizing.growth import GrowthKelly, GrowthSettings, growth_program
from sizing.optimum import GAP, bounded_optimum, optimum_of
from sizing.scenarios import Shape
from sizing.solver.duality import charged_tolls, plan_costs
from sizing.solver.growth import GrowthProgram, point_at
from sizing.solver.multi_period import LaterBlocks
from sizing.strategies import Kelly, named, with_fraction
from trainingdata.instruments import Kind

WIDE = Limits(symbol_cap=4.0, intraday_leverage=50.0)
NORMAL = GrowthSettings(copula="normal")


def book(mu: list[float], deviation: list[float], correlation: float = 0.0, **more: object):  # type: ignore[no-untyped-def]
    """Stocks that decide, with nothing held and nothing to pay unless it is said."""
    n = len(mu)
    matrix = np.full((n, n), correlation)
    np.fill_diagonal(matrix, 1.0)
    sigma = np.array(deviation)
    no = np.zeros(n, dtype=bool)
    values: dict[str, object] = {
        "mu": np.array(mu),
        "covariance": matrix * np.outer(sigma, sigma),
        "held": np.zeros(n),
        "cost": np.zeros(n),
        "crypto": no,
        "long_only": no,
        "deciding": ~no,
        "universe": ~no,
        "years": np.full(n, 1 / 1764),
        "equity": 1e5,
        "stock_ceiling": 50.0,
        "unborrowed": 1.0,
    }
    return Situation(**values | more)  # type: ignore[arg-type]


def program_of(s: Situation, strategy: GrowthKelly, limits: Limits = WIDE) -> GrowthProgram:
    found = growth_program(s, limits, np.arange(len(s.mu)), strategy.settings, strategy.aversion)
    return found._replace(share=float(not strategy.bounded and strategy.aversion > 0))


def value(p: GrowthProgram, weights: Array) -> float:
    """The objective at weights [K, S], read off its definition."""
    total = 0.0
    for k, w in enumerate(weights):
        wealth = 1 + w @ p.returns[k]
        if (wealth <= 0).any():
            return -np.inf
        total += (1 - p.share) * np.log(wealth).mean()
        if p.share:
            total -= p.share * np.log((wealth**-p.aversion).mean()) / p.aversion
    return float(total - plan_costs(p, charged_tolls(p), weights))


@pytest.mark.parametrize("fraction", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("copula", ["normal", "t"])
def test_where_returns_are_small_it_is_the_quadratic_program(fraction: float, copula: str) -> None:
    for seed in range(6):
        s = random_situation(np.random.default_rng(seed))
        tiny = 1e-3
        small = replace(
            s,
            mu=s.mu * tiny**2,
            covariance=s.covariance * tiny**2,
            cost=s.cost * tiny**2,
            toll=s.toll * tiny**2,
            later=s.later
            and LaterBlocks(
                s.later.mu * tiny**2,
                s.later.covariance * tiny**2,
                s.later.toll * tiny**2,
                s.later.cost * tiny**2,
            ),
        )
        strategy = GrowthKelly(fraction, settings=GrowthSettings(copula=copula))  # type: ignore[arg-type]
        exact = strategy.allocate(small, Limits())
        second = Kelly(fraction).allocate(small, Limits())
        assert exact.target == pytest.approx(second.target, abs=2e-3)
        assert exact.unlimited == pytest.approx(second.unlimited, rel=2e-2, abs=2e-2, nan_ok=True)
        for mine, theirs in zip(exact.binding, second.binding, strict=True):
            assert set(mine) == set(theirs)


@pytest.mark.parametrize("fraction", [0.5, 1.0])
def test_a_single_lognormal_gets_what_its_integral_says(fraction: float) -> None:
    mu, sigma = 0.02, 0.15
    spread = np.sqrt(np.log1p(sigma**2 / (1 + mu) ** 2))
    middle = np.log1p(mu) - spread**2 / 2
    aversion = 1 / fraction - 1

    def loss(w: float) -> float:
        def part(z: float) -> float:
            wealth = 1 + w * np.expm1(middle + spread * z)
            density = np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
            return float((np.log(wealth) if aversion == 0 else wealth**-aversion) * density)

        expected = quad(part, -8, 8, limit=200)[0]
        return float(-expected if aversion == 0 else np.log(expected) / aversion)

    best = minimize_scalar(loss, bounds=(0.0, 0.99), method="bounded", options={"xatol": 1e-10}).x
    settings_ = GrowthSettings(copula="normal", scenarios=16384, floor=0.0)
    found = GrowthKelly(fraction, settings=settings_).allocate(book([mu], [sigma]), WIDE)
    assert found.target[0] == pytest.approx(best, rel=3e-3)
    assert found.unlimited[0] == pytest.approx(best, rel=3e-3)
    kelly = Kelly(fraction).allocate(book([mu], [sigma]), WIDE).target[0]
    assert abs(kelly - best) > 2 * abs(found.target[0] - best)


def test_a_heavy_left_tail_is_held_less_of_and_a_right_one_more() -> None:
    levels = np.array([0.01, 0.1, 0.5, 0.9, 0.99])
    left = np.array([-9.0, -1.3, 0.0, 1.3, 2.3])
    targets = []
    for quantiles in (left, -left[::-1]):
        s = book([1e-3], [0.03], shape=Shape(levels, quantiles[None, None]))
        targets.append(GrowthKelly(1.0, settings=NORMAL).allocate(s, WIDE).target[0])
    assert targets[0] < 0.95 * targets[1]


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["log_50", "log_100", "risk_constrained"]))
def test_no_weights_under_the_limits_pass_the_gap(seed: int, name: str) -> None:
    rng = np.random.default_rng(seed)
    s = random_situation(rng)
    strategy = named(name)
    assert isinstance(strategy, GrowthKelly)
    limits = Limits(symbol_cap=0.5)
    p = program_of(s, strategy, limits)
    found = bounded_optimum(p) if strategy.bounded else optimum_of(p)
    p = p._replace(share=found.share)
    reached = value(p, found.weights)
    assert found.gap <= GAP
    for _ in range(100):
        other = found.weights + rng.normal(0, 10.0 ** rng.uniform(-6, 0), found.weights.shape)
        other[0] = np.clip(other[0], p.lower, p.upper)
        over = p.coefficients @ np.abs(other[0]) > p.limits + 1e-12
        other[:, p.lower == p.upper] = p.lower[p.lower == p.upper]
        if not over.any():
            assert value(p, other) <= reached + found.gap + 1e-12


def test_no_corner_of_the_box_takes_more_than_the_floor_leaves() -> None:
    s = book([0.05, 0.05, -0.05], [0.12, 0.1, 0.15], 0.2)
    strategy = GrowthKelly(1.0, settings=GrowthSettings(floor=0.4))
    found = strategy.allocate(s, WIDE)
    p = program_of(s, strategy)
    worst = np.abs(p.returns[0]).max(axis=1)
    for signs in product((-1.0, 1.0), repeat=3):
        assert 1 + np.array(signs) * worst @ found.target >= 0.4 - 1e-9
    assert worst @ np.abs(found.target) == pytest.approx(0.6)
    assert all(names["no_ruin"] > 0 for names in found.binding if names)
    assert any(found.binding)
    loose = replace(strategy, settings=GrowthSettings(floor=0.0))
    assert np.abs(loose.allocate(s, WIDE).target).sum() > np.abs(found.target).sum()


@pytest.mark.parametrize("deciding", [True, False])
def test_the_drawdown_bound_of_a_plan_is_tight_and_named_where_it_binds(deciding: bool) -> None:
    later = LaterBlocks(
        np.array([[0.02, 0.01, 0.0]]),
        np.diag([0.05, 0.06, 0.05])[None] ** 2,
        np.zeros(1),
        np.full((1, 3), 1e-4),
    )
    s = book([1e-3, 2e-3, 0.0], [0.01, 0.02, 0.01], 0.3, later=later, cost=np.full(3, 1e-4))
    held = np.array([0.0, 0.0, 0.2])
    s = replace(s, held=held, deciding=np.array([True, True, deciding]))
    strategy = named("risk_constrained")
    assert isinstance(strategy, GrowthKelly)
    p = program_of(s, strategy, Limits())
    found = bounded_optimum(p)
    slack = value(p._replace(share=1.0), found.weights)
    assert 0 < found.share < 1
    assert -1e-13 <= slack <= 1e-9
    allocation = strategy.allocate(s, Limits())
    assert allocation.target == pytest.approx(found.weights[0], abs=1e-12)
    price = allocation.binding[0]["drawdown"]
    assert price == pytest.approx(found.share / (1 - found.share))
    # One more of the bound adds that much to growth.
    more = 1e-6
    eased = bounded_optimum(p._replace(cost=p.cost))
    low, high = 0.0, found.share
    for _ in range(60):
        share = (low + high) / 2
        tried = optimum_of(p._replace(share=share))
        low, high = (low, share) if tried.slack > -more else (share, high)
    growth = [
        point_at(p, w).growth - plan_costs(p, charged_tolls(p), w)
        for w in (eased.weights, tried.weights)
    ]
    assert (growth[1] - growth[0]) / more == pytest.approx(price, rel=0.05)


def test_a_bound_that_does_not_bind_costs_nothing() -> None:
    s = book([1e-3, 2e-3], [0.02, 0.03], 0.2)
    limits = Limits(symbol_cap=0.1)
    bounded = named("risk_constrained").allocate(s, limits)
    full = named("log_100").allocate(s, limits)
    assert np.array_equal(bounded.target, full.target)
    assert not any("drawdown" in names for names in bounded.binding)


def test_where_leaving_costs_more_than_anything_earns_the_nearest_plan_is_taken() -> None:
    s = book([0.0], [0.05], held=np.array([0.5]), cost=np.array([2e-3]))
    found = named("risk_constrained").allocate(s, WIDE)
    nearest = GrowthKelly(1 / (1 + np.log(0.1) / np.log(0.7))).allocate(s, WIDE)
    assert found.target == pytest.approx(nearest.target, abs=1e-9)
    assert 0 < found.target[0] < 0.5
    assert "drawdown" in found.binding[0] or found.binding == ({},)


def test_a_fixed_symbol_pulls_on_the_others() -> None:
    s = book([0.01, 0.01], [0.05, 0.05], 0.9, deciding=np.array([True, False]))
    alone = named("log_50").allocate(s, WIDE).target[0]
    beside = named("log_50").allocate(replace(s, held=np.array([0.0, 1.0])), WIDE)
    assert beside.target[1] == 1.0
    assert beside.target[0] < alone - 0.2


def test_what_is_held_beyond_a_ceiling_can_be_sold() -> None:
    for name in ("log_50", "risk_constrained"):
        s = book([0.01, 0.01], [0.03, 0.03], held=np.array([0.9, 0.8]), stock_ceiling=1.0)
        found = named(name).allocate(s, Limits(symbol_cap=0.6))
        assert np.abs(found.target).sum() <= 1 + 1e-9
        assert (found.target <= 0.6).all()


def test_a_book_that_would_not_last_a_month_still_decides() -> None:
    """Stocks are shut at twice equity; in some months' scenario that is all of it."""
    later = LaterBlocks(np.zeros((1, 2)), np.eye(2)[None] * 0.3**2, np.zeros(1), np.zeros((1, 2)))
    s = book([0.0, 1e-3], [0.01, 0.02], later=later, held=np.array([2.0, 0.0]))
    s = replace(s, deciding=np.array([False, True]))
    found = named("log_50").allocate(s, Limits())
    assert found.target[0] == 2.0
    assert np.isfinite(found.target).all()


def test_symbols_that_are_one_or_stand_still_and_none_at_all_are_sized() -> None:
    s = book([0.01, 0.01], [0.1, 0.1], 1.0)
    found = named("log_50").allocate(s, WIDE)
    single = named("log_50").allocate(book([0.01], [0.1]), WIDE)
    assert found.target.sum() == pytest.approx(single.target[0], rel=1e-4)
    still = named("log_50").allocate(book([0.0, 0.01], [0.0, 0.1]), WIDE)
    assert still.target[0] == pytest.approx(0.0, abs=1e-9)
    nobody = replace(s, deciding=np.zeros(2, dtype=bool), held=np.array([0.1, 0.0]))
    assert named("log_50").allocate(nobody, WIDE).target.tolist() == [0.1, 0.0]


def test_who_has_no_part_in_the_book_changes_no_bit() -> None:
    s = book([0.01, 0.02], [0.05, 0.06], 0.3)
    more = book([0.01, 0.02, 0.5], [0.05, 0.06, 0.1], 0.3, deciding=np.array([True, True, False]))
    first = named("log_50").allocate(s, WIDE).target
    assert np.array_equal(first, named("log_50").allocate(more, WIDE).target[:2])
    assert np.array_equal(first, named("log_50").allocate(s, WIDE).target)


def test_the_luck_of_the_draws_moves_no_weight_by_much(monkeypatch: pytest.MonkeyPatch) -> None:
    sigma = [0.115, 0.06, 0.06, 0.1, 0.12, 0.15]
    s = book([0.084 * x for x in sigma], sigma, 0.5)
    levels = np.array([0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99])
    s = replace(s, shape=Shape(levels, np.tile(student.ppf(levels, 5), (1, 6, 1))))
    drawn = []
    for seed in range(8):
        monkeypatch.setattr(scenarios, "SEED", seed)
        scenarios._draws.cache_clear()
        drawn.append(named("log_50").allocate(s, WIDE).target)
    scenarios._draws.cache_clear()
    weights = np.array(drawn)
    assert (weights.std(axis=0) < 0.015 * weights.mean(axis=0)).all()
    second = named("kelly_50").allocate(s, WIDE).target
    assert np.abs(weights.mean(axis=0) / second - 1).max() > 0.015


@pytest.mark.parametrize("name", ["log_50", "log_100", "risk_constrained"])
def test_the_strategies_conform(name: str) -> None:
    assert check_strategy(named(name), tries=40) == ()


def test_names_fractions_and_phrases() -> None:
    assert named("log_30") == GrowthKelly(0.3)
    assert named("log_50", fraction=0.2) == GrowthKelly(0.2)
    assert with_fraction("log_50", 0.3) == "log_30"
    assert "Log-growth Kelly" in named("log_50").phrase(Kind.STOCK, 4.0)
    assert "0.7 at 0.1" in named("risk_constrained").phrase(Kind.CRYPTO, 4.0)
    for name, says in (("log_50_x4", "only kelly_"), ("log_200", "more than 100")):
        with pytest.raises(InputError, match=says):
            named(name)
    with pytest.raises(InputError, match="risk_constrained has none"):
        named("risk_constrained", fraction=0.5)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("degrees", 2.0, "growth.degrees: 2 is not above 2"),
        ("scenarios", 10, "growth.scenarios: 10 is outside 64"),
        ("floor", 1.0, "growth.floor: 1 is not at least 0 and below 1"),
        ("copula", "gauss", "growth.copula: 'gauss' is none of normal, t"),
        ("scenarios", 100.5, "growth.scenarios: 100.5 is outside 64"),
        ("alpha", 1.0, "growth.alpha: 1 is not above 0"),
        ("beta", 0.0, "growth.beta: 0 is not above 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(field: str, value: float, says: str) -> None:
    with pytest.raises(InputError, match=says):
        GrowthSettings(**{field: value})  # type: ignore[arg-type]
