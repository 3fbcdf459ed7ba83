"""Conversion of beliefs and an account to a sizing problem, and of its weights to lots.

Live trading, a backtest and a sweep all call `build_problem` and `round_to_lots` at every instant.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from execution.decision.beliefs import (
    BeliefTable,
    build_expected_returns,
    forecast_share,
    select_and_pad,
)
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.orders import OrderSizeLimits
from foundation.arrays import Array, Index, Mask
from foundation.compiled import compiled, jit_inline, take
from sizing.increments import count_lots, required_order_value
from sizing.limits import (
    CEILING_TOL,
    allowed_leverage,
    net_limit_excess,
    overnight_trim_factor,
    scale_crypto_buys_to_cash,
)
from sizing.problem import (
    NO_GROUP_CONSTRAINTS,
    AccountArrays,
    BookLimits,
    Costs,
    DecisionProblem,
    GroupConstraints,
    compute_current_weights,
    select_constraints,
    with_market_betas,
)
from sizing.solver.multi_period import compute_weight_change_costs
from trainingdata.bars import Bars
from trainingdata.instruments import is_crypto

MAX_NET_LIMIT_ROUNDS = 3  # rounds, as a reduction for one net limit can exceed another
ORDER_TOO_SMALL_CODE = 1  # the order's value is below the venue's minimum
DUST_POSITION_CODE = 2  # the position's value is below the least that the venue closes


class SizingParameters(NamedTuple):
    """Trading costs and limits of a decision, as arrays over the N rows of an account.

    crypto: [N] true for crypto.
    long_only: [N] true for rows that may not be short, even if the venue lends shares.
    unit_cost: [N] one-way cost of trading one USD.
    uses_forecast: true if the strategy uses the forecast.
    compiled_limits: symbol cap, crypto cap, margin equity (USD) and position count, from
        `Limits.compiled_limits`.
    intraday_and_overnight_leverage: largest gross stock exposure intraday, and overnight, in
        multiples of equity.
    order_price_buffer: factor by which the venue raises an order's price when it checks buying
        power.
    group_constraints: group limits over the N rows, without betas.
    """

    crypto: Mask
    long_only: Mask
    unit_cost: Array
    uses_forecast: bool
    compiled_limits: tuple[float, float, float, float]
    intraday_and_overnight_leverage: tuple[float, float]
    order_price_buffer: float
    group_constraints: GroupConstraints = NO_GROUP_CONSTRAINTS


@compiled
def select_sizing_terms(terms: SizingParameters, chosen: Index) -> SizingParameters:
    """Return the terms of the symbols at the indices `chosen` [m] of a panel."""
    return SizingParameters(
        take(terms.crypto, chosen),
        take(terms.long_only, chosen),
        take(terms.unit_cost, chosen),
        terms.uses_forecast,
        terms.compiled_limits,
        terms.intraday_and_overnight_leverage,
        terms.order_price_buffer,
        select_constraints(terms.group_constraints, chosen),
    )


class LabelledAccountArrays(NamedTuple):
    """Arrays of an account, with the names of its N rows.

    Panel symbols come first, then other positions, then the parts of positions that open orders
    would close.

    symbols: [N] names; empty in the rows for parts that open orders would close.
    crypto: [N] true for crypto.
    arrays: account arrays; the quantity of a position includes its open orders.
    reduction_symbols: symbols of the rows with an empty name.
    limit_factor: factor of the limits on weights at the account's drawdown.
    """

    symbols: tuple[str, ...]
    crypto: Mask
    arrays: AccountArrays
    reduction_symbols: tuple[str, ...] = ()
    limit_factor: float = 1.0


def build_labelled_account_arrays(
    bars: Bars, account: AccountSnapshot, size_limits: OrderSizeLimits
) -> LabelledAccountArrays:
    """Return the arrays of an account with the names of their rows.

    Panel symbols come first, then other positions, then the parts of positions that open orders
    would close. Such a part counts towards every limit until the order fills.
    """
    exposure = account.projected_positions
    outside = [symbol for symbol in exposure if symbol not in bars.symbols]
    # Exposure counts an open reduction as filled. Until it has filled, the position and its margin
    # are still there, so it keeps its part of every ceiling.
    reductions = account.open_reductions
    symbols = (*bars.symbols, *outside)
    quantities = [float(exposure.get(symbol, 0)) for symbol in symbols]
    quantities += [float(quantity) for quantity in reductions.values()]
    named = (*symbols, *reductions)
    fixed = len(named) - len(bars.symbols)
    price = np.array([account.prices.get(symbol, np.nan) for symbol in named])
    least, dust = _min_order_and_dust_values(bars, price[: len(bars.symbols)], size_limits)
    row = AccountArrays(
        quantity=np.array(quantities),
        price=price,
        quantity_increment=np.array(
            [float(item.qty_increment) for item in bars.instruments] + fixed * [0.0]
        ),
        min_order_value=np.append(least, np.zeros(fixed)),
        dust_threshold=np.append(dust, np.zeros(fixed)),
        # Positions outside the panel are never traded.
        tradable=np.append(bars.tradable, np.zeros(fixed, dtype=bool)),
        position_count=len(symbols),
        equity=account.equity,
        unborrowed_cash=account.unborrowed_cash,
        granted_leverage=account.max_leverage,
        is_shorting_enabled=account.is_shorting_enabled,
        free_equity_share=account.free_equity_share,
    )
    beside = [is_crypto(symbol) for symbol in named[len(bars.symbols) :]]
    crypto = np.append(bars.crypto, np.array(beside, dtype=bool))
    names = (*symbols, *[""] * len(reductions))
    return LabelledAccountArrays(names, crypto, row, tuple(reductions), account.limit_factor)


def _min_order_and_dust_values(
    bars: Bars, price: Array, terms: OrderSizeLimits
) -> tuple[Array, Array]:
    """Return the minimum value of an order, and of a position that can be closed, [S] each.

    The values are in USD. The venue's minimum order quantity of an asset, if any, limits both.
    """
    named = np.array([float(item.min_order_qty) for item in bars.instruments]) * price
    least = np.fmax(terms.min_values_when_sized(bars.crypto), named * (1 + terms.price_margin))
    return least, np.where(named > 0, named, terms.dust_values(bars.crypto))


class RoundedTargets(NamedTuple):
    """Targets of an account's N rows, rounded to lots.

    target_weight: [N] target weight.
    lots: [N] target as a signed number of quantity increments; NaN for rows that are not traded.
    is_trimmed: [N] true for stocks trimmed to the overnight ceiling without new weights.
    no_order_reason_codes: [N] reason why a change of the position makes no order: 0 for none,
        `ORDER_TOO_SMALL_CODE` or `DUST_POSITION_CODE`.
    """

    target_weight: Array
    lots: Array
    is_trimmed: Mask
    no_order_reason_codes: Index


@compiled
def build_problem(
    beliefs: BeliefTable,
    row: int,
    chosen: Index,
    class_sharpe: Array,
    financing: Array,
    account: AccountArrays,
    terms: SizingParameters,
) -> DecisionProblem:
    """Return the sizing problem of instant `row` of the beliefs, over the rows of an account.

    Rows without beliefs keep their weights. They count towards the limits and have no variance.

    chosen: [m] indices, among the S symbols of the beliefs, of the symbols in the first m rows.
    class_sharpe: [2] yearly Sharpe ratios of stocks and of crypto, as used by the strategy.
    financing: [K] cost, USD, of borrowing one USD in each period.
    """
    size = len(account.quantity)
    adjustable = select_and_pad(beliefs.is_adjustable[row], chosen, size)
    exiting = select_and_pad(beliefs.is_exiting[row], chosen, size)
    signal = np.zeros(size)
    if terms.uses_forecast:
        signal = select_and_pad(beliefs.signal_rms[row], chosen, size)
        for a in range(len(chosen)):
            signal[a] *= forecast_share(beliefs, row)
    returns = build_expected_returns(beliefs, row, chosen, class_sharpe, terms.uses_forecast, size)
    day, night = terms.intraday_and_overnight_leverage
    allowed = night if beliefs.is_overnight[row] else day
    margin_equity = terms.compiled_limits[2]
    # The venue's check of orders leaves a part of its loan unused. Collateral of open spreads
    # supports no loan on stocks.
    reachable = min(allowed, account.granted_leverage / terms.order_price_buffer)
    limits = BookLimits(
        terms.compiled_limits[0],
        terms.compiled_limits[1],
        margin_equity,
        terms.compiled_limits[3],
        allowed_leverage(reachable, account.equity, margin_equity) * account.free_equity_share,
        allowed_leverage(min(allowed, account.granted_leverage), account.equity, margin_equity),
        terms.crypto,
        # An account to which the venue lends no shares holds stocks long only, like crypto.
        terms.long_only if account.is_shorting_enabled else np.ones(size, dtype=np.bool_),
        with_market_betas(terms.group_constraints, returns.covariance),
    )
    return DecisionProblem(
        returns,
        Costs(compute_weight_change_costs(terms.unit_cost, signal, len(financing)), financing),
        limits,
        compute_current_weights(account, adjustable, exiting, terms.order_price_buffer),
    )


@compiled
def round_to_lots(
    problem: DecisionProblem,
    weights: Array,
    is_sized: bool,
    account: AccountArrays,
    trim_overnight: bool,
) -> RoundedTargets:
    """Round weights [N] towards zero to the lots of each row.

    Before the night, stocks without new weights (no forecast, a missing bar, a failed solver) are
    trimmed to the broker's overnight ceiling, all by the same fraction. Without equity, every
    position that can trade is closed. Symbols that leave the universe are always closed.

    is_sized: true if `weights` solve the problem. If false, positions stay as they are.
    trim_overnight: true if stocks can be trimmed to the overnight ceiling at this instant.
    """
    held = problem.account.held_weight
    adjustable = problem.account.adjustable
    exiting = problem.account.exiting
    crypto = problem.limits.crypto
    count = account.position_count
    kept = scale_crypto_buys_to_cash(problem, weights) if is_sized else held
    target = _zero_exiting_weights(kept, exiting)
    lots = np.full(len(held), np.nan)
    no_order_reason_codes = np.zeros(len(held), dtype=np.int64)
    trimmable = np.zeros(len(held), dtype=np.bool_)
    if trim_overnight:
        _mark_unsized_stocks(trimmable, problem, is_sized, account)
    # Weights are fractions of equity; without equity, every position that can be closed is closed.
    if not account.equity > 0.0:
        for s in range(count):
            if adjustable[s] or exiting[s] or trimmable[s]:
                target[s] = 0.0
                lots[s] = 0.0
        _skip_small_changes(target, lots, no_order_reason_codes, held, account)
        return RoundedTargets(target, lots, trimmable, no_order_reason_codes)
    if trim_overnight:
        ceiling = problem.limits.stock_ceiling
        share = overnight_trim_factor(target[:count], crypto[:count], trimmable[:count], ceiling)
        for s in range(count):
            trimmable[s] &= share < 1.0
            if trimmable[s]:
                target[s] = held[s] * share
    for s in range(count):
        # A fee in crypto leaves quantities off the grid of increments. Rounding a position that is
        # at its target would sell that dust in every decision.
        if target[s] != held[s]:
            lots[s] = count_lots(
                target[s] * account.equity / account.price[s], account.quantity_increment[s]
            )
    _enforce_net_limits(problem, weights, is_sized, lots, account)
    _skip_small_changes(target, lots, no_order_reason_codes, held, account)
    return RoundedTargets(target, lots, trimmable, no_order_reason_codes)


@jit_inline
def _zero_exiting_weights(weights: Array, exiting: Mask) -> Array:
    """Return a copy of weights [N], with 0 for symbols that leave the universe."""
    target = weights.copy()
    for s in range(len(target)):
        if exiting[s]:
            target[s] = 0.0
    return target


@jit_inline
def _skip_small_changes(
    target: Array, lots: Array, no_order_reason_codes: Index, held: Array, account: AccountArrays
) -> None:
    """Leave a position unchanged if the venue would refuse the change as too small.

    The venue lets a whole position be closed if its value exceeds the dust threshold. A reduction
    that is too small is not sent, even if it would restore a limit. The limit is then exceeded by
    less than the minimum order value.

    held: [N] weights before the decision.
    """
    for s in range(account.position_count):
        lot = account.quantity_increment[s]
        if np.isnan(lots[s]) or not account.min_order_value[s] > 0.0 or not lot > 0.0:
            continue
        closes = lots[s] == 0.0 and account.quantity[s] != 0.0
        size = abs(account.quantity[s])
        if not closes:
            size = abs(count_lots(lots[s] * lot - account.quantity[s], lot)) * lot
        # A change of less than one increment is not an order at all.
        if (
            0.0
            < size * account.price[s]
            < required_order_value(closes, account.min_order_value[s], account.dust_threshold[s])
        ):
            target[s] = held[s]
            lots[s] = np.nan
            no_order_reason_codes[s] = DUST_POSITION_CODE if closes else ORDER_TOO_SMALL_CODE


@compiled
def _enforce_net_limits(
    problem: DecisionProblem, weights: Array, sized: bool, lots: Array, account: AccountArrays
) -> None:
    """Reduce positions by whole increments if rounding a short position breaks a net limit.

    Only positions due to trade are reduced. A net limit that requires a position (a negative limit)
    is not enforced here: rounding may break it.

    weights: [N] weights of the solution.
    """
    rows = problem.limits.group_constraints
    if len(rows.net_limits) == 0 or not sized:
        return
    held = problem.account.held_weight
    rounded = held.copy()
    for s in range(len(held)):
        if not np.isnan(lots[s]):
            rounded[s] = lots[s] * problem.account.weight_increment[s]
    for _ in range(MAX_NET_LIMIT_ROUNDS):
        for k in range(len(rows.net_limits)):
            if rows.net_limits[k] >= 0.0:
                _enforce_net_limit(problem, k, weights, rounded, lots, account)


@jit_inline
def _enforce_net_limit(
    problem: DecisionProblem,
    k: int,
    weights: Array,
    rounded: Array,
    lots: Array,
    account: AccountArrays,
) -> None:
    """Reduce positions by whole increments until their rounded weights meet net limit k.

    rounded: [N] rounded weights; reduced in place, as are `lots`.
    """
    for s in range(account.position_count):
        lot = problem.account.weight_increment[s]
        taken = problem.limits.group_constraints.net_coefficients[k, s]
        over = net_limit_excess(problem, k, rounded, weights)
        if over <= CEILING_TOL:
            return
        if problem.account.adjustable[s] and taken * rounded[s] > 0.0 and lot > 0.0:
            if np.isnan(lots[s]):
                lots[s] = count_lots(account.quantity[s], account.quantity_increment[s])
            fewer = min(np.ceil(over / (abs(taken) * lot)), abs(lots[s]))
            lots[s] -= np.sign(lots[s]) * fewer
            rounded[s] = lots[s] * lot


@jit_inline
def _mark_unsized_stocks(
    trimmable: Mask, problem: DecisionProblem, sized: bool, account: AccountArrays
) -> None:
    """Mark the tradable stocks that have no new target weight, to be trimmed overnight.

    trimmable: [N] mask, written in place.
    """
    for s in range(account.position_count):
        sized_now = (sized and problem.account.adjustable[s]) or problem.account.exiting[s]
        trimmable[s] = account.tradable[s] and not (problem.limits.crypto[s] or sized_now)
        trimmable[s] &= account.quantity[s] != 0.0
