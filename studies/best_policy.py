"""Compare the plan for one symbol of known moments with the optimal dynamic-programming policy.

    python studies/best_policy.py

Prints the share of the optimal policy's objective that the plan, and a plan of the next bar alone,
achieve. The rows differ in edge, in the signal's persistence, in the stock's cap and in a premium.
Then prints the plan's no-trade band around a premium's weight and the asymptotic one.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from execution.decision.beliefs import DecisionPeriods
from execution.orders.fees import FeeSchedule, TradingCosts
from foundation.arrays import Array, Index
from sizing.solver.multi_period import SizingProblem, compute_weight_change_costs

SIGMA = 0.006
FRACTION = 0.5
CAP = 0.6  # standard deviation of an hour; half-Kelly; cap of a symbol
STOCK, COIN = TradingCosts().expected_cost(np.array([False, True]), FeeSchedule()).tolist()
STEPS = 8000
MONTH = 28 * 7  # bars


def chain(left: float, points: int = 21, width: float = 3.0) -> tuple[Array, Array]:
    """Return states [M] and transitions [M, M] of a standard normal autoregression.

    left: persistence from bar to bar; the method is that of Tauchen (1986).
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
    """Return weights [W], and the number of the next weight by state and weight [M, W].

    They are found by value iteration on the mean objective per bar.
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
    """Return the states of a simulated chain, [STEPS]."""
    rng = np.random.default_rng(seed)
    at = len(moves) // 2
    path = np.empty(STEPS, dtype=np.int64)
    until = moves.cumsum(axis=1)
    for t, drawn in enumerate(rng.random(STEPS)):
        at = path[t] = min(int(np.searchsorted(until[at], drawn)), len(moves) - 1)
    return path


def policy_objective(
    path: Index, mu: Array, variance: float, cost: float, grid: Array, chosen: Index
) -> float:
    """Return the mean objective per bar of a policy on the grid."""
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


def plan_objective(
    path: Index,
    mu: Array,
    later: Array,
    bars: Array,
    costs: Array,
    variance: float,
    cost: float,
    cap: float,
) -> float:
    """Return the mean objective per bar of the plan.

    later: [L, M] expected returns in the plan's later periods.
    bars: [L] length of each later period in bars.
    costs: [L, 1] costs of the later periods.
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
        new = problem._replace(mu=here, held_weight=weight * one).solve()[1][0, 0]
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
    """Return two plans' shares of the best policy's objective, and that objective in bp per bar.

    The first plan is the project's plan, the second a plan of the next bar alone.
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
    costs = compute_weight_change_costs(np.array([cost]), np.array([worth]), 3)[1:]
    best = policy_objective(path, mu, variance, cost, *best_policy(mu, moves, variance, cost, cap))
    planned = plan_objective(path, mu, later, bars, costs, variance, cost, cap)
    alone = plan_objective(path, mu, later[:0], bars[:0], costs[:0], variance, cost, cap)
    return planned / best, alone / best, 1e4 * best


def band_objective(
    returns: Array, aim: float, band: float, cost: float, mu: float, variance: float
) -> float:
    """Return the mean objective per day of a weight held within its band while prices move it."""
    weight = aim
    total = 0.0
    for move in returns:
        new = min(max(weight, aim - band), aim + band)
        total += mu * new - new**2 * variance / (2 * FRACTION) - cost * abs(new - weight)
        weight = new * (1 + move) / (1 + new * move)
    return float(total / len(returns))


def band_of(sigma: float, cost: float) -> tuple[float, float, float]:
    """Return the plan's band, the asymptotic band, and the ratio of their objectives.

    The weight w is half-Kelly at a Sharpe ratio of 0.3, with a plan of 28 days. The asymptotic band
    is (3/4·w²(1 - w)²·cost)^⅓ (Janeček and Shreve 2004; Gerhold et al. 2014). The plan's band is
    fraction·cost / (variance until the horizon): it is linear in the cost.
    """
    aim = FRACTION * 0.3 / sigma
    known = (0.75 * aim**2 * (1 - aim) ** 2 * cost) ** (1 / 3)
    planned = FRACTION * cost / (sigma**2 * 28 / 365)
    returns = np.random.default_rng(0).normal(0.3 * sigma / 252, sigma / np.sqrt(252), 50_000)
    ours, theirs = (
        band_objective(returns, aim, band, cost, 0.3 * sigma / 252, sigma**2 / 252)
        for band in (planned, known)
    )
    return planned, known, ours / theirs


def main() -> None:
    signal_bars = DecisionPeriods().signal_bars
    print("cap, premium, edge, left: plan, next bar alone, best in bp a bar")
    for cap, premium in ((CAP, 0.0), (4.0, 0.0), (4.0, 4e-5)):
        for edge in (0.05, 0.1, 0.15, 0.3):
            for left in (0.3, 0.6, 0.9):
                more = {"signal_bars": signal_bars, "cap": cap, "premium": premium}
                planned, alone, best = shares(edge, left, STOCK, **more)  # type: ignore[arg-type]
                print(
                    f"{cap:g}, {premium:g}, {edge}, {left}: {planned:.3f}, {alone:.3f}, {best:.2f}"
                )
    print("volatility, cost: the plan's band, the asymptotic one, what it earns of that")
    for sigma, cost in ((0.2, STOCK), (0.3, STOCK), (0.7, COIN)):
        planned, known, share = band_of(sigma, cost)
        print(f"{sigma}, {cost:g}: {planned:.4f}, {known:.4f}, {share:.3f}")


if __name__ == "__main__":
    main()
