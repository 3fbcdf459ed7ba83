"""Full growth under a bound on drawdowns: risk-constrained Kelly (Busseti, Ryu and Boyd 2016).

    maximise  E log of the plan's wealth,  subject to  E (wealth)^-aversion ≤ 1

With aversion = log β / log α the constraint bounds P(wealth ever falls below α) by β where it
holds bet by bet. Its logarithm is the power term of `growth`, summed over the blocks and net of
costs and tolls: a concave function of the plan. So one multiplier joins both into the plan of
`growth`, and what is left is to find its share.
"""

from __future__ import annotations

from foundation.arrays import Array
from foundation.compiled import compiled
from sizing.solver.active_set import SOLVED
from sizing.solver.growth import (
    GrowthProgram,
    charged_tolls,
    growth_optimum,
    growth_parts,
    plan_costs,
)

TIGHT = 1e-10  # a return: how far the constraint may stay from where it binds
ROUNDED = 1e-14  # a return: how far below 0 the constraint is met
TRIALS = 60  # of the multiplier


@compiled
def constrained_optimum(
    program: GrowthProgram, start: Array
) -> tuple[int, float, float, Array, Array, float]:
    """Solve the plan under its bound on drawdowns; the program's share is not read.

    The result of a share is the best plan for (1 - share)·E log + share·(power term), so that
    share / (1 - share) is the multiplier: 0 where the bound does not bind. Where no plan meets the
    bound (getting out of what is held may cost more than anything earns) the answer is the plan
    that comes nearest to it, of share 1.

    Returns
    -------
    status
        as of `growth_optimum`.
    share
        of the power term.
    slack
        what is left of the bound, a return: at least 0 where a plan meets it.
    weights : [K, S]
        of every block.
    prices : [G + K]
        as of `growth_optimum`, of the objective with this share.
    gap
        the objective with this share lies no more than this below what any plan under the bound
        can have, a return.
    """
    status, slack, weights, prices, gap = _trial(program, 0.0, start)
    if status != SOLVED or slack >= -ROUNDED:
        return status, 0.0, slack, weights, prices, gap
    # In the fraction of Kelly that a share stands for, the bound over the fraction is a line where
    # returns are small: the secant then needs few steps.
    beyond = 1.0
    slope_beyond = slack
    status, slack, weights, prices, gap = _trial(program, 1.0, weights)
    share = 1.0
    if status != SOLVED or slack <= TIGHT:
        return status, share, slack, weights, prices, gap
    within = _fraction(program, 1.0)
    slope_within = slack / within
    stays = 0
    for _ in range(TRIALS):
        fraction = within + (beyond - within) * slope_within / (slope_within - slope_beyond)
        if not within < fraction < beyond:
            fraction = 0.5 * (within + beyond)
        tried_share = (1.0 / fraction - 1.0) / program.aversion
        status, tried_slack, tried, tried_prices, tried_gap = _trial(program, tried_share, weights)
        if status != SOLVED:
            return status, tried_share, tried_slack, tried, tried_prices, tried_gap
        if tried_slack < -ROUNDED:
            beyond = fraction
            slope_beyond = tried_slack / fraction
            # One end that stays lets the secant creep (Dowell and Jarratt 1971).
            slope_within *= 0.5 if stays > 0 else 1.0
            stays = 1
            continue
        share = tried_share
        slack = tried_slack
        weights = tried
        prices = tried_prices
        gap = tried_gap
        within = fraction
        slope_within = slack / fraction
        slope_beyond *= 0.5 if stays < 0 else 1.0
        stays = -1
        if slack <= TIGHT or beyond - within <= 1e-15:
            break
    return status, share, slack, weights, prices, gap + share * max(slack, 0.0)


@compiled
def _trial(
    program: GrowthProgram, share: float, start: Array
) -> tuple[int, float, Array, Array, float]:
    """Status, slack of the bound, weights, prices and gap of the plan with one share."""
    p = program
    shared = GrowthProgram(
        p.returns,
        p.chance,
        share,
        p.aversion,
        p.held,
        p.cost,
        p.lower,
        p.upper,
        p.coefficients,
        p.limits,
        p.toll,
    )
    status, weights, prices, gap = growth_optimum(shared, start)
    if status != SOLVED:
        return status, 0.0, weights, prices, gap
    slack = growth_parts(shared, weights)[1]
    slack -= plan_costs(shared, charged_tolls(shared), weights)
    return status, slack, weights, prices, gap


@compiled
def _fraction(program: GrowthProgram, share: float) -> float:
    """The fraction of Kelly that a share of the power term stands for."""
    return 1.0 / (1.0 + share * program.aversion)
