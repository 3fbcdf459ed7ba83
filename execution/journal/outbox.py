"""Order submission: record an intent, post the order, and query it by client order id.

The action on an order depends on the state of its intent in the order store:

    planned, denied     post: accepted, rejected, denied, or unknown without a response
    rejected            post again, if the venue accepts only one order per id
    submitting, unknown query by id:
      found             accepted
      not found         unknown, because an order can arrive after every query. The order is
                        posted once more, and queried, on four conditions: the venue accepts
                        only one order per id, the order has not expired, the gate allows it,
                        and the caller requests it.
      lost              not_received: the order has expired and the venue does not know its id
    accepted, terminal  query only: an accepted order is never sent again

A lost connection, a status of 500 and above, and an unreadable body count as no response. A refusal
of the second post proves nothing about the first.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from functools import partial
from typing import ClassVar, Generic, Literal, NamedTuple, Protocol, TypeVar

import numpy as np

from execution.journal.order_store import (
    NEVER_SUBMITTED_STATES,
    UNKNOWN_OUTCOME_STATES,
    UNSENT_STATES,
    OrderIntent,
    OrderProgress,
    OrderState,
    OrderStore,
)
from execution.journal.orders import has_same_terms
from execution.orders.gate import ALLOW_ALL_ORDERS, AnyOrder, OrderGate, OrderRole, infer_order_role
from execution.orders.orders import Order
from foundation.clock import TimeSource
from foundation.errors import BrokerError, OrderRejected, OutcomeUnknown
from trainingdata.instants import format_compact_utc

log = logging.getLogger(__name__)

# Seconds before each poll for an order whose outcome is unknown.
POLL_DELAYS_SECONDS = (0.1, 0.5, 1.0, 2.0, 4.0)
SINGLE_POLL_DELAYS_SECONDS = (0.0,)
CANCELLED_POLL_DELAYS_SECONDS = (
    0.0,
    0.1,
    0.5,
    1.0,
    2.0,
)  # the same, for an order that was cancelled
CANCEL_DELAYS_SECONDS = (0.0, 0.1, 0.5, 1.0)  # seconds before each attempt to cancel
QUERY_TIMEOUT_SECONDS = 20.0  # seconds for one series of queries
CANCEL_TIMEOUT_SECONDS = 30.0  # seconds for all requests that end one order
MAX_RATE_LIMIT_WAIT_SECONDS = 60.0  # longest wait of an order while the venue limits requests


class LookupFailure(Enum):
    """Result of a query that has found no order."""

    NOT_FOUND = "the venue does not know the order id"
    NO_RESPONSE = "the venue does not respond"


class OrderDenied(OrderRejected):
    """The order was not sent, or the venue has certainly not processed it."""


class OrderPaused(OrderDenied):
    """The venue did not process the order because trading is paused."""


class OrderExpired(OrderDenied):
    """The order expired before it was sent."""


class InconclusiveResponse(Exception):
    """The response to a POST does not state whether the order was accepted."""


class OrderNotReceived(OrderRejected):
    """The venue does not know the order, and can no longer accept it because it has expired."""


_STATE_BY_REJECTION: Mapping[type, OrderState] = {
    OrderNotReceived: "not_received",
    OrderDenied: "denied",
    OrderPaused: "denied",
    OrderExpired: "denied",
}


def format_expiry(intent: OrderIntent) -> str:
    until = intent.order.expires_at
    return "" if until is None else f"the order expired at {format_compact_utc(until)}"


def is_unsent(intent: OrderIntent) -> bool:
    """Return whether an intent was never accepted by the venue and cannot be on its way there."""
    return intent.state in UNSENT_STATES and not intent.was_accepted


class OrderReport(Protocol):
    """Interface of a venue's report on an order."""

    @property
    def client_order_id(self) -> str:
        """Client order id; for a replacement, the id of the first order of the chain."""
        ...

    @property
    def progress(self) -> OrderProgress: ...

    @property
    def is_done(self) -> bool:
        """Return whether the order has ended, so that it can no longer fill."""
        ...

    def matches(self, intent: OrderIntent) -> bool:
        """Return whether the order has the terms of an intent, as far as it reports its terms."""
        ...


Report = TypeVar("Report", bound=OrderReport)


class Cancellation(NamedTuple, Generic[Report]):
    """Result of a request to cancel an order.

    report: the venue's last report on the order.
    error: error of the last request; None if the venue responded.
    """

    report: Report
    error: BrokerError | None = None

    @property
    def is_pending(self) -> bool:
        """Return whether the venue has accepted the request and the order has not ended."""
        return self.error is None and not self.report.is_done


class Venue(Protocol[Report]):
    """Interface through which orders are posted, queried and cancelled at one venue.

    name: name of the venue, as stored in the order store.
    time: clock by which waits are measured.
    has_idempotent_client_ids: true if the venue accepts only one order per client order id. An
        order that is unknown or rejected may then be sent again.

    Raises
    ------
    BrokerError
        in every method, if the venue does not respond.
    """

    name: ClassVar[str]
    has_idempotent_client_ids: ClassVar[bool]
    time: TimeSource

    def now(self) -> np.datetime64: ...
    def estimated_now(self) -> np.datetime64: ...

    def post(self, intent: OrderIntent, max_wait_seconds: float) -> Report:
        """Post one order and return the venue's report.

        max_wait_seconds: seconds to wait while a rate limit applies.

        Raises
        ------
        OrderRejected
            if the venue rejects the order; `OrderDenied` if it did not process it.
        InconclusiveResponse
            if the response does not state whether the order was accepted.
        """
        ...

    def find(self, client_order_id: str, intent: OrderIntent | None) -> Report | None:
        """Return the order with this client order id; None if the venue does not know it.

        intent: our record of the order; None without one.
        """
        ...

    def cancel(self, order: Report) -> None:
        """Cancel a resting order; do nothing for an order that has already ended."""
        ...

    def refresh_order(self, order: Report) -> Report: ...

    def is_lost(self, intent: OrderIntent, now: np.datetime64) -> bool:
        """Return whether an order that the venue does not know can no longer arrive after `now`."""
        ...


class Outbox(Generic[Report]):
    """Sender of orders to one venue; it records each order before sending, and tracks it after.

    venue: the venue.
    book: store in which orders are recorded.
    job: name of the job that sends through this outbox.
    """

    def __init__(self, venue: Venue[Report], book: OrderStore, job: str = "") -> None:
        self._venue = venue
        self._time = venue.time
        self.book = book
        self._job = job

    def post(self, order: AnyOrder, gate: OrderGate = ALLOW_ALL_ORDERS) -> Report:
        """Send an order, and return the venue's report on it.

        If an order with this id was sent before, it is not sent again: its report is returned, or
        its rejection raised. If an order with this id is planned, it is sent with the recorded
        terms.

        gate: pre-trade checks that run right before the order is sent.

        Raises
        ------
        OrderRejected
            if the venue rejects the order, the gate refuses it, or it has expired.
        OutcomeUnknown
            if the outcome is unknown: the order may be open, and counts as exposure until a query
            finds it.
        """
        name = order.client_order_id
        before = self.book.get(name)
        if before is not None and not has_same_terms(before.order, order):
            raise OrderRejected(
                f"{name}: not sent: the journal has another order with this id; use a new id"
            )
        if before is not None and not self.may_be_sent(before):
            if is_unsent(before):
                raise OrderRejected(f"{before.state_reason}; the order is not sent a second time")
            return self._resync(
                before, (*SINGLE_POLL_DELAYS_SECONDS, *POLL_DELAYS_SECONDS), gate=gate
            )
        now = self._venue.estimated_now()
        intent = before or self._with_job_and_venue(
            OrderIntent(order, now, role=infer_order_role(order))
        )
        intent = replace(intent, state="submitting", state_reason="", sent_at=now)
        if why := gate.refusal_reason(intent.order, intent.role, now):
            self.book.deny(intent, why)
            raise OrderRejected(f"{name}: not sent: {why}")
        self.book.record_submission(intent)
        with self._record_failed_outcome(name):
            if not intent.is_unexpired(now):
                raise OrderExpired(f"{name}: not sent: {format_expiry(intent)}")
            try:
                answer: Report | LookupFailure = self._venue.post(
                    intent, MAX_RATE_LIMIT_WAIT_SECONDS
                )
            except InconclusiveResponse as error:
                _warn_inconclusive(name, error)
                answer = self._query_or_resend(intent, POLL_DELAYS_SECONDS, gate)
            return self._record_resolution(intent, answer)

    def adopt(self, order: AnyOrder, role: OrderRole, report: Report) -> None:
        """Record an order that the venue has and the journal lacks, with the venue's report."""
        intent = self._with_job_and_venue(OrderIntent(order, self._venue.now(), role=role))
        log.warning("%s: %s", order.client_order_id, order.reason)
        self.book.record_submission(intent)
        self.record_report(report)

    def may_be_sent(self, intent: OrderIntent) -> bool:
        """Return whether an order may be sent in its recorded state.

        A rejected order may be sent again only if the venue accepts only one order per id.
        """
        return is_unsent(intent) and (
            self._venue.has_idempotent_client_ids or intent.state in NEVER_SUBMITTED_STATES
        )

    def _with_job_and_venue(self, intent: OrderIntent) -> OrderIntent:
        return replace(intent, job=self._job, venue=self._venue.name)

    def deny(self, client_order_id: str, why: str) -> None:
        """Record that a planned order is not sent, and the reason."""
        planned = self.book.get(client_order_id)
        if planned is not None and planned.state == "planned":
            self.book.deny(planned, why)

    def refresh_intents(self, intents: Iterable[OrderIntent]) -> tuple[OrderIntent, ...]:
        """Query orders at the venue and record its reports; return the intents without a report.

        All queries together take at most 20 seconds.
        """
        from foundation.transport import limit_request_time

        silent = []
        with limit_request_time(QUERY_TIMEOUT_SECONDS):
            for intent in intents:
                try:
                    self._resync(intent, SINGLE_POLL_DELAYS_SECONDS, gate=None)
                except BrokerError as error:
                    # A missing response makes one symbol uncertain, not the account.
                    log.warning("%s", error)
                    if not isinstance(error, OrderRejected):
                        silent.append(intent)
        return tuple(silent)

    def may_have_been_sent(self, client_order_id: str) -> bool:
        """Return whether an order may have been sent: it is recorded, and not merely planned."""
        intent = self.book.get(client_order_id)
        return intent is not None and intent.state != "planned"

    def has_unknown_outcome(self, client_order_id: str) -> bool:
        """Return whether an order was sent and its outcome is unknown."""
        intent = self.book.get(client_order_id)
        return intent is not None and intent.state in UNKNOWN_OUTCOME_STATES

    def resolve_order(
        self, client_order_id: str, *, retry_gate: OrderGate | None = None
    ) -> Report | Literal["unknown"] | None:
        """Return the final report on one of our orders; None if it never was at the venue.

        An open order is cancelled first. The result is `unknown` for an order that may still arrive
        at the venue, and for an order that does not end when it is cancelled. The queries take at
        most 20 seconds.

        retry_gate: pre-trade gate for resubmitting the order under the same id if the venue does
            not know it; None does not resubmit. A resubmitted order trades like a new one, so the
            account must not have changed since the decision.
        """
        from foundation.transport import limit_request_time

        intent = self.book.get(client_order_id)
        if intent is None:
            # Orders are recorded before they are sent: one without a record was not sent from here.
            answer = self._venue.find(client_order_id, None)
        elif is_unsent(intent):
            answer = None
        else:
            try:
                with limit_request_time(QUERY_TIMEOUT_SECONDS):
                    answer = self._resync(intent, SINGLE_POLL_DELAYS_SECONDS, gate=retry_gate)
            except OrderRejected:
                answer = None
            except OutcomeUnknown:
                return "unknown"
        if answer is None:
            return None
        answer = self.cancel_and_wait(answer)
        return answer if answer.is_done else "unknown"

    def cancel_and_wait(self, report: Report) -> Report:
        """Cancel an order if it is open, wait for its end, and record and return the last report.

        The order may still be open in the result if the venue is slow. The requests take at most 30
        seconds.

        Raises
        ------
        BrokerError
            if the venue does not respond to the cancellation.
        """
        (cancellation,) = self.cancel_all([report])
        if cancellation.error is not None:
            raise cancellation.error
        return cancellation.report

    def cancel_all(self, reports: Sequence[Report]) -> list[Cancellation[Report]]:
        """Request the cancellation of orders, wait until they end, and return the last reports.

        A cancellation is a request, so an order may still be open in the result. All requests
        together take at most 30 seconds.
        """
        from foundation.transport import limit_request_time

        with limit_request_time(CANCEL_TIMEOUT_SECONDS):
            found = [self._request_cancellation(report) for report in reports]
            if any(each.is_pending for each in found):
                for _ in self._time.delayed_attempts(CANCELLED_POLL_DELAYS_SECONDS):
                    found = [self._refresh_cancellation(each) for each in found]
                    if not any(each.is_pending for each in found):
                        break
        return [each._replace(report=self.record_report(each.report)) for each in found]

    def _request_cancellation(self, report: Report) -> Cancellation[Report]:
        if not report.is_done:
            try:
                self._time.retry(CANCEL_DELAYS_SECONDS, partial(self._venue.cancel, report))
            except BrokerError as error:
                return Cancellation(report, error)
        return Cancellation(report)

    def _refresh_cancellation(self, each: Cancellation[Report]) -> Cancellation[Report]:
        if not each.is_pending:
            return each
        try:
            return Cancellation(self._venue.refresh_order(each.report))
        except BrokerError as error:
            return Cancellation(each.report, error)

    def _resync(
        self, intent: OrderIntent, polls: Sequence[float], *, gate: OrderGate | None
    ) -> Report:
        """Query an order that was sent before; record and return the venue's report.

        polls: seconds to wait before each query.
        gate: pre-trade gate for resubmitting an order that the venue does not know; None does not
            resubmit. An order that was accepted before is never resubmitted.
        """
        if intent.was_accepted:
            return self._poll_accepted(intent.client_order_id, polls)
        with self._record_failed_outcome(intent.client_order_id):
            return self._record_resolution(intent, self._query_or_resend(intent, polls, gate))

    def record_report(self, report: Report) -> Report:
        """Record the venue's report on an order in the order store, and return the report.

        If the venue has two orders with the same id, the store tracks the first. An order that the
        venue has adjusted for a recorded split is recorded with its new terms. A rejection of an
        order that was accepted before is recorded as a refusal.
        """
        intent = self.book.get(report.client_order_id)
        if intent is None or intent.progress.venue_order_id not in (
            "",
            report.progress.venue_order_id,
        ):
            return report
        if not report.matches(intent) and isinstance(intent.order, Order):
            intent = self.book.adjust_for_split(intent)
            if report.matches(intent):
                self.book.record_adjustment(intent)
        if report.matches(intent):
            self.book.record_progress(report.client_order_id, report.progress)
        return report

    @contextmanager
    def _record_failed_outcome(self, name: str) -> Iterator[None]:
        """Return a context manager that records state and reason if an order is not accepted.

        It records orders that are refused and orders of unknown outcome, and raises their errors
        again.

        name: client order id.
        """
        try:
            yield
        except OrderRejected as error:
            state = _STATE_BY_REJECTION.get(type(error), "rejected")
            if isinstance(error, OrderNotReceived | OrderExpired):
                self.book.set_state(name, state, str(error))
            elif isinstance(error, OrderPaused):
                self.book.record_pause(name, str(error))
                error.alerted = True
            else:
                self.book.record_refusal(name, state, str(error))
                error.alerted = True
            raise
        except OutcomeUnknown as error:
            self.book.set_state(name, "unknown", str(error))
            raise

    def _record_resolution(self, intent: OrderIntent, answer: Report | LookupFailure) -> Report:
        """Record and return the venue's report on an order, given the result of a query or post.

        answer: report or, if the order was not found, the result of the query. Then an error is
            raised. A report on another order leads to a new query.
        """
        if not isinstance(answer, LookupFailure) and not answer.matches(intent):
            answer = self._poll_again(intent, answer)
        if isinstance(answer, LookupFailure):
            raise self._not_found_error(intent, answer)
        return self.record_report(answer)

    def _poll_again(self, intent: OrderIntent, other: Report) -> Report | LookupFailure:
        """Query an order again, because the first report described an order with other terms.

        Without this query, an accepted order would not be tracked if that report was wrong.

        other: the first report.
        """
        name = intent.client_order_id
        log.warning("%s: the response describes another order, querying second", name)
        second = self._poll(name, POLL_DELAYS_SECONDS)
        if isinstance(second, LookupFailure) or second.matches(intent):
            return second
        if second.progress.venue_order_id == other.progress.venue_order_id:
            raise OrderRejected(f"{name}: the venue has another order with this id; use a new id")
        return LookupFailure.NO_RESPONSE

    def _not_found_error(
        self, intent: OrderIntent, result: LookupFailure
    ) -> OrderRejected | OutcomeUnknown:
        """Return the error for an order that no query has found.

        It is `OrderNotReceived` if the order can no longer arrive at the venue, else
        `OutcomeUnknown`.
        """
        name = intent.client_order_id
        # One response may be wrong: the clock is read again before an order counts as lost.
        if (
            result is LookupFailure.NOT_FOUND
            and self._venue.is_lost(intent, self._venue.estimated_now())
            and self._venue.is_lost(intent, self._venue.now())
        ):
            return OrderNotReceived(f"{name}: the venue never received the order")
        return OutcomeUnknown(
            f"{name}: outcome unknown after every query; the order may be open at the venue"
        )

    def _query_or_resend(
        self, intent: OrderIntent, polls: Sequence[float], gate: OrderGate | None
    ) -> Report | LookupFailure:
        """Query an order that was sent; return its report, or the reason why it was not found.

        polls: seconds to wait before each query.
        gate: pre-trade gate for resubmitting an order that is not found; None does not resubmit.
        """
        found = self._poll(intent.client_order_id, polls)
        if isinstance(found, LookupFailure) and gate is not None:
            return self._send_again(intent, polls, found, gate)
        return found

    def _send_again(
        self, intent: OrderIntent, polls: Sequence[float], result: LookupFailure, gate: OrderGate
    ) -> Report | LookupFailure:
        """Post an order once more under its id if that cannot create a second order, then query it.

        Without a second post, `result` is returned.

        result: result of the query before.
        """
        name = intent.client_order_id
        now = self._venue.estimated_now()
        once_more = self._venue.has_idempotent_client_ids and intent.is_unexpired(now)
        if not once_more or gate.refusal_reason(intent.order, intent.role, now):
            return result
        try:
            return self._venue.post(intent, 0.0)
        except OrderRejected as error:
            # A refusal of the second post says nothing about the first.
            log.warning("%s; the first request for this order may still be processed", error)
        except InconclusiveResponse as error:
            _warn_inconclusive(name, error)
        return self._poll(name, polls)

    def _poll(self, name: str, polls: Sequence[float]) -> Report | LookupFailure:
        """Query an order by its client order id until it is found.

        Returns its report, or the result of the last query.

        polls: seconds to wait before each query.
        """
        from foundation.transport import limit_request_time

        result = LookupFailure.NO_RESPONSE
        with limit_request_time(QUERY_TIMEOUT_SECONDS):
            for _ in self._time.delayed_attempts(polls):
                try:
                    answer = self._venue.find(name, self.book.get(name))
                except BrokerError as error:
                    log.info("%s", error)
                    result = LookupFailure.NO_RESPONSE
                    continue
                if answer is not None:
                    return answer
                result = LookupFailure.NOT_FOUND
        return result

    def _poll_accepted(self, name: str, polls: Sequence[float]) -> Report:
        """Query an order that was accepted before, and record and return its report.

        Raises `BrokerError` if no query finds it. Such an order is never sent again.
        """
        answer = self._poll(name, polls)
        if isinstance(answer, LookupFailure):
            raise BrokerError(
                f"order {name}: accepted by the venue, but every query for its state failed"
            )
        return self.record_report(answer)


def _warn_inconclusive(name: str, error: InconclusiveResponse) -> None:
    log.warning("%s: sent, but the response does not state the outcome (%s)", name, error)
