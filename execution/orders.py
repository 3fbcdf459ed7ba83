"""Orders, fills and the account; and `rebalance`, which turns target quantities into orders."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Literal

import numpy as np

from sizing.quantity import whole
from trainingdata.instruments import Instrument, Kind
from trainingdata.sessions import stamp

Side = Literal["buy", "sell"]
OrderType = Literal["market", "limit", "stop", "stop_limit"]
TimeInForce = Literal["day", "gtc", "ioc"]
_IDENTITY = re.compile(r"[A-Za-z0-9_.-]{1,128}")


@dataclass(frozen=True, slots=True)
class Order:
    """An order; qty > 0, a multiple of the instrument's increment or all that is held.

    client_order_id: a function of strategy, instant, symbol, leg and attempt, so that the same intention never has two.
    reason: why it exists, in words. reduces: whether it only brings a position nearer to zero. limit_price, stop_price:
    USD, where the type needs them. take_profit, stop_loss: USD, what a bracket sends once the order fills; whichever
    fills cancels the other.
    """

    client_order_id: str
    symbol: str
    side: Side
    qty: Decimal
    reason: str
    reduces: bool = False
    type: OrderType = "market"
    tif: TimeInForce = "day"
    limit_price: float | None = None
    stop_price: float | None = None
    take_profit: float | None = None
    stop_loss: float | None = None

    def __post_init__(self) -> None:
        if not self.qty > 0:
            raise ValueError(f"{self.client_order_id}: qty must be above 0, got {self.qty}")
        if not _IDENTITY.fullmatch(self.client_order_id):
            raise ValueError(f"client_order_id must be 1 to 128 letters, digits, '.', '_' or '-', got {self.client_order_id!r}")
        for name, needed in (("limit_price", "limit" in self.type), ("stop_price", "stop" in self.type)):
            price = getattr(self, name)
            if needed != (price is not None):
                raise ValueError(f"{self.client_order_id}: a {self.type} order {'needs a' if needed else 'has no'} {name}")
        for name in ("limit_price", "stop_price", "take_profit", "stop_loss"):
            price = getattr(self, name)
            if price is not None and not 0 < price < float("inf"):
                raise ValueError(f"{self.client_order_id}: {name} must be above 0, got {price}")
        if self.take_profit and self.stop_loss and (self.take_profit > self.stop_loss) != (self.side == "buy"):
            raise ValueError(
                f"{self.client_order_id}: a {self.side}'s take_profit {self.take_profit} is on the wrong side"
                f" of its stop_loss {self.stop_loss}"
            )

    @property
    def signed_qty(self) -> Decimal:
        """Positive for a buy, negative for a sale."""
        return self.qty if self.side == "buy" else -self.qty


@dataclass(frozen=True, slots=True)
class Fill:
    """What an order did: qty signed, price and fee in USD.

    at: the start of the bar whose open it met, or the instant at which the bar that filled it within became known. A coin
    purchase pays its fee in coin: a second fill of the same order, with a negative qty at price 0.
    """

    client_order_id: str
    symbol: str
    qty: Decimal
    price: float
    fee: float
    at: np.datetime64


@dataclass(frozen=True, slots=True)
class Account:
    """An account in USD as of an instant; negative cash is borrowing.

    positions: signed quantities. prices: last known closes. unsettled: net proceeds of stock trades that settle on the
    next session. short_proceeds: what open shorts were sold for. equity: cash plus positions at those prices.
    """

    cash: float
    positions: Mapping[str, Decimal]
    prices: Mapping[str, float]
    as_of: np.datetime64
    open_orders: tuple[Order, ...] = ()
    unsettled: float = 0.0
    short_proceeds: float = 0.0
    equity: float = field(init=False)

    def __post_init__(self) -> None:
        unpriced = [s for s, q in self.positions.items() if q and s not in self.prices]
        if unpriced:
            raise ValueError(f"positions: {unpriced[0]} has no price")
        value = sum(float(q) * self.prices[s] for s, q in self.positions.items() if q)
        object.__setattr__(self, "equity", self.cash + value)

    @property
    def exposure(self) -> Mapping[str, Decimal]:
        """Signed quantity held plus open, by symbol."""
        total = dict(self.positions)
        for order in self.open_orders:
            total[order.symbol] = total.get(order.symbol, Decimal(0)) + order.signed_qty
        return total

    def priced(self, prices: Mapping[str, float]) -> Account:
        """The same account, with prices for symbols it has none of."""
        return replace(self, prices={**prices, **self.prices})

    @property
    def unborrowed_cash(self) -> float:
        """Cash that may buy coins: above zero, without unsettled stock proceeds and without what shorts were sold for."""
        return max(0.0, self.cash - max(self.unsettled, 0.0) - self.short_proceeds)


def exact(quantity: float) -> Decimal:
    """The quantity a float was rounded to: 3, not 3.0; 0.123 as written."""
    return Decimal(int(quantity)) if quantity == int(quantity) else Decimal(repr(quantity))


def client_order_id(strategy: str, at: np.datetime64, symbol: str, leg: int, attempt: int = 0) -> str:
    """The identity of an order: the same for the same instant, symbol, leg and attempt of a strategy."""
    return f"{strategy}-{stamp(at)}-{symbol}-{leg}-{attempt}"


def rebalance(
    strategy: str,
    at: np.datetime64,
    targets: Iterable[tuple[Instrument, Decimal, Decimal, str]],
) -> tuple[Order, ...]:
    """Orders that move each instrument from what is held to its target: (instrument, held, target, reason).

    A change of sign is two orders, a close and an opening one: no order flips a position. Reductions come first, then
    coin purchases, then the rest, each by symbol. A quantity is in whole increments, unless it closes a position.
    """
    ranked: list[tuple[int, str, Order]] = []
    for item, held, target, reason in targets:
        crosses = held * target < 0
        steps = [(held, Decimal(0)), (Decimal(0), target)] if crosses else [(held, target)]
        for leg, (before, after) in enumerate(steps):
            if after == before:
                continue
            reduces = abs(after) < abs(before)
            rank = 0 if reduces else 1 if item.kind is Kind.CRYPTO else 2
            side: Side = "buy" if after > before else "sell"
            qty = abs(after - before) if after == 0 else whole(float(abs(after - before)), item.increment)
            if qty == 0:
                continue
            identity = client_order_id(strategy, at, item.symbol, leg)
            tif: TimeInForce = "gtc" if item.kind is Kind.CRYPTO else "day"
            ranked.append((rank, item.symbol, Order(identity, item.symbol, side, qty, reason, reduces, tif=tif)))
    return tuple(order for _, _, order in sorted(ranked, key=lambda entry: entry[:2]))
