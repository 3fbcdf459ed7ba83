"""Orders that reduce positions: to given quantities, before the close, or all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import ROUND_CEILING, Decimal
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from execution.decision.rebalancing import split_quantity
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.auctions import next_acceptance
from execution.orders.orders import (
    Order,
    OrderSizeLimits,
    Side,
    TimeInForce,
    default_time_in_force,
    format_order_id,
)
from trainingdata.instants import format_compact_utc
from trainingdata.instruments import instrument, is_stock
from trainingdata.sessions import is_in_session

REDUCTION_ORDER_NUMBER = 8  # number, in place of a leg, in the ids of these orders
NO_NUMBERS: Mapping[str, int] = MappingProxyType({})
ZERO = Decimal(0)


def target_quantities(
    positions: Mapping[str, Decimal], kept_fraction: Decimal
) -> dict[str, Decimal]:
    """Return the quantities to which positions are reduced, rounded towards zero to lots.

    positions: signed quantities by symbol.
    """
    targets = {}
    for symbol, held in positions.items():
        lot = instrument(symbol).qty_increment
        sold = (abs(held) * (1 - kept_fraction) / lot).to_integral_value(ROUND_CEILING) * lot
        targets[symbol] = (abs(held) - min(sold, abs(held))).copy_sign(held)
    return targets


def excess_quantities(
    positions: Mapping[str, Decimal], targets: Mapping[str, Decimal]
) -> dict[str, Decimal]:
    """Return the part of each position beyond its target, signed like the position; no zeros.

    A position that has changed its sign since its target was set is left alone.
    """
    excess = {}
    for symbol, target in sorted(targets.items()):
        held = positions.get(symbol, ZERO)
        if held * target >= 0 and abs(held) > abs(target):
            excess[symbol] = held - target
    return excess


class Obstacle(NamedTuple):
    """Reason for which no order can reduce a position now.

    is_final: true if the reason will not end by itself.
    """

    reason: str
    is_final: bool = False


class ReductionTerms(NamedTuple):
    """Terms of the orders that reduce a position.

    quantity: part of the position to close, signed like the position.
    tif: time in force.
    """

    quantity: Decimal
    tif: TimeInForce


def reduction_terms(
    account: AccountSnapshot,
    symbol: str,
    quantity: Decimal,
    size_limits: OrderSizeLimits,
    *,
    takes_auctions: bool = True,
) -> ReductionTerms | Obstacle:
    """Return the terms on which a position can be reduced now, or the obstacle.

    While the exchange is closed, whole shares are sold in the next opening auction, as soon as the
    venue accepts orders for it. A fraction of a share waits for the open.

    quantity: part of the position to close, signed like the position.
    takes_auctions: whether stocks are sold in the auction; false: they wait for the open.
    """
    if symbol in account.uncertain_symbols:
        return Obstacle("an order or a part of the position is uncertain")
    least = size_limits.min_value_when_sent(
        is_crypto=not is_stock(symbol), closes_position=quantity == account.positions[symbol]
    )
    whole = is_stock(symbol) and quantity == quantity.to_integral_value()
    if not whole and float(abs(quantity)) * account.prices[symbol] < least:
        return Obstacle(f"worth less than the smallest order, {least:g} USD", is_final=True)
    if not is_stock(symbol) or is_in_session(np.array([account.as_of]))[0]:
        return ReductionTerms(quantity, default_time_in_force(symbol))
    shares = quantity - quantity % 1
    if not takes_auctions:
        return Obstacle("its market is closed")
    if not shares or next_acceptance("opg", account.as_of) > account.as_of:
        return Obstacle("its market is closed; it is sold at the open")
    return ReductionTerms(shares, "opg")


def build_reductions(
    account: AccountSnapshot,
    terms_by_symbol: Mapping[str, ReductionTerms],
    order_prefix: str,
    at: np.datetime64,
    size_limits: OrderSizeLimits,
    reason: str,
    first_numbers: Mapping[str, int] = NO_NUMBERS,
) -> list[Order]:
    """Return the market orders that close parts of positions.

    at: instant in the order ids.
    first_numbers: number of the first order in its id, by symbol; 0 where absent.
    """
    orders = []
    when = format_compact_utc(at)
    for symbol, (quantity, tif) in terms_by_symbol.items():
        parts = split_reduction(account, symbol, quantity, size_limits)
        for number, part in enumerate(parts, start=first_numbers.get(symbol, 0)):
            name = format_order_id(order_prefix, when, symbol, REDUCTION_ORDER_NUMBER, number)
            orders.append(replace(build_reduction(name, symbol, quantity, part, reason), tif=tif))
    return orders


def split_reduction(
    account: AccountSnapshot, symbol: str, quantity: Decimal, size_limits: OrderSizeLimits
) -> list[Decimal]:
    """Split the part of a position to close into quantities of at most the largest order value."""
    item = instrument(symbol)
    largest = size_limits.max_order_quantity(item, account.prices[symbol])
    return split_quantity(abs(quantity), largest, item.qty_increment)


def build_reduction(
    client_order_id: str, symbol: str, held: Decimal, quantity: Decimal, reason: str
) -> Order:
    """Return a market order that closes a part of a position.

    held: signed quantity of the position, or of a part of it.
    quantity: quantity to close, above 0.
    """
    side: Side = "sell" if held > 0 else "buy"
    tif = default_time_in_force(symbol)
    return Order(client_order_id, symbol, side, quantity, reason, reduces=True, tif=tif)
