"""Orders in the venue's words, with exact quantities."""

from __future__ import annotations

from typing import Any

from execution.orders import Order
from trainingdata.instruments import venue_spelling


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
    for name in ("limit_price", "stop_price", "trail_price", "trail_percent"):
        if (price := getattr(order, name)) is not None:
            request[name] = repr(price)
    if order.extended_hours:
        request["extended_hours"] = True
    return request | _exits(order)


def _exits(order: Order) -> dict[str, Any]:
    """The fields of an order's exits; none for an order without any."""
    if order.or_stop is not None:
        return {
            "take_profit": {"limit_price": repr(order.limit_price)},
            "stop_loss": {"stop_price": repr(order.or_stop)},
            "order_class": "oco",
        }
    exits: dict[str, Any] = {}
    if order.take_profit is not None:
        exits["take_profit"] = {"limit_price": repr(order.take_profit)}
    if order.stop_loss is not None:
        exits["stop_loss"] = {"stop_price": repr(order.stop_loss)}
    if exits:
        exits["order_class"] = "bracket" if len(exits) == 2 else "oto"
    return exits
