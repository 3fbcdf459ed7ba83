"""The limits on a book: per symbol, per class, and together."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from foundation.arrays import Array, Mask
from foundation.compiled import compiled, inlined
from foundation.settings import setting, settings_class
from sizing.increments import whole_steps

CENT = 0.01  # USD
ROUNDED = 1e-9  # of a ceiling: what a solved problem may stand above it
CEILINGS = ("stock_gross", "crypto_gross", "unborrowed_cash", "joint")


@dataclass(frozen=True, eq=False, slots=True)
class Ceiling:
    """Σ coefficients·|w| ≤ limit, with the name by which a decision says that it bound."""

    name: str
    coefficients: Array
    limit: float


@settings_class("limits")
class Limits:
    """Ceilings in multiples of equity."""

    symbol_cap: float = setting(0.6, "of one symbol, held and open", gt=0, le=4)
    intraday_leverage: float = setting(
        4.0, "of stock gross while the market stays open", gt=0, le=10
    )
    overnight_leverage: float = setting(2.0, "of stock gross into the night", gt=0, le=10)
    overnight_buffer: float = setting(
        0.02, "share of overnight_leverage kept free for what prices do until the close", ge=0, lt=1
    )
    crypto_leverage: float = setting(
        1.0, "of all coins, bought with cash that is not borrowed", ge=0, le=1
    )
    margin_equity: float = setting(
        2000.0, "USD below which stocks are held 1×, and not short", ge=0
    )

    def stock_ceiling(self, *, overnight: bool, equity: float) -> float:
        """Stock gross exposure allowed, in multiples of equity.

        Intraday or overnight, and 1× at most for an account without margin.
        """
        leverage = self.overnight_ceiling if overnight else self.intraday_leverage
        return granted_leverage(leverage, equity, self.margin_equity)

    def with_account_leverage(self, leverage: float) -> Limits:
        """These limits for an account whose broker lends so many times its equity at most."""
        if leverage >= self.intraday_leverage:
            return self
        return replace(self, intraday_leverage=leverage)

    @property
    def overnight_ceiling(self) -> float:
        """Stock gross that the last decision before the close may leave, in multiples of equity."""
        return min(self.overnight_leverage * (1.0 - self.overnight_buffer), self.intraday_leverage)

    @property
    def caps(self) -> tuple[float, float, float]:
        """Of a symbol, of all coins, and the equity below which nothing is short.

        What compiled functions take of these limits.
        """
        return self.symbol_cap, self.crypto_leverage, self.margin_equity

    def bounds(
        self, *, long_only: Mask, deciding: Mask, held: Array, equity: float
    ) -> tuple[Array, Array]:
        """Lower and upper weight [S] of each symbol; what is held where it does not decide."""
        return bounds_of(long_only, deciding, held, self.symbol_cap, equity >= self.margin_equity)

    def ceilings(
        self, *, crypto: Mask, held: Array, stock_ceiling: float, unborrowed: float
    ) -> tuple[Ceiling, ...]:
        """The ceilings of groups: stocks, coins, coins from unborrowed cash, and both together.

        unborrowed: cash that nobody has lent, a multiple of equity. Together: stock gross / its
        ceiling + crypto ≤ 1.
        """
        coefficients, limits = ceilings_of(
            crypto, held, stock_ceiling, self.crypto_leverage, unborrowed
        )
        ceilings = zip(CEILINGS, coefficients, limits.tolist(), strict=True)
        return tuple(Ceiling(*ceiling) for ceiling in ceilings)


@inlined
def granted_leverage(leverage: float, equity: float, margin_equity: float) -> float:
    """The leverage an account gets: 1× at most below margin_equity USD."""
    return min(leverage, 1.0) if equity < margin_equity else leverage


@compiled
def kept_share(weights: Array, crypto: Mask, loose: Mask, stock_ceiling: float) -> float:
    """The share of their weights that loose symbols may keep under the joint ceiling, 0 … 1.

    weights [S]; loose [S]: the symbols that may be cut. The ceiling: stock gross / stock_ceiling +
    crypto ≤ 1.
    """
    load = 0.0
    part_loose = 0.0
    for s in range(len(weights)):
        part = abs(weights[s]) if crypto[s] else abs(weights[s]) / stock_ceiling
        load += part
        if loose[s]:
            part_loose += part
    # The program leaves a full ceiling full up to rounding. Nobody trades for that.
    if load <= 1.0 + ROUNDED or part_loose == 0.0:
        return 1.0
    return max(1.0 - (load - 1.0) / part_loose, 0.0)


@compiled
def bounds_of(
    long_only: Mask, deciding: Mask, held: Array, cap: float, shorts: bool
) -> tuple[Array, Array]:
    """Lower and upper weight, [S] each: ± the cap, or what is held where a symbol is fixed.

    shorts: whether the account may be short. The lower bound of what is long only, and of every
    symbol where the account may not be short, is 0.
    """
    lower = held.copy()
    upper = held.copy()
    for s in range(len(held)):
        if deciding[s]:
            least = -cap if shorts else 0.0
            # What cannot be sold short any more may still be held short: such a position may stay
            # and shrink, and only going further short is refused.
            lower[s] = max(least, min(held[s], 0.0)) if long_only[s] else least
            upper[s] = cap
    return lower, upper


@compiled
def spendable_ceilings(
    held: Array,
    cost: Array,
    crypto: Mask,
    stock_ceiling: float,
    unborrowed: float,
    caps: tuple[float, float, float],
) -> tuple[Array, Array]:
    """Coefficients [4, S] and limits [4] of the CEILINGS, net of what buying coins costs.

    caps: `Limits.caps`.
    """
    # The cost of buying comes out of the same cash, and coins may not be bought with borrowed cash.
    spendable = unborrowed / (1.0 + cost.max())
    return ceilings_of(crypto, held, stock_ceiling, caps[1], spendable)


@inlined
def _whole_sale(held: float, weight: float, increment: float) -> float:
    """What is sold on the way from one weight to a lower one, in whole increments.

    What is left is a whole number of them as well; a sale of everything is not rounded.
    """
    if weight == 0.0 or increment == 0.0:
        return held - weight
    left = whole_steps(weight, increment) * increment
    return whole_steps(held - left, increment) * increment


@compiled
def affordable_weights(
    weights: Array,
    held: Array,
    cost: Array,
    crypto: Mask,
    increment: Array,
    cent: float,
    unborrowed: float,
    order_margin: float,
) -> Array:
    """The weights [S], purchases of coins cut alike to what the venue takes of them.

    Σ bought·(1 + cost) ≤ unborrowed + Σ sold·(1 - cost) / order_margin, over coins. What a sale
    brings is in whole increments, unless it closes, less a fee that is rounded up to the cent.

    increment: [S] weight of one increment.
    cent: weight of one cent.
    unborrowed: a multiple of equity at the venue's check (cash / order_margin); below 0, what has
        to be paid back before a coin can be bought.
    order_margin: times their price, at which the venue checks market buys.
    """
    # `ceilings_of` bounds what coins come to: there a sale frees its whole worth. The venue checks
    # the purchase above its price against the cash that the sale has brought, and refuses all of it
    # where that falls short.
    needed = 0.0
    freed = 0.0
    for s in range(len(held)):
        change = weights[s] - held[s]
        if crypto[s] and change > 0.0:
            needed += change * (1.0 + cost[s])
        elif crypto[s] and change < 0.0:
            sold = _whole_sale(held[s], weights[s], increment[s])
            freed += max(sold * (1.0 - cost[s]) - cent, 0.0)
    payable = max(unborrowed + freed / order_margin, 0.0)
    # A full ceiling is full up to the rounding of the program.
    if needed <= payable + ROUNDED:
        return weights
    affordable = weights.copy()
    share = payable / needed
    for s in range(len(held)):
        if crypto[s] and weights[s] > held[s]:
            affordable[s] = held[s] + share * (weights[s] - held[s])
    return affordable


@compiled
def ceilings_of(
    crypto: Mask, held: Array, stock_ceiling: float, crypto_leverage: float, unborrowed: float
) -> tuple[Array, Array]:
    """Coefficients [4, S] and limits [4] of the CEILINGS; unborrowed is a multiple of equity."""
    coefficients = np.zeros((4, len(held)))
    limits = np.empty(4)
    coins = 0.0
    for s in range(len(held)):
        if crypto[s]:
            coefficients[1, s] = coefficients[2, s] = coefficients[3, s] = 1.0
            coins += abs(held[s])
        else:
            coefficients[0, s] = 1.0
            coefficients[3, s] = 1.0 / stock_ceiling
    limits[0] = stock_ceiling
    limits[1] = crypto_leverage
    # Coins are not marginable: cash below zero buys none, and what is held is paid for already.
    limits[2] = coins + max(unborrowed, 0.0)
    # Coins are no margin for stocks: gross ≤ stock_ceiling · (1 - coins), written as a sum.
    limits[3] = 1.0
    return coefficients, limits
