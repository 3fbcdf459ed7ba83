"""From beliefs and an account to target weights: the one path that every size takes, in backtest, live and `get_qty`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sizing.kelly import SolverFailed, failure, optimal_weights, unconstrained_kelly
from sizing.limits import Limits, bounds_of, ceilings_of
from sizing.program import SOLVED
from trainingdata.compiled import compiled
from trainingdata.errors import InputError

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

TOUCH = 1e-6  # a limit this close, in weight, binds


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
    """What sizing needs to know of one instant, for S symbols; returns and costs belong to one holding interval.

    mu [S], covariance [S, S]: of simple returns. held [S]: weight held plus open orders. cost [S]: of moving a weight by
    one. crypto, deciding [S]. equity in USD. stock_ceiling: stock gross allowed now. unborrowed: cash that may buy coins.
    unborrowed is a multiple of equity.
    """

    mu: Array
    covariance: Array
    held: Array
    cost: Array
    crypto: Mask
    deciding: Mask
    equity: float
    stock_ceiling: float
    unborrowed: float

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
        deciding: Mask,
        stock_ceiling: float,
    ) -> Situation:
        """The situation of an account over these symbols, valued at these prices.

        Raises
        ------
        NoEquity
            for an account whose equity is not above zero.
        """
        equity, exposure = account.equity, account.exposure
        if not equity > 0:
            raise NoEquity(f"account: equity is {equity:.2f}; nothing can be sized")
        return cls(
            mu=mu,
            covariance=covariance,
            held=np.array([float(exposure[s]) * prices[s] / equity if s in exposure else 0.0 for s in symbols]),
            cost=cost,
            crypto=crypto,
            deciding=deciding,
            equity=equity,
            stock_ceiling=stock_ceiling,
            unborrowed=account.unborrowed_cash / equity,
        )


@dataclass(frozen=True, eq=False, slots=True)
class Allocation:
    """kelly [S]: unconstrained fractional Kelly of the deciding symbols. target [S]: weights under every limit.

    binding [S]: the limits that hold each target where it is, joined by `+`; `cost` where moving would not pay.
    """

    kelly: Array
    target: Array
    binding: tuple[str, ...]


def allocate(situation: Situation, limits: Limits, fraction: float) -> Allocation:
    """Fractional Kelly under limits, net of the cost of moving; symbols that do not decide stay as they are.

    Raises
    ------
    SolverFailed
        if the quadratic program is not solved.
    """
    s = situation
    kelly = np.full(len(s.mu), np.nan)
    deciding = np.flatnonzero(s.deciding)
    kelly[deciding] = unconstrained_kelly(s.mu[deciding], s.covariance[np.ix_(deciding, deciding)], fraction)
    caps = (limits.symbol_cap, limits.crypto_leverage, limits.margin_equity)
    status, target, _ = best_weights(
        s.mu, s.covariance, s.held, s.cost, s.crypto, s.deciding, s.equity, s.stock_ceiling, s.unborrowed, caps, fraction
    )
    if status != SOLVED:
        raise SolverFailed(failure(status, len(target)))
    return Allocation(kelly, target, _binding(s, limits, kelly, target))


@compiled
def best_weights(
    mu: Array,
    covariance: Array,
    held: Array,
    cost: Array,
    crypto: Mask,
    deciding: Mask,
    equity: float,
    stock_ceiling: float,
    unborrowed: float,
    caps: tuple[float, float, float],
    fraction: float,
) -> tuple[int, Array, Array]:
    """Status, weights [S] under every limit, and the prices [4] of the CEILINGS.

    caps: of a symbol, of all coins, and the equity below which nothing is short. What coins may be bought with is less
    what trading costs.
    """
    lower, upper = bounds_of(crypto, deciding, held, caps[0], equity >= caps[2])
    rows, limits = ceilings_of(crypto, held, stock_ceiling, caps[1], unborrowed / (1.0 + cost.max()))
    return optimal_weights(mu, covariance, held, cost, lower, upper, rows, limits, fraction)


def _binding(s: Situation, limits: Limits, kelly: Array, target: Array) -> tuple[str, ...]:
    """What holds each target where it is."""
    unborrowed = s.unborrowed / (1 + float(s.cost.max()))
    ceilings = limits.ceilings(crypto=s.crypto, held=s.held, stock_ceiling=s.stock_ceiling, unborrowed=unborrowed)
    size = np.abs(target)
    full = [c for c in ceilings if float(c.coefficients @ size) >= c.limit - TOUCH]
    shorts = s.equity >= limits.margin_equity
    names = [""] * len(target)
    for k in np.flatnonzero(s.deciding).tolist():
        wanted, got = float(kelly[k]), float(target[k])
        bound = ["symbol_cap"] if abs(got) >= limits.symbol_cap - TOUCH else []
        if got == 0 and wanted < 0 and (s.crypto[k] or not shorts):
            bound.append("long_only")
        bound += [c.name for c in full if c.coefficients[k] > 0 and abs(wanted) > abs(got)]
        if not bound and got == s.held[k] and wanted != got and s.cost[k] > 0:
            bound.append("cost")
        names[k] = "+".join(bound)
    return tuple(names)
