"""The answer to a plan by expected log growth, with the bound on how far it can be from the best.

`solver.growth` and `solver.drawdown` compute it. Here it is checked once: an answer whose gap is
not closed is none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from foundation.arrays import Array
from foundation.errors import InputError
from sizing.kelly import SizingProblem, SolverFailed, failure_text
from sizing.solver.active_set import SOLVED
from sizing.solver.drawdown import constrained_optimum
from sizing.solver.growth import (
    RUINED,
    GrowthProgram,
    expansion,
    feasible_start,
    growth_and_slopes,
    growth_optimum,
    growth_parts,
)
from sizing.solver.multi_period import LaterBlocks

GAP = 1e-8  # a return: an answer that may lie further below the best is refused


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
    share: of the power term in the objective; share / (1 - share) is what the drawdown bound costs
        in growth, by one more of it. 0 where it does not bind, 1 where no plan meets it.
    slack: what is left of the drawdown bound, a return; infinite where there is none.
    gap: no other answer is better by more than this, a return (`solver.growth.duality_gap`).
    """

    weights: Array
    prices: Array
    slopes: Array
    share: float
    slack: float
    gap: float


def optimum_of(program: GrowthProgram, *, bounded: bool) -> GrowthOptimum:
    """Solve a plan; with `bounded` for full growth under the drawdown bound of its aversion.

    Raises
    ------
    SolverFailed
        where what is fixed ruins, bounds leave no answer, or the gap is not closed to GAP.
    """
    start = feasible_start(program)
    share = program.share
    slack = np.inf
    if bounded:
        status, share, slack, weights, prices, gap = constrained_optimum(program, start)
        program = program._replace(share=share)
    else:
        status, weights, prices, gap = growth_optimum(program, start)
    if status != SOLVED or not gap <= GAP:
        raise SolverFailed(_failure(status, gap, len(program.held)), _near_problem(program))
    _, slopes = growth_and_slopes(program, weights)
    return GrowthOptimum(weights, prices, slopes, float(share), float(slack), float(gap))


def expected_growth(program: GrowthProgram, weights: Array) -> float:
    """E log of wealth over all blocks with weights [K, S], before costs; -inf where one ruins."""
    return float(growth_parts(program, weights)[0])


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
    _, slopes = growth_and_slopes(program, nothing)
    pull, risk = expansion(program, nothing, slopes)
    return SizingProblem(
        pull[0],
        risk[0],
        program.held,
        program.cost[0],
        program.lower,
        program.upper,
        program.coefficients,
        program.limits,
        1.0,
        float(program.toll[0]),
        LaterBlocks(pull[1:], risk[1:], program.toll[1:], program.cost[1:]),
    )
