"""Target weights under limits, computed alike in backtests, live trading and `get_qty`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from foundation.arrays import Array
from foundation.compiled import compiled, jit_inline, jit_inline_ir
from sizing.binding import BindingLimits, find_binding_limits
from sizing.explanation import TargetExplanation, explain_targets
from sizing.inputs import SizingInputs
from sizing.kelly import SolverFailed, format_solver_failure
from sizing.limits import CEILING_NAMES, build_gross_constraints, count_shadow_prices, weight_bounds
from sizing.problem import Costs, CurrentWeights, DecisionProblem, ExpectedReturns
from sizing.solver.active_set import SOLVED
from sizing.solver.cardinality import solve_with_max_positions
from sizing.solver.multi_period import SizingProblem, optimal_weights
from trainingdata.instruments import AssetClass
from trainingdata.timeframe import HoldingRule

WEIGHT_TOL = 1e-9  # a weight this close to its desired value is set to that value


@dataclass(frozen=True, eq=False, slots=True)
class Allocation:
    """Target weights of a strategy, with the limits that bind them and the reasons for them.

    unconstrained_weight: [S] weights before any limit or cost, for a plan over all its periods; NaN
        for symbols that are not adjustable.
    target_weight: [S] weights under all limits.
    binding_limits: limits that bind each target; `cost` means that the gain from trading is below
        the trading cost.
    premium_weight, forecast_weight: [S] parts of `unconstrained_weight` that come from the premium
        alone and from the forecast alone. They are NaN for symbols that are not adjustable, and if
        the premium's part of the expected return is unknown. An unconstrained Kelly weight is
        linear in expected returns, so that both parts add up to it. Any remainder has another
        source: the shape of returns, or a strategy's rule.
    stop_price: [S] price at which the strategy closes each position, USD; NaN without a stop. None:
        the strategy has no stops.
    reasons: [S] the strategy's own reason for each weight, empty without a reason. None: it has
        none.
    """

    unconstrained_weight: Array
    target_weight: Array
    binding_limits: BindingLimits
    premium_weight: Array
    forecast_weight: Array
    stop_price: Array | None = None
    reasons: Sequence[str] | None = None

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
        """True if expected returns include the forecast."""

    @property
    def uses_risk_premium(self) -> bool:
        """True if expected returns include the premium of the asset class."""

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
    status, weights, prices = solve_multi_period_plan(inputs.problem, fraction)
    if status != SOLVED:
        raise _solver_failed(status, inputs.problem, fraction)
    why = explain_targets(inputs.problem, weights, prices, fraction)
    return _explained(inputs, weights[0], why, prices)


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
    ranked = np.empty(0) if ranking_weights is None else ranking_weights
    status, target = closest_feasible_weights(inputs.problem, desired, ranked)
    if status != SOLVED:
        raise _solver_failed(status, _distance_problem(inputs.problem, desired), 1.0)
    why = explain_projection(inputs.problem, desired, target, forecast_directed)
    prices = np.full(count_shadow_prices(inputs.problem), np.nan)
    return _explained(inputs, target, why, prices)


def _explained(
    inputs: SizingInputs, target: Array, why: TargetExplanation, prices: Array
) -> Allocation:
    binding_limits = BindingLimits(
        why.binding_bits, why.symbol_bound_shadow_price, prices, inputs.group_limit_names
    )
    return Allocation(
        why.unconstrained_weight, target, binding_limits, why.premium_weight, why.forecast_weight
    )


@compiled
def keep_weights_within_band(held: Array, desired: Array, band: float) -> tuple[Array, Array]:
    """Keep current weights within a rebalancing band; return weights and ranking weights, [S].

    A current position in the desired direction is ranked by its desired weight times 1 + band.

    held, desired: [S] current and desired weights.
    band: relative distance from the desired weight within which a current weight is kept.
    """
    wanted = desired.copy()
    ranked = desired.copy()
    for s in range(len(desired)):
        if abs(desired[s] - held[s]) <= band * abs(desired[s]):
            wanted[s] = held[s]
        if held[s] * desired[s] > 0.0:
            ranked[s] = (1.0 + band) * desired[s]
    return wanted, ranked


@compiled
def closest_feasible_weights(
    problem: DecisionProblem, desired: Array, ranking: Array
) -> tuple[int, Array]:
    """Return the solver status, and the feasible weights [S] closest to desired ones.

    desired: [S] desired weights.
    ranking: [S] weights by which positions are ranked if `max_positions` allows fewer; empty: the
        desired weights.
    """
    n = len(desired)
    adjustable = problem.account.adjustable
    program = build_sizing_problem(_distance_problem(problem, desired), 1.0)
    most = problem.limits.max_positions
    target = np.empty(n)
    for s in range(n):
        target[s] = desired[s] if adjustable[s] else program.lower[s]
    # The program's ridge moves a weight by 1e-10 of it. Where the limits allow the desired weight,
    # the target equals it to the last bit: a desired weight that is held must give no order.
    if most >= n and _satisfies_limits(program, target):
        return SOLVED, target
    wanted = desired
    if len(ranking) > 0 and _count_nonzero(desired) > most:
        by_rank = build_sizing_problem(_distance_problem(problem, ranking), 1.0)
        status, chosen, _ = solve_with_max_positions(by_rank, most)
        if status != SOLVED:
            return status, target
        wanted = np.zeros(n)
        for s in range(n):
            if chosen[0, s] != 0.0:
                wanted[s] = desired[s]
    status, weights, _ = solve_multi_period_plan(_distance_problem(problem, wanted), 1.0)
    for s in range(n):
        if not (adjustable[s] and abs(weights[0, s] - desired[s]) <= WEIGHT_TOL):
            target[s] = weights[0, s]
    return status, target


@compiled
def _distance_problem(problem: DecisionProblem, desired: Array) -> DecisionProblem:
    """Return the problem whose solution is closest to desired weights [S] by least squares.

    The distance is Kelly's objective with the desired weights as returns and no correlation. It has
    no costs, but purchases of crypto do, so the cash shrinks by them.
    """
    n = len(desired)
    returns = problem.returns
    account = problem.account
    mu = np.empty((1, n))
    identity = np.zeros((1, n, n))
    for s in range(n):
        mu[0, s] = desired[s]
        identity[0, s, s] = 1.0
    return DecisionProblem(
        ExpectedReturns(mu, returns.premium, identity, returns.universe, returns.period_years),
        Costs(np.zeros((1, n)), np.zeros(1)),
        problem.limits,
        CurrentWeights(
            account.held_weight,
            account.adjustable,
            account.exiting,
            account.weight_increment,
            account.equity,
            account.unborrowed_cash_share / (1.0 + problem.costs.unit_cost[0].max()),
            account.order_price_buffer,
        ),
    )


@jit_inline
def _satisfies_limits(program: SizingProblem, weights: Array) -> bool:
    """Return whether weights [S] satisfy every limit; false if any of them is NaN."""
    for s in range(len(weights)):
        if not program.lower[s] <= weights[s] <= program.upper[s]:
            return False
    for g in range(len(program.ceilings)):
        use = 0.0
        for s in range(len(weights)):
            use += program.ceiling_coefficients[g, s] * abs(weights[s])
        if not use <= program.ceilings[g]:
            return False
    for g in range(len(program.net_limits)):
        use = 0.0
        for s in range(len(weights)):
            use += program.net_coefficients[g, s] * weights[s]
        if not use <= program.net_limits[g]:
            return False
    return True


@jit_inline
def _count_nonzero(weights: Array) -> int:
    count = 0
    for s in range(len(weights)):
        count += weights[s] != 0.0
    return count


@compiled
def explain_projection(
    problem: DecisionProblem, desired: Array, target: Array, forecast_directed: bool
) -> TargetExplanation:
    """Explain targets [S] that are the feasible weights closest to desired weights [S]."""
    n = len(desired)
    unconstrained = np.full(n, np.nan)
    none = np.full(n, np.nan)
    for s in range(n):
        if problem.account.adjustable[s]:
            unconstrained[s] = desired[s]
            none[s] = 0.0
    unpriced = np.full(n, np.nan)
    groups = problem.limits.group_constraints
    count = len(CEILING_NAMES) + len(groups.gross_limits) + len(groups.net_limits)
    no_prices = np.full(count + len(problem.returns.mu), np.nan)
    bits, bound_price = find_binding_limits(problem, unconstrained, target, unpriced, no_prices)
    forecast = unconstrained if forecast_directed else none
    return TargetExplanation(unconstrained, bits, bound_price, none, forecast)


def _solver_failed(status: int, problem: DecisionProblem, fraction: float) -> SolverFailed:
    text = format_solver_failure(status, len(problem.account.held_weight))
    return SolverFailed(text, build_sizing_problem(problem, fraction))


@jit_inline_ir
def solve_multi_period_plan(problem: DecisionProblem, fraction: float) -> tuple[int, Array, Array]:
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
    """
    program = build_sizing_problem(problem, fraction)
    if problem.limits.max_positions < len(program.held_weight):
        return solve_with_max_positions(program, problem.limits.max_positions)
    return optimal_weights(program)


@compiled
def build_sizing_problem(problem: DecisionProblem, fraction: float) -> SizingProblem:
    """Convert a decision problem to the solver's form, with limits as bounds and ceilings.

    fraction: fraction of full Kelly.
    """
    lower, upper = weight_bounds(problem.limits, problem.account)
    rows, bounds = build_gross_constraints(problem)
    return SizingProblem(
        problem.returns.mu,
        problem.returns.covariance,
        problem.costs.unit_cost,
        problem.costs.financing_cost,
        problem.account.held_weight,
        lower,
        upper,
        rows,
        bounds,
        fraction,
        problem.limits.group_constraints.net_coefficients,
        problem.limits.group_constraints.net_limits,
    )
