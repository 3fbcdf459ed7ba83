"""Encoding of orders as JSON objects in the journal; it does not depend on the venue."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, get_args

import numpy as np

from execution.orders.event_contract_orders import (
    ContractAction,
    ContractTimeInForce,
    EventContractOrder,
    Outcome,
)
from execution.orders.gate import AnyOrder
from execution.orders.option_orders import OptionLeg, SpreadOrder, parse_occ_symbol
from execution.orders.orders import PRICE_FIELDS, Order, Side


def encode_order(order: AnyOrder) -> dict[str, Any]:
    """Return the terms of an order as a JSON object, with numbers as exact text."""
    if isinstance(order, Order):
        prices = {name: getattr(order, name) for name in PRICE_FIELDS}
        return {
            "kind": "single",
            "symbol": order.symbol,
            "side": order.side,
            "qty": f"{order.qty:f}",
            "type": order.type,
            "tif": order.tif,
            **{name: repr(price) for name, price in prices.items() if price is not None},
            "extended_hours": order.extended_hours,
        }
    if isinstance(order, SpreadOrder):
        legs = [{"symbol": leg.contract.symbol, "side": leg.side} for leg in order.legs]
        limit = {} if order.min_credit is None else {"min_credit": str(order.min_credit)}
        return {
            "kind": "spread",
            "legs": legs,
            "qty": str(order.contracts),
            "type": "limit" if limit else "market",
            **limit,
        }
    return {
        "kind": "contract",
        "symbol": order.market,
        "side": f"{order.action} {order.side}",
        "qty": f"{order.count:f}",
        "limit_price": f"{order.price:f}",
        "tif": order.time_in_force,
    }


def decode_order(
    client_order_id: str,
    encoded: Mapping[str, Any],
    *,
    reason: str = "",
    reduces: bool = False,
    expires_at: np.datetime64 | None = None,
) -> AnyOrder:
    """Return the order that a JSON object encodes.

    client_order_id: client order id.
    encoded: JSON object from `encode_order`.
    reason, reduces, expires_at: fields of the order that the JSON object lacks.

    Raises
    ------
    ValueError, KeyError
        for an object that is not an order.
    """
    kind = encoded["kind"]
    if kind == "single":
        return Order(
            client_order_id=client_order_id,
            symbol=encoded["symbol"],
            side=_parse_side(encoded["side"]),
            qty=Decimal(encoded["qty"]),
            reason=reason,
            reduces=reduces,
            type=encoded["type"],
            tif=encoded["tif"],
            extended_hours=bool(encoded["extended_hours"]),
            expires_at=expires_at,
            **{
                each: float(encoded[each]) for each in PRICE_FIELDS if encoded.get(each) is not None
            },
        )
    if kind == "spread":
        limit = encoded.get("min_credit")
        return SpreadOrder(
            client_order_id=client_order_id,
            legs=tuple(_decode_leg(leg) for leg in encoded["legs"]),
            contracts=int(encoded["qty"]),
            min_credit=None if limit is None else Decimal(limit),
            expires_at=expires_at,
            reduces=reduces,
            reason=reason,
        )
    if kind == "contract":
        action, side = encoded["side"].split()
        if action not in get_args(ContractAction) or side not in get_args(Outcome):
            raise ValueError(
                f"{client_order_id}: side {encoded['side']!r} is not valid for an event contract"
            )
        # A journal without this term has resting orders alone.
        tif = encoded.get("tif", "good_till_canceled")
        if tif not in get_args(ContractTimeInForce):
            raise ValueError(
                f"{client_order_id}: tif {tif!r} is not one of"
                f" {', '.join(get_args(ContractTimeInForce))}"
            )
        price = Decimal(encoded["limit_price"])
        terms = encoded["symbol"], action, side, price, Decimal(encoded["qty"])
        return EventContractOrder(client_order_id, *terms, expires_at, reduces, reason, tif)
    raise ValueError(f"{client_order_id}: unknown order kind {kind!r}")


def _parse_side(word: object) -> Side:
    for side in get_args(Side):
        if word == side:
            return side  # type: ignore[no-any-return]
    raise ValueError(f"side {word!r} is neither buy nor sell")


def _decode_leg(words: Mapping[str, Any]) -> OptionLeg:
    return OptionLeg(parse_occ_symbol(words["symbol"]), _parse_side(words["side"]))


def has_same_terms(one: AnyOrder, other: AnyOrder) -> bool:
    """Return whether two orders with the same id have the same terms.

    Limit prices are compared only for event contracts.
    """
    return _comparable_terms(one) == _comparable_terms(other)


def _comparable_terms(order: AnyOrder) -> tuple[object, ...]:
    if isinstance(order, Order):
        return order.symbol, order.side, order.qty, order.type
    if isinstance(order, SpreadOrder):
        return order.legs, order.contracts, order.min_credit is None
    return (order.market, order.action, order.side, order.count, order.price, order.time_in_force)
