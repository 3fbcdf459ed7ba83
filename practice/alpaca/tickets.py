"""Orders of the practice venue in Alpaca's format, and parsing of order requests."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np

from execution.orders.orders import ORDER_TYPES, PRICE_FIELDS, TIMES_IN_FORCE, Fill, Order
from practice.faults import OPEN_ORDER_STATUSES, FaultKind, InjectedFault, OrderStatus
from practice.request import RequestRefused, ResponseBody
from trainingdata.instruments import AssetClass, instrument, venue_spelling

# Every id of the venue is derived from a name in this namespace, so that the same run has the same
# ids.
VENUE_ID_NAMESPACE = uuid.UUID("5f6d3c1e-7a44-4b57-9a8e-0f3f0f2d9c11")
ORDER_CLASSES = ("", "simple")  # classes of orders in a single symbol
MAX_SHOWN_VALUE_CHARACTERS = 40  # characters of a refused value in a message
END_TIMESTAMP_KEYS = {  # key of the time at which an order ended, by its final status
    "filled": "filled_at",
    "canceled": "canceled_at",
    "expired": "expired_at",
    "rejected": "failed_at",
    "replaced": "replaced_at",
}


@dataclass(slots=True)
class OrderTicket:
    """The venue's record of an order: the order, its status and its fills.

    order: order of the client.
    submitted_at: instant of arrival, in the API's format.
    fills: fills, oldest first; a crypto fee is a fill at price 0.
    status: Alpaca's order status.
    closed_at: instant at which the order ended, in the API's format; None while it is open.
    slow: slow-venue faults that apply to the order, by kind.
    parts: ids of the orders at the simulated broker that make up this order.
    cancels_at: instant at which a requested cancellation completes; None if there is no request.
    """

    order: Order
    submitted_at: str
    fills: list[Fill] = field(default_factory=list)
    status: OrderStatus = "new"
    closed_at: str | None = None
    slow: dict[FaultKind, InjectedFault] = field(default_factory=dict)
    parts: tuple[str, ...] = ()
    cancels_at: np.datetime64 | None = None

    @property
    def client_order_id(self) -> str:
        return self.order.client_order_id

    @property
    def venue_order_id(self) -> str:
        return derive_venue_id(self.client_order_id)

    @property
    def filled_quantity(self) -> Decimal:
        """Return the filled quantity, without crypto fees."""
        return sum((abs(fill.qty) for fill in self.fills if fill.price > 0), Decimal(0))

    @property
    def is_open(self) -> bool:
        return self.status in OPEN_ORDER_STATUSES

    def to_response(self, *, nested: bool = False) -> ResponseBody:
        """Return the order in Alpaca's format.

        nested: ignored, because the order has no legs.
        """
        del nested
        order = self.order
        coin = order.instrument.kind is AssetClass.CRYPTO
        return {
            "id": self.venue_order_id,
            "client_order_id": order.client_order_id,
            **status_fields(self.status, self.submitted_at, self.closed_at),
            "replaced_by": None,
            "replaces": None,
            "asset_id": derive_venue_id(order.symbol),
            "symbol": venue_spelling(order.symbol),
            "asset_class": "crypto" if coin else "us_equity",
            "notional": None,
            "qty": format_quantity(order.qty),
            "filled_qty": format_quantity(self.filled_quantity),
            "filled_avg_price": self._mean_price(),
            "order_class": "simple",
            "order_type": order.type,
            "type": order.type,
            "side": order.side,
            "time_in_force": order.tif,
            **{name: _format_price(getattr(order, name)) for name in PRICE_FIELDS},
            "extended_hours": order.extended_hours,
            "legs": None,
            "hwm": None,
        }

    def _mean_price(self) -> str | None:
        """Return the mean fill price, USD; None before a fill."""
        if not self.filled_quantity:
            return None
        traded = (fill for fill in self.fills if fill.price > 0)
        value = sum(abs(fill.qty) * Decimal(repr(fill.price)) for fill in traded)
        return str(value / self.filled_quantity)


def parse_order(request: Mapping[str, Any], earlier_order_count: int) -> Order:
    """Parse the body of `POST /v2/orders`. Raises `RequestRefused` that names the invalid field.

    earlier_order_count: number of earlier orders; an id is derived from it if the client gives
        none.
    """
    with refuse_invalid_fields():
        _refuse_exits(request)
        if request.get("notional") is not None:
            raise ValueError("notional is not supported by the practice venue; use qty")
        prices: dict[str, Any] = {
            name: float(parse_decimal(request, name))
            for name in PRICE_FIELDS
            if request.get(name) is not None
        }
        return Order(
            client_order_id=parse_client_order_id(request, f"order {earlier_order_count}"),
            symbol=instrument(str(request["symbol"])).symbol,
            side=_request_choice(request, "side", ("buy", "sell")),
            qty=parse_decimal(request, "qty"),
            reason="submitted over HTTP",
            type=_request_choice(request, "type", ORDER_TYPES),
            tif=_request_choice(request, "time_in_force", TIMES_IN_FORCE),
            extended_hours=request.get("extended_hours") is True,
            **prices,
        )


@contextmanager
def refuse_invalid_fields() -> Iterator[None]:
    """Convert errors of the block that reads a request's fields to `RequestRefused`.

    It has the status and code that Alpaca returns for a missing or invalid field.
    """
    try:
        yield
    except ValueError as error:
        raise RequestRefused(422, 40010001, str(error)) from None
    except KeyError as error:
        raise RequestRefused(422, 40010001, f"{error.args[0]} is missing") from None
    except (TypeError, AttributeError, InvalidOperation, OverflowError) as error:
        raise RequestRefused(422, 40010001, f"invalid order: {error}") from None


def parse_decimal(request: Mapping[str, Any], key: str) -> Decimal:
    """Parse the number under `key` of a request. Raises `ValueError` if it is not a number."""
    value = request[key]
    try:
        return Decimal(str(value))
    except InvalidOperation:
        raise ValueError(
            f"{key} {str(value)[:MAX_SHOWN_VALUE_CHARACTERS]!r} is not a number"
        ) from None


def parse_client_order_id(request: Mapping[str, Any], name: str) -> str:
    """Return the client_order_id of a request; if it has none, an id derived from `name`."""
    return str(request.get("client_order_id") or derive_venue_id(name))


def status_fields(status: OrderStatus, submitted_at: str, closed_at: str | None) -> ResponseBody:
    """Return the status of an order and its timestamps, in Alpaca's format."""
    ends = {
        key: closed_at if status == ended else None for ended, key in END_TIMESTAMP_KEYS.items()
    }
    return {
        "status": status,
        "created_at": submitted_at,
        "updated_at": closed_at or submitted_at,
        "submitted_at": submitted_at,
        **ends,
    }


def _refuse_exits(request: Mapping[str, Any]) -> None:
    """Refuse bracket, OTO and OCO orders, which are not simulated."""
    order_class = str(request.get("order_class") or "")
    if order_class not in ORDER_CLASSES:
        raise ValueError(
            f"order_class {order_class!r} is not supported by the practice venue; use simple"
        )
    for key in ("take_profit", "stop_loss"):
        if request.get(key):
            raise ValueError(
                f"{key} is not supported by the practice venue; place a separate order"
            )


def _request_choice(request: Mapping[str, Any], key: str, words: tuple[str, ...]) -> Any:
    """Return the value under `key` of a request, which must be one of `words`."""
    word = str(request.get(key, ""))
    if word not in words:
        raise ValueError(f"{key} {word!r} is not one of {', '.join(words)}")
    return word


def _format_price(value: float | None) -> str | None:
    return None if value is None else repr(value)


def derive_venue_id(name: str) -> str:
    """Derive a stable venue id (UUID) from a client_order_id or a symbol."""
    return str(uuid.uuid5(VENUE_ID_NAMESPACE, name))


def format_quantity(quantity: Decimal) -> str:
    """Format a quantity without an exponent."""
    return f"{quantity.normalize():f}" if quantity else "0"


def format_timestamp(at: np.datetime64) -> str:
    """Format an instant in the API's format, such as 2024-03-18T14:30:00Z."""
    return f"{np.datetime_as_string(at, unit='s')}Z"
