"""Encoding of orders as JSON objects in the journal, the same for every venue."""

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
    """Return the terms of an order as a JSON object; numbers are exact text."""
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
    name: str,
    words: Mapping[str, Any],
    *,
    reason: str = "",
    reduces: bool = False,
    expires_at: np.datetime64 | None = None,
) -> AnyOrder:
    """Return the order that a JSON object encodes.

    name: client order id.
    words: JSON object that `encode_order` returns.

    Raises
    ------
    ValueError, KeyError
        for an object that is not an order.
    """
    kind = words["kind"]
    if kind == "single":
        return Order(
            client_order_id=name,
            symbol=words["symbol"],
            side=_side(words["side"]),
            qty=Decimal(words["qty"]),
            reason=reason,
            reduces=reduces,
            type=words["type"],
            tif=words["tif"],
            extended_hours=bool(words["extended_hours"]),
            expires_at=expires_at,
            **{each: float(words[each]) for each in PRICE_FIELDS if words.get(each) is not None},
        )
    if kind == "spread":
        limit = words.get("min_credit")
        return SpreadOrder(
            client_order_id=name,
            legs=tuple(_leg(leg) for leg in words["legs"]),
            contracts=int(words["qty"]),
            min_credit=None if limit is None else Decimal(limit),
            expires_at=expires_at,
            reduces=reduces,
            reason=reason,
        )
    if kind == "contract":
        action, side = words["side"].split()
        if action not in get_args(ContractAction) or side not in get_args(Outcome):
            raise ValueError(f"{name}: side {words['side']!r} is not one of a contract")
        # A journal without this term has resting orders alone.
        tif = words.get("tif", "good_till_canceled")
        if tif not in get_args(ContractTimeInForce):
            raise ValueError(
                f"{name}: tif {tif!r} is not one of {', '.join(get_args(ContractTimeInForce))}"
            )
        price = Decimal(words["limit_price"])
        terms = words["symbol"], action, side, price, Decimal(words["qty"])
        return EventContractOrder(name, *terms, expires_at, reduces, reason, tif)
    raise ValueError(f"{name}: unknown order kind {kind!r}")


def _side(word: object) -> Side:
    for side in get_args(Side):
        if word == side:
            return side  # type: ignore[no-any-return]
    raise ValueError(f"side {word!r} is neither buy nor sell")


def _leg(words: Mapping[str, Any]) -> OptionLeg:
    return OptionLeg(parse_occ_symbol(words["symbol"]), _side(words["side"]))


def is_same_order(one: AnyOrder, other: AnyOrder) -> bool:
    """Return whether two orders with the same id have the same terms.

    Limit prices are compared only for event contracts.
    """
    return _essence(one) == _essence(other)


def _essence(order: AnyOrder) -> tuple[object, ...]:
    if isinstance(order, Order):
        return order.symbol, order.side, order.qty, order.type
    if isinstance(order, SpreadOrder):
        return order.legs, order.contracts, order.min_credit is None
    return (order.market, order.action, order.side, order.count, order.price, order.time_in_force)
