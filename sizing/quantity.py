"""Order quantities from target weights, and `get_qty`, the quantity of one symbol to trade now.

Backtest, live trading and `get_qty` use the same functions, so that all of them round alike.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Protocol

import numpy as np

from foundation.arrays import Array
from foundation.compiled import jit_inline
from foundation.errors import InputError
from sizing.allocation import Strategy
from sizing.increments import count_lots
from sizing.inputs import AccountLike, SizingInputs, format_no_equity_error
from sizing.kelly import SolverFailed
from sizing.problem import (
    BookLimits,
    Costs,
    CurrentWeights,
    DecisionProblem,
    ExpectedReturns,
    with_market_betas,
)
from sizing.settings import Limits, SizingFallback
from sizing.strategies import KellyStrategy, LegacyStrategy
from trainingdata.instruments import AssetClass, instrument
from trainingdata.timeframe import HOURLY

log = logging.getLogger(__name__)

HALF_KELLY = KellyStrategy()
MAX_CRYPTO_QUANTITY = 1e11  # maximum quantity of one order, at any price


class ReturnMomentsLike(Protocol):
    """Protocol of expected returns and deviations over the holding interval."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """Names of the symbols, [M]."""

    @property
    def mu(self) -> Array:
        """Expected simple return of each symbol, [M]."""

    @property
    def sigma(self) -> Array:
        """Standard deviation of the simple return of each symbol, [M]."""


@jit_inline
def max_crypto_quantity(max_value: float, price: float) -> float:
    """Return the maximum quantity of a crypto order.

    max_value: maximum value of an order, in USD.
    price: price in USD.
    """
    return min(max_value / price, MAX_CRYPTO_QUANTITY)


@jit_inline
def count_child_orders(lots: float, remainder: float, max_quantity: float, lot_size: float) -> int:
    """Return the number of child orders into which a quantity is split.

    lots: number of whole lots in the quantity.
    remainder: remainder of the quantity, below one lot.
    max_quantity: maximum quantity of a child order. If it is below one lot, a child order has one
        lot.
    lot_size: size of a lot.
    """
    slots = lots + (1.0 if remainder > 0.0 else 0.0)
    return max(int(np.ceil(slots / max(np.floor(max_quantity / lot_size), 1.0))), 1)


@jit_inline
def child_order_lots(lots: float, count: int, k: int) -> float:
    """Return the number of lots in child order k (from 0) of `count`.

    The orders differ by at most one lot; larger orders come first.

    lots: number of lots in all orders.
    """
    least = np.floor(lots / count)
    return float(least + (1.0 if k < lots - least * count else 0.0))


def truncate_to_increment(quantity: float, increment: Decimal) -> Decimal:
    """Round a quantity towards zero to a multiple of `increment`."""
    step = 1.0 if increment == 1 else float(increment)
    return int(count_lots(quantity, step)) * increment


def target_quantity(
    weight: float,
    held_weight: float,
    held_quantity: Decimal,
    equity: float,
    price: float,
    increment: Decimal,
) -> Decimal:
    """Convert a target weight to a quantity, rounded towards zero to a multiple of `increment`.

    A weight equal to the held weight gives the held quantity, which is not rounded.

    equity, price: equity of the account, and price of the symbol, in USD.
    """
    # A fee in crypto leaves quantities off the grid of increments. Rounding a position that is at
    # its target would sell that remainder at every decision.
    if weight == held_weight:
        return held_quantity
    return truncate_to_increment(weight * equity / price, increment)


def get_qty(
    symbol: str,
    price: float,
    *,
    account: AccountLike,
    moments: ReturnMomentsLike | None,
    correlation: Array | None = None,
    limits: Limits | None = None,
    strategy: Strategy = HALF_KELLY,
    cost: float = 0.0,
    hours: float = 1.0,
    overnight: bool = False,
    enhanced: bool = True,
    fallback: SizingFallback = "none",
    risk_multiplier: float = 1.0,
) -> Decimal:
    """Return the signed quantity of one symbol to trade now; all other positions are unchanged.

    For an account without positive equity the result closes the position.

    Parameters
    ----------
    symbol
        name of the symbol, in any spelling.
    price
        price in USD at which the symbol is valued and sized.
    account
        current account.
    moments
        expected returns, premium included, and deviations over the holding interval. A position
        without moments counts towards every ceiling and has no variance.
    correlation : [M, M]
        correlations between the moments' symbols; optional for a single symbol.
    limits
        limits on the book; None: default limits.
    strategy
        strategy that decides the target weight, from `sizing.strategies`.
    cost
        one-way trading cost, as a fraction of the traded value.
    hours
        number of the symbol's bars in the interval; used by `vol_target` and `risk_parity`.
    overnight
        whether the overnight ceiling applies.
    enhanced
        `USE_ENHANCED_KELLY_SIZING`; false: the legacy rule (`LegacyStrategy`) under the same
        limits.
    fallback
        sizing rule if enhanced sizing fails: `none`, or `legacy`.
    risk_multiplier
        `RISK_MULTIPLIER`, a factor on stock weights of the legacy rule.

    Raises
    ------
    InputError
        if a price or cost is invalid, shapes do not fit, or a position has no price.
    """
    item = instrument(symbol)
    symbol = item.symbol
    if not (np.isfinite(price) and price > 0):
        raise InputError(f"price: must be above 0, got {price}")
    if not 0 <= cost < 1:
        raise InputError(f"cost: must be at least 0 and below 1, got {cost}")
    held = account.projected_positions.get(symbol, Decimal(0))
    symbols = sorted({symbol, *(s for s, qty in account.projected_positions.items() if qty)})
    if moments is not None:
        _check_moments(moments, correlation)
        symbols = sorted({*symbols, *(s for s in moments.symbols if s in account.prices)})
    if not account.equity > 0:
        log.warning(
            "%s: Enhanced sizing failed: %s", symbol, format_no_equity_error(account.equity)
        )
        return -held
    rules = limits or Limits()
    row = symbols.index(symbol)
    returns = _build_returns(symbols, moments, correlation, hours)
    groups = rules.group_limits()
    ceiling = rules.stock_ceiling(overnight=overnight, equity=account.equity)
    n = len(symbols)
    items = [instrument(s) for s in symbols]
    problem = DecisionProblem(
        returns,
        Costs(np.full((1, n), cost), np.zeros(1)),
        BookLimits(
            *rules.book_limit_values,
            stock_ceiling=ceiling,
            granted_gross_exposure=ceiling,
            crypto=np.array([each.kind is AssetClass.CRYPTO for each in items]),
            long_only=np.array([not each.is_shortable for each in items]),
            group_constraints=with_market_betas(
                groups.build_constraints(symbols), returns.covariance
            ),
        ),
        CurrentWeights(
            _held_weights(symbols, account, {**account.prices, symbol: price}),
            adjustable=np.arange(n) == row,
            exiting=np.zeros(n, bool),
            weight_increment=np.zeros(n),
            equity=account.equity,
            unborrowed_cash_share=account.unborrowed_cash / account.equity,
            order_price_buffer=1.0,
        ),
    )
    inputs = SizingInputs(problem, tuple(symbols), group_limit_names=groups.limit_names)
    legacy = LegacyStrategy(risk_multiplier)
    strategies = [strategy] if enhanced else [legacy]
    if enhanced and fallback == "legacy":
        strategies.append(legacy)
    for rule in strategies:
        try:
            # The legacy rule needs no forecast, so it sizes symbols without one.
            if rule is not legacy:
                _check_moments_known(symbol, moments, correlation)
            weight = float(rule.allocate(inputs).target_weight[row])
        except (InputError, SolverFailed) as reason:
            log.warning("%s: Enhanced sizing failed: %s", symbol, reason)
            continue
        log.info("%s: %s", symbol, rule.log_phrase(item.kind, inputs.stock_ceiling))
        held_weight = float(inputs.held_weight[row])
        increment = item.qty_increment
        target = target_quantity(weight, held_weight, held, inputs.equity, price, increment)
        return target - held
    return Decimal(0)


def _held_weights(
    symbols: Sequence[str], account: AccountLike, prices: Mapping[str, float]
) -> Array:
    """Return the weights [S] of positions and open orders.

    Raises InputError for a position without a price.
    """
    weights = np.zeros(len(symbols))
    for k, symbol in enumerate(symbols):
        if quantity := account.projected_positions.get(symbol):
            weights[k] = float(quantity) * prices.get(symbol, np.nan) / account.equity
            # A position valued at zero would free its headroom for other symbols.
            if np.isnan(weights[k]):
                raise InputError(
                    f"account: {symbol} has a position or an open order but no price; supply its"
                    " price"
                )
    return weights


def _build_returns(
    symbols: Sequence[str],
    moments: ReturnMomentsLike | None,
    correlation: Array | None,
    hours: float,
) -> ExpectedReturns:
    """Return the expected returns of the symbols; those without moments are 0.

    correlation: [M, M] correlations of the moments' symbols; None: uncorrelated.
    hours: number of each symbol's bars in the interval.
    """
    n = len(symbols)
    mu = np.zeros((1, n))
    covariance = np.zeros((1, n, n))
    known = np.zeros(n, dtype=bool)
    years = np.array(
        [hours / HOURLY.clock(instrument(symbol).kind).bars_per_year for symbol in symbols]
    )
    if moments is not None:
        place = {symbol: k for k, symbol in enumerate(moments.symbols)}
        known[:] = [s in place and np.isfinite(moments.sigma[place[s]]) for s in symbols]
        rows = np.flatnonzero(known).tolist()
        picks = [place[symbols[row]] for row in rows]
        deviation = np.asarray(moments.sigma)[picks]
        shared = np.eye(len(place)) if correlation is None else correlation
        mu[0, rows] = np.asarray(moments.mu)[picks]
        covariance[0][np.ix_(rows, rows)] = shared[np.ix_(picks, picks)] * np.outer(
            deviation, deviation
        )
    return ExpectedReturns(mu, np.full((1, n), np.nan), covariance, known, years)


def _check_moments(moments: ReturnMomentsLike, correlation: Array | None) -> None:
    """Raise `InputError` for invalid shapes or values of moments or correlation."""
    m = len(moments.symbols)
    for name, array in (("mu", moments.mu), ("sigma", moments.sigma)):
        if np.shape(array) != (m,):
            raise InputError(
                f"moments.{name}: expected shape {(m,)} for {m} symbols; got {np.shape(array)}"
            )
    if np.isinf(moments.sigma).any():
        raise InputError("moments.sigma: a value is infinite; give finite values, or NaN")
    if correlation is not None and np.shape(correlation) != (m, m):
        raise InputError(
            f"correlation: expected shape {(m, m)} for {m} symbols; got {np.shape(correlation)}"
        )


def _check_moments_known(
    symbol: str, moments: ReturnMomentsLike | None, correlation: Array | None
) -> None:
    """Raise `InputError` if the symbol has no forecast, or several symbols have no correlation."""
    if moments is None or symbol not in moments.symbols:
        raise InputError("no forecast")
    if correlation is None and len(moments.symbols) > 1:
        raise InputError("no correlation")
    k = moments.symbols.index(symbol)
    if not (np.isfinite(moments.mu[k]) and moments.sigma[k] > 0):
        raise InputError("no forecast")
