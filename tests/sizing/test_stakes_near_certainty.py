"""Stakes in bets nearly certain or nearly hopeless, at long odds: answered, and proven."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from foundation.arrays import Array
from sizing import DrawdownBound, SolverFailed, Stakes, growth_stakes
from sizing.optimum import GAP
from sizing.solver.certificate import wealth_gap
from sizing.solver.growth import GrowthProgram
from tests.sizing.stake_utility import utility

BOUND = DrawdownBound()
seeds = st.integers(0, 2**32 - 1)
odds = st.floats(-3, 3).map(lambda power: 10.0**power)  # 1:1000 … 1000:1
small = st.one_of(
    st.sampled_from([1e-12, 1e-9, 1e-6, 1e-3]), st.floats(-9, -0.3).map((10.0).__pow__)
)
fractions = st.sampled_from([1.0, 0.5, 0.1, 0.03, 0.01])
objectives: list[dict[str, object]] = [
    *({"fraction": f} for f in (1.0, 0.5, 0.1, 0.01)),
    {"drawdown": BOUND},
    {"drawdown": DrawdownBound(0.99, 0.01)},
]


def solved(returns: object, chance: object, **more: object) -> Stakes:
    """The stakes, whose gap is closed."""
    found = growth_stakes(returns, chance, **more)  # type: ignore[arg-type]
    assert 0 <= found.gap <= GAP
    return found


@pytest.mark.parametrize(
    ("returns", "chance", "more"),
    [
        ([[1.0], [-1.0]], [1.0, 0.0], {"fraction": 0.01}),
        ([[99.0], [-1.0]], [1.0, 0.0], {"fraction": 0.1}),
        ([[1.0], [-1.0]], [1 - 1e-9, 1e-9], {}),
        ([[1.0], [-1.0]], [1.0, 1e-300], {}),
    ],
)
def test_what_all_but_surely_wins_is_bought_up_to_its_bound(
    returns: object, chance: object, more: dict[str, object]
) -> None:
    assert solved(returns, chance, **more).weights == pytest.approx([1.0], abs=1e-7)


@given(odds, small, st.booleans(), fractions)
def test_a_bet_of_any_odds_gets_the_share_of_its_power_utility(
    b: float, q: float, hopeless: bool, fraction: float
) -> None:
    chance = np.array([q, 1 - q] if hopeless else [1 - q, q])
    ratio = (chance[0] * b / chance[1]) ** fraction
    expected = min(max((ratio - 1) / (b + ratio), 0.0), 1.0)
    found = solved([[b], [-1.0]], chance, fraction=fraction)
    assert found.weights == pytest.approx([expected], abs=1e-6)


@given(odds, small, st.sampled_from([BOUND, DrawdownBound(0.99, 0.01), DrawdownBound(0.5, 0.5)]))
def test_the_drawdown_bound_of_a_bet_of_any_odds_is_met_at_its_root(
    b: float, q: float, bound: DrawdownBound
) -> None:
    returns = np.array([[b], [-1.0]])
    chance = np.array([1 - q, q])
    found = solved(returns, chance, drawdown=bound)

    def slack(w: float) -> float:
        return utility(np.array([w]), returns, chance, bound.aversion)

    assert slack(found.weights[0]) >= -1e-12
    kelly = max(1 - q - q / b, 0.0)
    if kelly < 1e-6 or slack(min(kelly, 1 - 1e-12)) >= 0:
        assert found.weights == pytest.approx([kelly], abs=1e-6)
        return
    # The slack rises from 0 and falls: its largest is the power utility's own stake.
    ratio = ((1 - q) * b / q) ** (1 / (1 + bound.aversion))
    top = (ratio - 1) / (b + ratio)
    root = brentq(slack, top, min(kelly, 1 - 1e-12), xtol=1e-14)
    assert found.weights == pytest.approx([root], abs=1e-5)
    assert found.drawdown_price > 0 or root > kelly - 1e-6


def independent(wins: Array, chances: Array) -> tuple[Array, Array]:
    """Returns [2^S, S] and chances of bets that do not know of each other."""
    rows, weights = [], []
    for won in product((True, False), repeat=len(wins)):
        rows.append(np.where(won, wins, -1.0))
        weights.append(np.prod(np.where(won, chances, 1 - chances)))
    return np.array(rows), np.array(weights) / sum(weights)


def extreme_chances(rng: np.random.Generator, count: int) -> Array:
    rare = rng.choice([1e-12, 1e-9, 1e-6, 1e-3, 0.05, 0.3], count)
    return np.where(rng.random(count) < 0.6, 1 - rare, rare)


def some_bets(rng: np.random.Generator) -> tuple[Array, Array]:
    """Independent, exclusive or any other bets, with outcomes that are all but impossible."""
    count = int(rng.integers(2, 5))
    kind = rng.integers(3)
    if kind == 0:
        return independent(10 ** rng.uniform(-3, 3, count), extreme_chances(rng, count))
    if kind == 1:
        chance = rng.dirichlet(np.full(count, 0.1)) + 1e-9
        chance /= chance.sum()
        price = np.clip(chance * rng.uniform(0.7, 1.2, count), 1e-3, 0.999)
        return np.diag(1 / price) - 1, chance
    outcomes = int(rng.integers(3, 30))
    spread = np.exp(rng.normal(0, 1, count))
    chance = rng.dirichlet(np.full(outcomes, 0.1)) + 1e-12
    returns = np.maximum(rng.normal(0.05, 0.5, (outcomes, count)) * spread, -1)
    return returns, chance / chance.sum()


@given(seeds, st.sampled_from(objectives))
def test_several_extreme_bets_have_stakes_that_none_pass(
    seed: int, objective: dict[str, object]
) -> None:
    rng = np.random.default_rng(seed)
    returns, chance = some_bets(rng)
    found = solved(returns, chance, **objective)
    bound = objective.get("drawdown")
    aversion = 0.0 if bound else 1 / float(objective["fraction"]) - 1  # type: ignore[arg-type]
    if isinstance(bound, DrawdownBound):
        assert utility(found.weights, returns, chance, bound.aversion) >= -1e-12
        return
    reached = utility(found.weights, returns, chance, aversion)
    for _ in range(100):
        size = 10 ** rng.uniform(-12, 0)
        near = found.weights + size * rng.normal(0, 1, len(found.weights))
        for other in (np.clip(near, 0, 1), rng.uniform(0, 1, len(near)) ** 4):
            assert utility(other, returns, chance, aversion) <= reached + found.gap + 1e-12


@given(seeds, st.sampled_from([0.0, 1.0]), st.sampled_from([0.5, 6.45, 99.0]))
def test_the_gap_of_bad_stakes_covers_what_they_lack(
    seed: int, share: float, aversion: float
) -> None:
    """Wherever the stakes are and whatever the prices, no others are better by more."""
    rng = np.random.default_rng(seed)
    returns, chance = some_bets(rng)
    count = returns.shape[1]
    coefficients = rng.uniform(0, 1, (1, count))
    program = GrowthProgram(
        returns=returns.T[None].copy(),
        chance=chance,
        share=share,
        aversion=aversion,
        held=rng.uniform(0, 0.1, count),
        cost=rng.choice([0.0, 0.01], (1, count)),
        lower=np.full(count, -0.2),
        upper=np.ones(count),
        coefficients=coefficients,
        limits=np.array([0.7]),
        toll=np.zeros(1),
    )

    def net(weights: Array) -> float:
        paid = float(program.cost[0] @ np.abs(weights - program.held))
        return utility(weights, returns, chance, share * aversion) - paid

    def fitting() -> Array:
        weights = rng.uniform(-0.2, 1, count) * 10 ** rng.uniform(-2, 0)
        weights *= min(1.0, 0.7 / float(coefficients[0] @ np.abs(weights)))
        return weights if net(weights) > -np.inf else np.zeros(count)

    weights = fitting()
    prices = np.array([rng.choice([0.0, 0.1, 1.0]), 0.0])
    raised = np.maximum(chance, rng.choice([1e-9, 1e-3]))
    gap = wealth_gap(program, weights[None], prices, raised if rng.random() < 0.5 else None)
    for _ in range(100):
        assert net(fitting()) <= net(weights) + gap + 1e-12


# Spreads and contracts, by brute force


def best_on_a_grid(
    objective: Callable[[Array], float], high: Array, steps: int = 41, rounds: int = 12
) -> float:
    """The largest value over boxes that close in on the best point of the one before."""
    low, top = np.zeros(len(high)), high.copy()
    best, value = low, -np.inf
    for _ in range(rounds):
        axes = [np.linspace(a, b, steps) for a, b in zip(low, top, strict=True)]
        for point in product(*axes):
            worth_there = objective(np.array(point))
            if worth_there > value:
                best, value = np.array(point), worth_there
        reach = 4 * (top - low) / (steps - 1)
        low, top = np.maximum(best - reach, 0), np.minimum(best + reach, high)
    return value


def spread_sample(bets: int) -> tuple[Array, Array]:
    """Profit per dollar of collateral of 60 trades in spreads that lose on the same days."""
    rng = np.random.default_rng(bets)
    market = rng.normal(0, 1, 60)
    strike = 1.1 + 0.2 * np.arange(bets)
    loss = np.clip(-market[:, None] - strike + rng.normal(0, 0.3, (60, bets)), 0, 1)
    return 0.2 - 0.03 * np.arange(bets) - 1.1 * loss, np.full(60, 1 / 60)


def exclusive_contracts() -> tuple[Array, Array]:
    """YES on each of three outcomes of one event; the third is too dear."""
    chance = np.array([0.5, 0.3, 0.2])
    return np.diag(1 / np.array([0.42, 0.27, 0.34])) - 1, chance


def independent_contracts() -> tuple[Array, Array]:
    """YES on two events that do not know of each other."""
    return independent(1 / np.array([0.5, 0.9]) - 1, np.array([0.6, 0.96]))


def both_sides() -> tuple[Array, Array]:
    """YES at 40 cents and NO at 63 cents of one contract, beside NO of another event."""
    win, chance = independent(np.array([1 / 0.4 - 1, 1 / 0.8 - 1]), np.array([0.55, 0.88]))
    no = np.where(win[:, 0] > 0, -1.0, 1 / 0.63 - 1)
    return np.column_stack([win, no]), chance


BOOKS = {
    "a spread": spread_sample(1),
    "two spreads": spread_sample(2),
    "exclusive contracts": exclusive_contracts(),
    "independent contracts": independent_contracts(),
    "YES and NO": both_sides(),
}


@pytest.mark.parametrize("name", BOOKS)
@pytest.mark.parametrize("objective", [{}, {"fraction": 0.5}, {"drawdown": BOUND}], ids=str)
def test_spreads_and_contracts_reach_what_a_grid_finds(
    name: str, objective: dict[str, object]
) -> None:
    returns, chance = BOOKS[name]
    found = solved(returns, chance, **objective)
    count = returns.shape[1]
    bounded = "drawdown" in objective
    aversion = 1.0 if "fraction" in objective else 0.0

    def value(weights: Array) -> float:
        if bounded and utility(weights, returns, chance, BOUND.aversion) < 0:
            return -np.inf
        return utility(weights, returns, chance, aversion)

    best = best_on_a_grid(value, np.ones(count), *((11, 10) if count == 3 else (41, 8)))
    reached = utility(found.weights, returns, chance, aversion)
    assert found.growth == pytest.approx(utility(found.weights, returns, chance, 0.0), abs=1e-12)
    assert found.weights.max() > 0.01
    assert best <= reached + 1e-8 + (1 + found.drawdown_price) * found.gap
    assert best >= reached - 1e-4
    if bounded:
        assert utility(found.weights, returns, chance, BOUND.aversion) >= -1e-12


def test_one_never_holds_yes_and_no_of_one_contract() -> None:
    returns, chance = both_sides()
    for objective in ({}, {"fraction": 0.5}, {"drawdown": BOUND}):
        found = solved(returns, chance, **objective)
        assert found.weights[0] > 0.01
        assert found.weights[2] == 0.0


def test_no_is_bought_where_yes_is_too_dear() -> None:
    found = solved([[1 / 0.6 - 1, -1.0], [-1.0, 1 / 0.42 - 1]], [0.4, 0.6])
    assert found.weights == pytest.approx([0.0, (0.6 - 0.42) / 0.58], abs=1e-7)


def test_an_answer_under_the_bound_with_an_open_gap_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sizing.optimum.TRIALS", 1)
    monkeypatch.setattr("sizing.optimum.TIGHT", 0.0)
    with pytest.raises(SolverFailed, match="the best may be better by"):
        growth_stakes([[1.0], [-1.0]], [0.8, 0.2], drawdown=BOUND)


def test_many_contracts_that_are_all_but_certain_are_sized_under_a_bound_or_a_ceiling() -> None:
    chance = np.full(8, 0.999)
    price = np.array([0.98, 0.981, 0.982, 0.983, 0.984, 0.985, 0.986, 0.987])
    won = np.array(list(product([True, False], repeat=8)))
    returns = np.where(won, 1 / price - 1, -1.0)
    joint = np.where(won, chance, 1 - chance).prod(axis=1)
    joint /= joint.sum()
    bounded = growth_stakes(returns, joint, drawdown=DrawdownBound())
    assert bounded.gap <= 1e-8
    assert bounded.weights[0] > bounded.weights[1] > 0.3
    left = growth_stakes(returns, joint, groups=[(np.ones(8), 0.99)])
    assert left.gap <= 1e-8
    assert left.weights.sum() == pytest.approx(0.99)
    # Full growth without either stands at 0.0183638 (by another solver).
    assert bounded.growth < left.growth < 0.0183638
