"""The sizing problem of an instant: what is expected, what it costs, what is allowed, what is held.

Four small values of plain numbers and arrays, which compiled functions take as they are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from foundation.arrays import Array, Index, Mask
from foundation.compiled import compiled, jit_inline, take_columns


class Returns(NamedTuple):
    """What S symbols are expected to return over K periods of time; the first one is acted on.

    mu: [K, S] expected simple return.
    premium: [K, S] what of it the stated premium expects, the rest being the forecast's; NaN where
        nobody says it.
    covariance: [K, S, S] of simple returns.
    universe: [S] what the strategy may hold and has a forecast of.
    years: [S] each symbol's own open time in the first period, in years.
    """

    mu: Array
    premium: Array
    covariance: Array
    universe: Mask
    years: Array


class Costs(NamedTuple):
    """What moving and borrowing cost.

    change: [K, S] of moving a weight by one at the start of each period.
    financing: [K] price of one USD borrowed in each period, USD.
    """

    change: Array
    financing: Array


class GroupConstraints(NamedTuple):
    """Limits on groups of N weights; multiples of equity.

    gross: [G, N] what a weight takes of each limit of sizes: Σ cᵢ·|wᵢ| ≤ most.
    gross_max: [G].
    net: [M, N] what it takes of each net limit: Σ nᵢ·wᵢ ≤ most.
    net_max: [M].
    market: the row of N whose betas the last two rows of `net` are, and less them; −1: none.
    """

    gross: Array
    gross_max: Array
    net: Array
    net_max: Array
    market: int


NO_GROUP_CONSTRAINTS = GroupConstraints(
    np.zeros((0, 0)), np.zeros(0), np.zeros((0, 0)), np.zeros(0), -1
)


@jit_inline
def select_constraints(rows: GroupConstraints, chosen: Index) -> GroupConstraints:
    """The limits over those chosen [m] of N weights, in order; the market has to be among them."""
    if len(rows.gross) + len(rows.net) == 0:
        return rows
    market = -1
    for a in range(len(chosen)):
        if chosen[a] == rows.market:
            market = a
    return GroupConstraints(
        take_columns(rows.gross, chosen),
        rows.gross_max,
        take_columns(rows.net, chosen),
        rows.net_max,
        market,
    )


@compiled
def with_betas(rows: GroupConstraints, covariance: Array) -> GroupConstraints:
    """The rows with each symbol's beta to the market; covariance [K, S, S].

    Over all periods: Σ cov(market, symbol) / Σ var(market). Where the market has no variance
        nothing
    has a beta.
    """
    if rows.market < 0:
        return rows
    net = rows.net.copy()
    at = rows.market
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
    return GroupConstraints(rows.gross, rows.gross_max, net, rows.net_max, rows.market)


class BookLimits(NamedTuple):
    """What a book may hold; multiples of equity.

    symbol_cap: of one symbol.
    crypto_cap: of all coins.
    margin_equity: USD below which nothing is short.
    max_positions: how many of them; infinite: any number.
    stock_ceiling: stock gross that orders may reach now.
    granted_gross: stock gross that is granted now, whether orders reach it or not.
    crypto: [S] whether it is a coin.
    long_only: [S] whether it may not be short.
    group_constraints: on groups of symbols.
    """

    symbol_cap: float
    crypto_cap: float
    margin_equity: float
    max_positions: float
    stock_ceiling: float
    granted_gross: float
    crypto: Mask
    long_only: Mask
    group_constraints: GroupConstraints = NO_GROUP_CONSTRAINTS


class CurrentWeights(NamedTuple):
    """An account as weights.

    held: [S] weight held plus open orders.
    adjustable: [S] whether it may change now; all others stay as they are.
    exiting: [S] whether it is sold now: it may not be held any more. It does not decide.
    increment: [S] weight of one increment; 0 where quantities are not rounded.
    equity: USD.
    unborrowed: cash that may buy coins, a multiple of equity at the venue's check; below 0, what
        has to be paid back before a coin can be bought.
    order_price_buffer: times their price, at which the venue checks market buys.
    """

    held: Array
    adjustable: Mask
    exiting: Mask
    increment: Array
    equity: float
    unborrowed: float
    order_price_buffer: float


class DecisionProblem(NamedTuple):
    """What a strategy is given to answer."""

    returns: Returns
    costs: Costs
    limits: BookLimits
    account: CurrentWeights


class AccountArrays(NamedTuple):
    """An account over N rows: the panel's symbols, then what is held beside them.

    The rows from `positions` on are what open orders have yet to take off a position. It counts as
    gone in `quantity`; until it has filled it keeps its part of every ceiling.

    quantity: [N] signed, held plus open.
    price: [N] USD; NaN where none is known.
    increment: [N] shares or coins that quantities are whole numbers of; 0 where nothing is rounded.
    min_order_value: [N] USD, the least value of an order, unless it closes the position.
    dust: [N] USD; a position of less value cannot be closed.
    tradable: [N] whether it may be ordered at all.
    position_count: number of rows that are positions.
    equity: USD.
    unborrowed: USD that may buy coins; not above 0 where there is none.
    leverage: stock gross that the venue grants, in multiples of equity.
    shorting: whether the venue lends shares.
    free_equity_share: share of equity that stocks may rest on.
    """

    quantity: Array
    price: Array
    increment: Array
    min_order_value: Array
    dust: Array
    tradable: Mask
    position_count: int
    equity: float
    unborrowed: float
    leverage: float
    shorting: bool
    free_equity_share: float


@compiled
def current_weights(
    account: AccountArrays, adjustable: Mask, exiting: Mask, order_price_buffer: float
) -> CurrentWeights:
    """The account as weights; NaN without equity. adjustable, exiting: [N]."""
    equity = account.equity if account.equity > 0.0 else np.nan
    held = np.zeros(len(account.quantity))
    increment = np.zeros(len(held))
    for s in range(len(held)):
        # What is not held may have no price yet.
        if np.isfinite(account.price[s]):
            held[s] = account.quantity[s] * account.price[s] / equity
            increment[s] = account.increment[s] * account.price[s] / equity
    unborrowed = account.unborrowed / equity / order_price_buffer
    return CurrentWeights(
        held, adjustable, exiting, increment, equity, unborrowed, order_price_buffer
    )
