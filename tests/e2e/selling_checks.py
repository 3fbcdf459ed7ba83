"""What must never be after a schedule of the seller of spreads, counted from both sides.

On one side stands what the venue has done, on the other what the seller has written down. Nothing
here asks the seller's own code what should have come of it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np

from execution.journal.order_store import STATES, OrderStore
from execution.option_orders import Contract
from foundation.database import Database
from option_spreads.autoscaler.trades import Row, size_of, total_of
from option_spreads.selling.rules import SpreadCosts
from option_spreads.selling.state import OpenSpread
from option_spreads.simulation.desk import SpreadTicket
from trainingdata.sessions import session_of

SHARES = 100
ENTRY = re.compile(r"[A-Z_]+-\d{8}-\d{3}")  # which an order was sent for

Tickets = Mapping[str, SpreadTicket]
Groups = dict[str, tuple[list[SpreadTicket], list[SpreadTicket]]]


def trade_of(name: str) -> str:
    """The entry that an order of this id was sent for."""
    entry = ENTRY.match(name)
    return entry[0] if entry else name


def by_trade(tickets: Tickets) -> Groups:
    """Orders that traded, by the entry that they were sent for: sales, and purchases."""
    groups: Groups = {}
    for name, ticket in tickets.items():
        if ticket.filled:
            sale = ticket.order.legs[0].side == "sell"
            groups.setdefault(trade_of(name), ([], []))[0 if sale else 1].append(ticket)
    return groups


def contracts_in(tickets: Iterable[SpreadTicket]) -> int:
    """Contracts that orders have traded."""
    return sum(ticket.filled for ticket in tickets)


def changes(tickets: Iterable[SpreadTicket]) -> Counter[Contract]:
    """What orders have done to the position in each option."""
    total: Counter[Contract] = Counter()
    for ticket in tickets:
        for leg in ticket.order.legs:
            total[leg.contract] += leg.direction * ticket.filled
    return total


def economic_duplicates(tickets: Tickets) -> int:
    """Trades sold by two orders, or of which more or something else was bought back than sold.

    Or of which something was bought back before it was sold.
    """
    count = 0
    for sales, purchases in by_trade(tickets).values():
        sold = contracts_in(sales)
        left = sold - contracts_in(purchases)
        rest = changes((*sales, *purchases))
        # What is left has the size of what was not bought back, in every option that was sold.
        undone = all(abs(number) == left for number in rest.values())
        count += len(sales) > 1 or left < 0 or not undone or _reversed(sales, purchases)
    return count


def book_of_orders(path: Path) -> dict[str, str]:
    """The state of every order that was to be sent, by its id, in the book's words, oldest first;
    `taken` of whatever the venue took.
    """
    if not path.exists():
        return {}
    # A run that was killed at once has left a file without its table.
    database = Database(path)
    with closing(database):
        intents = OrderStore(database).in_states(STATES)
    return {each.client_order_id: "taken" if each.taken else each.state for each in intents}


def lost_orders(tickets: Tickets, book: Mapping[str, str], known: Collection[str]) -> int:
    """Orders that the venue took and the book does not call taken, and trades that no file knows.

    known: trades that are open in the seller's file, or booked.
    """
    count = sum(name not in book or book[name] != "taken" for name in tickets)
    return count + sum(name not in known for name in by_trade(tickets))


def lost_holdings(
    held: Mapping[Contract, int],
    spreads: Iterable[OpenSpread],
    tickets: Tickets,
    now: np.datetime64,
) -> int:
    """Options that have not expired, of which the venue holds another number than the file says.

    What became of an order on its way counts as the venue says it.
    """
    expected: Counter[Contract] = Counter()
    for spread in spreads:
        number = spread.remaining
        if spread.stage == "opening":
            number = contracts_in(_of(tickets, spread.trade_id))
        if spread.stage == "closing":
            number -= contracts_in(_of(tickets, spread.order_id))
        for leg in spread.option_legs:
            expected[leg.contract] += leg.direction * number
    every = {*expected, *held}
    return sum(
        expected[contract] != held.get(contract, 0)
        for contract in every
        if not _has_expired(contract, now)
    )


def unbooked(
    tickets: Tickets,
    rows: Sequence[Row],
    costs: SpreadCosts,
    close_of: Callable[[date], float | None],
) -> int:
    """Trades that have ended at the venue and are not booked once, with their size and result.

    Trades that are booked and were never sold count, too.

    close_of: the index at the close of a session that has ended; None before.
    """
    booked: dict[str, list[Row]] = {}
    for row in rows:
        booked.setdefault(row["Trade_ID"], []).append(row)
    trades = by_trade(tickets)
    count = sum(name not in trades for name in booked)
    for name, (sales, purchases) in trades.items():
        result = result_of(sales, purchases, costs, close_of)
        if result is None:
            count += name in booked
            continue
        written = [(size_of(row), total_of(row)) for row in booked.get(name, [])]
        count += written != [(contracts_in(sales), result)]
    return count


def result_of(
    sales: Sequence[SpreadTicket],
    purchases: Sequence[SpreadTicket],
    costs: SpreadCosts,
    close_of: Callable[[date], float | None],
) -> Decimal | None:
    """What a trade has brought in, USD, all costs in it; None while it is open."""
    every = (*sales, *purchases)
    rest = {contract: number for contract, number in changes(every).items() if number}
    total = Decimal(0)
    for contract, number in rest.items():
        close = close_of(contract.expiry)
        if close is None:
            return None
        worth = Decimal(str(round(close, 2))) - contract.strike
        total += max(worth if contract.call else -worth, Decimal(0)) * number
    a_leg = Decimal(str(costs.commission)) + Decimal(str(costs.fee))
    fees = sum(a_leg * len(ticket.order.legs) * ticket.filled for ticket in every)
    total += sum(ticket.fill.credit * ticket.filled for ticket in every)
    return round(total * SHARES - fees, 2)


def oversized(tickets: Tickets, most: int) -> int:
    """Trades of which the venue has sold more contracts than any may have."""
    return sum(contracts_in(sales) > most for sales, _ in by_trade(tickets).values())


def _reversed(sales: Sequence[SpreadTicket], purchases: Sequence[SpreadTicket]) -> bool:
    sold_at = [ended_at(ticket) for ticket in sales]
    bought_at = [ended_at(ticket) for ticket in purchases]
    return any(at < min(sold_at, default=at) for at in bought_at)


def ended_at(ticket: SpreadTicket) -> np.datetime64:
    """When an order was done, or came where it still works."""
    return ticket.submitted_at if ticket.closed_at is None else ticket.closed_at


def _has_expired(contract: Contract, now: np.datetime64) -> bool:
    session = session_of(np.datetime64(contract.expiry, "D"))
    return session is None or bool(now >= session.closes)


def _of(tickets: Tickets, name: str) -> tuple[SpreadTicket, ...]:
    return (tickets[name],) if name in tickets else ()
