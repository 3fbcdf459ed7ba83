"""Towards target quantities at the opens that come now: `rebalance` and `place`, compiled.

Reductions first, by symbol; then, once all of them have filled whole, coin purchases and the rest.
A change of sign is a close and an opening. What is traded is in whole increments, unless it closes
a position. Large coin orders go out in parts.
"""

from __future__ import annotations

import numpy as np

from execution.orders.broker import WHOLE_FILL
from foundation.arrays import Array, Index, Records
from foundation.compiled import compiled, inlined
from marketsimulator.account.book import (
    BY_ORDER,
    FIRST_LEG,
    MARKET,
    OPENING,
    SECOND_LEG,
    WORKING,
    Book,
    Opens,
    Record,
    on_grid,
    with_orders,
)
from marketsimulator.account.impact import market_price
from marketsimulator.account.matching import send_orders
from marketsimulator.account.settlement import is_too_small, trade_at_open
from sizing.increments import whole_steps
from sizing.quantity import largest_coin_order, part_count, part_steps


@compiled
def move_to_targets(
    account: Record,
    holding: Records,
    day: Record,
    tape: Records,
    at: int,
    before: Array,
    targets: Array,
    opens: Opens,
    largest: float,
    queue: Index,
) -> bool:
    """Send what brings every symbol [S] from what was held when it was decided to its target.

    On the tape an order's number is its leg: that among the decision's orders of its symbol.

    before: [S] held then; what the broker has closed since does not change the orders.
    opens: of the bars that start now.
    largest: USD of one coin order at most.
    queue: [S] room for the numbers of the symbols that have an order to send.

    Returns whether all reductions have filled whole.
    """
    done = True
    coins = 0
    for k in range(len(holding)):
        coins += holding[k].crypto
    for k in range(_queue_reductions(before, targets, queue)):
        s = queue[k]
        position = holding[s]
        reduction = _whole_change(before[s], targets[s], position.increment)
        # What closes a position, or turns it round, sells all of it, whole increments or not.
        quantity = -before[s]
        if targets[s] * before[s] > 0.0:
            quantity = reduction
        filled = 0.0
        met = not np.isnan(opens.price[s])
        if met and quantity != 0.0 and position.quantity * quantity < 0.0:
            filled = _trade_in_parts(
                account, position, day, tape, at, FIRST_LEG, s, quantity, opens, largest
            )
        done = done and abs(filled) >= abs(quantity) * WHOLE_FILL
    # The openings are sized on what the reductions free. Where one has not filled, they would come
    # on top of it and pass the ceilings.
    if not done:
        return False
    # Coins before stocks: they are paid with settled cash, which a stock purchase would use up.
    for kind in range(1 if coins else 0, -1, -1):
        for k in range(_queue_openings(holding, before, targets, opens.price, kind, queue)):
            s = queue[k]
            position = holding[s]
            turns = targets[s] * before[s] < 0.0
            start = 0.0 if turns else before[s]
            quantity = _whole_change(start, targets[s], position.increment)
            if quantity != 0.0:
                # A coin is never short: of what turns round, one order closes.
                leg = SECOND_LEG if turns else FIRST_LEG
                _trade_in_parts(account, position, day, tape, at, leg, s, quantity, opens, largest)
    return True


@compiled
def order_for_auction(
    book: Book,
    day: Record,
    tape: Records,
    at: int,
    t: int,
    before: Array,
    targets: Array,
    opens: bool,
) -> Book:
    """Send what brings every stock [S] to its target as orders for the next auction.

    The book with them: reductions first, then what opens, each by symbol. All meet one price, so
    that openings wait for no reduction. Of a change of sign the closing order goes alone. An
    order's number is that of its instant.

    before: [S] held when it was decided.
    opens: whether anything may be opened.
    """
    holding = book.holding
    size = len(targets)
    queue = np.zeros(size, np.int64)
    none = np.full(size, np.nan)
    sent = len(book.orders)
    orders = np.zeros(sent + size, book.orders.dtype)
    orders[:sent] = book.orders
    for leg in range(2 if opens else 1):
        first = sent
        if leg == 0:
            count = _queue_reductions(before, targets, queue)
        else:
            count = _queue_openings(holding, before, targets, np.zeros(size), 0, queue)
        for k in range(count):
            s = queue[k]
            position = holding[s]
            turns = targets[s] * before[s] < 0.0
            quantity = _whole_change(before[s], targets[s], position.increment)
            if targets[s] * before[s] <= 0.0 and before[s] != 0.0:
                quantity = -before[s]
            if position.crypto or quantity == 0.0 or (leg == 1 and turns):
                continue
            order = orders[sent]
            sent += 1
            order.number = t
            order.symbol = s
            order.quantity = quantity
            order.kind = MARKET
            order.force = OPENING
            order.limit = np.nan
            order.stop = np.nan
            order.since = at
            order.reduces = 1 - leg
            order.state = WORKING
        book = with_orders(book, orders[:sent])
        send_orders(book, day, tape, first, Opens(none, none, none), at)
    return book


@compiled
def coin_targets(holding: Records, held: Array, targets: Array) -> Array:
    """The targets [S] of coins, beside what is held of stocks, which wait for the auction."""
    chosen = held.copy()
    for s in range(len(holding)):
        if holding[s].crypto:
            chosen[s] = targets[s]
    return chosen


# In both queues, whether a symbol belongs to it is a coin toss to the processor. The count is added
# up instead of branched on: the next symbol overwrites one that does not count.
@inlined
def _queue_reductions(before: Array, targets: Array, queue: Index) -> int:
    """How many symbols are to be held less, or the other way round; `queue` has their numbers."""
    count = 0
    for s in range(len(targets)):
        queue[count] = s
        count += before[s] * (targets[s] - before[s]) < 0.0
    return count


@inlined
def _queue_openings(
    holding: Records, before: Array, targets: Array, opens: Array, kind: int, queue: Index
) -> int:
    """How many symbols with an open are to be held more, or the other way round.

    kind: 1 for coins. `queue` has their numbers.
    """
    count = 0
    for s in range(len(targets)):
        queue[count] = s
        change = targets[s] - before[s]
        opening = (change != 0.0) & ((before[s] * change >= 0.0) | (targets[s] * before[s] < 0.0))
        count += opening & (holding[s].crypto == kind) & ~np.isnan(opens[s])
    return count


@inlined
def most_fills(holding: Records, targets: Array, largest: float) -> int:
    """How many fills `move_to_targets` can write.

    Two a stock; for every part of a coin order itself and its fee in coin. Whole increments make
    parts smaller than `largest`, but never as small as half of it.
    """
    count = 4.0 * len(targets)
    for s in range(len(targets)):
        position = holding[s]
        if position.crypto and not np.isnan(position.mark):
            change = abs(targets[s] - position.quantity)
            count += 4.0 * np.ceil(change / largest_coin_order(largest, position.mark))
    return int(count)


@inlined
def tape_with_room(tape: Records, written: int, more: int) -> Records:
    """The tape, or a longer one that begins with what is written, with room for `more` fills."""
    if written + more <= len(tape):
        return tape
    longer = np.zeros(2 * (written + more), tape.dtype)
    for k in range(written):
        longer[k] = tape[k]
    return longer


@inlined
def _trade_in_parts(
    account: Record,
    position: Record,
    day: Record,
    tape: Records,
    at: int,
    leg: int,
    s: int,
    quantity: float,
    opens: Opens,
    largest: float,
) -> float:
    """One order, or the parts of a coin order that is worth more than `largest` USD.

    leg: of the first of them.

    Returns the signed quantity that filled.
    """
    if position.least > 0.0:
        reference, volume, deviation = opens.price[s], opens.volume[s], opens.volatility[s]
        price = market_price(position, reference, quantity, volume, deviation)
        if is_too_small(position, quantity, price):
            account.refusals += 1
            return 0.0
    most = largest_coin_order(largest, position.mark)
    if not position.crypto or abs(quantity) <= most:
        return trade_at_open(account, position, day, tape, at, leg, BY_ORDER, s, quantity, opens)
    step = position.increment
    filled = 0.0
    steps = abs(whole_steps(quantity, step))
    rest = on_grid(abs(quantity) - steps * step)  # below 0 for what is a billionth short of a step
    count = part_count(steps, rest, most, step)
    for k in range(count):
        last = k == count - 1
        part = on_grid(part_steps(steps, count, k) * step + (rest if last else 0.0))
        signed = part if quantity > 0 else -part
        filled += trade_at_open(
            account, position, day, tape, at, leg + k, BY_ORDER, s, signed, opens
        )
    return filled


@inlined
def _whole_change(start: float, end: float, step: float) -> float:
    """The whole increments between two quantities; whole shares are on the grid as they are."""
    return whole_quantity(end - start if step == 1.0 else on_grid(end - start), step)


@inlined
def whole_quantity(quantity: float, step: float) -> float:
    """The largest multiple of `step` no further from zero than `quantity`, on its grid."""
    return quantity_of(whole_steps(quantity, step), step)


@inlined
def quantity_of(steps: float, step: float) -> float:
    """So many whole steps, on their grid."""
    return steps if step == 1.0 else on_grid(steps * step)
