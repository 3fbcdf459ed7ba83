"""What sizing needs to know of one instant: beliefs, costs, and an account beside its ceilings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Protocol

import numpy as np

from foundation.arrays import Array, Mask
from foundation.errors import InputError
from sizing.solver.multi_period import LaterBlocks, no_later_blocks
from trainingdata.instants import utc_text


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
        """USD that may buy coins; not above 0 where there is none."""


@dataclass(frozen=True, eq=False, slots=True)
class Situation:
    """What sizing needs to know of one instant, for S symbols.

    Returns belong to a block of time, the first one.

    mu: [S] expected simple return.
    covariance: [S, S] of simple returns.
    held: [S] weight held plus open orders.
    cost: [S] USD of trading one USD, one way.
    crypto: [S] whether it is a coin.
    long_only: [S] whether it may not be short.
    deciding: [S] whether it may change now; all others stay as they are.
    universe: [S] what the strategy may hold and has a forecast of.
    years: [S] each symbol's own open time in the first block, in years.
    equity: USD.
    stock_ceiling: stock gross that orders may reach now, in multiples of equity.
    unborrowed: cash that may buy coins, a multiple of equity; below 0 where there is none.
    toll: price of one USD borrowed in the first block, USD.
    later: the blocks after it, if a plan looks at them.
    leverage: stock gross granted now, of which orders reach `stock_ceiling`; None for all of it.
    symbols: [S] their names; empty for a fixed weight that is counted beside them, and none at all
        where nobody has named them.
    at: the instant of the decision, if there is one.
    order_margin: times their price, at which the venue checks market buys.
    increment: [S] weight of one increment of each; None where quantities are not rounded.
    earned: [1 + L, S] what the stated premium expects in the blocks, the forecast being the rest of
        `mu` and of the later blocks' returns; None: not known.
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
    later: LaterBlocks | None = None
    leverage: float | None = None
    symbols: tuple[str, ...] = ()
    at: np.datetime64 | None = None
    order_margin: float = 1.0
    increment: Array | None = None
    earned: Array | None = None

    @property
    def granted(self) -> float:
        """Stock gross that is granted now, whether orders reach it or not."""
        return self.stock_ceiling if self.leverage is None else self.leverage

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
        leverage: float | None = None,
        order_margin: float = 1.0,
        toll: float = 0.0,
        later: LaterBlocks | None = None,
        at: np.datetime64 | None = None,
        earned: Array | None = None,
        increments: Array | None = None,
    ) -> Situation:
        """The situation of an account over these symbols, valued at these prices.

        order_margin: times their price, at which the venue checks market buys.
        increments: [S] shares or coins that quantities are whole numbers of.

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
        held = np.zeros(len(symbols))
        for k, symbol in enumerate(symbols):
            if symbol not in exposure:
                continue
            # A position valued at zero would free its part of every ceiling for another.
            if symbol not in prices:
                raise InputError(f"account: {symbol} is held or ordered and has no price")
            held[k] = float(exposure[symbol]) * prices[symbol] / equity
        increment = None
        if increments is not None:
            known = np.array([prices.get(symbol, 0.0) for symbol in symbols])
            increment = increments * known / equity
        return cls(
            mu=mu,
            covariance=covariance,
            held=held,
            cost=cost,
            crypto=crypto,
            long_only=long_only,
            deciding=deciding,
            universe=universe,
            years=years,
            equity=equity,
            stock_ceiling=stock_ceiling,
            unborrowed=account.unborrowed_cash / equity / order_margin,
            toll=toll,
            later=later,
            leverage=leverage,
            symbols=tuple(symbols),
            at=at,
            order_margin=order_margin,
            increment=increment,
            earned=earned,
        )

    def with_fixed(self, weights: Array, crypto: Mask) -> Situation:
        """The same with M fixed weights appended, of no return or risk.

        They take their part of every ceiling. weights, crypto: [M].
        """
        if not len(weights):
            return self
        none = np.zeros(len(weights))
        no = np.zeros(len(weights), dtype=bool)
        added = ((0, len(weights)), (0, len(weights)))
        return replace(
            self,
            mu=np.append(self.mu, none),
            covariance=np.pad(self.covariance, added),
            held=np.append(self.held, weights),
            cost=np.append(self.cost, none),
            crypto=np.append(self.crypto, crypto),
            long_only=np.append(self.long_only, ~no),
            deciding=np.append(self.deciding, no),
            universe=np.append(self.universe, no),
            years=np.append(self.years, none),
            later=self.later and self.later.padded(len(weights)),
            increment=None if self.increment is None else np.append(self.increment, none),
            earned=None if self.earned is None else np.pad(self.earned, ((0, 0), added[1])),
            symbols=self.symbols and (*self.symbols, *[""] * len(weights)),
        )

    def place(self, k: int) -> str:
        """Symbol number k and the instant, in words."""
        symbol = self.symbols[k] if self.symbols else f"symbol number {k}"
        return symbol if self.at is None else f"{symbol} at {utc_text(self.at)}"

    @property
    def later_blocks(self) -> LaterBlocks:
        """The blocks after the first; none where no plan looks at them."""
        return no_later_blocks(len(self.mu)) if self.later is None else self.later
