"""Orders as the venue keeps them, as Alpaca writes them, and as its clients ask for them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import ROUND_DOWN, Decimal, InvalidOperation
from typing import Any

import numpy as np

from execution.orders import Fill, Order
from foundation.errors import InputError
from trainingdata.instruments import BILLIONTH, Kind, instrument, spelled

NAMES = uuid.UUID("5f6d3c1e-7a44-4b57-9a8e-0f3f0f2d9c11")
OPEN = (
    "new",
    "partially_filled",
    "accepted",
    "held",
    "pending_new",
    "pending_cancel",
    "pending_replace",
)
ENDED = ("filled", "canceled", "expired", "replaced", "rejected")
STATUSES = (
    *OPEN,
    *ENDED,
    "done_for_day",
    "stopped",
    "suspended",
    "calculated",
    "accepted_for_bidding",
)
CLASSES = {"": "simple", "simple": "simple", "bracket": "bracket", "oto": "oto", "oco": "oco"}
Answer = dict[str, Any]


class Refused(Exception):
    """A request the venue does not take. status: of HTTP; code: Alpaca's own."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(slots=True)
class Ticket:
    """An order as the venue keeps it.

    at, closed: when it came and when it stopped working. legs: its exits. fills: what it did,
    oldest first. notional: USD it was asked for by, instead of a quantity. replaces, replaced_by:
    numbers.
    """

    order: Order
    number: str
    at: str
    legs: tuple[Ticket, ...] = ()
    notional: str | None = None
    fills: list[Fill] = field(default_factory=list)
    status: str = "new"
    closed: str | None = None
    replaces: str | None = None
    replaced_by: str | None = None

    @classmethod
    def of(cls, order: Order, at: str, notional: str | None = None) -> Ticket:
        """A new ticket, and one for each exit the order brings."""
        legs = tuple(cls(leg, number_of(leg), at, status="held") for leg in order.legs)
        return cls(order, number_of(order), at, legs, notional)

    @property
    def filled(self) -> Decimal:
        """Quantity traded, a coin's fee not counted."""
        return sum((abs(f.qty) for f in self.fills if f.price > 0), Decimal(0))

    @property
    def open(self) -> bool:
        """Whether it, or an exit of it, may still do something."""
        return self.status in OPEN or any(leg.status in OPEN for leg in self.legs)

    def answer(self, *, nested: bool = True) -> Answer:
        """The order in Alpaca's words; nested: with its exits in it."""
        order = self.order
        coin = instrument(self.order.symbol).kind is Kind.CRYPTO
        value = sum(abs(f.qty) * Decimal(repr(f.price)) for f in self.fills if f.price > 0)
        done = self.closed if self.status in ENDED else None
        return {
            "id": self.number,
            "client_order_id": order.client_order_id,
            "created_at": self.at,
            "updated_at": self.closed or self.at,
            "submitted_at": self.at,
            "filled_at": done if self.status == "filled" else None,
            "expired_at": done if self.status == "expired" else None,
            "canceled_at": done if self.status == "canceled" else None,
            "failed_at": done if self.status == "rejected" else None,
            "replaced_at": done if self.status == "replaced" else None,
            "replaced_by": self.replaced_by,
            "replaces": self.replaces,
            "asset_id": asset_id(order.symbol),
            "symbol": spelled(order.symbol),
            "asset_class": "crypto" if coin else "us_equity",
            "notional": self.notional,
            "qty": None if self.notional else text(order.qty),
            "filled_qty": text(self.filled),
            "filled_avg_price": str(value / self.filled) if self.filled else None,
            "order_class": _class_of(order),
            "order_type": order.type,
            "type": order.type,
            "side": order.side,
            "time_in_force": order.tif,
            "limit_price": _price(order.limit_price),
            "stop_price": _price(order.stop_price),
            "status": self.status,
            "extended_hours": order.extended_hours,
            "legs": [leg.answer() for leg in self.legs] if nested and self.legs else None,
            "trail_percent": _price(order.trail_percent),
            "trail_price": _price(order.trail_price),
            "hwm": None,
        }


def order_of(
    request: Mapping[str, Any], number: int, price_of: Callable[[str], float | None]
) -> tuple[Order, str | None]:
    """The order a request asks for, and the USD it is asked for by, if it is.

    number: makes an id where the client gives none. price_of: what a symbol trades at, for an order
    by value: its quantity is the value at that price, down to a billionth.

    Raises
    ------
    Refused
        naming what is missing or cannot be.
    """
    try:
        symbol = instrument(str(request["symbol"])).symbol
        asked = str(request.get("order_class") or "")
        if asked not in CLASSES:
            raise ValueError(
                f"order_class {asked!r} is not served here: {', '.join(filter(None, CLASSES))}"
            )
        notional = None if request.get("notional") is None else str(request["notional"])
        if (notional is None) == (request.get("qty") is None):
            raise ValueError("exactly one of qty and notional is needed")
        order = Order(
            client_order_id=str(
                request.get("client_order_id") or uuid.uuid5(NAMES, f"order {number}")
            ),
            symbol=symbol,
            side=_one_of(request, "side", ("buy", "sell")),
            qty=Decimal(str(request["qty"]))
            if notional is None
            else _by_value(request, Decimal(notional), price_of(symbol)),
            reason="over the wire",
            type=_one_of(
                request, "type", ("market", "limit", "stop", "stop_limit", "trailing_stop")
            ),
            tif=_one_of(request, "time_in_force", ("day", "gtc", "ioc", "fok", "opg", "cls")),
            extended_hours=request.get("extended_hours") is True,
            **_prices(request, asked),
        )
        if CLASSES[asked] != _class_of(order):
            raise ValueError(f"order_class {asked or 'simple'!r} does not fit the exits given")
        return order, notional
    except (KeyError, TypeError, InvalidOperation) as error:
        raise Refused(422, 40010001, f"{error} is missing or no number") from None
    except (InputError, ValueError) as error:
        raise Refused(422, 40010001, str(error)) from None


def changed(ticket: Ticket, request: Mapping[str, Any], number: int) -> Order:
    """The order that stands in the place of one that is changed; what that has filled is not
    ordered again.

    Raises
    ------
    Refused
        for an order that cannot be changed, and values that cannot be.
    """
    order = ticket.order
    if ticket.status not in OPEN or ticket.legs or ticket.notional:
        raise Refused(
            422,
            42210000,
            f"an order that is {ticket.status}, by value or with exits cannot be replaced",
        )
    try:
        trail = {"trail": "trail_price" if order.trail_price is not None else "trail_percent"}
        prices = {"limit_price": "limit_price", "stop_price": "stop_price"} | (
            trail if order.type == "trailing_stop" else {}
        )
        changes: dict[str, Any] = {
            own: float(request[key]) for key, own in prices.items() if request.get(key) is not None
        }
        if request.get("time_in_force"):
            changes["tif"] = _one_of(
                request, "time_in_force", ("day", "gtc", "ioc", "fok", "opg", "cls")
            )
        whole = Decimal(str(request["qty"])) if request.get("qty") is not None else order.qty
        name = str(request.get("client_order_id") or uuid.uuid5(NAMES, f"order {number}"))
        return replace(order, client_order_id=name, qty=whole - ticket.filled, **changes)
    except (TypeError, InvalidOperation, ValueError) as error:
        raise Refused(422, 40010001, str(error)) from None


def _prices(request: Mapping[str, Any], asked: str) -> dict[str, Any]:
    """The prices of a request by the names of an order's; the limit of one that cancels another
    is in its take_profit.
    """
    found = {
        name: request.get(name)
        for name in ("limit_price", "stop_price", "trail_price", "trail_percent")
    }
    profit, loss = (request.get(name) or {} for name in ("take_profit", "stop_loss"))
    if not (isinstance(profit, Mapping) and isinstance(loss, Mapping)):
        raise ValueError("take_profit and stop_loss are objects with a price")
    if loss.get("limit_price") is not None:
        raise ValueError(
            "stop_loss.limit_price is not served here: an exit that stops is a market order"
        )
    if asked == "oco":
        found |= {
            "limit_price": profit.get("limit_price", request.get("limit_price")),
            "or_stop": loss.get("stop_price"),
        }
    else:
        found |= {"take_profit": profit.get("limit_price"), "stop_loss": loss.get("stop_price")}
    return {name: float(price) for name, price in found.items() if price is not None}


def _one_of(request: Mapping[str, Any], key: str, words: tuple[str, ...]) -> Any:
    word = str(request.get(key, ""))
    if word not in words:
        raise ValueError(f"{key} {word!r} is none of {', '.join(words)}")
    return word


def _by_value(request: Mapping[str, Any], usd: Decimal, price: float | None) -> Decimal:
    if price is None:
        raise ValueError(f"{request['symbol']} has no price to order by value at")
    if request.get("type") != "market":
        raise ValueError("an order by value is a market order")
    return (usd / Decimal(repr(price))).quantize(BILLIONTH, ROUND_DOWN)


def _class_of(order: Order) -> str:
    if order.or_stop is not None:
        return "oco"
    return ("simple", "oto", "bracket")[len(order.legs)]


def _price(value: float | None) -> str | None:
    return None if value is None else repr(value)


def number_of(order: Order) -> str:
    """The venue's own id of an order, the same always."""
    return str(uuid.uuid5(NAMES, order.client_order_id))


def asset_id(symbol: str) -> str:
    """The id of a symbol, the same always."""
    return str(uuid.uuid5(NAMES, symbol))


def text(quantity: Decimal) -> str:
    """A quantity without an exponent."""
    return f"{quantity.normalize():f}" if quantity else "0"


def stamp(at: np.datetime64) -> str:
    """An instant as the API writes it."""
    return f"{np.datetime_as_string(at, unit='s')}Z"
