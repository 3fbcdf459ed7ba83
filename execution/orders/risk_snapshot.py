"""What guards judge orders by: an account as it was seen, and what was let pass since."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from execution.orders.option_orders import SpreadOrder
from execution.orders.orders import Account, Order
from foundation.errors import InputError
from trainingdata.feed.market_data import LastTrade

GuardedOrder = Order | SpreadOrder


class PriceUnseen(InputError):
    """Something is held or ordered of which no price was seen, so nobody knows how much it is."""


@dataclass(frozen=True, slots=True)
class RiskSnapshot:
    """An account as it was last read, and what orders are judged by.

    account: with its open orders, and with the prices, USD, that orders were sized at.
    trades: the last trade of each symbol that may be ordered.
    at_risk: USD that open spreads can lose, and those on their way, by the root of their options.
    balance: USD that spreads are sized from, of the account's files; none where none are sold.
    passed: orders that guards let pass since, by id: two that are judged by one snapshot must not
        both take the same room.
    """

    account: Account
    trades: Mapping[str, LastTrade] = field(default_factory=dict)
    at_risk: Mapping[str, float] = field(default_factory=dict)
    balance: float | None = None
    passed: dict[str, GuardedOrder] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if not math.isfinite(self.account.equity):
            raise ValueError(f"equity must be a number, got {self.account.equity}")
        if self.balance is not None and not math.isfinite(self.balance):
            raise ValueError(f"balance must be a number, got {self.balance}")
        for root, risk in self.at_risk.items():
            if not 0 <= risk < math.inf:
                raise ValueError(f"at_risk: {root} must be at least 0, got {risk}")

    def let_pass(self, order: GuardedOrder) -> None:
        """Note that an order was let pass; one that is sent again may be an open one already."""
        name = order.client_order_id
        if all(each.client_order_id != name for each in self.account.open_orders):
            self.passed[name] = order

    def has_price(self, symbol: str) -> bool:
        return symbol in self.trades or symbol in self.account.prices

    def price(self, symbol: str) -> float:
        """What a symbol is worth, USD: at its last trade, or as it was sized.

        Raises
        ------
        PriceUnseen
            for a symbol of which no price was seen.
        """
        trade = self.trades.get(symbol)
        if trade is not None:
            return trade.price
        if symbol not in self.account.prices:
            raise PriceUnseen(f"no price of {symbol} was seen, and it is held or ordered")
        return self.account.prices[symbol]
