"""From a weight to a quantity, and `get_qty`: how much of one symbol to trade now."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from decimal import Decimal
from typing import Literal, Protocol

import numpy as np

from foundation.arrays import Array
from foundation.compiled import inlined
from foundation.errors import InputError
from sizing.allocation import AccountLike, NoEquity, Situation
from sizing.kelly import SolverFailed
from sizing.limits import Limits
from sizing.solver.multi_period import Later, later_costs
from sizing.strategies import Kelly, Legacy, Strategy
from trainingdata.instruments import Kind, instrument
from trainingdata.sessions import BARS_A_YEAR

log = logging.getLogger(__name__)

Fallback = Literal["none", "legacy"]

ROUNDING = 1.2e-16  # relative, of a division
HALF_KELLY = Kelly()
MOST_COINS = 1e11
FUZZ = 1e-6  # of an increment: a float that fell just short of a whole step is that step


class MomentsLike(Protocol):
    """Expected return and deviation over one holding interval, or over the K blocks of a plan."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """[M]."""

    @property
    def mu(self) -> Array:
        """[M] or [K, M] expected simple return."""

    @property
    def sigma(self) -> Array:
        """[M] or [K, M] standard deviation."""


@inlined
def whole_steps(quantity: float, step: float) -> float:
    """How many whole steps a quantity holds, signed, rounded towards zero."""
    size = abs(quantity)
    count = size if step == 1.0 else size / step
    count = np.floor(count + count * ROUNDING + FUZZ)
    return float(count if quantity > 0 else -count)


@inlined
def most_coins(largest: float, price: float) -> float:
    """The largest quantity of one order of coins: what `largest` USD buy, up to a bound
    whatever they are worth.
    """
    return min(largest / price, MOST_COINS)


@inlined
def part_count(steps: float, rest: float, most: float, step: float) -> int:
    """In how many orders a quantity of so many steps and a rest below one goes out, each of `most`
    at most.

    One step is the least an order can be, whatever it is worth.
    """
    slots = steps + (1.0 if rest > 0.0 else 0.0)
    return max(int(np.ceil(slots / max(np.floor(most / step), 1.0))), 1)


@inlined
def part_steps(steps: float, count: int, k: int) -> float:
    """Steps of order number k of `count`: as equal as they can be, the larger ones first."""
    least = np.floor(steps / count)
    return float(least + (1.0 if k < steps - least * count else 0.0))


def whole(quantity: float, increment: Decimal) -> Decimal:
    """The largest multiple of `increment` that is no further from zero than `quantity`."""
    step = 1.0 if increment == 1 else float(increment)
    return int(whole_steps(quantity, step)) * increment


def target_quantity(
    weight: float,
    held_weight: float,
    held_quantity: Decimal,
    equity: float,
    price: float,
    increment: Decimal,
) -> Decimal:
    """Quantity that a weight stands for, rounded towards zero; what is held where the weight is."""
    if weight == held_weight:
        return held_quantity
    return whole(weight * equity / price, increment)


def get_qty(
    symbol: str,
    price: float,
    *,
    account: AccountLike,
    moments: MomentsLike | None,
    correlation: Array | None = None,
    limits: Limits | None = None,
    strategy: Strategy = HALF_KELLY,
    cost: float = 0.0,
    hours: float = 1.0,
    overnight: bool = False,
    tolls: Sequence[float] = (),
    signal: float = 0.0,
    enhanced: bool = True,
    fallback: Fallback = "none",
    risk_multiplier: float = 1.0,
) -> Decimal:
    """The signed quantity of one symbol to trade now; everything else in the account stays as it
    is.

    Parameters
    ----------
    price
        USD, at which the symbol is valued and sized.
    account, moments
        as of now and over the holding interval, or over the blocks of a plan (`multi_period`),
        premium included; what has no moments counts for every ceiling and has no variance.
    correlation : [M, M] or [K, M, M]
        of the moments' symbols; may be left out when there is only one.
    strategy, cost
        one of `sizing.strategies`; of trading, as a fraction of what is traded.
    hours, overnight
        own bars in the first block, for `vol_target` and `risk_parity`; whether the overnight
        ceiling is in force.
    tolls : [K]
        of one USD borrowed in each block; none: borrowing is free.
    signal
        root mean square of what a forecast of the symbol is worth over its whole life, a return;
        see `plan.later_costs`.
    enhanced, risk_multiplier
        `USE_ENHANCED_KELLY_SIZING`, `RISK_MULTIPLIER`: false sizes by the legacy rule (`Legacy`)
        under the same limits.
    fallback
        what answers when enhanced sizing cannot: nothing, or `legacy`.

    Raises
    ------
    InputError
        for a price or cost that is none, shapes that do not fit, and a position without a price.

    An account without equity carries nothing: the answer closes what is held.
    """
    item = instrument(symbol)
    _check(price, cost, moments, correlation, tolls, signal)
    rules = limits or Limits()
    told = cost, hours, overnight, tolls, signal
    try:
        situation, row = _situation(item.symbol, price, account, moments, correlation, rules, *told)
    except NoEquity as reason:
        log.warning("%s: Enhanced sizing failed: %s", item.symbol, reason)
        return -account.exposure.get(item.symbol, Decimal(0))
    order: list[Strategy] = [strategy] if enhanced else []
    if fallback == "legacy" or not enhanced:
        order.append(Legacy(risk_multiplier))
    for rule in order:
        try:
            if not isinstance(rule, Legacy):
                _check_known(item.symbol, moments, correlation)
            target = float(rule.allocate(situation, rules).target[row])
        except (InputError, SolverFailed) as reason:
            log.warning("%s: Enhanced sizing failed: %s", item.symbol, reason)
        else:
            log.info("%s: %s", item.symbol, rule.phrase(item.kind, situation.stock_ceiling))
            now = float(situation.held[row]), account.exposure.get(item.symbol, Decimal(0))
            return target_quantity(target, *now, situation.equity, price, item.increment) - now[1]
    return Decimal(0)


def _situation(
    symbol: str,
    price: float,
    account: AccountLike,
    moments: MomentsLike | None,
    correlation: Array | None,
    limits: Limits,
    cost: float,
    hours: float,
    overnight: bool,
    tolls: Sequence[float],
    signal: float,
) -> tuple[Situation, int]:
    """The account with only `symbol` deciding, and the symbol's row."""
    others = () if moments is None else (s for s in moments.symbols if s in account.prices)
    symbols = sorted({symbol, *others, *(s for s, q in account.exposure.items() if q)})
    n = len(symbols)
    blocks = 1 if moments is None else len(np.atleast_2d(moments.mu))
    mu = np.zeros((blocks, n))
    covariance = np.zeros((blocks, n, n))
    known = np.zeros(n, dtype=bool)
    if moments is not None:
        expected = np.atleast_2d(moments.mu)
        deviation = np.atleast_2d(moments.sigma)
        place = {s: k for k, s in enumerate(moments.symbols)}
        rows = [
            k for k, s in enumerate(symbols) if s in place and np.isfinite(deviation[0, place[s]])
        ]
        picks = [place[symbols[k]] for k in rows]
        c = np.broadcast_to(
            np.eye(len(place)) if correlation is None else correlation,
            (blocks, len(place), len(place)),
        )
        known[rows] = True
        mu[:, rows] = expected[:, picks]
        for k in range(blocks):
            both = np.outer(deviation[k, picks], deviation[k, picks])
            covariance[k][np.ix_(rows, rows)] = c[k][np.ix_(picks, picks)] * both
    charged = np.array([*tolls, *[0.0] * (blocks - len(tolls))])
    price_of = np.full(n, cost)
    situation = Situation.of(
        symbols,
        account,
        {**account.prices, symbol: price},
        mu=mu[0],
        covariance=covariance[0],
        cost=price_of,
        crypto=np.array([instrument(s).kind is Kind.CRYPTO for s in symbols]),
        long_only=np.array([not instrument(s).shortable for s in symbols]),
        deciding=np.array([s == symbol for s in symbols]),
        universe=known,
        years=np.array([hours / BARS_A_YEAR[instrument(s).kind] for s in symbols]),
        stock_ceiling=limits.stock_ceiling(overnight=overnight, equity=account.equity),
        toll=float(charged[0]),
        later=Later(
            mu[1:],
            covariance[1:],
            charged[1:],
            later_costs(price_of, np.full(n, signal), blocks - 1),
        ),
    )
    return situation, symbols.index(symbol)


def _check(
    price: float,
    cost: float,
    moments: MomentsLike | None,
    correlation: Array | None,
    tolls: Sequence[float],
    signal: float,
) -> None:
    """Refuse numbers that cannot be, and beliefs that do not belong together."""
    if not (np.isfinite(price) and price > 0):
        raise InputError(f"price: {price} is not above 0")
    if not 0 <= cost < 1:
        raise InputError(f"cost: {cost} is outside 0 … 1")
    if not 0 <= signal < 1:
        raise InputError(f"signal: {signal} is outside 0 … 1")
    if moments is not None:
        _check_moments(moments, correlation, tolls)


def _check_moments(moments: MomentsLike, correlation: Array | None, tolls: Sequence[float]) -> None:
    """Refuse blocks that do not fit each other."""
    m = len(moments.symbols)
    for name, array in (("mu", moments.mu), ("sigma", moments.sigma)):
        if np.shape(array)[-1:] != (m,) or np.ndim(array) > 2:
            raise InputError(
                f"moments.{name}: shape {np.shape(array)}, {m} symbols need {(m,)}, or a row a"
                " block"
            )
    if np.shape(moments.mu) != np.shape(moments.sigma):
        raise InputError(
            f"moments: mu {np.shape(moments.mu)} and sigma {np.shape(moments.sigma)} differ in"
            " their blocks"
        )
    blocks = len(np.atleast_2d(moments.mu))
    spread = np.atleast_2d(moments.sigma)
    if not blocks or np.isinf(spread).any() or (spread[1:] < 0).any():
        raise InputError(
            "moments.sigma: a row a block is needed, none of them infinite, and none after the"
            " first below 0"
        )
    if correlation is not None and np.shape(correlation) not in ((m, m), (blocks, m, m)):
        raise InputError(
            f"correlation: shape {np.shape(correlation)}, {m} symbols need {(m, m)}, or one a block"
        )
    charged = len(tolls) in (0, blocks) and all(
        isinstance(toll, float | int) and 0 <= toll < 1 for toll in tolls
    )
    if not charged:
        raise InputError(f"tolls: {list(tolls)} are not {blocks} numbers within 0 … 1")


def _check_known(symbol: str, moments: MomentsLike | None, correlation: Array | None) -> None:
    """Refuse to size what nothing is known about."""
    if moments is None or symbol not in moments.symbols:
        raise InputError("no forecast")
    if correlation is None and len(moments.symbols) > 1:
        raise InputError("no correlation")
    k = moments.symbols.index(symbol)
    if not (
        np.isfinite(np.atleast_2d(moments.mu)[:, k]).all()
        and np.atleast_2d(moments.sigma)[0, k] > 0
    ):
        raise InputError("no forecast")
