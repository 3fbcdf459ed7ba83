"""Activity of an account since a given point: its cycles, orders, fills and their drift."""

from __future__ import annotations

from collections import Counter

import numpy as np

from execution.journal.cycles import count_cycles
from execution.journal.decisions import DECISIONS_TABLE
from execution.journal.order_store import NEVER_SUBMITTED_STATES, OrderStore
from execution.journal.refusals import VENUE_PAUSE_CAUSE
from execution.journal.rows import format_instant
from execution.live.open_account import OpenAccount
from execution.orders.orders import Order
from foundation.database import Database
from foundation.formatting import format_count, format_usd

NEW_ORDER_EVENTS_SQL = (
    "kind IN ('planned', 'denied', 'submitting')"  # events that record a new order
)
# Events that record a full or partial fill; the venue writes "no fill" as 0, 0.00 or null.
FILL_EVENTS_SQL = "kind LIKE 'noted %' AND CAST(json_extract(content, '$.filled') AS REAL) > 0"


def format_activity_since(account: OpenAccount, event: int, cycle: int) -> str:
    """Describe the cycles, orders and fills since a given point, and the account's state now.

    event: number of the last event before that point.
    cycle: number of cycles before that point.
    """
    cycles = count_cycles(account.database) - cycle
    mark = account.marks.last_mark()
    equity = "equity unknown" if mark is None else f"equity {format_usd(mark.equity)}"
    halts = ", ".join(halt.kind for halt in account.halts.active())
    refusals = account.refusals.active()
    refused = [each for each in refusals if not each.is_venue_pause]
    parts = [
        format_count(cycles, "cycle"),
        *format_order_counts(account.book, event),
        equity,
        f"halted: {halts}" if halts else "no halt",
        *([VENUE_PAUSE_CAUSE] if any(each.is_venue_pause for each in refusals) else []),
        *([f"the venue refuses orders: {format_count(len(refused), 'cause')}"] if refused else []),
    ]
    return ", ".join(parts)


def format_order_counts(book: OrderStore, event: int) -> list[str]:
    """Return texts such as "3 sent" which count the orders since an event, by state.

    A submitted order counts as sent; an order with a full or partial fill counts as filled.

    event: number of the event.
    """
    decided = Counter(
        intent.state for intent in book.intents_with_event_since(event, NEW_ORDER_EVENTS_SQL)
    )
    unsent = sum(decided[state] for state in NEVER_SUBMITTED_STATES)
    filled = book.intents_with_event_since(event, FILL_EVENTS_SQL)
    in_part = sum(intent.state != "filled" for intent in filled)
    apart = {
        f"{in_part} of them partially": in_part,
        f"{format_count(decided['rejected'], 'order')} refused": decided["rejected"],
        f"{format_count(unsent, 'order')} not sent": unsent,
    }
    return [
        f"{format_count(decided.total() - unsent, 'order')} sent",
        f"{format_count(len(filled), 'order')} filled",
        *(words for words, count in apart.items() if count),
    ]


def event_number_at(database: Database, at: np.datetime64) -> int:
    """Return the number of the last event before an instant; 0 without one."""
    query = "SELECT number FROM events WHERE at < ? ORDER BY number DESC LIMIT 1"
    found = database.query(query, (format_instant(at),))
    return int(found[0][0]) if found else 0


def fill_drift_usd(database: Database, book: OrderStore, event: int) -> float:
    """Return what the fills since an event cost beyond their decisions' prices, USD.

    It is the sum of filled quantity times (price of the fill - price of the decision) over orders
    in stocks and crypto, negated for sales. Orders without a decision, such as overnight trims, are
    left out.

    event: number of the event.
    """
    drift = 0.0
    prices: dict[str, dict[str, float]] = {}
    for intent in book.intents_with_event_since(event, FILL_EVENTS_SQL):
        order, decision, paid = intent.order, intent.decision_id, intent.progress.filled_price
        if not isinstance(order, Order) or not decision or paid is None:
            continue
        if decision not in prices:
            row = DECISIONS_TABLE.first_row(database, "WHERE id = ?", (decision,))
            prices[decision] = {} if row is None else row.prices
        if (expected := prices[decision].get(order.symbol)) is not None:
            sign = 1.0 if order.side == "buy" else -1.0
            drift += sign * float(intent.progress.filled) * (float(paid) - expected)
    return drift
