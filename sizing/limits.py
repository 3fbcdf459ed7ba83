"""Limits on a book: per symbol, per asset class, and for the whole book."""

from __future__ import annotations

import numpy as np

from foundation.arrays import Array, Mask, Matrix
from foundation.compiled import compiled, copy_values, jit_inline
from sizing.increments import count_lots
from sizing.problem import BookLimits, CurrentWeights, DecisionProblem

FEE_ROUNDING_USD = 0.01  # fees are rounded up to a multiple of this
CEILING_TOL = 1e-9  # relative excess over a ceiling that counts as rounding of the solver
CEILING_NAMES = ("stock_gross", "crypto_gross", "unborrowed_cash", "joint")


@jit_inline
def allowed_leverage(leverage: float, equity: float, margin_equity: float) -> float:
    """Return the leverage that an account may use: at most 1× if equity is below `margin_equity`.

    equity, margin_equity: equity of the account, and minimum equity for margin, in USD.
    """
    return min(leverage, 1.0) if equity < margin_equity else leverage


@jit_inline
def overnight_trim_factor(
    weights: Array, crypto: Mask, trimmable: Mask, stock_ceiling: float
) -> float:
    """Return the factor, 0 … 1, that scales trimmable weights to satisfy the joint ceiling.

    The ceiling is: gross stock exposure / stock_ceiling + gross crypto exposure ≤ 1.

    weights: [S] weights of the book.
    trimmable: [S] whether the symbol may be trimmed.
    """
    load = 0.0
    part_loose = 0.0
    for s in range(len(weights)):
        part = abs(weights[s]) if crypto[s] else abs(weights[s]) / stock_ceiling
        load += part
        if trimmable[s]:
            part_loose += part
    # The solver leaves a full ceiling full up to rounding, which is no reason to trade.
    if load <= 1.0 + CEILING_TOL or part_loose == 0.0:
        return 1.0
    return max(1.0 - (load - 1.0) / part_loose, 0.0)


@compiled
def weight_bounds(limits: BookLimits, account: CurrentWeights) -> tuple[Array, Array]:
    """Return the lower and upper bounds of weights, [S] each.

    An adjustable symbol is bounded by ± the symbol cap. Other symbols are fixed at their current
    weights, or at 0 if they are exiting. The lower bound is 0 for long-only symbols, and for all
    symbols if the account's equity is too small for short positions. With sufficient equity, an
    existing short position in a long-only symbol may stay.
    """
    held = account.held_weight
    least = -limits.symbol_cap if account.equity >= limits.margin_equity else 0.0
    lower = held.copy()
    upper = held.copy()
    for s in range(len(held)):
        if account.adjustable[s]:
            # A symbol that cannot be sold short may be held short already: such a position may stay
            # or shrink, but not grow.
            lower[s] = max(least, min(held[s], 0.0)) if limits.long_only[s] else least
            upper[s] = limits.symbol_cap
        elif account.exiting[s]:
            lower[s] = 0.0
            upper[s] = 0.0
    return lower, upper


@jit_inline
def build_ceiling_constraints(problem: DecisionProblem) -> tuple[Array, Array]:
    """Return the coefficients [4, S] and limits [4] of the ceilings Σ coefficients·|w| ≤ limit.

    Their order is that of CEILING_NAMES.
    """
    limits = problem.limits
    held = problem.account.held_weight
    coefficients = np.zeros((4, len(held)))
    bounds = np.empty(4)
    coins = 0.0
    for s in range(len(held)):
        if limits.crypto[s]:
            coefficients[1, s] = coefficients[2, s] = coefficients[3, s] = 1.0
            coins += abs(held[s])
        else:
            coefficients[0, s] = 1.0
            coefficients[3, s] = 1.0 / limits.stock_ceiling
    bounds[0] = limits.stock_ceiling
    bounds[1] = limits.crypto_cap
    # Trading costs are paid from the same cash, and crypto may not be bought with borrowed cash.
    dearest = 0.0
    for s in range(len(held)):
        dearest = max(dearest, problem.costs.unit_cost[0, s])
    spendable = problem.account.unborrowed_cash_share / (1.0 + dearest)
    # Crypto is not marginable: cash below zero buys none, and held crypto is paid for already.
    bounds[2] = coins + max(spendable, 0.0)
    # Crypto is no margin for stocks: gross ≤ stock_ceiling · (1 - crypto), written as a sum.
    bounds[3] = 1.0
    return coefficients, bounds


@compiled
def build_gross_constraints(problem: DecisionProblem) -> tuple[Matrix, Array]:
    """Return the coefficients [4 + G, S] and limits [4 + G] of all gross limits.

    The first four are those of `build_ceiling_constraints`, the others the gross limits on G
    groups.
    """
    rows, bounds = build_ceiling_constraints(problem)
    groups = problem.limits.group_constraints
    count = len(groups.gross_limits)
    if count == 0:
        return rows, bounds
    all_rows = np.empty((len(rows) + count, rows.shape[1]))
    all_bounds = np.empty(len(bounds) + count)
    for k in range(len(rows)):
        all_bounds[k] = bounds[k]
        copy_values(all_rows[k], rows[k])
    for k in range(count):
        all_bounds[len(bounds) + k] = groups.gross_limits[k]
        copy_values(all_rows[len(bounds) + k], groups.gross_coefficients[k])
    return all_rows, all_bounds


def count_shadow_prices(problem: DecisionProblem) -> int:
    """Return the number of shadow prices, 4 + G + N + K.

    There are 4 ceilings, G gross and N net limits on groups, and K borrowing periods.
    """
    rows = problem.limits.group_constraints
    return (
        len(CEILING_NAMES)
        + len(rows.gross_coefficients)
        + len(rows.net_coefficients)
        + len(problem.returns.mu)
    )


@jit_inline
def net_limit_excess(
    problem: DecisionProblem, k: int, weights: Array, solved_weights: Array
) -> float:
    """Return the excess of weights over net limit k; negative if they satisfy the limit.

    If the solver's own weights exceed the limit, their exposure replaces it.

    weights, solved_weights: [S] weights to check, and the solver's weights.
    """
    rows = problem.limits.group_constraints
    use = 0.0
    allowed = 0.0
    for s in range(rows.net_coefficients.shape[1]):
        use += rows.net_coefficients[k, s] * weights[s]
        allowed += rows.net_coefficients[k, s] * solved_weights[s]
    return float(use - max(allowed, rows.net_limits[k]))


@jit_inline
def _sale_in_increments(held: float, weight: float, increment: float) -> float:
    """Return the size of a sale from one weight to a lower weight, in whole increments.

    The weight that remains is rounded to increments, too. A sale of the whole position is not
    rounded.
    """
    if weight == 0.0 or increment == 0.0:
        return held - weight
    left = count_lots(weight, increment) * increment
    return count_lots(held - left, increment) * increment


@compiled
def scale_crypto_buys_to_cash(problem: DecisionProblem, weights: Array) -> Array:
    """Scale all crypto purchases by one factor to the available cash; return the weights [S].

    Σ bought·(1 + cost) ≤ unborrowed + Σ sold·(1 - cost) / order_price_buffer, over crypto. A sale
    counts in whole increments, unless it closes the position, less a fee rounded up to the cent.
    What is not bought now can be bought at the next decision.

    weights: [S] target weights before scaling.
    """
    # `build_ceiling_constraints` limits the value of all crypto, as if a sale freed its whole
    # value. The venue checks a purchase above its price against the cash that sales have brought,
    # and refuses all of it if that cash falls short.
    account = problem.account
    crypto = problem.limits.crypto
    cost = problem.costs.unit_cost[0]
    held = account.held_weight
    cent = FEE_ROUNDING_USD / account.equity
    needed = 0.0
    freed = 0.0
    for s in range(len(held)):
        change = weights[s] - held[s]
        if crypto[s] and change > 0.0:
            needed += change * (1.0 + cost[s])
        elif crypto[s] and change < 0.0:
            sold = _sale_in_increments(held[s], weights[s], account.weight_increment[s])
            freed += max(sold * (1.0 - cost[s]) - cent, 0.0)
    payable = max(account.unborrowed_cash_share + freed / account.order_price_buffer, 0.0)
    affordable = weights.copy()
    # The solver fills a ceiling up to rounding.
    if needed <= payable + CEILING_TOL:
        return affordable
    share = payable / needed
    for s in range(len(held)):
        if crypto[s] and weights[s] > held[s]:
            affordable[s] = held[s] + share * (weights[s] - held[s])
    return affordable
