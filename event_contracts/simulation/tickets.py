"""An order as the practice venue takes and keeps it, in Kalshi's words.

There is one book, of YES: a bid buys YES or sells NO, an ask sells YES or buys NO, at the price of
YES. With `reduce_only` an order sells what is held; without it, it buys, and pairs with what is
held of the other side are paid out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np

from event_contracts.simulation.exchange import PlacedOrder
from event_contracts.trading.fields import BookSide, Status
from event_contracts.trading.orders import PAYOUT, LimitOrder, Outcome, Verb
from event_contracts.trading.venue_orders import own_terms, yes_price

Answer = dict[str, Any]

TIME_IN_FORCE = "good_till_canceled"
SELF_TRADE = "taker_at_cross"
LONGEST_ID = 64  # characters of a client_order_id
LARGEST = 10**9  # contracts of an order
_FIELDS = {
    *("ticker", "side", "count", "price", "time_in_force", "self_trade_prevention_type"),
    *("client_order_id", "expiration_time", "reduce_only"),
}


class Refused(Exception):
    """A request the venue does not take.

    status: of HTTP.
    code: a word for programs.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """What a client asked for, checked as far as no market has to be known.

    ticker: of the market.
    side: of the book of YES.
    price: USD of YES.
    count: contracts.
    client_order_id: the client's; empty where he gave none.
    reduce_only: whether it may only sell what is held.
    expires: UTC, when it ends by itself; none where it does not.
    """

    ticker: str
    side: BookSide
    price: Decimal
    count: Decimal
    client_order_id: str
    reduce_only: bool
    expires: np.datetime64 | None

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> OrderRequest:
        """The request of a JSON object.

        Raises
        ------
        Refused
            naming the field that is missing or makes no sense.
        """
        unknown = set(body) - _FIELDS
        if unknown:
            raise _invalid(f"{sorted(unknown)[0]} is no field of an order")
        reduces = body.get("reduce_only", False)
        if not isinstance(reduces, bool):
            raise _invalid("reduce_only must be true or false")
        name = body.get("client_order_id", "")
        if not isinstance(name, str) or len(name) > LONGEST_ID:
            raise _invalid(f"client_order_id must be text of at most {LONGEST_ID} characters")
        ticker = body.get("ticker")
        if not isinstance(ticker, str) or not ticker:
            raise _invalid("ticker is required")
        _one_of(body, "time_in_force", (TIME_IN_FORCE,))
        _one_of(body, "self_trade_prevention_type", (SELF_TRADE,))
        side: BookSide = "bid" if _one_of(body, "side", ("bid", "ask")) == "bid" else "ask"
        return cls(
            ticker=ticker,
            side=side,
            price=price_of(body.get("price")),
            count=count_of(body.get("count")),
            client_order_id=name,
            reduce_only=reduces,
            expires=_instant_of(body.get("expiration_time")),
        )

    @property
    def verb(self) -> Verb:
        """What it does with its own side."""
        return own_terms(self.side, self.reduce_only)[0]

    @property
    def outcome(self) -> Outcome:
        """Its own side."""
        return own_terms(self.side, self.reduce_only)[1]

    def limit_order(self, order_id: str, count: Decimal) -> LimitOrder:
        """The order in our words."""
        own = yes_price(self.outcome, self.price)
        return LimitOrder(order_id, self.ticker, self.verb, self.outcome, own, count)


@dataclass(frozen=True, slots=True)
class Ticket:
    """An order and what became of it.

    request: as the client asked.
    placed: the order at the exchange.
    client_order_id: the client's, or the venue's own where he gave none.
    held_back: contracts that a fault keeps from trading; the order ends without them.
    refused_later: whether a fault turns it down at the next tick.
    """

    request: OrderRequest
    placed: PlacedOrder
    client_order_id: str
    held_back: Decimal = Decimal(0)
    refused_later: bool = False

    @property
    def order_id(self) -> str:
        """The venue's."""
        return self.placed.order_id

    @property
    def count(self) -> Decimal:
        """Contracts, as covered."""
        return self.placed.order.count + self.held_back

    @property
    def filled(self) -> Decimal:
        """Contracts that have traded."""
        return self.placed.filled

    @property
    def status(self) -> Status:
        """As the API names it."""
        state = self.placed.state
        return "canceled" if state == "executed" and self.held_back else state

    @property
    def waiting(self) -> Decimal:
        """Contracts that can still trade, and those held back."""
        return Decimal(0) if self.placed.is_done else self.placed.remaining + self.held_back


def price_of(value: object) -> Decimal:
    """A price, USD, from a fixed-point text.

    Raises
    ------
    Refused
        for anything else, and for prices outside 0 … 1.
    """
    price = _decimal(value, "price")
    if not 0 < price < PAYOUT or price != round(price, 4):
        raise _invalid(f"price: {value} is no price between 0 and 1 of at most 4 decimals")
    return price


def count_of(value: object) -> Decimal:
    """Contracts from a fixed-point text; the markets here trade whole ones.

    Raises
    ------
    Refused
        for anything else.
    """
    count = _decimal(value, "count")
    if not 0 < count <= LARGEST or count != count.to_integral_value():
        raise _invalid(f"count: {value} is no whole number of contracts from 1 to {LARGEST}")
    return count


def dollars(amount: Decimal) -> str:
    """USD as the API writes it, with 4 decimals and more where it needs them, up to 6."""
    text = f"{amount:.6f}"
    return text[:-2] if text.endswith("00") else text


def counted(contracts: Decimal) -> str:
    """Contracts as the API writes them, with 2 decimals."""
    return f"{contracts:.2f}"


def milliseconds(at: np.datetime64) -> int:
    """Since 1970."""
    return int(at.astype("datetime64[ms]").astype(np.int64))


def written(at: np.datetime64) -> str:
    """An instant as the API writes it."""
    return f"{np.datetime_as_string(at, unit='ms')}Z"


def _decimal(value: object, name: str) -> Decimal:
    if not isinstance(value, str):
        raise _invalid(f"{name}: a fixed-point text is required, as 0.5600 or 10.00")
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise _invalid(f"{name}: {value!r} is no number") from None
    if not number.is_finite():
        raise _invalid(f"{name}: {value!r} is no number")
    return number


def _one_of(body: Mapping[str, Any], name: str, values: tuple[str, ...]) -> str:
    value = body.get(name)
    if value not in values:
        raise _invalid(f"{name} must be one of {', '.join(values)}")
    return str(value)


def _instant_of(seconds: object) -> np.datetime64 | None:
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 0 < seconds < 2**33:
        raise _invalid("expiration_time must be whole seconds since 1970")
    return np.datetime64(seconds * 10**9, "ns")


def _invalid(message: str) -> Refused:
    return Refused(400, "invalid_parameters", message)
