"""Batches of the orders of a recorded decision, and the outcome of sending them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal

import numpy as np

from execution.journal.decisions import DecisionJournal
from execution.live.cycle import REDUCTION_UNFILLED_REASON, AccountProtocol, Cycle
from execution.orders.auctions import first_accepted_time, order_send_deadline
from execution.orders.gate import ALLOW_ALL_ORDERS, OrderGate
from execution.orders.orders import Fill, Order
from foundation.errors import AccountChanged, BrokerError

log = logging.getLogger("live")


@dataclass(slots=True)
class OrderBatch:
    """Orders of one decision that are sent together, and their result.

    decision_id: id of the decision in the journal; empty without a decision.
    orders: orders of the batch.
    gate: pre-trade gate of the orders.
    cancelled_quantities: unfilled quantity of each order that the decision replaces, by order id.
    cycle: cycle of the decision; None for a decision of an earlier process.
    planned_orders: orders of the decision that the venue accepts only later, such as auction
        orders.
    completes_decision: true if this is the decision's last batch of orders.
    is_retryable: true if the batch is sent again unchanged after a failure.
    fills: fills of the orders.
    unsent_reasons: reason by symbol why orders were not sent.
    is_last_attempt: true if the cycle makes no further decision, even if an order that this
        decision replaces has filled in the meantime.
    is_withdrawn: true if the decision was withdrawn because an order that it replaces has filled.
    """

    decision_id: str
    orders: Sequence[Order]
    gate: OrderGate
    cancelled_quantities: Mapping[str, Decimal] = field(default_factory=dict)
    cycle: Cycle | None = None
    planned_orders: tuple[Order, ...] = ()
    completes_decision: bool = True
    is_retryable: bool = False
    fills: Sequence[Fill] = ()
    unsent_reasons: Mapping[str, str] = field(default_factory=dict)
    is_last_attempt: bool = True
    is_withdrawn: bool = False


def record_decision_batch(
    cycle: Cycle,
    journal: DecisionJournal,
    live: AccountProtocol,
    lifetime_seconds: float,
    *,
    is_last_attempt: bool = True,
) -> OrderBatch:
    """Record the decision of a cycle in the journal, and return the batch of its orders.

    live: account that provides the pre-trade gate.
    lifetime_seconds: lifetime of the decision's orders, seconds; expired orders are not sent.
    is_last_attempt: true if the cycle makes no further decision, even if an order that this
        decision replaces has filled in the meantime.
    """
    if cycle.decision is None:
        return OrderBatch(
            "", (), ALLOW_ALL_ORDERS, cycle=cycle, completes_decision=False
        )  # without any order
    account = cycle.account
    lifetime = np.timedelta64(round(lifetime_seconds * 1000), "ms")
    orders = [
        replace(
            order, expires_at=order_send_deadline(order, cycle.decision.at, account.as_of, lifetime)
        )
        for order in cycle.decision.orders
    ]
    planned_orders = tuple(
        o for o in orders if first_accepted_time(o, account.as_of) > account.as_of
    )
    decision = replace(cycle.decision, orders=tuple(orders))
    # A replaced order is cancelled first, so the gate does not count it with its successor.
    gate = live.build_gate(
        account.without_orders(decision.orders_to_cancel), {order.symbol for order in orders}
    )
    name = journal.write_decision(decision, account)
    now = [order for order in orders if order not in planned_orders]
    return OrderBatch(
        name,
        now,
        gate,
        decision.cancelled_quantities,
        cycle,
        planned_orders,
        completes_decision=not planned_orders,
        is_last_attempt=is_last_attempt,
    )


@contextmanager
def record_batch_outcome(batch: OrderBatch, journal: DecisionJournal) -> Iterator[None]:
    """Return a context manager that records the outcome of sending a batch.

    The decision is withdrawn if an order that it replaces has filled in the meantime.
    """
    with _end_failed_batch(batch, journal):
        try:
            yield
        except AccountChanged as error:
            if batch.cycle is None:
                raise
            journal.end_decision(batch.decision_id, str(error), may_redecide=True)
            batch.is_withdrawn = True
            if batch.is_last_attempt:
                raise
            log.warning("%s; making a new decision", error)
            return
    if batch.completes_decision:
        journal.end_decision(batch.decision_id, REDUCTION_UNFILLED_REASON, batch.unsent_reasons)


@contextmanager
def _end_failed_batch(batch: OrderBatch, journal: DecisionJournal) -> Iterator[None]:
    """Return a context manager that ends the decision if sending its batch fails.

    A withdrawn decision has already ended. A decision whose batch is sent again continues.
    """
    try:
        yield
    except BrokerError as error:
        if not (batch.is_retryable or batch.is_withdrawn):
            journal.end_decision(batch.decision_id, str(error))
        raise


def build_finished_cycle(batch: OrderBatch) -> Cycle:
    """Return the cycle whose batch was sent, with the fills of the batch.

    Raises
    ------
    ValueError
        for a batch whose decision was made by an earlier process.
    """
    if batch.cycle is None:
        raise ValueError(f"batch {batch.decision_id} was decided by an earlier process: no cycle")
    if not batch.decision_id:
        return batch.cycle
    return replace(
        batch.cycle,
        fills=tuple(batch.fills),
        decision_id=batch.decision_id,
        planned_orders=batch.planned_orders,
    )
