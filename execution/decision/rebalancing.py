"""Orders that move an account from its positions and open orders to its targets."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from operator import itemgetter

import numpy as np

from execution.decision.choice import OrderReason
from execution.decision.decision import DecisionColumns
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.orders import (
    UNLIMITED_QUANTITY,
    Order,
    OrderSizeLimits,
    Side,
    default_time_in_force,
    format_order_id,
    parse_order_prefix,
)
from sizing.quantity import count_child_orders, truncate_to_increment
from trainingdata.instants import HOUR, format_compact_utc
from trainingdata.instruments import AssetClass, Instrument
from trainingdata.timeframe import HOURLY, Timeframe

_ZERO = Decimal(0)
_rank_and_symbol = itemgetter(0, 1)


def rebalance(
    strategy: str,
    at: np.datetime64,
    instruments: Sequence[Instrument],
    held: Sequence[Decimal],
    targets: Sequence[Decimal],
    max_quantities: Sequence[float],
    reasons: Sequence[object],
    timeframe: Timeframe = HOURLY,
) -> tuple[Order, ...]:
    """Return the orders that move each instrument from its position to its target.

    A change of sign takes two orders, a closing and an opening one: no order crosses zero.
    Reductions come first, then crypto purchases, then all other orders; each group is sorted by
    symbol. A quantity is a multiple of the increment, unless it closes a position. A quantity above
    the maximum of one order is split into parts that are as equal as increments allow.

    strategy: prefix of the order ids.
    at: instant of the decision.
    instruments: [N] instruments, with their quantity increments.
    held, targets: [N] signed quantity of the position plus open orders, and signed target quantity.
    max_quantities: [N] maximum quantity of one order; infinite without a limit.
    reasons: [N] reason for the orders of each instrument.
    timeframe: timeframe of decisions. With daily decisions, the next bar starts with an auction,
        and orders for stocks are auction orders of whole shares. A change of sign then takes two
        decisions, because the venue accepts no order on the opposite side until the closing order
        has filled. The first decision only closes the position.
    """
    ranked: list[tuple[int, str, Order]] = []
    when = format_compact_utc(at)
    for item, before, target, most, reason in zip(
        instruments, held, targets, max_quantities, reasons, strict=True
    ):
        symbol = item.symbol
        coin = item.kind is AssetClass.CRYPTO
        auction = None if coin else timeframe.auction_time_in_force
        tif = default_time_in_force(symbol, auction)
        leg = 0
        steps = split_at_zero(before, target)
        for begin, end in steps[:1] if auction else steps:
            reduces = abs(end) < abs(begin)
            rank = _order_rank(reduces, coin)
            side: Side = "buy" if end > begin else "sell"
            quantity = _round_step_quantity(begin, end, item.qty_increment)
            if auction:
                quantity -= quantity % 1
            for part in split_quantity(quantity, most, item.qty_increment):
                identity = format_order_id(strategy, when, symbol, leg)
                order = Order(identity, symbol, side, part, reason, reduces, tif=tif)
                ranked.append((rank, symbol, order))
                leg += 1
    ranked.sort(key=_rank_and_symbol)
    return tuple([order for _, _, order in ranked])


def build_decision_orders(
    strategy: str,
    at: np.datetime64,
    until: np.datetime64,
    columns: DecisionColumns,
    instruments: Sequence[Instrument],
    held: Sequence[Decimal],
    quantities: Sequence[Decimal],
    terms: OrderSizeLimits,
    timeframe: Timeframe,
    *,
    failure: str,
    legacy: bool,
) -> tuple[Order, ...]:
    """Return the orders for the signed quantities [N] that a decision orders.

    strategy: prefix of the order ids.
    at, until: instant of the decision, and end of its first period.
    columns: columns of the N symbols.
    instruments, held: [N] instrument of each symbol, and signed quantity of its position plus open
        orders.
    failure: reason why enhanced sizing failed; empty if it did not.
    legacy: true if the legacy rule sized the orders.
    """
    changed = [i for i, quantity in enumerate(quantities) if quantity]
    hours = hours_between(at, until)
    choices = [columns.choice_at(i, instruments[i].symbol, quantities[i]) for i in changed]
    items = [instruments[i] for i in changed]
    return rebalance(
        strategy,
        at,
        items,
        [held[i] for i in changed],
        [held[i] + quantities[i] for i in changed],
        [terms.max_order_quantity(item, c.price) for item, c in zip(items, choices, strict=True)],
        [OrderReason(choice, hours, failure, legacy) for choice in choices],
        timeframe,
    )


def hours_between(at: np.datetime64, until: np.datetime64) -> float:
    return float((until - at) / HOUR)


def lots_to_order_quantity(lots: float, increment: Decimal, held: Decimal) -> Decimal:
    """Return the signed order quantity that reaches `lots` increments; 0 if `lots` is NaN.

    held: signed quantity of the position plus open orders.
    """
    return (held if np.isnan(lots) else int(lots) * increment) - held


def find_reductions_to_cancel(
    strategy: str, account: AccountSnapshot, adjustable: Collection[str]
) -> tuple[Order, ...]:
    """Return the strategy's open orders that reduce a position in a symbol due to trade.

    They are cancelled, because the decision sizes the position again.

    adjustable: symbols that are due to trade.
    """
    # The reduction is decided again from the position. Left open, it would keep its part of every
    # ceiling in addition to the new decision.
    reductions = []
    for order in account.open_orders:
        if order.symbol not in adjustable or parse_order_prefix(order.client_order_id) != strategy:
            continue
        held = account.positions.get(order.symbol, _ZERO)
        if held * order.signed_qty < 0:
            reductions.append(order)
    return tuple(reductions)


def find_orders_to_replace(
    strategy: str, account: AccountSnapshot, quantities: Mapping[str, Decimal]
) -> tuple[Order, ...]:
    """Return the strategy's own open orders in the symbols in which a decision sends new orders.

    quantities: signed quantity ordered, by symbol.
    """
    # The venue refuses a new order that would trade with an open one of the account, as a wash
    # trade. The remainder of an open reduction becomes part of the new order, not a second one for
    # the same position.
    reductions = account.open_reductions
    replaced = []
    for order in account.open_orders:
        change = quantities.get(order.symbol, _ZERO)
        if not change or parse_order_prefix(order.client_order_id) != strategy:
            continue
        opposite = order.signed_qty * change < 0
        if opposite or order.symbol in reductions:
            replaced.append(order)
    return tuple(replaced)


def adjust_quantities_for_cancels(
    quantities: Mapping[str, Decimal], account: AccountSnapshot, replaced: Sequence[Order]
) -> dict[str, Decimal]:
    """Adjust order quantities so that cancelling open orders does not change the targets.

    quantities: signed quantity ordered, by symbol, if the open orders were to fill.
    replaced: open orders that are cancelled.
    """
    before = account.projected_positions
    after = account.without_orders(replaced).projected_positions
    changed = {}
    for symbol, quantity in quantities.items():
        freed = before.get(symbol, _ZERO) - after.get(symbol, _ZERO)
        changed[symbol] = quantity + freed if freed else quantity
    return changed


def split_at_zero(held: Decimal, target: Decimal) -> tuple[tuple[Decimal, Decimal], ...]:
    """Return the position before and after each order that leads from `held` to `target`.

    There are two orders if the sign changes: the position is closed before one of the opposite sign
    is opened.
    """
    if held == target:
        return ()
    # The venue refuses an order that crosses zero: a long is closed before a short is opened.
    if held * target < 0:
        return (held, _ZERO), (_ZERO, target)
    return ((held, target),)


def _order_rank(reduces: bool, coin: bool) -> int:
    """Return the rank of an order in the sequence of the orders of one decision.

    Reductions free margin and cash for the orders that open positions. Crypto is bought before
    stocks, because crypto needs unborrowed cash, which a purchase of stocks would use up.

    coin: true for crypto.
    """
    if reduces:
        return 0
    return 1 if coin else 2


def _round_step_quantity(before: Decimal, after: Decimal, increment: Decimal) -> Decimal:
    """Return the quantity of an order in whole increments, rounded down.

    An order that closes a position is not rounded.

    before, after: position before and after the order.
    """
    size = abs(after - before)
    # A crypto purchase pays its fee in crypto, so a position is often no multiple of the increment.
    # A step that closes a position includes the rest: no other order could sell it.
    if after == 0 or not size % increment:
        return size
    return truncate_to_increment(float(size), increment)


def split_quantity(quantity: Decimal, max_quantity: float, increment: Decimal) -> list[Decimal]:
    """Split a quantity into parts of at most `max_quantity`; return an empty list for 0.

    The parts differ by at most one increment, except that the last part also includes what is left
    after division into whole increments.
    """
    if max_quantity == UNLIMITED_QUANTITY or float(quantity) <= max_quantity:
        return [quantity] if quantity > 0 else []
    steps, rest = divmod(quantity, increment)
    count = count_child_orders(float(steps), float(rest), max_quantity, float(increment))
    least, longer = divmod(int(steps), count)
    parts = [(least + (k < longer)) * increment for k in range(count)]
    parts[-1] += rest
    return parts
