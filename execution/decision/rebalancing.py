"""Orders that bring an account from what it holds to its targets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from operator import itemgetter

import numpy as np

from execution.orders.orders import UNLIMITED, Order, Side, order_identity, time_in_force
from sizing.quantity import part_count, truncate_to_increment
from trainingdata.instants import compact_text
from trainingdata.instruments import Instrument, Kind
from trainingdata.timeframe import HOURLY, Timeframe

_NOTHING = Decimal(0)
_rank_and_symbol = itemgetter(0, 1)


@dataclass(frozen=True, slots=True)
class Target:
    """Where the position in one instrument is to go.

    instrument: with the increment that its quantities come in.
    held: signed quantity held plus open.
    quantity: signed quantity that is to be held.
    largest_order: quantity of one order at most; infinite where there is no bound.
    reason: why; each of its orders carries it.
    """

    instrument: Instrument
    held: Decimal
    quantity: Decimal
    largest_order: float
    reason: object


def rebalance(
    strategy: str, at: np.datetime64, targets: Iterable[Target], timeframe: Timeframe = HOURLY
) -> tuple[Order, ...]:
    """Orders that move each instrument from what is held to its target.

    A change of sign is two orders, a close and an opening one: no order flips a position.
    Reductions come first, then coin purchases, then the rest, each by symbol. A quantity is in
    whole increments, unless it closes a position. What exceeds the largest order goes out in parts
    as equal as increments allow.

    timeframe: of decisions. Of a daily one the next bar begins with an auction, and a stock's order
        is one for it. That trades whole shares, and of a change of sign only the
        close: the venue takes no order that opens the other side before the close has filled. The
        next decision opens it.
    """
    ranked: list[tuple[int, str, Order]] = []
    when = compact_text(at)
    for target in targets:
        item = target.instrument
        symbol = item.symbol
        coin = item.kind is Kind.CRYPTO
        auction = None if coin else timeframe.auction
        tif = time_in_force(symbol, auction)
        leg = 0
        steps = _steps(target.held, target.quantity)
        for before, after in steps[:1] if auction else steps:
            reduces = abs(after) < abs(before)
            rank = _rank(reduces, coin)
            side: Side = "buy" if after > before else "sell"
            quantity = _order_quantity(before, after, item.increment)
            if auction:
                quantity -= quantity % 1
            for part in in_parts(quantity, target.largest_order, item.increment):
                identity = order_identity(strategy, when, symbol, leg)
                order = Order(identity, symbol, side, part, target.reason, reduces, tif=tif)
                ranked.append((rank, symbol, order))
                leg += 1
    ranked.sort(key=_rank_and_symbol)
    return tuple([order for _, _, order in ranked])


def _steps(held: Decimal, target: Decimal) -> tuple[tuple[Decimal, Decimal], ...]:
    """Quantity before and after each order on the way from held to target."""
    if held == target:
        return ()
    # The venue refuses an order through zero: a long is closed before a short is opened.
    if held * target < 0:
        return (held, _NOTHING), (_NOTHING, target)
    return ((held, target),)


def _rank(reduces: bool, coin: bool) -> int:
    """The place of an order among those of its instant.

    Reductions free the margin and the cash that openings use. Coins come before stocks because
    they are bought with cash alone, which a purchase of stocks would take.
    """
    if reduces:
        return 0
    return 1 if coin else 2


def _order_quantity(before: Decimal, after: Decimal, increment: Decimal) -> Decimal:
    """The quantity of a step in whole increments, rounded down; all of it where it closes."""
    size = abs(after - before)
    # A coin purchase pays its fee in coin, so what is held is often no multiple of the increment.
    # A step that closes a position takes the rest along: nothing else could ever sell it.
    if after == 0 or not size % increment:
        return size
    return truncate_to_increment(float(size), increment)


def in_parts(quantity: Decimal, largest: float, increment: Decimal) -> list[Decimal]:
    """The quantity in parts of `largest` at most; nothing of nothing.

    No two differ by more than an increment. The last one also carries what is no whole increment.
    """
    if largest == UNLIMITED or float(quantity) <= largest:
        return [quantity] if quantity > 0 else []
    steps, rest = divmod(quantity, increment)
    count = part_count(float(steps), float(rest), largest, float(increment))
    least, longer = divmod(int(steps), count)
    parts = [(least + (k < longer)) * increment for k in range(count)]
    parts[-1] += rest
    return parts
