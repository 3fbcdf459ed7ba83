"""Orders in the venue's words, with exact quantities."""

from __future__ import annotations

from typing import Any

from execution.journal.orders import AnyOrder
from execution.option_orders import SpreadOrder
from execution.orders import PRICES, Order
from foundation.errors import InputError
from trainingdata.instruments import venue_spelling


def order_request(order: AnyOrder) -> dict[str, Any]:
    """The order as the venue takes it."""
    if isinstance(order, Order):
        return _of_one_symbol(order)
    if isinstance(order, SpreadOrder):
        return _of_legs(order)
    raise InputError(f"{order.client_order_id}: an order of event contracts goes to another venue")


def _of_one_symbol(order: Order) -> dict[str, Any]:
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


def _of_legs(order: SpreadOrder) -> dict[str, Any]:
    limit = order.least_credit
    request: dict[str, Any] = {
        "order_class": "mleg",
        "qty": str(order.contracts),
        "type": "market" if limit is None else "limit",
        "time_in_force": "day",
        "client_order_id": order.client_order_id,
        "legs": [
            {"symbol": leg.contract.symbol, "ratio_qty": "1", "side": leg.side}
            for leg in order.legs
        ],
    }
    # The venue's price is what an order costs: a credit is below 0.
    if limit is not None:
        request["limit_price"] = f"{-limit:.2f}"
    return request
