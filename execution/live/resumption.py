"""Resumption of a recorded decision that was not completely sent before a restart.

The recorded decision is resumed or ended, but never made again. A new decision would send the
orders a second time under other ids.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from execution.journal.decisions import EXPIRED_REASON, DecisionJournal, DecisionRow
from execution.journal.expected import ZERO_QUANTITY, ExpectedPosition
from execution.journal.order_store import UNKNOWN_OUTCOME_STATES, OrderIntent, OrderStore
from execution.live.batch import OrderBatch
from execution.live.cycle import REDUCTION_UNFILLED_REASON, AccountProtocol
from execution.live.expected_positions import (
    PositionTolerance,
    max_crypto_fee,
    position_changes_from_fill,
)
from execution.live.loop import print_line
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.auctions import first_accepted_time
from execution.orders.broker import Broker, cancel_orders, is_fully_filled
from foundation.errors import BrokerError
from foundation.formatting import format_count

log = logging.getLogger(__name__)

POSITIONS_CHANGED_REASON = "positions have changed since the decision"


def resume_batches(
    broker: Broker,
    journal: DecisionJournal,
    book: OrderStore,
    tradable: Collection[str],
    live: AccountProtocol,
) -> Iterator[OrderBatch]:
    """Yield the orders still to be sent of each decision that can be resumed, as one batch each.

    All other unfinished decisions are ended. Orders of unknown outcome are queried first; if they
    are still unknown, they are sent again under the same ids. A decision can be resumed if the
    positions are those at the decision plus the decision's own fills. An order that its auction
    does not accept yet stays planned.

    book: order store with the orders of the decisions.
    tradable: symbols that may be traded.
    live: account that provides the pre-trade gate.
    """
    for decision in journal.unfinished_decisions():
        # Reading the account queries orders of unknown outcome, and records their outcomes.
        account = broker.account()
        intents = book.intents_for_decision(decision.decision_id)
        if not _due_intents(intents, account.as_of) and any(map(_may_be_unsent, intents)):
            continue
        # Orders that rested when the process ended were unsupervised since; auctions need no
        # supervision.
        accepted = [
            each.client_order_id
            for each in intents
            if each.state == "accepted" and not each.stock_or_crypto_order.is_for_auction
        ]
        still_open = cancel_orders(broker, accepted).reasons
        if accepted:
            intents = book.intents_for_decision(decision.decision_id)
        why = "; ".join(still_open.values())
        why = why or not_resumed_reason(decision, intents, account, tradable)
        if why:
            log.warning("decision %s not resumed: %s", decision.decision_id, why)
            print_line(f"Decision {decision.decision_id} is not resumed: {why}.")
            journal.end_decision(decision.decision_id, why)
            continue
        log.info("decision %s resumed", decision.decision_id)
        due = _due_intents(intents, account.as_of)
        count = format_count(len(due), "order")
        print_line(f"Decision {decision.decision_id} is resumed: {count} to send.")
        orders = [intent.stock_or_crypto_order for intent in due]
        # An auction is hours away: its orders are tried again until they expire.
        retries = any(order.is_for_auction for order in orders)
        try:
            gate = live.build_gate(account.with_prices(decision.prices), decision.prices)
        except BrokerError as error:
            if not retries:
                journal.end_decision(decision.decision_id, str(error))
            raise
        is_final = len(due) == sum(map(_may_be_unsent, intents))
        yield OrderBatch(
            decision.decision_id,
            orders,
            gate,
            decision.cancelled_quantities,
            completes_decision=is_final,
            is_retryable=retries,
        )


def not_resumed_reason(
    decision: DecisionRow,
    intents: Sequence[OrderIntent],
    account: AccountSnapshot,
    tradable: Collection[str],
) -> str:
    """Return why a decision must not be resumed, or an empty string.

    intents: recorded intents of all orders of the decision.
    account: fresh account snapshot.
    tradable: symbols that may be traded.
    """
    left = _due_intents(intents, account.as_of)
    if not left:
        return "no orders are left to send"
    if not all(intent.is_unexpired(account.as_of) for intent in left):
        return EXPIRED_REASON
    if foreign := {intent.stock_or_crypto_order.symbol for intent in left} - set(tradable):
        return f"{min(foreign)} is no longer one of the symbols to trade"
    # A replaced reduction counts as filled through its successor.
    done = [each for each in intents if each.role == "reduction" and not _may_be_unsent(each)]
    if any(
        not is_fully_filled(each.progress.filled, each.stock_or_crypto_order.qty)
        for each in done
        if each.state != "replaced" and not each.stock_or_crypto_order.is_for_auction
    ):
        return REDUCTION_UNFILLED_REASON
    if not _has_expected_positions(decision, intents, left, account):
        return POSITIONS_CHANGED_REASON
    return ""


def _due_intents(intents: Sequence[OrderIntent], now: np.datetime64) -> list[OrderIntent]:
    """Return the orders left to send that the venue accepts now or that have expired.

    An order is left to send if it was not sent, or if its outcome is unknown.
    """
    left = filter(_may_be_unsent, intents)
    return [
        i
        for i in left
        if not i.is_unexpired(now) or first_accepted_time(i.stock_or_crypto_order, now) == now
    ]


def _may_be_unsent(intent: OrderIntent) -> bool:
    return intent.state == "planned" or intent.state in UNKNOWN_OUTCOME_STATES


def _has_expected_positions(
    decision: DecisionRow,
    intents: Sequence[OrderIntent],
    left: Sequence[OrderIntent],
    account: AccountSnapshot,
) -> bool:
    """Return whether positions are those at the decision plus the fills of its orders.

    Only the symbols of unsent orders are checked. If a person has traded in the meantime, the
    unsent order could repeat that trade.

    left: intents of the unsent orders.
    """
    for symbol in {intent.stock_or_crypto_order.symbol for intent in left}:
        position = ExpectedPosition(decision.positions.get(symbol, ZERO_QUANTITY))
        for intent in intents:
            change = position_changes_from_fill(intent, intent.progress.filled).get(
                symbol, ZERO_QUANTITY
            )
            position = position.with_change(change, max_crypto_fee(symbol, change, position))
        surplus = account.positions.get(symbol, ZERO_QUANTITY) - position.quantity
        if not PositionTolerance(below=position.unlisted_fee).contains(surplus):
            return False
    return True
