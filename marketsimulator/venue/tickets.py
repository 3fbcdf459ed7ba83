"""Orders as the venue keeps them, as Alpaca writes them, and as its clients ask for them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np

from execution.orders import ORDER_TYPES, PRICES, TIMES_IN_FORCE, Fill, Order
from foundation.errors import InputError
from trainingdata.instruments import Kind, instrument, venue_spelling

# Every id of the venue is derived from a name within this namespace: the same run has the same ids.
ID_NAMESPACE = uuid.UUID("5f6d3c1e-7a44-4b57-9a8e-0f3f0f2d9c11")

OPEN_STATUSES = (
    "new",
    "partially_filled",
    "accepted",
    "held",
    "pending_new",
    "pending_cancel",
    "pending_replace",
)
ENDED_STATUSES = ("filled", "canceled", "expired", "replaced", "rejected")
STATUSES = (
    *OPEN_STATUSES,
    *ENDED_STATUSES,
    "done_for_day",
    "stopped",
    "suspended",
    "calculated",
    "accepted_for_bidding",
)

ORDER_CLASSES = ("", "simple")  # of a single symbol

Answer = dict[str, Any]


class Refused(Exception):
    """A request the venue does not take.

    status: of HTTP.
    code: Alpaca's own.
    """

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(slots=True)
class Ticket:
    """An order as the venue keeps it.

    order: what the client asked for.
    number: the venue's own id.
    submitted_at: when it came, as the API writes instants.
    fills: what it has traded, oldest first; a coin's fee is a fill at price 0.
    status: one of `STATUSES`, in Alpaca's words.
    closed_at: when it stopped working; None while it is open.
    replaces: number of the order whose place it took.
    replaced_by: number of the order that took its place.
    """

    order: Order
    number: str
    submitted_at: str
    fills: list[Fill] = field(default_factory=list)
    status: str = "new"
    closed_at: str | None = None
    replaces: str | None = None
    replaced_by: str | None = None

    @classmethod
    def of(cls, order: Order, submitted_at: str) -> Ticket:
        """A new ticket."""
        return cls(order, order_number(order), submitted_at)

    @property
    def filled(self) -> Decimal:
        """Quantity traded, a coin's fee not counted."""
        return sum((abs(fill.qty) for fill in self.fills if fill.price > 0), Decimal(0))

    @property
    def open(self) -> bool:
        """Whether it may still do something."""
        return self.status in OPEN_STATUSES

    def answer(self) -> Answer:
        """The order in Alpaca's words."""
        order = self.order
        coin = order.instrument.kind is Kind.CRYPTO
        ended_at = self.closed_at if self.status in ENDED_STATUSES else None
        return {
            "id": self.number,
            "client_order_id": order.client_order_id,
            "created_at": self.submitted_at,
            "updated_at": self.closed_at or self.submitted_at,
            "submitted_at": self.submitted_at,
            "filled_at": ended_at if self.status == "filled" else None,
            "expired_at": ended_at if self.status == "expired" else None,
            "canceled_at": ended_at if self.status == "canceled" else None,
            "failed_at": ended_at if self.status == "rejected" else None,
            "replaced_at": ended_at if self.status == "replaced" else None,
            "replaced_by": self.replaced_by,
            "replaces": self.replaces,
            "asset_id": asset_id(order.symbol),
            "symbol": venue_spelling(order.symbol),
            "asset_class": "crypto" if coin else "us_equity",
            "notional": None,
            "qty": quantity_text(order.qty),
            "filled_qty": quantity_text(self.filled),
            "filled_avg_price": self._mean_price(),
            "order_class": "simple",
            "order_type": order.type,
            "type": order.type,
            "side": order.side,
            "time_in_force": order.tif,
            "limit_price": _price_text(order.limit_price),
            "stop_price": _price_text(order.stop_price),
            "status": self.status,
            "extended_hours": order.extended_hours,
            "legs": None,
            "trail_percent": _price_text(order.trail_percent),
            "trail_price": _price_text(order.trail_price),
            "hwm": None,
        }

    def _mean_price(self) -> str | None:
        """Mean price of what has filled, USD; None where nothing has."""
        if not self.filled:
            return None
        traded = (fill for fill in self.fills if fill.price > 0)
        value = sum(abs(fill.qty) * Decimal(repr(fill.price)) for fill in traded)
        return str(value / self.filled)


def parse_order(request: Mapping[str, Any], number: int) -> Order:
    """The order of a request.

    Parameters
    ----------
    request: the body of `POST /v2/orders`.
    number: how many orders came before: it makes an id where the client gives none.

    Raises
    ------
    Refused
        naming what is missing or cannot be.
    """
    try:
        _refuse_exits(request)
        if request.get("notional") is not None:
            raise ValueError("notional is not served here: qty")
        return Order(
            client_order_id=_client_order_id(request, number),
            symbol=instrument(str(request["symbol"])).symbol,
            side=_choice(request, "side", ("buy", "sell")),
            qty=Decimal(str(request["qty"])),
            reason="over the wire",
            type=_choice(request, "type", ORDER_TYPES),
            tif=_choice(request, "time_in_force", TIMES_IN_FORCE),
            extended_hours=request.get("extended_hours") is True,
            **_order_prices(request),
        )
    except (KeyError, TypeError, InvalidOperation) as error:
        raise Refused(422, 40010001, f"{error} is missing or no number") from None
    except (InputError, ValueError) as error:
        raise Refused(422, 40010001, str(error)) from None


def replacement_order(ticket: Ticket, request: Mapping[str, Any], number: int) -> Order:
    """The order that takes the place of an open one, with the values a request changes.

    number: how many orders came before; it makes an id where the client gives none.

    Raises
    ------
    Refused
        for an order that cannot be changed, and values that cannot be.
    """
    order = ticket.order
    if not ticket.open:
        raise Refused(422, 42210000, f"an order that is {ticket.status} cannot be replaced")
    try:
        field_of_key = {"limit_price": "limit_price", "stop_price": "stop_price"}
        if order.type == "trailing_stop":
            # A change names the distance `trail`, and means it in the unit the order came with.
            by_price = order.trail_price is not None
            field_of_key["trail"] = "trail_price" if by_price else "trail_percent"
        changes: dict[str, Any] = {}
        for key, name in field_of_key.items():
            if request.get(key) is not None:
                changes[name] = float(request[key])
        if request.get("time_in_force"):
            changes["tif"] = _choice(request, "time_in_force", TIMES_IN_FORCE)
        # `qty` is the size of both orders together: what has filled is not ordered a second time.
        whole = Decimal(str(request["qty"])) if request.get("qty") is not None else order.qty
        name = _client_order_id(request, number)
        return replace(order, client_order_id=name, qty=whole - ticket.filled, **changes)
    except (TypeError, InvalidOperation, ValueError) as error:
        raise Refused(422, 40010001, str(error)) from None


def _client_order_id(request: Mapping[str, Any], number: int) -> str:
    """The client's id of an order, or one made from its number."""
    return str(request.get("client_order_id") or uuid.uuid5(ID_NAMESPACE, f"order {number}"))


def _refuse_exits(request: Mapping[str, Any]) -> None:
    """Brackets, one-triggers-other and one-cancels-other are orders that nothing here sends."""
    order_class = str(request.get("order_class") or "")
    if order_class not in ORDER_CLASSES:
        raise ValueError(f"order_class {order_class!r} is not served here: simple")
    for key in ("take_profit", "stop_loss"):
        if request.get(key):
            raise ValueError(f"{key} is not served here: an order has no exits")


def _order_prices(request: Mapping[str, Any]) -> dict[str, Any]:
    """The prices of a request by the names of an order's fields, USD or percent."""
    return {name: float(request[name]) for name in PRICES if request.get(name) is not None}


def _choice(request: Mapping[str, Any], key: str, words: tuple[str, ...]) -> Any:
    """The word under a key, refused where it is none of those served."""
    word = str(request.get(key, ""))
    if word not in words:
        raise ValueError(f"{key} {word!r} is none of {', '.join(words)}")
    return word


def _price_text(value: float | None) -> str | None:
    return None if value is None else repr(value)


def order_number(order: Order) -> str:
    """The venue's own id of an order, the same always."""
    return str(uuid.uuid5(ID_NAMESPACE, order.client_order_id))


def asset_id(symbol: str) -> str:
    """The id of a symbol, the same always."""
    return str(uuid.uuid5(ID_NAMESPACE, symbol))


def quantity_text(quantity: Decimal) -> str:
    """A quantity without an exponent."""
    return f"{quantity.normalize():f}" if quantity else "0"


def timestamp(at: np.datetime64) -> str:
    """An instant as the API writes it."""
    return f"{np.datetime_as_string(at, unit='s')}Z"
