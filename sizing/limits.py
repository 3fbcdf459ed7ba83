"""The limits on a book: per symbol, per class, and together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainingdata.errors import InputError

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False, slots=True)
class Ceiling:
    """Σ coefficients·|w| ≤ limit, with the name by which a decision says that it bound."""

    name: str
    coefficients: Array
    limit: float


@dataclass(frozen=True, slots=True)
class Limits:
    """Ceilings in multiples of equity.

    symbol_cap: of one symbol, held and open. intraday_leverage, overnight_leverage: of stock gross while the market stays
    open and into the night, the latter less overnight_buffer of it, for what prices do until the close. crypto_leverage:
    of all coins, bought with cash that is not borrowed. margin_equity: USD below which stocks are held 1×, and not short.
    """

    symbol_cap: float = 0.6
    intraday_leverage: float = 4.0
    overnight_leverage: float = 2.0
    overnight_buffer: float = 0.02
    crypto_leverage: float = 1.0
    margin_equity: float = 2000.0

    def __post_init__(self) -> None:
        for name in ("symbol_cap", "intraday_leverage", "overnight_leverage"):
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise InputError(f"limits.{name}: {value} is not above 0")
        if not 0 <= self.overnight_buffer < 1:
            raise InputError(f"limits.overnight_buffer: {self.overnight_buffer} is outside 0 … 1")
        if not 0 <= self.crypto_leverage <= 1:
            raise InputError(f"limits.crypto_leverage: {self.crypto_leverage} is outside 0 … 1; coins are not marginable")
        if not self.margin_equity >= 0:
            raise InputError(f"limits.margin_equity: {self.margin_equity} is negative")

    def stock_ceiling(self, *, overnight: bool, equity: float) -> float:
        """Stock gross exposure allowed, in multiples of equity: intraday or overnight, 1× without a margin account."""
        into_night = self.overnight_leverage * (1.0 - self.overnight_buffer)
        leverage = min(into_night, self.intraday_leverage) if overnight else self.intraday_leverage
        return min(leverage, 1.0) if equity < self.margin_equity else leverage

    def bounds(self, *, crypto: Mask, deciding: Mask, held: Array, equity: float) -> tuple[Array, Array]:
        """Lower and upper weight of each symbol, [S] each; equal to what is held where a symbol does not decide."""
        shortable = ~crypto & (equity >= self.margin_equity)
        lower = np.where(deciding, np.where(shortable, -self.symbol_cap, 0.0), held)
        upper = np.where(deciding, self.symbol_cap, held)
        return lower, upper

    def ceilings(self, *, crypto: Mask, held: Array, stock_ceiling: float, unborrowed: float) -> tuple[Ceiling, ...]:
        """The group ceilings: stock gross, crypto, crypto from unborrowed cash (a multiple of equity), and both together.

        Together: stock gross / its ceiling + crypto ≤ 1.
        """
        coin, stock = crypto.astype(float), (~crypto).astype(float)
        return (
            Ceiling("stock_gross", stock, stock_ceiling),
            Ceiling("crypto_gross", coin, self.crypto_leverage),
            Ceiling("unborrowed_cash", coin, float(coin @ np.abs(held)) + max(unborrowed, 0.0)),
            Ceiling("joint", stock / stock_ceiling + coin, 1.0),
        )
