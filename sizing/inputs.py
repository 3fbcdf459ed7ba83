"""Inputs of a strategy at one instant: the sizing problem and the names of the symbols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Protocol

import numpy as np

from foundation.arrays import Array, Mask
from foundation.errors import InputError
from sizing.problem import AccountArrays, DecisionProblem
from trainingdata.history import NO_HISTORY, PriceHistory
from trainingdata.instants import format_utc


class AccountLike(Protocol):
    """Protocol of accounts for sizing: equity, quantities, prices, and cash for crypto."""

    @property
    def equity(self) -> float:
        """Equity of the account in USD."""

    @property
    def projected_positions(self) -> Mapping[str, Decimal]:
        """Signed quantity by symbol: position plus open orders."""

    @property
    def prices(self) -> Mapping[str, float]:
        """Last known price in USD by symbol."""

    @property
    def unborrowed_cash(self) -> float:
        """Cash in USD that may buy crypto; 0 or less if none is available."""


@dataclass(frozen=True, eq=False)
class SizingInputs:
    """Inputs of a strategy at one instant, for S symbols.

    problem: expected returns, costs, limits and current positions.
    symbols: [S] names of the symbols. An empty name marks a position outside the panel, whose
        weight is fixed; an empty tuple means that no names are given.
    decision_time: instant of the decision; None: unknown.
    group_limit_names: names of the limits on groups, gross limits first.
    history: last bars of each symbol, as many as the strategy's `lookback`.
    """

    problem: DecisionProblem
    symbols: tuple[str, ...] = ()
    decision_time: np.datetime64 | None = None
    group_limit_names: tuple[str, ...] = ()
    history: PriceHistory = NO_HISTORY

    @property
    def mu(self) -> Array:
        """Expected simple return of each symbol in the first period, [S]."""
        return np.asarray(self.problem.returns.mu[0])

    @property
    def covariance(self) -> Array:
        """Covariance of simple returns in the first period, [S, S]."""
        return np.asarray(self.problem.returns.covariance[0])

    @property
    def universe(self) -> Mask:
        """Mask of the symbols that the strategy may hold and that have a forecast, [S]."""
        return self.problem.returns.universe

    @property
    def period_years(self) -> Array:
        """Trading time of each symbol's market in the first period, in years, [S]."""
        return self.problem.returns.period_years

    @property
    def unit_cost(self) -> Array:
        """One-way trading cost of each symbol, in USD per USD traded, [S]."""
        return np.asarray(self.problem.costs.unit_cost[0])

    @property
    def financing_cost(self) -> float:
        """Interest in USD on one USD borrowed for the first period."""
        return float(self.problem.costs.financing_cost[0])

    @property
    def crypto(self) -> Mask:
        """Mask of the crypto symbols, [S]."""
        return self.problem.limits.crypto

    @property
    def long_only(self) -> Mask:
        """Mask of the symbols that may not be short, [S]."""
        return self.problem.limits.long_only

    @property
    def stock_ceiling(self) -> float:
        """Maximum gross stock exposure that orders may reach now, in multiples of equity."""
        return self.problem.limits.stock_ceiling

    @property
    def granted_gross_exposure(self) -> float:
        """Gross stock exposure that the venue grants now, in multiples of equity.

        It may exceed `stock_ceiling`, which orders must respect.
        """
        return self.problem.limits.granted_gross_exposure

    @property
    def held_weight(self) -> Array:
        """Current weight of each symbol, position plus open orders, [S]."""
        return self.problem.account.held_weight

    @property
    def adjustable(self) -> Mask:
        """Mask of the symbols whose weight may change now; the weights of others are fixed, [S]."""
        return self.problem.account.adjustable

    @property
    def equity(self) -> float:
        """Equity of the account in USD."""
        return self.problem.account.equity

    @property
    def unborrowed_cash_share(self) -> float:
        """Cash that may buy crypto, in multiples of equity; negative for a debit balance."""
        return self.problem.account.unborrowed_cash_share

    def with_current_weights(self, held: Array, adjustable: Mask) -> SizingInputs:
        """Return a copy of the inputs with other current weights [S] and adjustable symbols [S]."""
        account = self.problem.account._replace(held_weight=held, adjustable=adjustable)
        return replace(self, problem=self.problem._replace(account=account))

    def copy(self) -> SizingInputs:
        """Return a copy whose problem shares no array with these inputs."""
        return replace(self, problem=_copied(self.problem))

    def format_symbol(self, k: int) -> str:
        """Return the name of symbol k for a message, with the decision's instant if known."""
        symbol = self.symbols[k] if self.symbols else f"the symbol at index {k}"
        return (
            symbol
            if self.decision_time is None
            else f"{symbol} at {format_utc(self.decision_time)}"
        )


def require_lookback(inputs: SizingInputs, **bars: int) -> None:
    """Refuse numbers of bars below 1 or above the length of the price history.

    A slice with such a number silently has another length.

    bars: number of bars that a rule reads, by the name of its argument.

    Raises InputError, which names the argument and the limit.
    """
    given = inputs.history.closes.shape[1]
    for name, count in bars.items():
        if count < 1:
            raise InputError(
                f"sizing.arguments.{name}: {count} bars are below the minimum of 1; set it to 1 or"
                " more"
            )
        if count > given:
            raise InputError(
                f"sizing.arguments.{name}: {count} bars exceed sizing.lookback {given}; set"
                f" sizing.lookback={count}, or a smaller sizing.arguments.{name}"
            )


def _copied(value: Any) -> Any:
    """Return a named tuple with copies of all its arrays; `deepcopy` takes ten times as long."""
    if isinstance(value, np.ndarray):
        return value.copy()
    return value._make(map(_copied, value)) if hasattr(value, "_make") else value


def format_no_equity_error(equity: float) -> str:
    """Return the error message for an account without positive equity, which has no weights."""
    return f"account: equity is {equity:.2f} USD; sizing requires equity above 0"


def check_positions_have_prices(symbols: Sequence[str], account: AccountArrays) -> None:
    """Raise `InputError` for a position or an open order without a price."""
    # A position valued at zero would free its headroom for other symbols.
    unpriced = np.flatnonzero((account.quantity != 0.0) & np.isnan(account.price))
    if len(unpriced):
        symbol = symbols[unpriced[0]]
        raise InputError(
            f"account: {symbol} has a position or an open order but no price; supply its price"
        )
