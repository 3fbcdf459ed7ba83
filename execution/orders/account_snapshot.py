"""Snapshot of an account at one instant, which decisions and guards use."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np

from execution.orders.orders import Order, open_crypto_bid_cost
from foundation.errors import InputError

if TYPE_CHECKING:
    from trainingdata.last_trade import LastTrade

MIN_FREE_EQUITY_SHARE = 1e-6  # smallest share of equity; a ceiling of 0 would allow no division


class UnknownAccountValue(InputError):
    """A figure of the account is unknown: the price of a symbol, or the risk of open spreads."""


@dataclass(frozen=True, slots=True)
class AccountSnapshot:
    """An account at an instant, from a simulation, a venue or a journal.

    Only the guards of a live account need `last_trades`, `max_loss_by_root` and
    `spread_capital_usd`. None means that they were not read; an empty mapping means that there are
    none.

    cash: cash in USD; below 0 for borrowed cash.
    positions: signed quantities, by symbol.
    prices: last known closes in USD, by symbol; orders are sized at these prices.
    as_of: instant of the snapshot.
    open_orders: open orders, and orders of unknown outcome, which may be open.
    cancelling_orders: ids of open orders whose cancellation is pending at the venue; they may still
        fill, and reserve their quantity.
    unsettled_proceeds: net proceeds of stock trades that settle in the next session, USD; proceeds
        of open short positions are not included.
    short_proceeds: proceeds of open short positions, USD.
    max_leverage: largest gross stock exposure that the venue allows, in multiples of equity.
    is_shorting_enabled: true if the venue lends shares.
    block_reason: reason why the venue has blocked the account; empty if it accepts orders.
    is_crypto_enabled: true if the venue accepts orders of crypto.
    uncertain_symbols: symbols with an order of unknown outcome, or with a part of the position
        locked by the venue; no order is planned in these symbols.
    cooling_symbols: symbols that are not opened now because their stop has filled recently.
    free_equity_share: fraction of equity available as margin for stock positions, above 0, at most
        1; the other part secures open spreads.
    limit_factor: factor of the limits on weights at the account's drawdown (`guards.tiers`), above
        0, at most 1.
    last_trades: last trade of each symbol that may be ordered.
    max_loss_by_root: maximum loss of open and pending spreads, USD, by the root of their options.
    spread_capital_usd: capital in USD by which spreads are sized, according to the account's files.
    equity: cash plus positions at these prices, USD.
    """

    cash: float
    positions: Mapping[str, Decimal]
    prices: Mapping[str, float]
    as_of: np.datetime64
    open_orders: tuple[Order, ...] = ()
    cancelling_orders: frozenset[str] = frozenset()
    unsettled_proceeds: float = 0.0
    short_proceeds: float = 0.0
    max_leverage: float = float("inf")
    is_shorting_enabled: bool = True
    block_reason: str = ""
    is_crypto_enabled: bool = True
    uncertain_symbols: frozenset[str] = frozenset()
    cooling_symbols: frozenset[str] = frozenset()
    free_equity_share: float = 1.0
    limit_factor: float = 1.0
    last_trades: Mapping[str, LastTrade] | None = None
    max_loss_by_root: Mapping[str, float] | None = None
    spread_capital_usd: float | None = None
    equity: float = field(init=False)

    def __post_init__(self) -> None:
        prices = self.prices
        value = 0.0
        for symbol, quantity in self.positions.items():
            if quantity:
                if symbol not in prices:
                    raise ValueError(f"positions: {symbol} has no price; add it to `prices`")
                value += float(quantity) * prices[symbol]
        equity = self.cash + value
        if not math.isfinite(equity):
            raise ValueError(f"equity must be a finite number, got {equity}")
        if self.spread_capital_usd is not None and not math.isfinite(self.spread_capital_usd):
            raise ValueError(
                f"spread_balance must be a finite number, got {self.spread_capital_usd}"
            )
        for root, risk in (self.max_loss_by_root or {}).items():
            if not 0 <= risk < math.inf:
                raise ValueError(
                    f"max_loss_by_root: the maximum loss of {root} must be a finite number of at"
                    f" least 0, got {risk}"
                )
        object.__setattr__(self, "equity", equity)

    def with_reserved_collateral(self, collateral: float) -> AccountSnapshot:
        """Return the snapshot after reserving collateral for open spreads.

        The collateral supports no stock positions and buys no crypto.

        collateral: USD.
        """
        if collateral <= 0:
            return self
        share = 1.0 - collateral / self.equity if self.equity > 0 else 0.0
        # Collateral is not a debt: it reserves the cash there is, and no future proceeds of crypto.
        reserved = min(collateral, max(self.unborrowed_cash, 0.0))
        return replace(
            self,
            free_equity_share=max(share, MIN_FREE_EQUITY_SHARE),
            unsettled_proceeds=max(self.unsettled_proceeds, 0.0) + reserved,
        )

    @property
    def projected_positions(self) -> Mapping[str, Decimal]:
        """Signed quantity of each position once all open orders have filled, by symbol."""
        total = dict(self.positions)
        for order in self.open_orders:
            total[order.symbol] = total.get(order.symbol, Decimal(0)) + order.signed_qty
        return total

    @property
    def open_reductions(self) -> Mapping[str, Decimal]:
        """Part of each position that open orders would close, by symbol, with the position's sign.

        The part is still held until the orders have filled.
        """
        reductions: dict[str, Decimal] = {}
        for order in self.open_orders:
            held = self.positions.get(order.symbol, Decimal(0))
            if held * order.signed_qty < 0:
                # Several orders together reduce by no more than the position.
                before = abs(reductions.get(order.symbol, Decimal(0)))
                reductions[order.symbol] = min(before + order.qty, abs(held)).copy_sign(held)
        return reductions

    def without_orders(self, orders: Collection[Order]) -> AccountSnapshot:
        """Return the snapshot as if these open orders were cancelled."""
        if not orders:
            return self
        cancelled = {order.client_order_id for order in orders}
        remaining = [o for o in self.open_orders if o.client_order_id not in cancelled]
        return replace(self, open_orders=tuple(remaining))

    def with_prices(self, prices: Mapping[str, float]) -> AccountSnapshot:
        """Return the snapshot with prices added for symbols that have none.

        prices: USD by symbol; existing prices are kept.
        """
        return replace(self, prices={**prices, **self.prices})

    def last_trade(self, symbol: str) -> LastTrade | None:
        """Return the last trade of a symbol; None if there is none or trades were not read."""
        return None if self.last_trades is None else self.last_trades.get(symbol)

    def price(self, symbol: str) -> float:
        """Return the price of one unit of a symbol, USD: its last trade, else the price for sizing.

        Raises
        ------
        UnknownAccountValue
            for a symbol without a price.
        """
        trade = self.last_trade(symbol)
        if trade is not None:
            return trade.price
        if symbol not in self.prices:
            raise UnknownAccountValue(
                f"no price for {symbol}, in which there is a position or an order"
            )
        return self.prices[symbol]

    @property
    def known_max_loss_by_root(self) -> Mapping[str, float]:
        """Maximum loss of spreads by root of their options, USD.

        Raises UnknownAccountValue if it was not read.
        """
        if self.max_loss_by_root is None:
            raise UnknownAccountValue("the maximum loss of open spreads is unknown")
        return self.max_loss_by_root

    @property
    def market_prices(self) -> dict[str, float]:
        """Price of one unit of each symbol, USD: its last trade, else the price for sizing."""
        trades = {symbol: trade.price for symbol, trade in (self.last_trades or {}).items()}
        return {**self.prices, **trades}

    @property
    def unborrowed_cash(self) -> float:
        """Cash that may buy crypto, USD; below 0 for a shortfall."""
        # Crypto is bought with settled cash alone. Proceeds of stocks settle a session later, those
        # of open shorts secure the shorts, and open bids reserve their cost.
        proceeds = max(self.unsettled_proceeds, 0.0)
        bids = open_crypto_bid_cost(self.open_orders, self.prices)
        return self.cash - self.short_proceeds - proceeds - bids
