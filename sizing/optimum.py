"""The answer to a plan by expected log growth, with the bound on how far it can be from the best.

    maximise  E log of the plan's wealth,  or that  subject to  E (wealth)^-λ ≤ 1

The first, and any power utility, is `solver.growth`'s. The second is risk-constrained Kelly
(Busseti, Ryu and Boyd 2016). The logarithm of its constraint is the power term of `solver.growth`,
summed over the blocks and net of costs and tolls, and concave. One multiplier therefore joins it to
the growth in one objective, and what is left is to find the power term's share of it. An answer
whose gap is not closed is none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from foundation.arrays import Array
from foundation.errors import InputError
from sizing.kelly import SizingProblem, SolverFailed, failure_text
from sizing.solver.active_set import INFEASIBLE, SOLVED, UNFINISHED
from sizing.solver.certificate import wealth_gap
from sizing.solver.duality import charged_tolls, plan_costs
from sizing.solver.growth import GrowthProgram, expansion, point_at
from sizing.solver.proximal import GAP, RUINED, feasible_start, growth_optimum, near_program

TIGHT = 1e-9  # a return: how far the drawdown bound may stay from where it binds
ROUNDED = 1e-14  # a return: how far below 0 it is met
STILL = 1e-15  # of a fraction of Kelly
TRIALS = 60  # of the multiplier
CLOSED = 1e-10  # a gap, a return, beyond which no smaller chances are tried
# Of wealth: what outcomes that are all but impossible leave on the way to LEAST_WEALTH.
LEFT = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 2e-9, 1.1e-9, 0.0)


@dataclass(frozen=True, slots=True)
class DrawdownBound:
    """Wealth is to fall below a share of what it was with no more than some probability.

    alpha: the share, above 0 and below 1.
    beta: the probability, above 0 and below 1.

    E (wealth)^-λ ≤ 1 with λ = log β / log α keeps it: a wealth whose every bet keeps that, whatever
    came before, falls below α with probability β at most (Busseti, Ryu and Boyd 2016), because
    wealth^-λ is then a supermartingale. For a normal return of small variance the largest such bet
    is 2 / (1 + λ) of full Kelly: 27 % at 0.7 and 0.1.
    """

    alpha: float = 0.7
    beta: float = 0.1

    def __post_init__(self) -> None:
        for name in ("alpha", "beta"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise InputError(f"{name}: {value:g} is not above 0 and below 1")

    @property
    def aversion(self) -> float:
        """λ = log β / log α."""
        return math.log(self.beta) / math.log(self.alpha)


def aversion_of(fraction: float) -> float:
    """The risk aversion beside log wealth whose expansion is this fraction of Kelly: 1/f - 1."""
    return 1.0 / fraction - 1.0


@dataclass(frozen=True, eq=False, slots=True)
class GrowthOptimum:
    """The best weights of a plan over K blocks for S symbols under G ceilings.

    weights: [K, S] of every block.
    prices: [G + K] what one more of each ceiling would add to the objective, then one more of what
        is not borrowed in each block.
    slopes: [K, S] of the objective's growth term, by weight.
    growth: expected log of wealth over all blocks, before costs.
    share: of the power term in the objective; share / (1 - share) is what the drawdown bound costs
        in growth, by one more of it. 0 where it does not bind, 1 where no plan meets it.
    slack: the power term net of costs, a return: at least 0 where the drawdown bound of the
        program's aversion is met; 0 less costs without an aversion.
    gap: no other answer is better by more than this, a return (`solver.duality`).
    """

    weights: Array
    prices: Array
    slopes: Array
    growth: float
    share: float
    slack: float
    gap: float


def optimum_of(program: GrowthProgram) -> GrowthOptimum:
    """Solve a plan for the objective with the program's own share of the power term.

    Raises
    ------
    SolverFailed
        where what is fixed ruins, bounds leave no answer, or the gap is not closed to GAP.
    """
    status, found = _tried_from(program, feasible_start(program))
    return _proven(program, status, found)


def bounded_optimum(program: GrowthProgram) -> GrowthOptimum:
    """The largest growth under the drawdown bound of the program's aversion.

    Where no plan meets the bound (getting out of what is held may cost more than anything earns)
    the answer is the plan that comes nearest to it, of share 1. The gap is that of the objective
    with the share that is found.

    Raises
    ------
    SolverFailed
        as `optimum_of`.
    """
    # Only the answer has to be proven: full growth beside ruin is where proofs are hard.
    status, beyond = _tried_from(program._replace(share=0.0), feasible_start(program))
    if beyond.slack >= -ROUNDED:
        return _proven(program, status, beyond)
    status, within = _tried_from(program._replace(share=1.0), beyond.weights)
    if within.slack <= TIGHT:
        return _proven(program, status, within)
    # In the fraction of Kelly that a share stands for, the slack over the fraction is a line where
    # returns are small: the secant then needs few steps.
    low, high = _fraction(program, 1.0), 1.0
    low_slope, high_slope = within.slack / low, beyond.slack
    last_within: bool | None = None
    for _ in range(TRIALS):
        fraction = low + (high - low) * low_slope / (low_slope - high_slope)
        if not low < fraction < high:
            fraction = 0.5 * (low + high)
        share = (1.0 / fraction - 1.0) / program.aversion
        tried, found = _tried_from(program._replace(share=share), within.weights)
        is_within = found.slack >= -ROUNDED
        # One end that stays lets the secant creep (Dowell and Jarratt 1971).
        if is_within:
            high_slope *= 0.5 if last_within is True else 1.0
            low, low_slope, within, status = fraction, found.slack / fraction, found, tried
        else:
            low_slope *= 0.5 if last_within is False else 1.0
            high, high_slope = fraction, found.slack / fraction
        last_within = is_within
        if within.slack <= TIGHT or high - low <= STILL:
            break
    gap = within.gap + within.share * max(within.slack, 0.0)
    return _proven(program, status, replace(within, gap=gap))


def _proven(program: GrowthProgram, status: int, found: GrowthOptimum) -> GrowthOptimum:
    """What was found, if it is near enough to the best."""
    if status != SOLVED or not found.gap <= GAP:
        raise SolverFailed(_failure(status, found.gap, len(program.held)), _near_problem(program))
    return found


def _tried_from(program: GrowthProgram, start: Array) -> tuple[int, GrowthOptimum]:
    """The optimum of one objective, from weights [K, S] that keep to bounds and ceilings.

    With its status: it may be further from the best than GAP.
    """
    status, weights, prices, gap = growth_optimum(program, start)
    if status not in (RUINED, INFEASIBLE) and not gap <= GAP and len(weights) == 1:
        status, weights, prices, gap = _optimum_beside_ruin(program)
    if status in (RUINED, INFEASIBLE):
        raise SolverFailed(_failure(status, gap, len(program.held)), _near_problem(program))
    point = point_at(program, weights)
    slack = point.power - plan_costs(program, charged_tolls(program), weights)
    share = program.share
    return status, GrowthOptimum(
        weights, prices, point.slopes, float(point.growth), share, float(slack), float(gap)
    )


def _optimum_beside_ruin(program: GrowthProgram) -> tuple[int, Array, Array, float]:
    """As `growth_optimum`, of one block, where some outcomes are all but impossible.

    Steps do not feel an outcome of small chance before it has all but ruined, and then they cannot
    get away from it. So every outcome has a larger chance at first.
    """
    # The power term alone leaves in an outcome what grows as this root of its chance.
    root = 1.0 + program.aversion if program.share == 1.0 else 1.0
    start = feasible_start(program)
    best: tuple[int, Array, Array, float] = (UNFINISHED, start, np.empty(0), np.inf)
    for left in LEFT:
        raised = np.maximum(program.chance, left**root)
        near = program._replace(chance=raised / raised.sum())
        status, weights, prices, gap = growth_optimum(near, start)
        if status == SOLVED and point_at(program, weights).value > -np.inf:
            gap = wealth_gap(program, weights, prices, near.chance)
            if not gap >= best[3]:
                best = (status, weights, prices, gap)
            start = weights
        if best[3] <= CLOSED:
            break
    return best


def _fraction(program: GrowthProgram, share: float) -> float:
    """The fraction of Kelly that a share of the power term stands for."""
    return 1.0 / (1.0 + share * program.aversion)


def _failure(status: int, gap: float, symbols: int) -> str:
    """Why there is no answer, in words."""
    if status == RUINED:
        return (
            f"the sizing problem of {symbols} symbols has no answer: what cannot be traded now"
            " loses everything in a scenario"
        )
    if status == SOLVED:
        return (
            f"the sizing problem of {symbols} symbols was not solved: the best may be better by"
            f" {gap:.1e} of equity, and {GAP:.0e} is allowed"
        )
    return failure_text(status, symbols)


def _near_problem(program: GrowthProgram) -> SizingProblem:
    """The quadratic program that the plan is near while weights are small."""
    nothing = np.zeros(program.cost.shape)
    pull, risk = expansion(program, nothing, point_at(program, nothing))
    return SizingProblem(*near_program(program, pull, risk))
