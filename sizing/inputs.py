"""What a strategy is given at an instant: the problem that it answers, with its names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Protocol

import numpy as np

from foundation.arrays import Array, Mask
from foundation.errors import InputError
from sizing.problem import AccountArrays, DecisionProblem
from trainingdata.instants import utc_text


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
        """USD that may buy coins; not above 0 where there is none."""


@dataclass(frozen=True, eq=False)
class SizingInputs:
    """What sizing needs to know of one instant, for S symbols.

    problem: what is expected, what it costs, what is allowed and what is held.
    symbols: [S] their names; empty for a fixed weight that is counted beside them, and none at all
        where nobody has named them.
    at: the instant of the decision, if there is one.
    group_limit_names: names of the limits on groups, as in `GroupLimits`.
    """

    problem: DecisionProblem
    symbols: tuple[str, ...] = ()
    at: np.datetime64 | None = None
    group_limit_names: tuple[str, ...] = ()

    @property
    def mu(self) -> Array:
        """[S] expected simple return in the first period."""
        return np.asarray(self.problem.returns.mu[0])

    @property
    def covariance(self) -> Array:
        """[S, S] of simple returns in the first period."""
        return np.asarray(self.problem.returns.covariance[0])

    @property
    def universe(self) -> Mask:
        """[S] what the strategy may hold and has a forecast of."""
        return self.problem.returns.universe

    @property
    def years(self) -> Array:
        """[S] each symbol's own open time in the first period, in years."""
        return self.problem.returns.years

    @property
    def cost(self) -> Array:
        """[S] USD of trading one USD, one way."""
        return np.asarray(self.problem.costs.change[0])

    @property
    def financing(self) -> float:
        """Price of one USD borrowed in the first period, USD."""
        return float(self.problem.costs.financing[0])

    @property
    def crypto(self) -> Mask:
        """[S] whether it is a coin."""
        return self.problem.limits.crypto

    @property
    def long_only(self) -> Mask:
        """[S] whether it may not be short."""
        return self.problem.limits.long_only

    @property
    def stock_ceiling(self) -> float:
        """Stock gross that orders may reach now, in multiples of equity."""
        return self.problem.limits.stock_ceiling

    @property
    def granted_gross(self) -> float:
        """Stock gross that is granted now, whether orders reach it or not."""
        return self.problem.limits.granted_gross

    @property
    def held(self) -> Array:
        """[S] weight held plus open orders."""
        return self.problem.account.held

    @property
    def adjustable(self) -> Mask:
        """[S] whether it may change now; all others stay as they are."""
        return self.problem.account.adjustable

    @property
    def equity(self) -> float:
        """USD."""
        return self.problem.account.equity

    @property
    def unborrowed(self) -> float:
        """Cash that may buy coins, a multiple of equity; below 0 where there is none."""
        return self.problem.account.unborrowed

    def with_weights(self, held: Array, adjustable: Mask) -> SizingInputs:
        """The same where other weights [S] are held and others decide."""
        account = self.problem.account._replace(held=held, adjustable=adjustable)
        return replace(self, problem=self.problem._replace(account=account))

    def symbol_text(self, k: int) -> str:
        """Symbol number k and the instant, in words."""
        symbol = self.symbols[k] if self.symbols else f"symbol number {k}"
        return symbol if self.at is None else f"{symbol} at {utc_text(self.at)}"


def no_equity_text(equity: float) -> str:
    """Why an account whose equity is not above zero sizes nothing: weights mean nothing in it."""
    return f"account: equity is {equity:.2f}; nothing can be sized"


def check_priced(symbols: Sequence[str], account: AccountArrays) -> None:
    """Refuse a position without a price."""
    # A position valued at zero would free its part of every ceiling for another.
    unpriced = np.flatnonzero((account.quantity != 0.0) & np.isnan(account.price))
    if len(unpriced):
        symbol = symbols[unpriced[0]]
        raise InputError(f"account: {symbol} is held or ordered and has no price")
