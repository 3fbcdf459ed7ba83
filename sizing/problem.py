"""The sizing problem of an instant: expected returns, costs, limits and current positions.

The classes are named tuples of numbers and arrays, which compiled functions accept without
conversion.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from foundation.arrays import Array, Index, Mask
from foundation.compiled import compiled, jit_inline, take_columns


class ExpectedReturns(NamedTuple):
    """Expected returns of S symbols over K periods; only the first period is traded.

    mu: [K, S] expected simple return.
    premium: [K, S] part of `mu` that comes from the premium; the remainder comes from the forecast.
        NaN if the part is unknown.
    covariance: [K, S, S] covariance of simple returns.
    universe: [S] whether the strategy may hold the symbol and it has a forecast.
    period_years: [S] trading time of each symbol's market in the first period, in years.
    """

    mu: Array
    premium: Array
    covariance: Array
    universe: Mask
    period_years: Array


class Costs(NamedTuple):
    """Costs of trading and borrowing.

    unit_cost: [K, S] trading cost per unit of weight change at the start of each period.
    financing_cost: [K] interest in USD on one USD borrowed in each period.
    """

    unit_cost: Array
    financing_cost: Array


class GroupConstraints(NamedTuple):
    """Linear constraints on groups of N weights, in multiples of equity.

    gross_coefficients: [G, N] coefficients cᵢ of the gross limits: Σ cᵢ·|wᵢ| ≤ gross_limits.
    gross_limits: [G] gross limits.
    net_coefficients: [M, N] coefficients nᵢ of the net limits: Σ nᵢ·wᵢ ≤ net_limits.
    net_limits: [M] net limits.
    market_index: index of the market symbol; -1: no limit on beta. The last two rows of
        `net_coefficients` are the betas to this symbol, and their negatives.
    """

    gross_coefficients: Array
    gross_limits: Array
    net_coefficients: Array
    net_limits: Array
    market_index: int


NO_GROUP_CONSTRAINTS = GroupConstraints(
    np.zeros((0, 0)), np.zeros(0), np.zeros((0, 0)), np.zeros(0), -1
)


@jit_inline
def select_constraints(constraints: GroupConstraints, chosen: Index) -> GroupConstraints:
    """Return the constraints restricted to some of the weights; the limits are unchanged.

    chosen: [m] indices of the selected weights, in order; the market symbol must be among them.
    """
    if len(constraints.gross_coefficients) + len(constraints.net_coefficients) == 0:
        return constraints
    market = -1
    for a in range(len(chosen)):
        if chosen[a] == constraints.market_index:
            market = a
    return GroupConstraints(
        take_columns(constraints.gross_coefficients, chosen),
        constraints.gross_limits,
        take_columns(constraints.net_coefficients, chosen),
        constraints.net_limits,
        market,
    )


@compiled
def with_market_betas(constraints: GroupConstraints, covariance: Array) -> GroupConstraints:
    """Return the constraints with betas to the market in the last two rows of `net_coefficients`.

    A beta is Σ cov(market, symbol) / Σ var(market) over all periods; 0 if the market has no
    variance. Without a limit on beta the constraints are unchanged.

    covariance: [K, S, S] covariance of simple returns.
    """
    if constraints.market_index < 0:
        return constraints
    net = constraints.net_coefficients.copy()
    at = constraints.market_index
    variance = 0.0
    for k in range(len(covariance)):
        variance += covariance[k, at, at]
    for s in range(net.shape[1]):
        shared = 0.0
        for k in range(len(covariance)):
            shared += covariance[k, at, s]
        beta = shared / variance if variance > 0.0 else 0.0
        net[len(net) - 2, s] = beta
        net[len(net) - 1, s] = -beta
    return GroupConstraints(
        constraints.gross_coefficients,
        constraints.gross_limits,
        net,
        constraints.net_limits,
        constraints.market_index,
    )


class BookLimits(NamedTuple):
    """Limits on a book, in multiples of equity where no unit is given.

    symbol_cap: maximum size of the weight of one symbol.
    crypto_cap: maximum gross crypto exposure.
    margin_equity: equity in USD below which short positions are not allowed.
    max_positions: maximum number of positions; infinite: no limit.
    stock_ceiling: maximum gross stock exposure that orders may reach now.
    granted_gross_exposure: gross stock exposure that the venue grants now; it may exceed
        `stock_ceiling`.
    crypto: [S] whether the symbol is crypto.
    long_only: [S] whether the symbol may not be short.
    group_constraints: limits on groups of symbols.
    """

    symbol_cap: float
    crypto_cap: float
    margin_equity: float
    max_positions: float
    stock_ceiling: float
    granted_gross_exposure: float
    crypto: Mask
    long_only: Mask
    group_constraints: GroupConstraints = NO_GROUP_CONSTRAINTS


def scale_limits(problem: DecisionProblem, factor: float) -> DecisionProblem:
    """Return the problem with its symbol cap and gross ceilings multiplied by a factor.

    Limits on groups and on the number of positions stay as they are.
    """
    if factor == 1.0:
        return problem
    limits = problem.limits
    return problem._replace(
        limits=limits._replace(
            symbol_cap=limits.symbol_cap * factor,
            crypto_cap=limits.crypto_cap * factor,
            stock_ceiling=limits.stock_ceiling * factor,
            granted_gross_exposure=limits.granted_gross_exposure * factor,
        )
    )


class CurrentWeights(NamedTuple):
    """Current positions of an account, as weights.

    held_weight: [S] current weight, position plus open orders.
    adjustable: [S] whether the weight may change now; other weights are fixed.
    exiting: [S] whether the symbol is closed because the strategy may not hold it; an exiting
        symbol is not adjustable.
    weight_increment: [S] weight of one lot; 0 if quantities are not rounded.
    equity: equity in USD.
    unborrowed_cash_share: cash that may buy crypto at the venue's check, in multiples of equity. A
        negative value is a debit that must be repaid before crypto can be bought.
    order_price_buffer: factor on the market price, at which the venue checks market buys.
    """

    held_weight: Array
    adjustable: Mask
    exiting: Mask
    weight_increment: Array
    equity: float
    unborrowed_cash_share: float
    order_price_buffer: float


class DecisionProblem(NamedTuple):
    """The sizing problem of one decision: expected returns, costs, limits and current weights."""

    returns: ExpectedReturns
    costs: Costs
    limits: BookLimits
    account: CurrentWeights


class AccountArrays(NamedTuple):
    """An account as N rows: the panel's symbols, other positions, then open closing orders.

    The rows from `position_count` on are the unfilled quantities of open closing orders. The row of
    a position excludes these quantities; they still count towards every limit until they fill.

    quantity: [N] signed quantity, position plus open orders.
    price: [N] price in USD; NaN if it is unknown.
    quantity_increment: [N] lot size in shares or coins; 0 if quantities are not rounded.
    min_order_value: [N] minimum value in USD of an order that does not close the position.
    dust_threshold: [N] minimum value in USD of a position that can be closed.
    tradable: [N] whether the venue accepts orders for the row.
    position_count: number of rows that are positions.
    equity: equity in USD.
    unborrowed_cash: cash in USD that may buy crypto; 0 or less if none is available.
    granted_leverage: gross stock exposure that the venue grants, in multiples of equity.
    is_shorting_enabled: whether the venue lends shares for short sales.
    free_equity_share: fraction of equity that is available as margin for stock positions.
    """

    quantity: Array
    price: Array
    quantity_increment: Array
    min_order_value: Array
    dust_threshold: Array
    tradable: Mask
    position_count: int
    equity: float
    unborrowed_cash: float
    granted_leverage: float
    is_shorting_enabled: bool
    free_equity_share: float


@compiled
def compute_current_weights(
    account: AccountArrays, adjustable: Mask, exiting: Mask, order_price_buffer: float
) -> CurrentWeights:
    """Convert an account's quantities to weights; without positive equity they are NaN.

    adjustable: [N] whether the weight may change now.
    exiting: [N] whether the symbol is closed because the strategy may not hold it.
    order_price_buffer: factor on the market price, at which the venue checks market buys.
    """
    equity = account.equity if account.equity > 0.0 else np.nan
    held = np.zeros(len(account.quantity))
    increment = np.zeros(len(held))
    for s in range(len(held)):
        # A symbol that is not held may have no price yet.
        if np.isfinite(account.price[s]):
            held[s] = account.quantity[s] * account.price[s] / equity
            increment[s] = account.quantity_increment[s] * account.price[s] / equity
    unborrowed = account.unborrowed_cash / equity / order_price_buffer
    return CurrentWeights(
        held, adjustable, exiting, increment, equity, unborrowed, order_price_buffer
    )
