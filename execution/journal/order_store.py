"""Order intents: orders that are recorded on disk before they are sent to the venue.

An order intent is the record of an order before it is sent. After a crash or a lost response, the
store still lists all orders that the venue may have, by id. A query that finds no order proves
nothing, because the order can still arrive at the venue later. An intent therefore counts as open
until the venue has reported its end.

An intent is recorded as `planned` with its decision, or as `submitting` when it is sent:

    planned -> submitting -> accepted -> filled | canceled | expired | rejected | replaced
    submitting -> unknown -> accepted | not_received
    planned | submitting -> denied
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal, get_args

import numpy as np
from pydantic import Json

from execution.journal.events import EventLog
from execution.journal.orders import decode_order, encode_order
from execution.journal.refusals import RefusalJournal
from execution.journal.rows import ExactDecimal, Instant, JournalTable, Text, format_instant
from execution.orders.gate import AnyOrder, OrderRole
from execution.orders.orders import USD_PRICE_FIELDS, Order
from foundation.database import Database
from foundation.errors import InputError

log = logging.getLogger(__name__)

OrderState = Literal[
    "planned",
    "denied",
    "submitting",
    "unknown",
    "not_received",
    "accepted",
    "filled",
    "canceled",
    "expired",
    "rejected",
    "replaced",
]
ORDER_STATES: tuple[OrderState, ...] = get_args(OrderState)
UNKNOWN_OUTCOME_STATES: tuple[OrderState, ...] = ("submitting", "unknown")
NEVER_SUBMITTED_STATES: tuple[OrderState, ...] = ("planned", "denied")
REFUSED_STATES: tuple[OrderState, ...] = ("denied", "rejected")
UNSENT_STATES: tuple[OrderState, ...] = ("planned", "denied", "rejected", "not_received")
PENDING_STATES: tuple[OrderState, ...] = ("planned", "submitting", "unknown", "accepted")
TERMINAL_STATES: tuple[OrderState, ...] = ("filled", "canceled", "expired", "replaced")
ACCEPTED_STATES: tuple[OrderState, ...] = ("accepted", *TERMINAL_STATES)
REJECTED_AFTER_ACCEPTANCE = "rejected by the venue after acceptance"

# Transitions of an intent. An intent that was sent before may be sent again under its id if the
# venue has not accepted it.
_NEXT_STATES: Mapping[OrderState, tuple[OrderState, ...]] = {
    "planned": ("submitting", "denied"),
    "denied": ("submitting",),
    "submitting": ("unknown", "accepted", "not_received", "denied", "rejected", *TERMINAL_STATES),
    "unknown": ("submitting", "accepted", "not_received", "rejected", *TERMINAL_STATES),
    "accepted": ("rejected", *TERMINAL_STATES),
    "rejected": ("submitting",),
    "not_received": ("submitting", "accepted", *TERMINAL_STATES),
    "filled": (),
    "canceled": (),
    "expired": (),
    "replaced": (),
}


SPLIT_EVENT = "split"
# After a day no order is on its way: connections, queues and the venue's day have ended.
MAX_TIME_IN_FLIGHT = np.timedelta64(24, "h")


@dataclass(frozen=True, slots=True)
class OrderProgress:
    """State of an accepted order as the venue last reported it.

    state: state of the order: `accepted`, `filled`, `canceled`, `expired`, `rejected` or
        `replaced`.
    venue_order_id: id of the order at the venue.
    filled: filled quantity: shares, units of crypto or contracts.
    filled_price: mean price of the fills, USD; None before the first fill, and for multi-leg
        orders.
    successor_order_id: client order id of the order that replaced this one; empty without one.
    """

    state: OrderState
    venue_order_id: str = ""
    filled: Decimal = Decimal(0)
    filled_price: Decimal | None = None
    successor_order_id: str = ""


@dataclass(frozen=True, slots=True)
class OrderIntent:
    """An order as recorded before it is sent, and its state.

    order: the order; its client order id is unique in the account.
    sent_at: instant by the venue's clock at which the order was sent; if it was not sent, instant
        at which it was planned.
    state: state of the intent; the module's docstring lists the transitions.
    state_reason: reason for the state: the venue's reason for a rejection, or our reason for a
        denial.
    job: name of the job that sends the order.
    venue: name of the venue.
    decision_id: id of the order's decision; empty without one.
    role: role of the order in its decision, such as `reduction` or `opening`; openings are sent
        after the reductions.
    progress: last report of the venue on an accepted order.
    """

    order: AnyOrder
    sent_at: np.datetime64
    state: OrderState = "submitting"
    state_reason: str = ""
    job: str = ""
    venue: str = "alpaca"
    decision_id: str = ""
    role: OrderRole = ""
    progress: OrderProgress = field(default_factory=lambda: OrderProgress("accepted"))

    @property
    def client_order_id(self) -> str:
        return self.order.client_order_id

    @property
    def stock_or_crypto_order(self) -> Order:
        """The intent's order, if it is for a stock or crypto.

        Raises
        ------
        InputError
            for an order of another kind.
        """
        if not isinstance(self.order, Order):
            raise InputError(f"{self.client_order_id}: not an order for a stock or for crypto")
        return self.order

    @property
    def was_accepted(self) -> bool:
        """Return whether the venue has ever accepted the order."""
        return self.state in ACCEPTED_STATES or bool(self.progress.venue_order_id)

    def is_unexpired(self, now: np.datetime64) -> bool:
        return self.order.expires_at is None or bool(now < self.order.expires_at)

    def is_lost(self, now: np.datetime64) -> bool:
        """Return whether the order can no longer reach the venue after `now`.

        Call this only for an order that the venue does not know.
        """
        expires = self.order.expires_at
        end = self.sent_at if expires is None else max(self.sent_at, expires)
        return bool(now >= end + MAX_TIME_IN_FLIGHT)


@dataclass(frozen=True, slots=True)
class _IntentRow:
    """Journal row of an intent; `terms` is the order as a JSON object."""

    client_order_id: Text
    job: Text
    venue: Text
    decision_id: Text
    role: OrderRole
    terms: Json[Mapping[str, Any]]
    reason: Text
    sent_at: Instant
    expires_at: Instant | None
    state: OrderState
    state_reason: Text
    venue_order_id: Text
    filled: ExactDecimal
    filled_price: ExactDecimal | None
    successor_order_id: Text


# Fields that have the same name in an intent and in its row, and in its progress and in the row.
_INTENT_FIELDS = ("sent_at", "state_reason", "job", "venue", "decision_id", "role")
_PROGRESS_FIELDS = ("venue_order_id", "filled", "filled_price", "successor_order_id")


def _build_intent(row: _IntentRow) -> OrderIntent:
    order = decode_order(
        row.client_order_id,
        row.terms,
        reason=row.reason,
        reduces=row.role in ("reduction", "night", "protection"),
        expires_at=row.expires_at,
    )
    progress = OrderProgress(row.state, *(getattr(row, name) for name in _PROGRESS_FIELDS))
    same: dict[str, Any] = {name: getattr(row, name) for name in _INTENT_FIELDS}
    return OrderIntent(order=order, state=row.state, progress=progress, **same)


def _build_row(intent: OrderIntent, state: OrderState) -> _IntentRow:
    same: dict[str, Any] = {name: getattr(intent, name) for name in _INTENT_FIELDS}
    progress_fields: dict[str, Any] = {
        name: getattr(intent.progress, name) for name in _PROGRESS_FIELDS
    }
    order = intent.order
    return _IntentRow(
        client_order_id=order.client_order_id,
        terms=encode_order(order),
        reason=str(order.reason),
        expires_at=order.expires_at,
        state=state,
        **same,
        **progress_fields,
    )


# Columns of an order's terms, for SQL conditions and for readers of the file.
_TERM_COLUMNS = ("symbol", "side", "qty", "type", "limit_price", "min_credit", "stop_price")
INTENTS_TABLE = JournalTable(
    "intents",
    _IntentRow,
    "CREATE INDEX IF NOT EXISTS intents_by_state ON intents (state)",
    "CREATE INDEX IF NOT EXISTS intents_by_sending ON intents (sent_at)",
    "CREATE INDEX IF NOT EXISTS intents_by_decision ON intents (decision)",
    "CREATE INDEX IF NOT EXISTS intents_by_venue ON intents (venue_id)",
    computed=[
        f"{word} TEXT GENERATED ALWAYS AS (json_extract(terms, '$.{word}')) VIRTUAL"
        for word in _TERM_COLUMNS
    ],
    column_names={
        "venue_order_id": "venue_id",
        "state_reason": "why",
        "decision_id": "decision",
        "successor_order_id": "successor",
    },
)


class OrderStore:
    """Store of one account's order intents, each recorded before its order is sent.

    database: the account's journal.
    events: log of state changes; None creates a log in the same database.
    refusals: record of the account's refused orders; None creates one that sends no alerts.
    """

    def __init__(
        self,
        database: Database,
        events: EventLog | None = None,
        refusals: RefusalJournal | None = None,
    ) -> None:
        self._database = database
        self._events = EventLog(self._database) if events is None else events
        self.refusals = refusals or RefusalJournal(self._database, self._events)
        INTENTS_TABLE.create(self._database)

    def record_plan(self, intent: OrderIntent) -> None:
        """Record an intent to be sent later, as part of the surrounding transaction.

        It replaces an intent with the same id that was planned or denied and never sent.

        Raises
        ------
        InputError
            if an order with this id was sent before.
        """
        before = self.get(intent.client_order_id)
        if before is not None and before.state not in ("planned", "denied"):
            raise InputError(
                f"{intent.client_order_id}: an order with this id was sent before; use a new id"
            )
        self._write(intent, "planned")

    def record_submission(self, intent: OrderIntent) -> None:
        """Record an intent right before it is sent; it replaces a planned intent with the same id.

        Raises
        ------
        InputError
            if the state of the recorded intent does not allow it to be sent.
        """
        with self._database.transaction():
            before = self.get(intent.client_order_id)
            if before is not None and "submitting" not in _NEXT_STATES[before.state]:
                raise InputError(
                    f"order {intent.client_order_id}: not sent again, because its state is already"
                    f" {before.state}"
                )
            self._write(intent, intent.state)

    def _write(self, intent: OrderIntent, state: OrderState) -> None:
        with self._database.transaction():
            INTENTS_TABLE.upsert(self._database, _build_row(intent, state))
            self._events.append(state, intent.client_order_id, encode_order(intent.order))

    def set_state(self, client_order_id: str, state: OrderState, why: str = "") -> None:
        """Change the recorded state of an intent; an unknown id is ignored.

        why: reason for the state.

        Raises
        ------
        InputError
            if the intent's state cannot change to `state`.
        """
        with self._database.transaction():
            before = self.get(client_order_id)
            if before is None or (before.state, before.state_reason) == (state, why):
                return
            if state != before.state and state not in _NEXT_STATES[before.state]:
                raise InputError(
                    f"{client_order_id}: state cannot change from {before.state} to {state}"
                )
            INTENTS_TABLE.upsert(
                self._database, _build_row(replace(before, state_reason=why), state)
            )
            self._events.append(state, client_order_id, why)

    def record_refusal(self, client_order_id: str, state: OrderState, why: str) -> None:
        """Record that the venue has refused an order, and send one alert per cause.

        state: the intent's new state, `rejected` or `denied`.
        """
        with self._database.transaction():
            self.set_state(client_order_id, state, why)
            if intent := self.get(client_order_id):
                answer = why.removeprefix(f"{client_order_id}: ")
                self.refusals.record_refusal(intent.order, answer, intent.sent_at)

    def record_pause(self, client_order_id: str, why: str) -> None:
        """Record that an order was not sent because trading is paused at the venue.

        The intent becomes `denied`.
        """
        with self._database.transaction():
            self.set_state(client_order_id, "denied", why)
            if intent := self.get(client_order_id):
                answer = why.removeprefix(f"{client_order_id}: not sent: ")
                self.refusals.record_venue_pause(answer, intent.sent_at)

    def record_progress(self, client_order_id: str, progress: OrderProgress) -> None:
        """Record the venue's report on an accepted order; ignore one that contradicts its state.

        An acceptance, or a rejection after it, is recorded in `refusals` in the same transaction.
        """
        with self._database.transaction():
            before = self.get(client_order_id)
            if before is None or before.progress == progress:
                return
            if progress.state != before.state and progress.state not in _NEXT_STATES[before.state]:
                self._events.append("contradicted", client_order_id, progress.state)
                log.warning(
                    "%s: state is %s; ignoring a later report of state %s",
                    client_order_id,
                    before.state,
                    progress.state,
                )
                return
            self.set_state(client_order_id, progress.state)
            INTENTS_TABLE.upsert(
                self._database,
                _build_row(replace(before, progress=progress, state_reason=""), progress.state),
            )
            price = progress.filled_price
            details = {
                "filled": str(progress.filled),
                "price": None if price is None else str(price),
            }
            self._events.append(f"noted {progress.state}", client_order_id, details)
            if progress.state == "rejected" != before.state:
                why = f"{client_order_id}: {REJECTED_AFTER_ACCEPTANCE}"
                self.record_refusal(client_order_id, "rejected", why)
            elif progress.state != "rejected" and not before.was_accepted:
                self.refusals.record_acceptance(before.order)

    def record_split(self, symbol: str, at: np.datetime64, ratio: Fraction) -> None:
        """Record that a stock has split, for `adjust_for_split`.

        at: midnight of New York at which the day of the split starts.
        ratio: new shares per old share.
        """
        self._events.append(SPLIT_EVENT, symbol, {"at": format_instant(at), "ratio": str(ratio)})

    def split_ratio_since(self, symbol: str, at: np.datetime64) -> Fraction:
        """Return the new shares per share of an instant, by the last recorded split."""
        split = self._events.last_event(symbol, SPLIT_EVENT)
        if split is None or np.datetime64(split.content["at"]) <= at:
            return Fraction(1)
        return Fraction(split.content["ratio"])

    def adjust_for_split(self, intent: OrderIntent) -> OrderIntent:
        """Return a sent order with the terms that the last recorded split has given it.

        The venue multiplies the unfilled quantity, without fractions of a share, and divides the
        prices (FINRA Rule 5330).
        """
        order, filled = intent.stock_or_crypto_order, intent.progress.filled
        if (ratio := self.split_ratio_since(order.symbol, intent.sent_at)) == 1:
            return intent
        left = Decimal(int(Fraction(order.qty - filled) * ratio))
        prices = {
            name: price / float(ratio)
            for name in USD_PRICE_FIELDS
            if (price := getattr(order, name)) is not None
        }
        order = replace(order, qty=max(left + filled, Decimal(1)), **prices)
        return replace(intent, order=order)

    def record_adjustment(self, adjusted: OrderIntent) -> None:
        """Record the terms of an order from `adjust_for_split`."""
        self._write(adjusted, adjusted.state)

    def deny(self, intent: OrderIntent, why: str) -> None:
        with self._database.transaction():
            if self.get(intent.client_order_id) is None:
                self._write(intent, "planned")
            self.set_state(intent.client_order_id, "denied", why)

    def get(self, client_order_id: str) -> OrderIntent | None:
        """Return the intent with this id; None without one."""
        found = self.select_intents("client_order_id = ?", (client_order_id,))
        return found[0] if found else None

    def intents_with_unknown_outcome(self) -> tuple[OrderIntent, ...]:
        """Return the intents whose outcome is unknown, oldest first."""
        return self.intents_in_states(UNKNOWN_OUTCOME_STATES)

    def intents_in_states(self, states: Iterable[OrderState]) -> tuple[OrderIntent, ...]:
        """Return intents in one of these states, oldest first."""
        names = tuple(states)
        return self.select_intents(f"state IN ({', '.join('?' * len(names))})", names)

    def latest_intents(self, states: Iterable[OrderState], limit: int) -> tuple[OrderIntent, ...]:
        """Return the latest intents in one of these states, newest first.

        limit: maximum number of intents returned.
        """
        names = tuple(states)
        marks = ", ".join("?" * len(names))
        clause = f"WHERE state IN ({marks}) ORDER BY rowid DESC LIMIT ?"
        return tuple(INTENTS_TABLE.map_rows(self._database, _build_intent, clause, (*names, limit)))

    def intents_for_decision(self, decision_id: str) -> tuple[OrderIntent, ...]:
        """Return the intents of a decision, in the order in which they were planned."""
        return self.select_intents("decision = ?", (decision_id,))

    def unsent_reasons(self, decision_id: str) -> dict[str, str]:
        """Return the reasons why orders of a decision were denied or rejected, by order id."""
        return {
            intent.client_order_id: intent.state_reason
            for intent in self.intents_for_decision(decision_id)
            if intent.state in REFUSED_STATES
        }

    def intents_with_event_since(
        self, event_number: int, event_condition: str
    ) -> tuple[OrderIntent, ...]:
        """Return the intents about which events were recorded after a given event.

        event_number: number of the given event.
        event_condition: SQL condition that the later events must meet.
        """
        concerned = f"SELECT subject FROM events WHERE number > ? AND ({event_condition})"
        return self.select_intents(f"client_order_id IN ({concerned})", (event_number,))

    def select_intents(
        self, condition: str, values: Sequence[str | int] = ()
    ) -> tuple[OrderIntent, ...]:
        """Return the intents whose journal rows meet an SQL condition, oldest first."""
        found = f"WHERE {condition} ORDER BY rowid"
        return tuple(INTENTS_TABLE.map_rows(self._database, _build_intent, found, values))


def read_intents(database: Database) -> tuple[OrderIntent, ...]:
    """Return all intents of an account, oldest first."""
    return tuple(INTENTS_TABLE.map_rows(database, _build_intent, "ORDER BY rowid"))
