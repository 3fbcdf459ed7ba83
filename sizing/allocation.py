"""From beliefs and an account to target weights: the one path that every size takes, in backtest, live and `get_qty`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sizing.kelly import kelly_weights, unconstrained_kelly
from sizing.limits import Ceiling, Limits
from trainingdata.errors import InputError
from trainingdata.instruments import Kind, instrument

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
            crypto=np.array([instrument(s).kind is Kind.CRYPTO for s in symbols]),
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
    lower, upper = limits.bounds(crypto=s.crypto, deciding=s.deciding, held=s.held, equity=s.equity)
    ceilings = limits.ceilings(
        crypto=s.crypto, held=s.held, stock_ceiling=s.stock_ceiling, unborrowed=s.unborrowed / (1 + float(s.cost.max()))
    )
    target = kelly_weights(
        s.mu,
        s.covariance,
        fraction=fraction,
        lower=lower,
        upper=upper,
        groups=[(c.coefficients, c.limit) for c in ceilings],
        held=s.held,
        cost=s.cost,
    )
    binding = _binding(s, limits, ceilings, kelly, lower, target)
    return Allocation(kelly, target, binding)


def _binding(
    s: Situation, limits: Limits, ceilings: tuple[Ceiling, ...], kelly: Array, lower: Array, target: Array
) -> tuple[str, ...]:
    full = [c for c in ceilings if float(c.coefficients @ np.abs(target)) >= c.limit - TOUCH]
    names = []
    for k in range(len(target)):
        bound = []
        if s.deciding[k]:
            if abs(target[k]) >= limits.symbol_cap - TOUCH:
                bound.append("symbol_cap")
            if target[k] == 0 and lower[k] == 0 and kelly[k] < 0:
                bound.append("long_only")
            bound += [c.name for c in full if c.coefficients[k] > 0 and abs(kelly[k]) > abs(target[k])]
            if not bound and target[k] == s.held[k] and kelly[k] != target[k] and s.cost[k] > 0:
                bound.append("cost")
        names.append("+".join(bound))
    return tuple(names)
