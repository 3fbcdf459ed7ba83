"""How an order reaches a venue: written down, posted, and queried by our id.

What is done with an intent by its state in the book, and what the book says then:

    planned, denied     post: accepted, rejected, denied, or no answer
    rejected            the same, at a venue that takes one order of an id and no second
    submitting, unknown query: found is accepted; then, at such a venue, while it is in time and the
                        gate allows it and the caller asks for it: post again, and query
      not found         unknown, as a 404 is no proof: an order can land after every query
      dead              not_received, once its time is over and the venue has none of its id
    accepted, terminal  query alone: an accepted order is never sent again

No answer is a lost connection, a status of 500 and above, or nonsense. Of an order that was sent
before, a refusal says nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from typing import ClassVar, Generic, Literal, Protocol, TypeVar

import numpy as np

from execution.journal.order_store import (
    OUTCOME_UNKNOWN,
    UNSENT_STATES,
    OrderIntent,
    OrderProgress,
    OrderState,
    OrderStore,
    role_of,
)
from execution.journal.orders import is_same_order
from execution.orders.gate import UNGUARDED, AnyOrder, OrderGate
from foundation.clock import TimeSource
from foundation.errors import BrokerError, OrderRejected, OutcomeUnknown
from trainingdata.instants import compact_text

log = logging.getLogger(__name__)

# seconds before each poll for an order whose outcome is unknown
POLL_DELAYS = (0.1, 0.5, 1.0, 2.0, 4.0)
ONE_POLL = (0.0,)
CANCELLED_POLL_DELAYS = (0.0, 0.1, 0.5, 1.0, 2.0)  # the same, for an order that was cancelled
CANCEL_DELAYS = (0.0, 0.1, 0.5, 1.0)  # seconds before each try of a cancellation
QUERY_SECONDS = 20.0  # seconds that the queries for an order take together
CANCEL_SECONDS = 30.0  # seconds for the requests that end an order
BUSY_PATIENCE = 60.0  # seconds that an order waits while the venue is busy


class LookupResult(Enum):
    """Result of a query that finds no order."""

    NOT_FOUND = "the venue has none of its id"
    NO_RESPONSE = "the venue does not answer"


class OrderDenied(OrderRejected):
    """An order that the venue was not asked for, or that it certainly did nothing with."""


class OrderPaused(OrderDenied):
    """An order that the venue did nothing with because trading is paused."""


class TooLate(OrderDenied):
    """An order that expired before it was sent."""


class NoAnswer(Exception):
    """A POST whose answer does not say whether the order was taken."""


class NotReceived(OrderRejected):
    """An order that can land no more, and that the venue does not know."""


_UNANSWERED: tuple[OrderState, ...] = ("planned", "denied")
_REFUSED: Mapping[type, OrderState] = {
    NotReceived: "not_received",
    OrderDenied: "denied",
    OrderPaused: "denied",
    TooLate: "denied",
}
REJECTED_LATER = "rejected by the venue after acceptance"


def expiry_text(intent: OrderIntent) -> str:
    until = intent.order.expires_at
    return "" if until is None else f"it was to be sent before {compact_text(until)}"


def is_unsent(intent: OrderIntent) -> bool:
    """Whether nothing of an intent is at the venue; one that it took and rejected then was."""
    return intent.state in UNSENT_STATES and not intent.was_accepted


class OrderReport(Protocol):
    """An order as a venue's answer describes it."""

    @property
    def client_order_id(self) -> str:
        """Our id of it, that of the first where others have taken its place."""
        ...

    @property
    def progress(self) -> OrderProgress: ...

    @property
    def is_done(self) -> bool:
        """Whether nothing more can happen to it."""
        ...

    def matches(self, intent: OrderIntent) -> bool:
        """Whether it has the terms of an intent, as far as the answer says them."""
        ...


Placed = TypeVar("Placed", bound=OrderReport)


class Venue(Protocol[Placed]):
    """Orders at one venue, in its own words.

    name: as the book calls it.
    time: by which it is waited for.
    idempotent_client_ids: whether it takes one order of an id and no second, so that one whose
        outcome is open, or that it rejected, may be asked for again.

    Raises
    ------
    BrokerError
        here and in every method, for a venue that does not answer.
    """

    name: ClassVar[str]
    idempotent_client_ids: ClassVar[bool]
    time: TimeSource

    def now(self) -> np.datetime64: ...
    def estimated_now(self) -> np.datetime64: ...

    def post(self, intent: OrderIntent, patience: float) -> Placed:
        """Its answer to one order.

        patience: seconds to wait while it is busy.

        Raises
        ------
        OrderRejected
            for an order that it does not take; `OrderDenied` for one that it did nothing with.
        NoAnswer
            for an answer that does not say whether it takes it.
        """
        ...

    def find(self, client_order_id: str, intent: OrderIntent | None) -> Placed | None:
        """The order with this id of ours; None where it has none.

        intent: what the book says of it.
        """
        ...

    def cancel(self, placed: Placed) -> None:
        """Have an order that works cancelled; one that has ended meanwhile is none to cancel."""
        ...

    def reload(self, placed: Placed) -> Placed: ...

    def is_lost(self, intent: OrderIntent, now: np.datetime64) -> bool:
        """Whether an order that it does not know by now will never reach it."""
        ...


class Outbox(Generic[Placed]):
    """Order intents that become orders of one venue.

    venue: takes them.
    book: where they are kept; none keeps them in memory, until the process ends.
    job: whose orders go this way.
    """

    def __init__(self, venue: Venue[Placed], book: OrderStore | None = None, job: str = "") -> None:
        self._venue = venue
        self._time = venue.time
        self.book = OrderStore() if book is None else book
        self._job = job

    def post(self, order: AnyOrder, gate: OrderGate = UNGUARDED) -> Placed:
        """Have an order taken, and return what the venue says of it.

        An order of this id that was sent before is that order, or stays rejected; one that was
        planned is sent as it was planned.

        gate: asked right before it is sent.

        Raises
        ------
        OrderRejected
            for an order that it does not take, or that has expired.
        OutcomeUnknown
            for an unknown outcome: the order may rest, and counts as exposure until a query
            answers.
        """
        name = order.client_order_id
        before = self.book.get(name)
        if before is not None and not is_same_order(before.order, order):
            raise OrderRejected(f"{name}: another order of this id was meant to be sent before")
        if before is not None and not self.may_be_sent(before):
            if is_unsent(before):
                raise OrderRejected(f"{before.why}; it is not sent a second time")
            return self._resync(before, (*ONE_POLL, *POLL_DELAYS), gate=gate)
        now = self._venue.estimated_now()
        intent = before or self._own(OrderIntent(order, now, role=role_of(order)))
        intent = replace(intent, state="submitting", why="", sent_at=now)
        if why := gate.refusal(intent.order, intent.role, now):
            self.book.deny(intent, why)
            raise OrderRejected(f"{name}: not sent: {why}")
        self.book.begin(intent)
        with self._outcome_recorded(name):
            if not intent.is_unexpired(now):
                raise TooLate(f"{name}: not sent: {expiry_text(intent)}")
            try:
                answer: Placed | LookupResult = self._venue.post(intent, BUSY_PATIENCE)
            except NoAnswer as error:
                _warn_of_silence(name, error)
                answer = self._query(intent, POLL_DELAYS, gate)
            return self._resolved(intent, answer)

    def may_be_sent(self, intent: OrderIntent) -> bool:
        """Whether an intent may go out; where an id works twice, what was answered may not."""
        return is_unsent(intent) and (
            self._venue.idempotent_client_ids or intent.state in _UNANSWERED
        )

    def _own(self, intent: OrderIntent) -> OrderIntent:
        return replace(intent, job=self._job, venue=self._venue.name)

    def deny(self, client_order_id: str, why: str) -> None:
        """Write down why an intent that was planned is not sent."""
        planned = self.book.get(client_order_id)
        if planned is not None and planned.state == "planned":
            self.book.deny(planned, why)

    def refresh(self, intents: Iterable[OrderIntent]) -> tuple[OrderIntent, ...]:
        """Record what the venue states of intents, and return those without an answer.

        The queries take 20 seconds at most, however many there are.
        """
        from foundation.transport import time_limit

        silent = []
        with time_limit(QUERY_SECONDS):
            for intent in intents:
                try:
                    self._resync(intent, ONE_POLL, gate=None)
                except BrokerError as error:
                    # One answer that says nothing makes one symbol uncertain, not the account.
                    log.warning("%s", error)
                    if not isinstance(error, OrderRejected):
                        silent.append(intent)
        return tuple(silent)

    def may_have_left(self, client_order_id: str) -> bool:
        """Whether an order was ever written down to be sent, so that it may have left."""
        intent = self.book.get(client_order_id)
        return intent is not None and intent.state != "planned"

    def is_unknown_outcome(self, client_order_id: str) -> bool:
        """Return whether an order was sent and its outcome is unknown."""
        intent = self.book.get(client_order_id)
        return intent is not None and intent.state in OUTCOME_UNKNOWN

    def resolve(
        self, client_order_id: str, *, retry_gate: OrderGate | None = None
    ) -> Placed | Literal["unknown"] | None:
        """Return the final state of an order of ours.

        An order that rests is cancelled. One that may be on its way is `unknown`, as is one that
        does not end when it is cancelled. None for one that was never sent. The query takes 20
        seconds at most.

        retry_gate: the gate of a second try under its id if the venue does not know it; None tries
            no
            second time. The order may then trade as if it were new, so the account must still be
            the one that it was decided for.
        """
        from foundation.transport import time_limit

        intent = self.book.get(client_order_id)
        if intent is None:
            # Orders are recorded before they are sent: one without a record was not sent here.
            answer = self._venue.find(client_order_id, None)
        elif is_unsent(intent):
            answer = None
        else:
            try:
                with time_limit(QUERY_SECONDS):
                    answer = self._resync(intent, ONE_POLL, gate=retry_gate)
            except OrderRejected:
                answer = None
            except OutcomeUnknown:
                return "unknown"
        if answer is None:
            return None
        answer = self.cancel_and_wait(answer)
        return answer if answer.is_done else "unknown"

    def cancel_and_wait(self, placed: Placed) -> Placed:
        """Cancel an order if it still works, and return it as it is after that; the book says it.

        It may still work then, where the venue takes long. The requests take 30 seconds at most.
        """
        from foundation.transport import time_limit

        if not placed.is_done:
            with time_limit(CANCEL_SECONDS):
                self._time.retry(CANCEL_DELAYS, lambda: self._venue.cancel(placed))
                for _ in self._time.attempts(CANCELLED_POLL_DELAYS):
                    placed = self._venue.reload(placed)
                    if placed.is_done:
                        break
        return self.record(placed)

    def _resync(
        self, intent: OrderIntent, polls: Sequence[float], *, gate: OrderGate | None
    ) -> Placed:
        """Return what the venue says of an intent that was sent before.

        gate: of a second try, for an intent that it has not taken and does not show; None tries no
            second time.
        """
        if intent.was_accepted:
            return self._taken(intent.client_order_id, polls)
        with self._outcome_recorded(intent.client_order_id):
            return self._resolved(intent, self._query(intent, polls, gate))

    def record(self, placed: Placed) -> Placed:
        """The order, of which the book then says the same.

        Of two orders with one id it follows the first. An order that the venue accepts and rejects
        later is a refusal too.
        """
        intent = self.book.get(placed.client_order_id)
        if (
            intent is not None
            and placed.matches(intent)
            and intent.progress.venue_id in ("", placed.progress.venue_id)
        ):
            self.book.record_progress(placed.client_order_id, placed.progress)
            self._report(intent)
        return placed

    def _report(self, before: OrderIntent) -> None:
        """Record once that the venue has accepted an intent, or rejected it later."""
        name = before.client_order_id
        after = self.book.get(name)
        if after is None:
            return
        if after.state == "rejected" != before.state:
            self.book.refuse(name, "rejected", f"{name}: {REJECTED_LATER}")
        elif after.was_accepted and not before.was_accepted and after.state != "rejected":
            self.book.refusals.accept(after.order)

    @contextmanager
    def _outcome_recorded(self, name: str) -> Iterator[None]:
        """Have the book say of an intent that the venue has not taken yet why it is not taken."""
        try:
            yield
        except OrderRejected as error:
            state = _REFUSED.get(type(error), "rejected")
            if isinstance(error, NotReceived | TooLate):
                self.book.set_state(name, state, str(error))
            elif isinstance(error, OrderPaused):
                self.book.pause(name, str(error))
                error.alerted = True
            else:
                self.book.refuse(name, state, str(error))
                error.alerted = True
            raise
        except OutcomeUnknown as error:
            self.book.set_state(name, "unknown", str(error))
            raise

    def _resolved(self, intent: OrderIntent, answer: Placed | LookupResult) -> Placed:
        """The order that the venue has for an intent, which the book then says too."""
        if not isinstance(answer, LookupResult) and not answer.matches(intent):
            answer = self._poll_again(intent, answer)
        if isinstance(answer, LookupResult):
            raise self._unknown(intent, answer)
        return self.record(answer)

    def _poll_again(self, intent: OrderIntent, other: Placed) -> Placed | LookupResult:
        """Query an order again whose first answer described another order.

        One answer may be wrong, and an accepted order would not be followed.
        """
        name = intent.client_order_id
        log.warning("%s: the venue describes another order than was sent; asked again", name)
        again = self._poll(name, POLL_DELAYS)
        if isinstance(again, LookupResult) or again.matches(intent):
            return again
        if again.progress.venue_id == other.progress.venue_id:
            raise OrderRejected(f"{name}: the venue has another order of this id")
        return LookupResult.NO_RESPONSE

    def _unknown(self, intent: OrderIntent, result: LookupResult) -> OrderRejected | OutcomeUnknown:
        """Return the error of an intent that queries do not find."""
        name = intent.client_order_id
        # One answer of the clock could be wrong: it is asked once more before an order is given up.
        if (
            result is LookupResult.NOT_FOUND
            and self._venue.is_lost(intent, self._venue.estimated_now())
            and self._venue.is_lost(intent, self._venue.now())
        ):
            return NotReceived(f"{name}: the venue never took it")
        return OutcomeUnknown(
            f"{name}: outcome unknown after every query; the order may be open at the venue"
        )

    def _query(
        self, intent: OrderIntent, polls: Sequence[float], gate: OrderGate | None
    ) -> Placed | LookupResult:
        """Return what polls say of an intent that was sent, and of a second try that a gate allows.

        gate: None tries no second time.
        """
        found = self._poll(intent.client_order_id, polls)
        if isinstance(found, LookupResult) and gate is not None:
            return self._send_again(intent, polls, found, gate)
        return found

    def _send_again(
        self, intent: OrderIntent, polls: Sequence[float], result: LookupResult, gate: OrderGate
    ) -> Placed | LookupResult:
        """Send an intent under its id once more, where no second order can come of that.

        result: of the query before.
        """
        name = intent.client_order_id
        now = self._venue.estimated_now()
        once_more = self._venue.idempotent_client_ids and intent.is_unexpired(now)
        if not once_more or gate.refusal(intent.order, intent.role, now):
            return result
        try:
            return self._venue.post(intent, 0.0)
        except OrderRejected as error:
            # Of an order that was sent before, a refusal of this one says nothing.
            log.warning("%s; an earlier one of its id may still land", error)
        except NoAnswer as error:
            _warn_of_silence(name, error)
        return self._poll(name, polls)

    def _poll(self, name: str, polls: Sequence[float]) -> Placed | LookupResult:
        """Query an order by its id until it is found, and return it or the last result.

        polls: seconds before each query.
        """
        from foundation.transport import time_limit

        result = LookupResult.NO_RESPONSE
        with time_limit(QUERY_SECONDS):
            for _ in self._time.attempts(polls):
                try:
                    answer = self._venue.find(name, self.book.get(name))
                except BrokerError as error:
                    log.info("%s", error)
                    result = LookupResult.NO_RESPONSE
                    continue
                if answer is not None:
                    return answer
                result = LookupResult.NOT_FOUND
        return result

    def _taken(self, name: str, polls: Sequence[float]) -> Placed:
        """An order that the venue has taken: it is never sent again, whatever a look says."""
        answer = self._poll(name, polls)
        if isinstance(answer, LookupResult):
            raise BrokerError(f"order {name}: the venue took it, and does not say how it is now")
        return self.record(answer)


def _warn_of_silence(name: str, error: NoAnswer) -> None:
    log.warning("%s: sent, and no answer that says what became of it (%s)", name, error)
