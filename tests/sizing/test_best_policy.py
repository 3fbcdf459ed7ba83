"""One symbol of known moments: the plan beside the best policy there is, found by dynamic
programming.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from execution.beliefs import Blocks
from execution.fees import FeeSchedule, TradingCosts
from foundation.arrays import Array, Index
from sizing.solver.multi_period import SizingProblem, change_costs

SIGMA = 0.006
FRACTION = 0.5
CAP = 0.6  # of an hour; half-Kelly; of a symbol
STOCK, COIN = TradingCosts().expected(np.array([False, True]), FeeSchedule()).tolist()
STEPS = 8000
MONTH = 28 * 7  # bars


def chain(left: float, points: int = 21, width: float = 3.0) -> tuple[Array, Array]:
    """States [M] and transitions [M, M] of a standard normal that keeps `left` of itself from
    bar to bar (Tauchen 1986).
    """
    states = np.linspace(-width, width, points)
    half = (states[1] - states[0]) / 2
    deviation = np.sqrt(1 - left**2)
    apart = states[None] - left * states[:, None]
    moves = norm.cdf((apart + half) / deviation) - norm.cdf((apart - half) / deviation)
    return states, moves / moves.sum(axis=1, keepdims=True)


def best_policy(
    mu: Array, moves: Array, variance: float, cost: float, cap: float
) -> tuple[Array, Index]:
    """Weights [W], and which of them to go to from a state and a weight [M, W]: value iteration
    on the mean objective a bar.
    """
    grid = np.linspace(-cap, cap, 161)
    gain = mu[:, None] * grid - grid**2 * variance / (2 * FRACTION)
    paid = cost * np.abs(grid[None] - grid[:, None])
    value = np.zeros(gain.shape)
    chosen = np.zeros(gain.shape, dtype=np.int64)
    for _ in range(3000):
        hoped = gain + moves @ value
        new = np.empty(gain.shape)
        for a in range(len(mu)):
            net = hoped[a][None] - paid
            chosen[a] = net.argmax(axis=1)
            new[a] = net[np.arange(len(grid)), chosen[a]]
        gained = new - value
        value = new - new[len(mu) // 2, len(grid) // 2]
        if np.ptp(gained) < 1e-4 * abs(gained.mean()) + 1e-9:
            return grid, chosen
    raise AssertionError("value iteration did not converge")


def walk(moves: Array, seed: int) -> Index:
    """[STEPS] states of the chain, one after the other."""
    rng = np.random.default_rng(seed)
    at = len(moves) // 2
    path = np.empty(STEPS, dtype=np.int64)
    until = moves.cumsum(axis=1)
    for t, drawn in enumerate(rng.random(STEPS)):
        at = path[t] = min(int(np.searchsorted(until[at], drawn)), len(moves) - 1)
    return path


def of_policy(
    path: Index, mu: Array, variance: float, cost: float, grid: Array, chosen: Index
) -> float:
    """Mean objective a bar of a policy on the grid."""
    at = len(grid) // 2
    total = 0.0
    for a in path:
        new = chosen[a, at]
        total += (
            mu[a] * grid[new]
            - grid[new] ** 2 * variance / (2 * FRACTION)
            - cost * abs(grid[new] - grid[at])
        )
        at = new
    return total / len(path)


def of_plan(
    path: Index,
    mu: Array,
    later: Array,
    bars: Array,
    costs: Array,
    variance: float,
    cost: float,
    cap: float,
) -> float:
    """The same of the plan. later [L, M]: expected in its later blocks, of `bars` [L] each;
    costs [L, 1].
    """
    one = np.ones(1)
    weight = 0.0
    total = 0.0
    expected = np.vstack([mu, later])
    problem = SizingProblem(
        expected[:, :1],
        variance * np.append(1.0, bars)[:, None, None],
        np.vstack([[[cost]], costs]),
        np.zeros(1 + len(bars)),
        one,
        -cap * one,
        cap * one,
        np.zeros((0, 1)),
        np.zeros(0),
        FRACTION,
    )
    for a in path:
        here = np.ascontiguousarray(expected[:, a, None])
        new = problem._replace(mu=here, held=weight * one).solve()[1][0, 0]
        total += mu[a] * new - new**2 * variance / (2 * FRACTION) - cost * abs(new - weight)
        weight = new
    return total / len(path)


def shares(
    edge: float,
    left: float,
    cost: float,
    *,
    signal_bars: int,
    cap: float = CAP,
    month: int = MONTH,
    premium: float = 0.0,
) -> tuple[float, float, float]:
    """What the plan, and one that looks at the next bar alone, earn of what the best policy
    does; and that, in bp a bar.
    """
    states, moves = chain(left)
    signal = edge * SIGMA * states
    path = walk(moves, 0)
    mu = signal + premium
    variance = SIGMA**2
    bars = np.array([signal_bars - 1.0, month - signal_bars])
    fades = [
        sum(left**j for j in span) for span in (range(1, signal_bars), range(signal_bars, month))
    ]
    later = np.array(
        [signal * fade + premium * length for fade, length in zip(fades, bars, strict=True)]
    )
    worth = edge * SIGMA / (1 - left)
    costs = change_costs(np.array([cost]), np.array([worth]), 3)[1:]
    best = of_policy(path, mu, variance, cost, *best_policy(mu, moves, variance, cost, cap))
    planned = of_plan(path, mu, later, bars, costs, variance, cost, cap)
    alone = of_plan(path, mu, later[:0], bars[:0], costs[:0], variance, cost, cap)
    return planned / best, alone / best, 1e4 * best


@pytest.mark.slow
@pytest.mark.parametrize("left", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("edge", [0.05, 0.1, 0.15, 0.3])
def test_the_plan_earns_what_the_best_policy_does_but_for_a_twentieth(
    edge: float, left: float
) -> None:
    """A stock's costs, with its cap.

    Where a signal lasts, no less than by looking at the next bar alone.
    """
    planned, alone, best = shares(edge, left, STOCK, signal_bars=Blocks().signal_bars)
    assert best > 0.1
    assert planned >= 0.95
    assert planned >= alone - (0.03 if left < 0.5 else 0.002)


@pytest.mark.parametrize("premium", [0.0, 4e-5])
def test_without_a_cap_too(premium: float) -> None:
    """Up to four times the account; with a premium of 6.5 % a year beside the signal."""
    for edge in (0.1, 0.3):
        assert (
            shares(edge, 0.6, STOCK, signal_bars=Blocks().signal_bars, cap=4.0, premium=premium)[0]
            >= 0.95
        )


@pytest.mark.parametrize(("sigma", "cost"), [(0.2, STOCK), (0.3, STOCK), (0.7, COIN)])
def test_a_premium_s_band_is_that_of_the_asymptotics_and_earns_as_much(
    sigma: float, cost: float
) -> None:
    """Half-Kelly at 0.3: no trade within (3/4·w²(1 - w)²·cost)^⅓ of w (Janeček and Shreve 2004;
    Gerhold et al. 2014).

    The plan's is fraction·cost / (variance until the horizon): linear, not a cube root, and of the
    same size at 28 days.
    """
    aim = FRACTION * 0.3 / sigma
    years = 28 / 365
    known = (0.75 * aim**2 * (1 - aim) ** 2 * cost) ** (1 / 3)
    planned = FRACTION * cost / (sigma**2 * years)
    for side in (-1, 1):
        for inside in (0.99, 1.01):
            held = aim + side * inside * planned
            assert (one_block(0.3 * sigma * years, sigma**2 * years, held, cost) == held) == (
                inside < 1
            )
    assert 0.5 < planned / known < 2
    returns = np.random.default_rng(0).normal(0.3 * sigma / 252, sigma / np.sqrt(252), 50_000)
    ours, theirs = (
        within(returns, aim, band, cost, 0.3 * sigma / 252, sigma**2 / 252)
        for band in (planned, known)
    )
    assert ours >= 0.98 * theirs > 0


def one_block(mu: float, variance: float, held: float, cost: float) -> float:
    """The weight of a plan of one block, without bounds."""
    one = np.ones(1)
    problem = SizingProblem(
        np.full((1, 1), mu),
        np.full((1, 1, 1), variance),
        np.full((1, 1), cost),
        np.zeros(1),
        held * one,
        -9 * one,
        9 * one,
        np.zeros((0, 1)),
        np.zeros(0),
        FRACTION,
    )
    return float(problem.solve()[1][0, 0])


def within(
    returns: Array, aim: float, band: float, cost: float, mu: float, variance: float
) -> float:
    """Mean objective a day of holding a weight within its band, prices moving it."""
    weight = aim
    total = 0.0
    for move in returns:
        new = min(max(weight, aim - band), aim + band)
        total += mu * new - new**2 * variance / (2 * FRACTION) - cost * abs(new - weight)
        weight = new * (1 + move) / (1 + new * move)
    return float(total / len(returns))
