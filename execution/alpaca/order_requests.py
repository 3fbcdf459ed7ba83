"""Orders in the venue's words, with exact quantities, and back."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from execution.intents import Intent
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
    for name in ("limit_price", "stop_price", "trail_price", "trail_percent"):
        if (price := getattr(order, name)) is not None:
            request[name] = repr(price)
    if order.extended_hours:
        request["extended_hours"] = True
    return request | _exits(order)


def order_of(intent: Intent) -> Order:
    """The order that an intent was planned as.

    Raises
    ------
    InputError
        for a request that is none of a stock's or a coin's.
    """
    request = intent.request
    prices = {name: request[name] for name in PRICES if name in request}
    if request.get("order_class") == "oco":
        # The limit of the order itself is written as the exit that it is to the venue.
        prices["limit_price"] = prices.pop("take_profit")["limit_price"]
        prices["or_stop"] = prices.pop("stop_loss")["stop_price"]
    try:
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
            **{name: float(_price(prices[name])) for name in prices},
        )
    except (LookupError, ValueError, ArithmeticError, TypeError) as error:
        raise InputError(f"{intent.client_order_id}: it is no order: {error!r}") from error


def _price(written: Any) -> Any:
    """A price, or that of an exit, as the request writes it."""
    if isinstance(written, dict):
        return next(iter(written.values()))
    return written


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
