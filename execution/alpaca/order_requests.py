"""Orders in the venue's words, with exact quantities, and back."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from execution.journal.intents import Intent
from execution.orders import PRICES, Order
from foundation.errors import InputError
from trainingdata.instruments import instrument, venue_spelling


def order_request(order: Order) -> dict[str, Any]:
    """The order as the venue takes it."""
    request: dict[str, Any] = {
        "symbol": venue_spelling(order.symbol),
        "qty": f"{order.qty:f}",
        "side": order.side,
        "type": order.type,
        "time_in_force": order.tif,
        "client_order_id": order.client_order_id,
    }
    for name in PRICES:
        if (price := getattr(order, name)) is not None:
            request[name] = repr(price)
    if order.extended_hours:
        request["extended_hours"] = True
    return request


def order_of(intent: Intent) -> Order:
    """The order that an intent was planned as.

    Raises
    ------
    InputError
        for a request that is none of a stock's or a coin's.
    """
    request = intent.request
    try:
        if order_class := request.get("order_class"):
            raise ValueError(f"order_class {order_class!r} is none of a single order")
        return Order(
            client_order_id=intent.client_order_id,
            symbol=instrument(request["symbol"]).symbol,
            side=request["side"],
            qty=Decimal(request["qty"]),
            reason=intent.reason,
            reduces=intent.part in ("reduction", "night"),
            type=request["type"],
            tif=request["time_in_force"],
            extended_hours=bool(request.get("extended_hours", False)),
            expires_at=intent.expires_at,
            **{name: float(request[name]) for name in PRICES if name in request},
        )
    except (LookupError, ValueError, ArithmeticError, TypeError) as error:
        raise InputError(f"{intent.client_order_id}: it is no order: {error!r}") from error
