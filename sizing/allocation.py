"""From beliefs and an account to target weights: the one path that every size takes, in
backtest, live and `get_qty`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Protocol

import numpy as np

from foundation.arrays import Array, Index, Mask
from foundation.compiled import compiled, inlined
from foundation.errors import InputError
from sizing.kelly import SizingProblem, SolverFailed, failure, unconstrained_kelly
from sizing.limits import CEILINGS, Limits, bounds_of, ceilings_of
from sizing.solver.active_set import SOLVED
from sizing.solver.cholesky import factored_solve
from sizing.solver.multi_period import Later, nothing_later, optimal_weights

BINDING = (
    "symbol_cap",
    "long_only",
    *CEILINGS,
    "financing",
    "cost",
)  # whatever can hold a weight where it is
SYMBOL_CAP = 0
LONG_ONLY = 1
FIRST_CEILING = 2
FINANCING = 2 + len(CEILINGS)
COST = 3 + len(CEILINGS)
TOUCH = 1e-6  # a limit this close, in weight, binds
SAME = 1e-9  # a weight this close to the wanted one is it
NOTHING = 1e-12  # a return below this is rounding


class NoEquity(InputError):
    """An account whose equity is not above zero; weights mean nothing in it."""


class AccountLike(Protocol):
    """What sizing reads of an account."""

    @property
    def equity(self) -> float:
        """USD."""

    @property
    def exposure(self) -> Mapping[str, Decimal]:
        """Signed quantity held plus open, by symbol."""

    @property
    def prices(self) -> Mapping[str, float]:
        """Last known price in USD, by symbol."""

    @property
    def unborrowed_cash(self) -> float:
        """USD that may buy coins."""


@dataclass(frozen=True, eq=False, slots=True)
class Situation:
    """What sizing needs to know of one instant, for S symbols; returns belong to a block of time,
    the first one.

    mu [S], covariance [S, S]: of simple returns. toll: of one USD borrowed in it. later: the blocks
    after it, if a plan looks at them. held [S]: weight held plus open orders. cost [S]: of moving a
    weight by one. crypto, long_only, deciding [S]. universe [S]: what the strategy may hold and has
    a forecast of. years [S]: each symbol's own open time in the first block, in years. equity in
    USD. stock_ceiling: stock gross allowed now. unborrowed: cash that may buy coins, a multiple of
    equity.
    """

    mu: Array
    covariance: Array
    held: Array
    cost: Array
    crypto: Mask
    long_only: Mask
    deciding: Mask
    universe: Mask
    years: Array
    equity: float
    stock_ceiling: float
    unborrowed: float
    toll: float = 0.0
    later: Later | None = None

    @classmethod
    def of(
        cls,
        symbols: Sequence[str],
        account: AccountLike,
        prices: Mapping[str, float],
        *,
        mu: Array,
        covariance: Array,
        cost: Array,
        crypto: Mask,
        long_only: Mask,
        deciding: Mask,
        universe: Mask,
        years: Array,
        stock_ceiling: float,
        toll: float = 0.0,
        later: Later | None = None,
    ) -> Situation:
        """The situation of an account over these symbols, valued at these prices.

        Raises
        ------
        NoEquity
            for an account whose equity is not above zero.
        InputError
            for a position without a price.
        """
        equity = account.equity
        exposure = account.exposure
        if not equity > 0:
            raise NoEquity(f"account: equity is {equity:.2f}; nothing can be sized")
        unpriced = [s for s in symbols if s in exposure and s not in prices]
        if unpriced:
            raise InputError(f"account: {unpriced[0]} is held or ordered and has no price")
        return cls(
            mu=mu,
            covariance=covariance,
            held=np.array(
                [float(exposure[s]) * prices[s] / equity if s in exposure else 0.0 for s in symbols]
            ),
            cost=cost,
            crypto=crypto,
            long_only=long_only,
            deciding=deciding,
            universe=universe,
            years=years,
            equity=equity,
            stock_ceiling=stock_ceiling,
            unborrowed=account.unborrowed_cash / equity,
            toll=toll,
            later=later,
        )

    def beside(self, weights: Array, crypto: Mask) -> Situation:
        """The same with weights [M] beside it that stay as they are: of no return or risk, they
        take their part of ceilings.
        """
        if not len(weights):
            return self
        none = np.zeros(len(weights))
        fixed = np.zeros(len(weights), dtype=bool)
        more = ((0, len(weights)), (0, len(weights)))
        return replace(
            self,
            mu=np.append(self.mu, none),
            covariance=np.pad(self.covariance, more),
            held=np.append(self.held, weights),
            cost=np.append(self.cost, none),
            crypto=np.append(self.crypto, crypto),
            long_only=np.append(self.long_only, ~fixed),
            deciding=np.append(self.deciding, fixed),
            universe=np.append(self.universe, fixed),
            years=np.append(self.years, none),
            later=self.later and self.later.beside(len(weights)),
        )

    @property
    def blocks(self) -> Later:
        """The blocks after the first; none where no plan looks at them."""
        return nothing_later(len(self.mu)) if self.later is None else self.later


@dataclass(frozen=True, eq=False, slots=True)
class Allocation:
    """wanted [S]: over all blocks, before any limit or cost; NaN for what does not decide. target
    [S]: under every limit.

    binding [S]: the limits that hold each target where it is, and what one more of each would add
    to the expected return over the interval, net of risk and cost (its shadow price; NaN where
    targets are not chosen by return). `cost` stands where moving would not pay.
    """

    wanted: Array
    target: Array
    binding: tuple[Mapping[str, float], ...]


def allocate(situation: Situation, limits: Limits, fraction: float) -> Allocation:
    """Fractional Kelly under limits, net of the cost of moving and borrowing; symbols that do not
    decide stay as they are.

    Raises
    ------
    SolverFailed
        if the quadratic program is not solved.
    """
    s = situation
    later = situation.blocks
    mu = s.mu + later.mu.sum(axis=0)
    covariance = s.covariance + later.covariance.sum(axis=0)
    factored, wanted = _unlimited(mu, covariance, s.deciding, fraction)
    if not factored:
        deciding = np.flatnonzero(s.deciding)
        wanted[deciding] = unconstrained_kelly(
            mu[deciding], covariance[np.ix_(deciding, deciding)], fraction
        )
    weights, prices = _solved(s, limits, fraction)
    gradient = s.mu - s.covariance @ weights[0] / fraction
    for block_mu, block_covariance, block_weights in zip(
        later.mu, later.covariance, weights[1:], strict=True
    ):
        gradient += block_mu - block_covariance @ block_weights / fraction
    return Allocation(wanted, weights[0], _binding(s, limits, wanted, weights[0], gradient, prices))


def nearest(situation: Situation, limits: Limits, wanted: Array) -> Allocation:
    """The weights under every limit that are closest to the wanted [S] ones, in the sense of least
    squares.

    Raises
    ------
    SolverFailed
        if the quadratic program is not solved.
    """
    n = len(wanted)
    apart = replace(
        situation, mu=wanted, covariance=np.eye(n), cost=np.zeros(n), toll=0.0, later=None
    )
    unborrowed = situation.unborrowed / (
        1.0 + float(situation.cost.max())
    )  # coins still have to be paid for
    found = _solved(replace(apart, unborrowed=unborrowed), limits, 1.0)[0][0]
    target = np.where(np.abs(found - wanted) <= SAME, wanted, found)
    shown = np.where(situation.deciding, wanted, np.nan)
    unpriced = np.full(len(CEILINGS) + 1, np.nan)
    return Allocation(
        shown, target, _binding(situation, limits, shown, target, np.full(n, np.nan), unpriced)
    )


def _solved(s: Situation, limits: Limits, fraction: float) -> tuple[Array, Array]:
    """Weights [1 + L, S] of the blocks, the first under every limit, and prices of the ceilings
    and of what is borrowed.
    """
    status, weights, prices = best_weights(
        *(s.mu, s.covariance, s.held, s.cost, s.crypto, s.long_only, s.deciding),
        *(s.equity, s.stock_ceiling, s.unborrowed, _caps(limits), fraction, s.toll, s.blocks),
    )
    if status != SOLVED:
        lower, upper = limits.bounds(
            long_only=s.long_only, deciding=s.deciding, held=s.held, equity=s.equity
        )
        rows, rooms = _ceilings(
            s.held, s.cost, s.crypto, s.stock_ceiling, s.unborrowed, _caps(limits)
        )
        problem = SizingProblem(
            s.mu, s.covariance, s.held, s.cost, lower, upper, rows, rooms, fraction, s.toll, s.later
        )
        raise SolverFailed(failure(status, len(s.mu)), problem)
    return weights, prices


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
    later: Later,
) -> tuple[int, Array, Array]:
    """Status, weights [1 + L, S] of the blocks, the first under every limit, and prices [4 + 1 +
    L].

    caps: of a symbol, of all coins, and the equity below which nothing is short. Prices are of the
    CEILINGS, then of what is borrowed in each block.
    """
    lower, upper = bounds_of(long_only, deciding, held, caps[0], equity >= caps[2])
    rows, limits = _ceilings(held, cost, crypto, stock_ceiling, unborrowed, caps)
    return optimal_weights(
        mu, covariance, held, cost, lower, upper, rows, limits, fraction, toll, later
    )


@compiled
def _ceilings(
    held: Array,
    cost: Array,
    crypto: Mask,
    stock_ceiling: float,
    unborrowed: float,
    caps: tuple[float, float, float],
) -> tuple[Array, Array]:
    """Coefficients [4, S] and limits [4] of the CEILINGS; what coins may be bought with is less
    what trading costs.
    """
    return ceilings_of(crypto, held, stock_ceiling, caps[1], unborrowed / (1.0 + cost.max()))


def _caps(limits: Limits) -> tuple[float, float, float]:
    """Of a symbol, of all coins, and the equity below which nothing is short."""
    return limits.symbol_cap, limits.crypto_leverage, limits.margin_equity


@compiled
def _unlimited(mu: Array, covariance: Array, deciding: Mask, fraction: float) -> tuple[bool, Array]:
    """Fractional Kelly [S] of what decides, without limits or costs; whether its covariance has
    a factor. NaN for the rest.
    """
    chosen = np.flatnonzero(deciding)
    weights = mu[chosen] * fraction
    risk = np.empty((len(chosen), len(chosen)))
    for a in range(len(chosen)):
        for b in range(len(chosen)):
            risk[a, b] = covariance[chosen[a], chosen[b]]
    factored = factored_solve(risk, weights)
    wanted = np.full(len(mu), np.nan)
    wanted[chosen] = weights
    return factored, wanted


def _binding(
    s: Situation, limits: Limits, wanted: Array, target: Array, gradient: Array, prices: Array
) -> tuple[Mapping[str, float], ...]:
    """What holds each target where it is, and the price of it. gradient [S]: of return net of
    risk, by weight.
    """
    holds, further = _holds(
        *(
            s.held,
            s.cost,
            s.crypto,
            s.long_only,
            s.deciding,
            s.equity,
            s.stock_ceiling,
            s.unborrowed,
            _caps(limits),
        ),
        *(wanted, target, gradient, prices),
    )
    common = (*prices[: len(CEILINGS)].tolist(), float(prices[len(CEILINGS) :].sum()), np.nan)
    found = []
    shared: dict[int, Mapping[str, float]] = {}  # what holds several alike is said once
    for bits, own in zip(holds.tolist(), further.tolist(), strict=True):
        bound = shared.get(bits)
        if bound is None:
            worth = (own, own, *common)
            bound = {name: worth[k] for k, name in _NAMED[bits]}
            if not bits & _OWN:
                shared[bits] = bound
        found.append(bound)
    return tuple(found)


_OWN = 1 << SYMBOL_CAP | 1 << LONG_ONLY
_NAMED = [
    [(k, name) for k, name in enumerate(BINDING) if bits >> k & 1]
    for bits in range(1 << len(BINDING))
]


@inlined
def _pressing(row: Array, full: Mask, prices: Array, financing: float) -> tuple[float, int]:
    """What one more of a weight takes of everything that has a price, and what would hold it
    back, a bit each.
    """
    taken = financing
    bits = 1 << FINANCING if financing > 0.0 else 0
    for c in range(len(full)):
        if full[c]:
            taken += prices[c] * row[c]
            if row[c] > 0:
                bits |= 1 << (FIRST_CEILING + c)
    return taken, bits


@compiled
def _holds(
    held: Array,
    cost: Array,
    crypto: Mask,
    long_only: Mask,
    deciding: Mask,
    equity: float,
    stock_ceiling: float,
    unborrowed: float,
    caps: tuple[float, float, float],
    wanted: Array,
    target: Array,
    gradient: Array,
    prices: Array,
) -> tuple[Index, Array]:
    """Which of BINDING hold each target [S], a bit each, and what one more of its own bound would
    be worth [S].

    A ceiling holds what would move on without it: by the gradient net of cost, or, where there is
    none, by what is wanted.
    """
    rows, rooms = _ceilings(held, cost, crypto, stock_ceiling, unborrowed, caps)
    holds = np.zeros(len(target), dtype=np.int64)
    further = np.full(len(target), np.nan)
    full = np.empty(len(rooms), dtype=np.bool_)
    borrowed = prices[len(rooms)]
    onward = prices[len(rooms) + 1 :].sum()
    for c in range(len(rooms)):
        full[c] = np.dot(rows[c], np.abs(target)) >= rooms[c] - TOUCH
    for k in range(len(target)):
        wish = wanted[k]
        got = target[k]
        now = held[k]
        if not deciding[k]:
            continue
        priced = np.isfinite(gradient[k])
        slope = gradient[k] if priced else wish - got
        outward = -1.0 if got < 0 or (got == 0 and slope < 0) else 1.0
        taken, bits = _pressing(rows[:, k], full, prices, borrowed + outward * onward)
        saved = cost[k] if (now - got) * outward > 0 else -cost[k]
        onwards = outward * slope + (saved if priced else 0.0) > NOTHING
        if not onwards:
            bits = 0
        gain = outward * gradient[k] + saved - taken
        further[k] = 0.0 if gain < 0.0 else gain
        if abs(got) >= caps[0] - TOUCH:
            bits |= 1 << SYMBOL_CAP
        if got == min(now, 0.0) and outward < 0 and onwards and (long_only[k] or equity < caps[2]):
            bits |= 1 << LONG_ONLY
        if bits == 0 and got == now and wish != got and cost[k] > 0:
            bits |= 1 << COST
        holds[k] = bits
    return holds, further
