"""Target weights under limits, by the same code for backtest, live trading and `get_qty`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from foundation.arrays import Array, Index
from foundation.compiled import compiled, jit_inline_ir
from sizing.binding import BindingLimits, find_binding_limits
from sizing.explanation import explain_targets
from sizing.inputs import SizingInputs
from sizing.kelly import SolverFailed, format_solver_failure
from sizing.limits import build_gross_constraints, count_shadow_prices, weight_bounds
from sizing.problem import Costs, DecisionProblem
from sizing.solver.active_set import SOLVED
from sizing.solver.cardinality import sparse_weights
from sizing.solver.multi_period import SizingProblem, optimal_weights
from trainingdata.instruments import AssetClass
from trainingdata.timeframe import HoldingRule

WEIGHT_TOL = 1e-9  # a weight this close to its desired value is set to that value


@dataclass(frozen=True, eq=False, slots=True)
class Allocation:
    """Target weights of a strategy, with the limits that bind them and the reasons for them.

    unconstrained_weight: [S] weights before any limit or cost, computed over `horizon_periods`; NaN
        for symbols that are not adjustable.
    target_weight: [S] weights under all limits.
    binding_limits: limits that bind each target; `cost` means that the gain from trading is below
        the trading cost.
    horizon_periods: [S] number of periods, counted from the first, over which
        `unconstrained_weight` is computed.
    premium_weight, forecast_weight: [S] parts of `unconstrained_weight` that come from the premium
        alone and from the forecast alone. They are NaN for symbols that are not adjustable, and if
        the premium's part of the expected return is unknown. An unconstrained Kelly weight is
        linear in expected returns, so that both parts add up to it. Any remainder has another
        source: a hedge of other symbols' targets, the shape of returns, or a strategy's rule.
    optimality_gap: upper bound on the gain of the best book of `limits.max_positions` positions
        over this book, as a return net of risk and cost over all periods; NaN if targets are not
        chosen by return, or no bound is known.
    """

    unconstrained_weight: Array
    target_weight: Array
    binding_limits: BindingLimits
    horizon_periods: Index
    premium_weight: Array
    forecast_weight: Array
    optimality_gap: float = 0.0

    @property
    def binding_shadow_prices(self) -> tuple[Mapping[str, float], ...]:
        """Shadow prices of the limits that bind each of S targets, by name of the limit.

        A shadow price is the gain in expected return over the interval, net of risk and cost, per
        unit of the limit; NaN if targets are not chosen by return.
        """
        return self.binding_limits.binding_shadow_prices


class Strategy(Protocol):
    """Interface of a strategy: a rule that turns sizing inputs into target weights."""

    @property
    def uses_forecast(self) -> bool:
        """Whether expected returns include the forecast."""

    @property
    def uses_premium(self) -> bool:
        """Whether expected returns include the premium of the asset class."""

    @property
    def holding_interval(self) -> HoldingRule | None:
        """Holding interval that the strategy requires; None: the configured interval.

        `session` is for strategies that compare the risk of symbols over a whole day.
        """

    @property
    def lookback(self) -> int:
        """Number of each symbol's bars in the price history that the strategy reads; 0: none."""

    def allocate(self, inputs: SizingInputs) -> Allocation:
        """Return the target weights; symbols that are not adjustable keep their weights."""

    def log_phrase(self, kind: AssetClass, stock_ceiling: float) -> str:
        """Return the phrase that the log shows for a sized symbol; operators search for it.

        kind: asset class of the sized symbol.
        stock_ceiling: maximum gross stock exposure, in multiples of equity.
        """


def allocate_kelly(inputs: SizingInputs, fraction: float) -> Allocation:
    """Return fractional Kelly weights under limits, net of the costs of trading and borrowing.

    Symbols that are not adjustable keep their weights.

    fraction: fraction of full Kelly.

    Raises
    ------
    SolverFailed
        if the quadratic program is not solved.
    """
    weights, prices, gap = _solve_for_weights(inputs.problem, fraction)
    why = explain_targets(inputs.problem, weights, prices, fraction)
    binding_limits = BindingLimits(
        why.binding_bits, why.bound_shadow_price, prices, inputs.group_limit_names
    )
    return Allocation(
        why.unconstrained_weight,
        weights[0],
        binding_limits,
        why.horizon_periods,
        why.premium_weight,
        why.forecast_weight,
        gap,
    )


def project_onto_limits(
    inputs: SizingInputs,
    desired: Array,
    *,
    ranking_weights: Array | None = None,
    forecast_directed: bool = False,
) -> Allocation:
    """Return the weights within all limits that are closest to desired weights, by least squares.

    The allocation has one period and no premium.

    desired: [S] desired weights.
    ranking_weights: [S] weights by which positions are ranked if `limits.max_positions` allows
        fewer positions than desired; None: the desired weights.
    forecast_directed: whether the forecast alone determines the sign of every desired weight.
    """
    n = len(desired)
    problem = inputs.problem
    account = problem.account
    # The distance is Kelly's objective with the desired weights as returns and no correlation. The
    # distance has no costs, but purchases of crypto do, so the cash shrinks by them.
    unborrowed = account.unborrowed_cash_share / (1.0 + float(inputs.unit_cost.max()))
    distance = problem._replace(
        returns=problem.returns._replace(mu=desired[None], covariance=np.eye(n)[None]),
        costs=Costs(np.zeros((1, n)), np.zeros(1)),
        account=account._replace(unborrowed_cash_share=unborrowed),
    )
    chosen_gap = 0.0
    if ranking_weights is not None and np.count_nonzero(desired) > problem.limits.max_positions:
        choice = distance.returns._replace(mu=ranking_weights[None])
        chosen, _, chosen_gap = _solve_for_weights(distance._replace(returns=choice), 1.0)
        standing = distance.returns._replace(mu=np.where(chosen != 0.0, desired, 0.0))
        distance = distance._replace(returns=standing)
    weights, _, gap = _solve_for_weights(distance, 1.0)
    # The program's ridge moves a weight by 1e-10 of it. Where the limits allow the desired weight,
    # the target equals it to the last bit: a desired weight that is held must give no order.
    same = inputs.adjustable & (np.abs(weights[0] - desired) <= WEIGHT_TOL)
    target = np.where(same, desired, weights[0])
    unconstrained = np.where(inputs.adjustable, desired, np.nan)
    unpriced = np.full(n, np.nan)
    no_prices = np.full(count_shadow_prices(problem), np.nan)
    held_by, bound_price = find_binding_limits(problem, unconstrained, target, unpriced, no_prices)
    binding_limits = BindingLimits(held_by, bound_price, no_prices, inputs.group_limit_names)
    none = np.where(inputs.adjustable, 0.0, np.nan)
    periods = np.ones(n, dtype=np.int64)
    forecast = unconstrained if forecast_directed else none
    gap = 0.0 if gap == chosen_gap == 0.0 else np.nan  # a distance is not a return
    return Allocation(unconstrained, target, binding_limits, periods, none, forecast, gap)


def _solve_for_weights(problem: DecisionProblem, fraction: float) -> tuple[Array, Array, float]:
    """Solve a multi-period plan.

    Returns weights [K, S], shadow prices [4 + G + N + K] and the optimality gap, as in
    `solve_plan`.

    Raises
    ------
    SolverFailed
        if the quadratic program is not solved.
    """
    status, weights, prices, gap = solve_plan(problem, fraction)
    if status == SOLVED:
        return weights, prices, gap
    text = format_solver_failure(status, len(problem.account.held_weight))
    raise SolverFailed(text, build_sizing_problem(problem, fraction))


@jit_inline_ir
def solve_plan(problem: DecisionProblem, fraction: float) -> tuple[int, Array, Array, float]:
    """Solve the multi-period plan; limits apply to its first period only.

    Later periods have only trading and borrowing costs.

    fraction: fraction of full Kelly.

    Returns
    -------
    status
        SOLVED, INFEASIBLE or UNFINISHED of `active_set`.
    weights : [K, S]
        weights of every period.
    prices : [4 + G + N + K]
        shadow prices of the four limits in CEILING_NAMES, of the groups' G gross and N net limits,
        then of borrowing in each period.
    gap
        upper bound on the objective lost by the limit on the number of positions.
    """
    program = build_sizing_problem(problem, fraction)
    if problem.limits.max_positions < len(program.held_weight):
        return sparse_weights(program, problem.limits.max_positions)
    status, weights, prices = optimal_weights(program)
    return status, weights, prices, 0.0


@compiled
def build_sizing_problem(problem: DecisionProblem, fraction: float) -> SizingProblem:
    """Convert a decision problem to the solver's form, with limits as bounds and ceilings.

    fraction: fraction of full Kelly.
    """
    lower, upper = weight_bounds(problem.limits, problem.account)
    rows, rooms = build_gross_constraints(problem)
    return SizingProblem(
        problem.returns.mu,
        problem.returns.covariance,
        problem.costs.unit_cost,
        problem.costs.financing_cost,
        problem.account.held_weight,
        lower,
        upper,
        rows,
        rooms,
        fraction,
        problem.limits.group_constraints.net_coefficients,
        problem.limits.group_constraints.net_limits,
    )
