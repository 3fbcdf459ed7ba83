"""What must never be after a schedule of event contracts, counted from both sides.

On one side stands what the venue has done, on the other what the journal says. Nothing here asks
the manager what should have come of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from decimal import Decimal
from pathlib import Path

from event_contracts.simulation.exchange import PlacedOrder
from event_contracts.trading.action_log import ActionEntry
from event_contracts.trading.actions import Admission, PositionLimits
from event_contracts.trading.orders import LimitOrder, MarketView
from execution.journal.order_store import STATES, OrderIntent, OrderStore
from foundation.database import Database

BY_HAND = "by-hand"  # how ids of a person's orders begin
MOVED = Decimal("1.1")  # by which a portfolio may have changed since it was looked at
ADMISSION = Admission(PositionLimits(share=MOVED / 4))

Placed = Iterable[PlacedOrder]


def book_of_orders(path: Path) -> dict[str, OrderIntent]:
    """Every order that was to be sent, by its id."""
    if not path.exists():
        return {}
    database = Database(path)
    with closing(database):
        intents = OrderStore(database).in_states(STATES)
    return {each.client_order_id: each for each in intents}


def ours(placed: Placed) -> list[PlacedOrder]:
    """Orders that no person sent."""
    return [each for each in placed if not each.client_order_id.startswith(BY_HAND)]


def duplicates(sent: Iterable[str], placed: Placed, entries: Iterable[ActionEntry]) -> int:
    """Ids that left twice, orders beyond the first of an id, and ticks with more than one order.

    sent: ids of the orders that left the process, in that order.
    """
    there = [each.client_order_id for each in ours(placed)]
    decided = [(each.market, each.at) for each in entries if each.client_order_id]
    left = list(sent)
    return sum(len(each) - len(set(each)) for each in (left, there, decided))


def lost(placed: Placed, book: Mapping[str, OrderIntent]) -> int:
    """Orders of ours that the book does not have as taken, and taken ones that never were."""
    there = {each.client_order_id for each in ours(placed)}
    taken = {name for name, intent in book.items() if intent.taken}
    return len(there ^ taken)


def differing_fills(placed: Placed, book: Mapping[str, OrderIntent]) -> int:
    """Orders of which the book has another number of fills than the venue, or another end."""
    count = 0
    for each in ours(placed):
        intent = book.get(each.client_order_id)
        if intent is not None:
            filled = intent.progress.filled == each.filled
            ended = (intent.state == "working") == (each.state == "resting")
            count += not (filled and ended)
    return count


def breach(order: LimitOrder, view: MarketView) -> str | None:
    """What an order that leaves would break, from the venue's own account; nothing where it may.

    Only an order that opens can; the share of the portfolio may have moved since it was looked at.
    """
    if order.action == "SELL":
        return None
    return ADMISSION.refusal(order.action, order.side, order.price, order.count, view)
