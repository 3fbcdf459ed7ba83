"""Stakes by the growth of wealth: closed forms, brute force, and the bound they come with."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize

from foundation.arrays import Array
from sizing import DrawdownBound, SolverFailed, growth_stakes
from sizing.kelly import binary_kelly
from tests.sizing.stake_utility import utility

chances = st.floats(0.02, 0.98)
prices = st.floats(0.02, 0.98)


def contract(price: float) -> Array:
    """Returns [2, 1] of one dollar in contracts that pay $1 or nothing."""
    return np.array([[1 / price - 1], [-1.0]])


@given(chances, prices)
def test_a_single_contract_gets_the_kelly_share(chance: float, price: float) -> None:
    found = growth_stakes(contract(price), [chance, 1 - chance])
    assert found.weights[0] == pytest.approx(float(binary_kelly(chance, price, 1.0)), abs=1e-7)
    assert found.gap <= 1e-8


@given(chances, prices, st.sampled_from([0.1, 0.25, 0.5, 0.8]))
def test_a_fraction_of_a_contract_is_that_of_its_power_utility(
    chance: float, price: float, fraction: float
) -> None:
    # The slopes agree where (1 + b·w) / (1 - w) = (p·b / (1 - p))^fraction, b the odds.
    odds = 1 / price - 1
    ratio = (chance * odds / (1 - chance)) ** fraction
    expected = max((ratio - 1) / (odds + ratio), 0.0)
    found = growth_stakes(contract(price), [chance, 1 - chance], fraction=fraction)
    assert found.weights == pytest.approx(expected, abs=1e-7)


@given(st.integers(0, 2**32 - 1))
def test_a_drawdown_bound_holds_and_is_tight_where_it_binds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    price = rng.uniform(0.1, 0.9)
    chance = min(price + rng.uniform(0.0, 0.3), 0.99)
    bound = DrawdownBound(rng.uniform(0.5, 0.95), rng.uniform(0.02, 0.6))
    aversion = np.log(bound.beta) / np.log(bound.alpha)
    returns = contract(price)
    odds = np.array([chance, 1 - chance])
    found = growth_stakes(returns, odds, drawdown=bound)
    moment = odds @ (1 + returns @ found.weights) ** -aversion
    assert moment <= 1 + 1e-9
    kelly = float(binary_kelly(chance, price, 1.0))
    binds = utility(np.array([kelly]), returns, odds, aversion) < -1e-9
    if not binds:
        assert found.drawdown_price == pytest.approx(0.0, abs=1e-6)
        assert found.weights == pytest.approx(kelly, abs=1e-6)
        return
    assert found.drawdown_price > 0
    assert utility(found.weights, returns, odds, aversion) == pytest.approx(0.0, abs=2e-9)
    least = found.weights[0] / 2
    edge = brentq(lambda w: utility(np.array([w]), returns, odds, aversion), least, kelly)
    assert found.weights[0] == pytest.approx(edge, abs=1e-4)


def test_wealth_falls_below_the_bound_no_more_often_than_it_says() -> None:
    bound = DrawdownBound(0.7, 0.1)
    returns = contract(0.5)
    found = growth_stakes(returns, [0.6, 0.4], drawdown=bound)
    full = growth_stakes(returns, [0.6, 0.4])
    won = np.random.default_rng(0).random((4000, 1000)) < 0.6
    fallen = []
    for stake in (found.weights[0], full.weights[0]):
        logs = np.where(won, np.log1p(stake), np.log1p(-stake)).cumsum(axis=1)
        fallen.append((logs.min(axis=1) < np.log(0.7)).mean())
    assert fallen[0] <= 0.1
    assert fallen[1] > 0.3


def bets(seed: int, count: int, outcomes: int = 12) -> tuple[Array, Array]:
    """Bets with an edge whose losses come together, and the chance of each outcome."""
    rng = np.random.default_rng(seed)
    common = rng.normal(0, 0.3, (outcomes, 1))
    returns = np.maximum(common + rng.normal(0.05, 0.3, (outcomes, count)), -1.0)
    return returns, rng.dirichlet(np.ones(outcomes))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_no_point_of_a_grid_is_better(seed: int, fraction: float) -> None:
    for count, steps in ((2, 161), (3, 41)):
        returns, chance = bets(seed, count)
        ceiling = 0.9
        found = growth_stakes(
            returns,
            chance,
            fraction=fraction,
            lower=-0.4,
            upper=0.6,
            groups=[(np.ones(count), ceiling)],
        )
        aversion = 1 / fraction - 1
        reached = utility(found.weights, returns, chance, aversion)
        best = -np.inf
        for point in product(np.linspace(-0.4, 0.6, steps), repeat=count):
            if np.abs(point).sum() <= ceiling:
                best = max(best, utility(np.array(point), returns, chance, aversion))
        assert best <= reached + found.gap + 1e-12
        assert best >= reached - 2e-3
        assert np.abs(found.weights).sum() <= ceiling + 1e-9


@given(st.integers(0, 2**32 - 1))
def test_no_stakes_under_the_limits_pass_the_gap(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 6))
    returns, chance = bets(seed, count)
    held = rng.uniform(-0.2, 0.3, count)
    cost = rng.choice([0.0, 0.02], count)
    parts = rng.uniform(0, 1, count)
    found = growth_stakes(
        returns,
        chance,
        lower=-0.5,
        upper=0.5,
        groups=[(parts, 0.4)],
        held=held,
        cost=cost,
    )
    assert found.gap <= 1e-8
    assert parts @ np.abs(found.weights) <= 0.4 + 1e-9

    def worth(weights: Array) -> float:
        paid = float(cost @ np.abs(weights - held))
        return utility(weights, returns, chance, 0.0) - paid

    reached = worth(found.weights)
    for _ in range(200):
        other = rng.uniform(-0.5, 0.5, count)
        other *= min(1.0, 0.4 / (parts @ np.abs(other)))
        assert worth(other) <= reached + found.gap + 1e-12


def test_spreads_and_contracts_share_one_book() -> None:
    """Two spreads that lose on the same days beside a contract on something else."""
    win, loss = 0.12, -0.88
    rows = []
    chance = []
    for calm, yes in product((True, False), repeat=2):
        rows.append([win if calm else loss, win if calm else loss, 1 / 0.4 - 1 if yes else -1.0])
        chance.append((0.92 if calm else 0.08) * 0.5)
    found = growth_stakes(rows, chance, upper=[0.1, 1.0, 1.0])

    def loses(weights: Array) -> float:
        return -utility(weights, np.array(rows), np.array(chance), 0.0)

    other = minimize(
        loses, [0.05, 0.05, 0.05], bounds=[(0, 0.1), (0, 0.9), (0, 0.9)], options={"ftol": 1e-15}
    )
    assert found.growth == pytest.approx(-other.fun, abs=1e-8)
    assert found.weights[2] == pytest.approx(other.x[2], abs=1e-3)
    # The two spreads are one bet: what they stake together is what a single one would.
    single = growth_stakes(np.array(rows)[:, [1, 2]], chance)
    assert found.weights[:2].sum() == pytest.approx(single.weights[0], abs=1e-4)


def test_what_pays_in_every_outcome_is_bought_up_to_its_bound() -> None:
    assert growth_stakes([[0.25]], [1.0]).weights == pytest.approx([1.0])
    assert growth_stakes([[0.25], [0.1]], [1.0, 0.0], upper=0.3).weights == pytest.approx([0.3])


def test_a_bet_that_is_fixed_moves_the_others() -> None:
    returns, chance = bets(3, 2)
    free = growth_stakes(returns, chance, upper=[0.0, 1.0])
    beside = growth_stakes(returns, chance, lower=[0.3, 0.0], upper=[0.3, 1.0], held=[0.3, 0.0])
    assert beside.weights[0] == 0.3
    assert beside.weights[1] < free.weights[1] - 0.01


def test_bets_that_are_the_same_and_bets_without_risk_have_stakes() -> None:
    returns, chance = np.array([[0.5], [0.1], [-0.6]]), np.array([0.4, 0.3, 0.3])
    twice = np.hstack([returns, returns, np.zeros_like(returns)])
    found = growth_stakes(twice, chance)
    single = growth_stakes(returns, chance).weights[0]
    assert 0.1 < single < 0.9
    assert found.weights[:2].sum() == pytest.approx(single, abs=1e-6)
    assert found.gap <= 1e-8


def test_what_ruins_whatever_is_staked_is_refused_with_the_problem() -> None:
    with pytest.raises(SolverFailed, match="loses everything in a scenario") as caught:
        growth_stakes([[0.5], [-1.0]], [0.9, 0.1], lower=1.0, upper=1.0)
    assert caught.value.problem.mu.shape == (1,)
    with pytest.raises(SolverFailed, match="lower bounds exceed a ceiling"):
        growth_stakes([[0.5], [-1.0]], [0.9, 0.1], lower=0.4, groups=[([1.0], 0.3)])


@pytest.mark.parametrize(
    ("returns", "chance", "more", "says"),
    [
        ([0.5, -1.0], [0.5, 0.5], {}, "returns must have shape"),
        ([[0.5], [np.nan]], [0.5, 0.5], {}, "returns must be finite"),
        ([[0.5], [-1.0]], [0.5], {}, "probability must have shape"),
        ([[0.5], [-1.0]], [1.5, -0.5], {}, "probability must not be negative"),
        ([[0.5], [-1.0]], [0.5, 0.4], {}, "it adds up to 0.9"),
        ([[0.5], [-1.0]], [0.5, np.nan], {}, "probability must not be negative"),
        ([[0.5], [-1.0]], [0.5, 0.5], {"fraction": 0.0}, "fraction must be above 0"),
        ([[0.5], [-1.0]], [0.5, 0.5], {"lower": [0.0, 0.0]}, "lower must have shape"),
        ([[0.5], [-1.0]], [0.5, 0.5], {"lower": 2.0}, "lower 2 exceeds upper 1"),
        ([[0.5], [-1.0]], [0.5, 0.5], {"cost": [-1.0]}, "cost must not be negative"),
        (
            [[0.5], [-1.0]],
            [0.5, 0.5],
            {"fraction": 0.5, "drawdown": DrawdownBound()},
            "name one of them",
        ),
    ],
)
def test_bets_that_cannot_be_are_refused(
    returns: object, chance: object, more: dict[str, object], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        growth_stakes(returns, chance, **more)  # type: ignore[arg-type]
