"""Comparison of live orders with simulated ones: fills, prices and causes of differences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import numpy as np

from execution.journal.cycles import CycleRow
from execution.journal.order_store import UNSENT_STATES, OrderIntent
from execution.orders.fees import BASIS_POINT
from execution.orders.orders import Order
from marketsimulator.results.drift.terms import ProfitComponent, Trade
from marketsimulator.results.journal_record import JournalRecord

OrderDifference = Literal["same"] | ProfitComponent
NO_CYCLE_REASON = "the live loop ran no cycle at that time"
# Roles of orders that follow from no decision.
OWN_ROLES = ("night", "protection")
DeadlineFunction = Callable[
    [np.datetime64], np.datetime64
]  # maps a decision instant to its deadline


@dataclass(frozen=True, slots=True)
class OrderComparison:
    """One order compared between the live account and the simulation.

    name: id of the order; symbol and instant for a trade without an order.
    symbol: symbol of the order.
    live, simulated: the order with its fills in the live account and in the simulation; None if it
        does not exist there.
    outcome: `same`, or the profit term to which the difference is attributed.
    why: reason of the difference, according to the journal.
    """

    name: str
    symbol: str
    live: Trade | None
    simulated: Trade | None
    outcome: OrderDifference
    why: str


def planned_orders(
    record: JournalRecord, job: str, since: np.datetime64, until: np.datetime64
) -> list[Order]:
    """Return the orders that a job planned between two account snapshots.

    Orders of a decision that was replaced are left out if they were never sent.

    since, until: times of the snapshots.
    """
    standing = {decision.decision_id for decision in record.decisions}
    orders = []
    for intent in record.intents.values():
        meant = intent.role in OWN_ROLES or intent.decision_id in standing
        taken_back = not meant and intent.state in UNSENT_STATES
        if intent.job == job and since <= intent.sent_at < until and not taken_back:
            orders.append(intent.stock_or_crypto_order)
    return orders


@dataclass(frozen=True, slots=True)
class UncomparedCounts:
    """Counts of a job's decisions and orders after the last compared account snapshot.

    decisions: number of decisions journaled after the snapshot.
    orders: number of orders sent after the snapshot.
    filled_orders: number of these orders with at least one fill.
    """

    decisions: int
    orders: int
    filled_orders: int

    @classmethod
    def from_journal(
        cls, record: JournalRecord, job: str, until: np.datetime64
    ) -> UncomparedCounts:
        later = [
            intent
            for intent in record.intents.values()
            if intent.job == job and intent.sent_at >= until and intent.state not in UNSENT_STATES
        ]
        return cls(
            decisions=len([each for each in record.decisions if each.at > until]),
            orders=len(later),
            filled_orders=len([intent for intent in later if intent.progress.filled]),
        )


def compare_orders(
    live: Mapping[str, Trade],
    simulated: Mapping[str, Trade],
    record: JournalRecord,
    decided_at: Mapping[str, np.datetime64],
    deadline_of: DeadlineFunction,
) -> tuple[OrderComparison, ...]:
    """Compare each live order with the simulated order of the same id.

    Orders that exist only in the live account or only in the simulation are included.

    decided_at: decision instant of each simulated order, by id.
    deadline_of: function that returns the deadline of the decision at an instant.
    """
    compared = []
    for name, either in {**live, **simulated}.items():
        mine, other, intent = live.get(name), simulated.get(name), record.intents.get(name)
        outcome, why = _classify_order(
            mine, other, intent, record, decided_at.get(name), deadline_of
        )
        compared.append(OrderComparison(name, either.symbol, mine, other, outcome, why))
    return tuple(compared)


def _classify_order(
    mine: Trade | None,
    other: Trade | None,
    intent: OrderIntent | None,
    record: JournalRecord,
    decided_at: np.datetime64 | None,
    until: DeadlineFunction,
) -> tuple[OrderDifference, str]:
    """Return the profit term to which an order's difference is attributed, and its reason.

    mine: live order; None if there is none.
    other: simulated order; None if there is none.
    intent: journaled intent of the order; None for a trade that was not ordered by us.
    decided_at: decision instant of the simulated order.
    until: function that returns the deadline of the decision at an instant.
    """
    if mine is not None and intent is None:
        if other is None:
            return "without_decision", "traded without an order of ours"
        return _classify_fill(mine, other, "without_decision", "closed by the broker")
    if intent is not None and intent.role in OWN_ROLES and other is None:
        return "without_decision", str(intent.order.reason)
    if mine is None:
        if decided_at is None:
            return "without_decision", "closed by the simulated broker"
        if any(decision.at == decided_at for decision in record.decisions):
            return "decided", "ordered only in the simulation"
        return "undecided", missed_decision_reason(record.cycles, decided_at, until(decided_at))
    why = "" if intent is None else intent.state_reason or intent.state
    if intent is not None and not mine.quantity and intent.state in UNSENT_STATES:
        return "unsent", why
    if other is None:
        return "decided", "not ordered in the simulation"
    if mine.ordered_quantity != other.ordered_quantity:
        return "decided", "ordered quantities differ"
    return _classify_fill(mine, other, "unfilled", why)


def _classify_fill(
    mine: Trade, other: Trade, cause: ProfitComponent, why: str
) -> tuple[OrderDifference, str]:
    if mine.quantity != other.quantity:
        return cause, why
    if mine.traded_value != other.traded_value:
        return "prices", ""
    return "same", ""


def missed_decision_reason(
    cycles: Iterable[CycleRow], at: np.datetime64, deadline: np.datetime64
) -> str:
    """Return why the live loop made no decision at an instant.

    cycles: trading cycles of the live loop.
    deadline: deadline of the decision.
    """
    met = [each for each in cycles if at <= each.began_at < deadline]
    reasons = [each.failure or each.idle_reason for each in met if each.failure or each.idle_reason]
    return reasons[0] if reasons else "the cycle did not finish" if met else NO_CYCLE_REASON


def excess_slippage_by_symbol(orders: Iterable[OrderComparison]) -> dict[str, float]:
    """Return how much worse live fills were priced than simulated ones, by symbol, basis points.

    The result is a mean over orders that were filled on both sides; it is positive if the live
    account paid more.
    """
    paid: dict[str, list[float]] = {}
    for order in orders:
        live, simulated = (side and side.mean_price for side in (order.live, order.simulated))
        if order.live and live and simulated:
            side = 1 if order.live.quantity > 0 else -1
            worse = side * (float(live / simulated) - 1.0) / BASIS_POINT
            paid.setdefault(order.symbol, []).append(worse)
    return {symbol: fmean(paid[symbol]) for symbol in sorted(paid)}
