"""Stakes in bets of any payoff: outcomes with probabilities, such as contracts and option spreads.

    maximise  E log(1 + r'w)   or   -E (1 + r'w)^-λ,   or the first under a bound on drawdowns
    subject to  lower ≤ w ≤ upper  and  Σ cᵢ·|wᵢ| ≤ ceiling for every group

A contract that costs c and pays $1 or nothing returns (1 - c)/c or -1 per dollar staked. A spread
sold for a credit returns its profit or loss per dollar of collateral, outcome by outcome: of a
sample of trades or of a law of the close.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foundation.arrays import Array
from sizing.optimum import DrawdownBound, aversion_of, bounded_optimum, optimum_of
from sizing.solver.growth import GrowthProgram
from sizing.solver.validation import Group, check_problem, check_shapes, float_array, group_arrays


@dataclass(frozen=True, eq=False, slots=True)
class Stakes:
    """The best stakes in S bets, as shares of wealth.

    weights: [S] stakes.
    growth: expected log growth of wealth over one round, before costs.
    gap: no other stakes reach more than this beyond the objective of these.
    drawdown_price: what one more of the drawdown bound would add to growth; 0 where it does not
        bind or there is none, infinite where no stakes keep it.
    """

    weights: Array
    growth: float
    gap: float
    drawdown_price: float


def growth_stakes(
    returns: npt.ArrayLike,
    probability: npt.ArrayLike,
    *,
    fraction: float = 1.0,
    drawdown: DrawdownBound | None = None,
    lower: npt.ArrayLike = 0.0,
    upper: npt.ArrayLike = 1.0,
    groups: Sequence[Group] = (),
    held: npt.ArrayLike | None = None,
    cost: npt.ArrayLike | None = None,
) -> Stakes:
    """The stakes that let wealth grow fastest, exactly: no expansion, all outcomes together.

    At p = 0.6 and a price of 0.5 half of the outcomes' returns are 1 and -1, and the stake is 0.2.

    Parameters
    ----------
    returns : [N, S]
        of each bet in each outcome, per unit staked: -1 where the stake is lost. What several bets
        have in common stands in the same row.
    probability : [N]
        of each outcome, at least 0; they add up to 1.
    fraction
        of full Kelly, above 0, 1 at most: 0.5 maximises -E (1 + r'w)^-1, of which half of full
        Kelly is the expansion.
    drawdown
        full growth under this bound instead of a fraction.
    lower, upper : [S] or one number
        bounds of the stakes; below 0 a bet may be sold.
    groups
        pairs (coefficients [S] ≥ 0, ceiling): Σ cᵢ·|wᵢ| ≤ ceiling.
    held, cost : [S]
        stakes now, and cost of moving a stake by one.

    Raises
    ------
    ValueError
        naming the argument that cannot be.
    SolverFailed
        if the bounds leave no stakes that survive every outcome, or the gap is not closed: full
        growth of many bets that are all but certain stands beside ruin by every one of them. A
        group that leaves something, such as a ceiling of 0.99, is answered.
    """
    outcomes = float_array("returns", returns)
    chance = float_array("probability", probability)
    _check_outcomes(outcomes, chance)
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be above 0 and 1 at most, got {fraction}")
    if drawdown is not None and fraction != 1:
        raise ValueError("fraction, drawdown: name one of them; the bound is on full growth")
    bets = outcomes.shape[1]
    low = _one_a_bet("lower", lower, bets)
    high = _one_a_bet("upper", upper, bets)
    start = np.zeros(bets) if held is None else float_array("held", held)
    price = np.zeros(bets) if cost is None else float_array("cost", cost)
    check_shapes({"lower": low, "upper": high, "held": start, "cost": price}, bets)
    check_problem(np.zeros(bets), low, high, start, price, np.eye(bets))
    coefficients, limits = group_arrays(groups, bets)
    possible = chance > 0
    aversion = aversion_of(fraction) if drawdown is None else drawdown.aversion
    program = GrowthProgram(
        returns=np.ascontiguousarray(outcomes[possible].T)[None],
        chance=chance[possible] / chance.sum(),
        share=float(drawdown is None and aversion > 0),
        aversion=aversion,
        held=start,
        cost=price[None],
        lower=low,
        upper=high,
        coefficients=coefficients,
        limits=limits,
        toll=np.zeros(1),
    )
    multiplier = 0.0
    if drawdown is None:
        found = optimum_of(program)
    else:
        found = bounded_optimum(program)
        multiplier = found.share / (1.0 - found.share) if found.share < 1 else np.inf
    return Stakes(found.weights[0], found.growth, found.gap, multiplier)


def _one_a_bet(name: str, value: npt.ArrayLike, bets: int) -> Array:
    """A bound for each bet, from one for all of them or one each."""
    bound = float_array(name, value)
    return np.full(bets, float(bound)) if bound.ndim == 0 else bound


def _check_outcomes(outcomes: Array, chance: Array) -> None:
    """Refuse outcomes and probabilities that cannot be.

    Raises
    ------
    ValueError
        naming the argument.
    """
    if outcomes.ndim != 2 or not outcomes.size:
        raise ValueError(f"returns must have shape [N, S], got {outcomes.shape}")
    if not np.isfinite(outcomes).all():
        raise ValueError("returns must be finite")
    if chance.shape != outcomes.shape[:1]:
        raise ValueError(
            f"probability must have shape [N] = ({len(outcomes)},), got {chance.shape}"
        )
    if not (chance >= 0).all():
        raise ValueError(f"probability must not be negative, got {chance.min()}")
    if not abs(chance.sum() - 1) <= 1e-9:
        raise ValueError(f"probability must add up to 1, it adds up to {chance.sum():.12g}")
