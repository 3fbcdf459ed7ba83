"""From beliefs and an account to target weights, in backtest, live trading and `get_qty` alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from foundation.arrays import Array, Mask
from foundation.compiled import compiled
from foundation.errors import InputError
from sizing.binding import binding_limits
from sizing.kelly import SizingProblem, SolverFailed, failure_text, unconstrained_kelly
from sizing.limits import CEILINGS, CENT, Limits, affordable_weights, bounds_of, spendable_ceilings
from sizing.situation import Situation
from sizing.solver.active_set import SOLVED
from sizing.solver.cholesky import factored_solve
from sizing.solver.multi_period import LaterBlocks, optimal_weights
from trainingdata.instruments import Kind
from trainingdata.sessions import Holding

SAME = 1e-9  # a weight this close to the desired one is it


@dataclass(frozen=True, eq=False, slots=True)
class Allocation:
    """What a strategy would hold, what it may, and what holds it there, for S symbols.

    unlimited: [S] weights over all blocks, before any limit or cost; NaN for what does not decide.
    target: [S] weights under every limit.
    binding: [S] the limits that hold each target where it is, by name, and what one more of each
        would add to the expected return over the interval, net of risk and cost (its shadow price;
        NaN where targets are not chosen by return). `cost` stands where moving would not pay.
    """

    unlimited: Array
    target: Array
    binding: tuple[Mapping[str, float], ...]


class Strategy(Protocol):
    """How much of everything, from a situation and the limits."""

    @property
    def uses_forecast(self) -> bool:
        """Whether the forecast counts for a symbol's expected return."""

    @property
    def uses_premium(self) -> bool:
        """Whether the premium of its class counts for a symbol's expected return."""

    @property
    def holding(self) -> Holding | None:
        """The interval it has to look at; none: the one that is configured.

        `session` for what compares the risk of symbols over a whole day.
        """

    def allocate(self, situation: Situation, limits: Limits) -> Allocation:
        """Target weights of the symbols that decide; all others stay."""

    def phrase(self, kind: Kind, stock_ceiling: float) -> str:
        """The line operators grep for."""


def check_fraction(fraction: float) -> None:
    """Refuse a fraction of full Kelly that is none.

    Raises
    ------
    InputError
        for one that is not above 0, or above 1.
    """
    if not 0 < fraction <= 1:
        raise InputError(
            f"sizing.fraction: {fraction:g} is outside 0 … 1; 0.5 is half of full Kelly,"
            " and beyond 1 an account grows more slowly at more risk"
        )


def allocate(situation: Situation, limits: Limits, fraction: float) -> Allocation:
    """Fractional Kelly under limits, net of the cost of moving and borrowing.

    Symbols that do not decide stay as they are. fraction: of full Kelly.

    Raises
    ------
    SolverFailed
        if the quadratic program is not solved.
    """
    s = situation
    later = situation.later_blocks
    # Without limits or costs nothing keeps the blocks apart: a weight held through all of them has
    # the sum of their returns and of their risks.
    mu = s.mu + later.mu.sum(axis=0)
    covariance = s.covariance + later.covariance.sum(axis=0)
    factored, unlimited = _unlimited_weights(mu, covariance, s.deciding, fraction)
    if not factored:
        deciding = np.flatnonzero(s.deciding)
        risk = covariance[np.ix_(deciding, deciding)]
        unlimited[deciding] = unconstrained_kelly(mu[deciding], risk, fraction)
    weights, prices = _solve(s, limits, fraction)
    target = weights[0]
    gradient = s.mu - s.covariance @ target / fraction
    for k in range(len(later.mu)):
        gradient += later.mu[k] - later.covariance[k] @ weights[1 + k] / fraction
    return _named_allocation(s, limits, unlimited, target, gradient, prices)


def nearest(situation: Situation, limits: Limits, desired: Array) -> Allocation:
    """The weights under every limit that are closest to desired ones [S], by least squares.

    Raises
    ------
    SolverFailed
        if the quadratic program is not solved.
    """
    n = len(desired)
    # The distance is Kelly's objective with the desired weights as returns and no correlation. It
    # has no costs, but coins are paid for with them: the cash shrinks by what they take.
    distance = replace(
        situation,
        mu=desired,
        covariance=np.eye(n),
        cost=np.zeros(n),
        unborrowed=situation.unborrowed / (1.0 + float(situation.cost.max())),
        toll=0.0,
        later=None,
    )
    weights, _ = _solve(distance, limits, 1.0)
    # The program's ridge moves a weight by 1e-10 of it. Where the limits allow the desired weight,
    # that is the answer to the last bit: whoever desires what is held must get no order.
    same = situation.deciding & (np.abs(weights[0] - desired) <= SAME)
    target = np.where(same, desired, weights[0])
    unlimited = np.where(situation.deciding, desired, np.nan)
    no_gradient = np.full(n, np.nan)
    no_prices = np.full(len(CEILINGS) + 1, np.nan)
    return _named_allocation(situation, limits, unlimited, target, no_gradient, no_prices)


def affordable(situation: Situation, allocation: Allocation) -> Allocation:
    """The allocation with purchases of coins as large as the venue takes them.

    It takes them only with cash that is there, what coins sold in the same decision bring included.
    What it does not take yet is left to the next decision.
    """
    s = situation
    increment = np.zeros(len(s.held)) if s.increment is None else s.increment
    target = affordable_weights(
        allocation.target,
        s.held,
        s.cost,
        s.crypto,
        increment,
        CENT / s.equity,
        s.unborrowed,
        s.order_margin,
    )
    cut = target != allocation.target
    if not cut.any():
        return allocation
    unpriced = {"unborrowed_cash": np.nan}
    binding = tuple(
        {**bound, **unpriced} if less else bound
        for bound, less in zip(allocation.binding, cut.tolist(), strict=True)
    )
    return replace(allocation, target=target, binding=binding)


def _solve(s: Situation, limits: Limits, fraction: float) -> tuple[Array, Array]:
    """Weights [1 + L, S] of the blocks and prices [4 + 1 + L], as of `best_weights`."""
    status, weights, prices = best_weights(
        s.mu,
        s.covariance,
        s.held,
        s.cost,
        s.crypto,
        s.long_only,
        s.deciding,
        s.equity,
        s.stock_ceiling,
        s.unborrowed,
        limits.caps,
        fraction,
        s.toll,
        s.later_blocks,
    )
    if status == SOLVED:
        return weights, prices
    lower, upper = limits.bounds(
        long_only=s.long_only, deciding=s.deciding, held=s.held, equity=s.equity
    )
    rows, rooms = spendable_ceilings(
        s.held, s.cost, s.crypto, s.stock_ceiling, s.unborrowed, limits.caps
    )
    problem = SizingProblem(
        s.mu, s.covariance, s.held, s.cost, lower, upper, rows, rooms, fraction, s.toll, s.later
    )
    raise SolverFailed(failure_text(status, len(s.mu)), problem)


@compiled
def best_weights(
    mu: Array,
    covariance: Array,
    held: Array,
    cost: Array,
    crypto: Mask,
    long_only: Mask,
    deciding: Mask,
    equity: float,
    stock_ceiling: float,
    unborrowed: float,
    caps: tuple[float, float, float],
    fraction: float,
    toll: float,
    later: LaterBlocks,
) -> tuple[int, Array, Array]:
    """Solve the plan of a situation, the first block under every limit.

    Parameters
    ----------
    mu, covariance, held, cost, crypto, long_only, deciding, equity, stock_ceiling, unborrowed, toll
        as the fields of `Situation`.
    caps
        `Limits.caps`.
    fraction
        of full Kelly.
    later
        the blocks after the first.

    Returns
    -------
    status
        as of `active_set.solve`.
    weights : [1 + L, S]
        of every block.
    prices : [4 + 1 + L]
        of the CEILINGS, then of what is borrowed in each block.
    """
    lower, upper = bounds_of(long_only, deciding, held, caps[0], equity >= caps[2])
    rows, limits = spendable_ceilings(held, cost, crypto, stock_ceiling, unborrowed, caps)
    return optimal_weights(
        mu, covariance, held, cost, lower, upper, rows, limits, fraction, toll, later
    )


@compiled
def _unlimited_weights(
    mu: Array, covariance: Array, deciding: Mask, fraction: float
) -> tuple[bool, Array]:
    """Fractional Kelly [S] of what decides, without limits or costs; NaN for the rest.

    And whether its covariance has a factor: where it has none, the weights are none.
    """
    chosen = np.flatnonzero(deciding)
    weights = mu[chosen] * fraction
    risk = np.empty((len(chosen), len(chosen)))
    for a in range(len(chosen)):
        for b in range(len(chosen)):
            risk[a, b] = covariance[chosen[a], chosen[b]]
    factored = factored_solve(risk, weights)
    unlimited = np.full(len(mu), np.nan)
    unlimited[chosen] = weights
    return factored, unlimited


def _named_allocation(
    s: Situation, limits: Limits, unlimited: Array, target: Array, gradient: Array, prices: Array
) -> Allocation:
    """The allocation with the names of what binds; gradient [S], prices as of `binding_limits`."""
    rows, rooms = spendable_ceilings(
        s.held, s.cost, s.crypto, s.stock_ceiling, s.unborrowed, limits.caps
    )
    binding = binding_limits(
        s.held,
        s.cost,
        s.long_only,
        s.deciding,
        s.equity,
        limits.caps,
        rows,
        rooms,
        unlimited,
        target,
        gradient,
        prices,
    )
    return Allocation(unlimited, target, binding)
