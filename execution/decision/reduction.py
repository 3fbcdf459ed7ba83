"""Orders that reduce positions to given quantities, for commands and for the watch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, Decimal

import numpy as np

from execution.decision.rebalancing import split_quantity
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.orders import Order, OrderSizeLimits, default_time_in_force, format_order_id
from trainingdata.instants import format_compact_utc
from trainingdata.instruments import instrument, is_stock
from trainingdata.sessions import is_in_session

REDUCTION_ORDER_NUMBER = 8  # number, in place of a leg, in the ids of these orders
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


def build_reductions(
    account: AccountSnapshot,
    symbol: str,
    quantity: Decimal,
    order_prefix: str,
    at: np.datetime64,
    size_limits: OrderSizeLimits,
    reason: str,
    first_number: int = 0,
) -> Sequence[Order]:
    """Return the market orders that reduce a position, parts of at most the largest value each.

    quantity: part of the position to close, signed like the position.
    at: instant in the order ids.
    first_number: number of the first order in its id.
    """
    item = instrument(symbol)
    largest = size_limits.max_order_quantity(item, account.prices[symbol])
    parts = split_quantity(abs(quantity), largest, item.qty_increment)
    return [
        Order(
            format_order_id(
                order_prefix, format_compact_utc(at), symbol, REDUCTION_ORDER_NUMBER, number
            ),
            symbol,
            "sell" if quantity > 0 else "buy",
            part,
            reason,
            reduces=True,
            tif=default_time_in_force(symbol),
        )
        for number, part in enumerate(parts, start=first_number)
    ]


def reduction_obstacle(
    account: AccountSnapshot, symbol: str, quantity: Decimal, size_limits: OrderSizeLimits
) -> str:
    """Return why no order can reduce a position now, or an empty string.

    quantity: part of the position to close, signed like the position.
    """
    if symbol in account.uncertain_symbols:
        return "an order or a part of the position is uncertain"
    if is_stock(symbol) and not is_in_session(np.array([account.as_of]))[0]:
        return "its market is closed; repeat the command when it is open"
    whole = is_stock(symbol) and quantity == quantity.to_integral_value()
    least = size_limits.min_value_when_sent(
        is_crypto=not is_stock(symbol), closes_position=quantity == account.positions[symbol]
    )
    value = float(abs(quantity)) * account.prices[symbol]
    return "" if whole or value >= least else f"worth less than the least order, {least:g} USD"
