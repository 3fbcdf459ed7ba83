"""Order quantities from target weights, and `get_qty`, the quantity of one symbol to trade now.

Backtest, live trading and `get_qty` use the same functions, so that all of them round alike.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

import numpy as np

from foundation.arrays import Array, Mask
from foundation.compiled import jit_inline
from foundation.errors import InputError
from foundation.formatting import format_count
from sizing.allocation import Strategy
from sizing.increments import count_lots
from sizing.inputs import (
    AccountLike,
    SizingInputs,
    check_positions_have_prices,
    format_no_equity_error,
)
from sizing.kelly import SolverFailed
from sizing.problem import (
    AccountArrays,
    BookLimits,
    Costs,
    DecisionProblem,
    ExpectedReturns,
    compute_current_weights,
    with_market_betas,
)
from sizing.settings import Limits, SizingFallback
from sizing.solver.multi_period import compute_weight_change_costs
from sizing.strategies import KellyStrategy, LegacyStrategy
from trainingdata.instruments import AssetClass, Instrument, instrument
from trainingdata.timeframe import HOURLY

log = logging.getLogger(__name__)

HALF_KELLY = KellyStrategy()
MAX_CRYPTO_QUANTITY = 1e11  # maximum quantity of one order, at any price


class ReturnMomentsLike(Protocol):
    """Protocol of expected returns and deviations over one interval, or over a plan's K periods."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """Names of the symbols, [M]."""

    @property
    def mu(self) -> Array:
        """Expected simple return of each symbol, [M] or [K, M]."""

    @property
    def sigma(self) -> Array:
        """Standard deviation of the simple return of each symbol, [M] or [K, M]."""


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
    borrow_costs: Sequence[float] = (),
    signal: float = 0.0,
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
        expected returns, premium included, and deviations over the holding interval, or over the
        periods of a plan. A position without moments counts towards every ceiling and has no
        variance.
    correlation : [M, M] or [K, M, M]
        correlations between the moments' symbols; optional for a single symbol.
    limits
        limits on the book; None: default limits.
    strategy
        strategy that decides the target weight, from `sizing.strategies`.
    cost
        one-way trading cost, as a fraction of the traded value.
    hours
        number of the symbol's bars in the first period; used by `vol_target`, `inverse_volatility`
        and `risk_parity`.
    overnight
        whether the overnight ceiling applies.
    borrow_costs : [K]
        interest on one USD borrowed in each period; empty: borrowing is free.
    signal
        root mean square of the forecast return over the forecast's whole decay; it lowers the
        expected cost of the exit.
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
    request = _QuantityRequest(
        item, price, account, moments, correlation, cost, hours, overnight, borrow_costs, signal
    )
    _check_request(request)
    rules = limits or Limits()
    held = account.projected_positions.get(item.symbol, Decimal(0))
    if not account.equity > 0:
        log.warning(
            "%s: Enhanced sizing failed: %s", item.symbol, format_no_equity_error(account.equity)
        )
        return -held
    inputs, row = _build_inputs(request, rules)
    strategies: list[Strategy] = [strategy] if enhanced else []
    if fallback == "legacy" or not enhanced:
        strategies.append(LegacyStrategy(risk_multiplier))
    weight = _first_target_weight(request, strategies, inputs, row)
    if weight is None:
        return Decimal(0)
    held_weight = float(inputs.held_weight[row])
    equity = inputs.equity
    return target_quantity(weight, held_weight, held, equity, price, item.qty_increment) - held


@dataclass(frozen=True, slots=True)
class _QuantityRequest:
    """The parameters of one `get_qty` call."""

    instrument: Instrument
    price: float
    account: AccountLike
    moments: ReturnMomentsLike | None
    correlation: Array | None
    cost: float
    hours: float
    overnight: bool
    borrow_costs: Sequence[float]
    signal: float


def _first_target_weight(
    request: _QuantityRequest, strategies: Sequence[Strategy], inputs: SizingInputs, row: int
) -> float | None:
    """Return the symbol's target weight by the first strategy that succeeds; None if all fail.

    Every failure is logged.

    row: index of the symbol in the inputs.
    """
    item = request.instrument
    for strategy in strategies:
        try:
            # The legacy rule needs no forecast, so it sizes symbols without one.
            if not isinstance(strategy, LegacyStrategy):
                _check_moments_known(item.symbol, request.moments, request.correlation)
            weight = float(strategy.allocate(inputs).target_weight[row])
        except (InputError, SolverFailed) as reason:
            log.warning("%s: Enhanced sizing failed: %s", item.symbol, reason)
        else:
            log_phrase = strategy.log_phrase(item.kind, inputs.stock_ceiling)
            log.info("%s: %s", item.symbol, log_phrase)
            return weight
    return None


def _build_inputs(request: _QuantityRequest, limits: Limits) -> tuple[SizingInputs, int]:
    """Return inputs in which only the requested symbol is adjustable, and the symbol's index."""
    symbol = request.instrument.symbol
    account = request.account
    moments = request.moments
    considered = {symbol}
    considered.update(s for s, quantity in account.projected_positions.items() if quantity)
    if moments is not None:
        considered.update(s for s in moments.symbols if s in account.prices)
    symbols = sorted(considered)
    items = [instrument(s) for s in symbols]
    mu, covariance, universe = _build_moments(symbols, moments, request.correlation)
    n = len(symbols)
    periods = len(mu)
    crypto = np.array([item.kind is AssetClass.CRYPTO for item in items])
    years = np.array([request.hours / HOURLY.clock(item.kind).bars_per_year for item in items])
    cost = np.full(n, request.cost)
    signal = np.full(n, request.signal)
    borrow_costs = np.array(
        [*request.borrow_costs, *[0.0] * (periods - len(request.borrow_costs))], dtype=np.float64
    )
    prices = {**account.prices, symbol: request.price}
    exposure = account.projected_positions
    book = AccountArrays(
        quantity=np.array([float(exposure.get(s, 0)) for s in symbols]),
        price=np.array([prices.get(s, np.nan) for s in symbols]),
        quantity_increment=np.zeros(n),
        min_order_value=np.zeros(n),
        dust_threshold=np.zeros(n),
        tradable=np.ones(n, dtype=bool),
        position_count=n,
        equity=account.equity,
        unborrowed_cash=account.unborrowed_cash,
        granted_leverage=np.inf,
        is_shorting_enabled=True,
        free_equity_share=1.0,
    )
    check_positions_have_prices(symbols, book)
    ceiling = limits.stock_ceiling(overnight=request.overnight, equity=account.equity)
    groups = limits.group_limits()
    problem = DecisionProblem(
        ExpectedReturns(mu, np.full(mu.shape, np.nan), covariance, universe, years),
        Costs(compute_weight_change_costs(cost, signal, periods), borrow_costs),
        BookLimits(
            *limits.book_limit_values,
            stock_ceiling=ceiling,
            granted_gross_exposure=ceiling,
            crypto=crypto,
            long_only=np.array([not item.is_shortable for item in items]),
            group_constraints=with_market_betas(groups.build_constraints(symbols), covariance),
        ),
        compute_current_weights(
            book, np.array([s == symbol for s in symbols]), np.zeros(n, bool), 1.0
        ),
    )
    return SizingInputs(
        problem, tuple(symbols), group_limit_names=groups.limit_names
    ), symbols.index(symbol)


def _build_moments(
    symbols: Sequence[str], moments: ReturnMomentsLike | None, correlation: Array | None
) -> tuple[Array, Array, Mask]:
    """Return mu [K, S], covariance [K, S, S], and a mask [S] of the symbols that have moments.

    Expected returns and covariances of symbols without moments are 0.

    correlation: [M, M] or [K, M, M] correlations of the moments' symbols; None: uncorrelated.
    """
    n = len(symbols)
    has_moments = np.zeros(n, dtype=bool)
    if moments is None:
        return np.zeros((1, n)), np.zeros((1, n, n)), has_moments
    expected = np.atleast_2d(moments.mu)
    deviation = np.atleast_2d(moments.sigma)
    periods = len(expected)
    mu = np.zeros((periods, n))
    covariance = np.zeros((periods, n, n))
    place = {s: k for k, s in enumerate(moments.symbols)}
    rows = []
    picks = []
    for k, symbol in enumerate(symbols):
        if symbol in place and np.isfinite(deviation[0, place[symbol]]):
            rows.append(k)
            picks.append(place[symbol])
    if correlation is None:
        correlation = np.eye(len(place))
    correlations = np.broadcast_to(correlation, (periods, len(place), len(place)))
    has_moments[rows] = True
    mu[:, rows] = expected[:, picks]
    for k in range(periods):
        scale = np.outer(deviation[k, picks], deviation[k, picks])
        covariance[k][np.ix_(rows, rows)] = correlations[k][np.ix_(picks, picks)] * scale
    return mu, covariance, has_moments


def _check_request(request: _QuantityRequest) -> None:
    """Raise `InputError` for a request with numbers out of range, or inconsistent moments."""
    price = request.price
    if not (np.isfinite(price) and price > 0):
        raise InputError(f"price: must be above 0, got {price}")
    if not 0 <= request.cost < 1:
        raise InputError(f"cost: must be at least 0 and below 1, got {request.cost}")
    if not 0 <= request.signal < 1:
        raise InputError(f"signal: must be at least 0 and below 1, got {request.signal}")
    if request.moments is not None:
        _check_moments(request.moments, request.correlation, request.borrow_costs)


def _check_moments(
    moments: ReturnMomentsLike, correlation: Array | None, borrow_costs: Sequence[float]
) -> None:
    """Raise `InputError` for invalid shapes or values of moments, correlation or borrow costs."""
    m = len(moments.symbols)
    for name, array in (("mu", moments.mu), ("sigma", moments.sigma)):
        shape = np.shape(array)
        if shape[-1:] != (m,) or np.ndim(array) > 2:
            raise InputError(
                f"moments.{name}: expected shape {(m,)} for {m} symbols, or one such row per"
                f" period; got {shape}"
            )
    if np.shape(moments.mu) != np.shape(moments.sigma):
        raise InputError(
            f"moments: mu and sigma must have the same shape, got {np.shape(moments.mu)} and"
            f" {np.shape(moments.sigma)}"
        )
    periods = len(np.atleast_2d(moments.mu))
    deviation = np.atleast_2d(moments.sigma)
    if not periods:
        raise InputError("moments.sigma: it has no rows; give one row per period")
    if np.isinf(deviation).any():
        raise InputError("moments.sigma: a value is infinite; give finite values, or NaN")
    if (deviation[1:] < 0).any():
        period, s = np.argwhere(deviation[1:] < 0)[0]
        raise InputError(
            f"moments.sigma: {deviation[period + 1, s]:g} for {moments.symbols[s]} in period"
            f" {period + 2} is below 0"
        )
    if correlation is not None and np.shape(correlation) not in ((m, m), (periods, m, m)):
        raise InputError(
            f"correlation: expected shape {(m, m)} for {m} symbols, or one such matrix per period;"
            f" got {np.shape(correlation)}"
        )
    within = [isinstance(toll, float | int) and 0 <= toll < 1 for toll in borrow_costs]
    if len(borrow_costs) not in (0, periods):
        raise InputError(
            f"borrow_costs: expected {format_count(periods, 'number')}, one per period; got"
            f" {list(borrow_costs)}"
        )
    if not all(within):
        wrong = borrow_costs[within.index(False)]
        raise InputError(f"borrow_costs: {wrong!r} must be at least 0 and below 1")


def _check_moments_known(
    symbol: str, moments: ReturnMomentsLike | None, correlation: Array | None
) -> None:
    """Raise `InputError` if the symbol has no forecast, or several symbols have no correlation."""
    if moments is None or symbol not in moments.symbols:
        raise InputError("no forecast")
    if correlation is None and len(moments.symbols) > 1:
        raise InputError("no correlation")
    k = moments.symbols.index(symbol)
    mu = np.atleast_2d(moments.mu)[:, k]
    if not (np.isfinite(mu).all() and np.atleast_2d(moments.sigma)[0, k] > 0):
        raise InputError("no forecast")
