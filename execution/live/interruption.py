"""Orders of a cycle that has not ended, as an account's journal records them."""

from __future__ import annotations

from dataclasses import dataclass

from execution.journal.cycles import CycleRow, next_cycle_start
from execution.journal.decisions import decision_ids_between
from execution.journal.order_store import (
    NEVER_SUBMITTED_STATES,
    UNKNOWN_OUTCOME_STATES,
    OrderIntent,
    OrderStore,
)
from foundation.database import Database
from foundation.formatting import format_count
from trainingdata.instants import format_utc


@dataclass(frozen=True, slots=True)
class CycleOrders:
    """Decisions of a cycle, and their orders.

    decision_ids: ids of the decisions, oldest first.
    orders: orders of these decisions.
    """

    decision_ids: tuple[str, ...]
    orders: tuple[OrderIntent, ...]

    @property
    def unanswered_count(self) -> int:
        """Number of orders that may have been sent, and whose outcome is unknown."""
        return sum(order.state in UNKNOWN_OUTCOME_STATES for order in self.orders)

    @property
    def unsent_count(self) -> int:
        """Number of orders that were never sent."""
        return sum(order.state in NEVER_SUBMITTED_STATES for order in self.orders)

    def __str__(self) -> str:
        if not self.decision_ids:
            return "before a decision"
        names = ", ".join(self.decision_ids)
        answered = len(self.orders) - self.unanswered_count - self.unsent_count
        return (
            f"after decision {names}: {format_count(len(self.orders), 'order')} in the journal,"
            f" {answered} answered by the venue, {self.unanswered_count} unanswered,"
            f" {self.unsent_count} not sent"
        )


def read_cycle_orders(database: Database, cycle: CycleRow) -> CycleOrders:
    """Return the decisions that a cycle has recorded, and their orders.

    database: the account's journal.
    """
    names = decision_ids_between(
        database, cycle.job, cycle.began_at, next_cycle_start(database, cycle)
    )
    book = OrderStore(database)
    orders = [order for name in names for order in book.intents_for_decision(name)]
    return CycleOrders(tuple(names), tuple(orders))


def describe_interruption(database: Database, cycle: CycleRow) -> str:
    """Return a line about a cycle that an earlier process left unended, and what is done now.

    database: the account's journal, before this process queries any order.
    """
    found = read_cycle_orders(database, cycle)
    actions = []
    if found.unanswered_count:
        actions.append("unanswered orders are queried by id")
    if found.unanswered_count or found.unsent_count:
        actions.append("unsent orders are sent if the decision is still valid, else denied")
    action = "; ".join(actions) or "nothing is left to send"
    began = format_utc(cycle.began_at)
    return f"Restart: the cycle of {began} was interrupted {found}; {action}."
