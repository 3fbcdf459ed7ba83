"""How an order reaches a venue: written down, posted, and looked up by our id of it.

What is done with an intent, by what the book says of it, and what the book says then:

    planned, withheld   send first: taken, refused (rejected), not sent (withheld), or no answer
    rejected            the same, at a venue that takes one order of an id and no second
    sending, open       look: found is taken; then, at such a venue, while it is wanted, the guard
                        has nothing against it and whoever sent it asks for it: send again, and look
      not found         open, as a 404 is no proof: an order can land after every look for it
      never landing     never_taken, once its time is over and the venue has none of its id
    working, ended      look alone: what was taken is never sent again

No answer is a lost connection, a status of 500 and above, or nonsense. Of an order that was sent
before, a refusal says nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from typing import ClassVar, Generic, Literal, Protocol, TypeVar

import numpy as np

from execution.journal.order_store import (
    UNDETERMINED,
    UNSENT,
    OrderIntent,
    OrderStore,
    Progress,
    State,
    part_of,
)
from execution.journal.orders import AnyOrder, is_same
from execution.orders.risk_snapshot import RiskSnapshot
from foundation.clock import Time
from foundation.errors import BrokerError, OrderRejected, OutcomeUnknown
from trainingdata.instants import compact_text

log = logging.getLogger(__name__)

# seconds before each poll for an order whose outcome is open
POLL_DELAYS = (0.1, 0.5, 1.0, 2.0, 4.0)
ONE_POLL = (0.0,)
ENDED_POLLS = (0.0, 0.1, 0.5, 1.0, 2.0)  # the same, for an order that was cancelled
CANCELS = (0.0, 0.1, 0.5, 1.0)  # seconds before each try of a cancellation
LOOKING = 20.0  # seconds that the looks for an order take together, or asking again what became
ENDING = 30.0  # seconds for the requests that end an order
BUSY_PATIENCE = 60.0  # seconds that an order waits while the venue is busy

# Why an intent may not be sent at an instant of the venue's clock, by what was seen of the account;
# empty where it may.
Guard = Callable[[OrderIntent, np.datetime64, RiskSnapshot | None], str]


class Unseen(Enum):
    """What a look for an order says that finds none."""

    ABSENT = "the venue has none of its id"
    SILENT = "the venue does not answer"


class OrderWithheld(OrderRejected):
    """An order that the venue was not asked for, or that it certainly did nothing with."""


class OrderPaused(OrderWithheld):
    """An order that the venue did nothing with because trading is paused."""


class TooLate(OrderWithheld):
    """An order that expired before it was sent."""


class NoAnswer(Exception):
    """A POST whose answer does not say whether the order was taken."""


class NeverTaken(OrderRejected):
    """An order that can land no more, and that the venue does not know."""


_UNANSWERED: tuple[State, ...] = ("planned", "withheld")
_REFUSED: Mapping[type, State] = {
    NeverTaken: "never_taken",
    OrderWithheld: "withheld",
    OrderPaused: "withheld",
    TooLate: "withheld",
}
REJECTED_LATER = "rejected by the venue after acceptance"


def unguarded(intent: OrderIntent, now: np.datetime64, seen: RiskSnapshot | None) -> str:
    del intent, now, seen
    return ""


def too_late(intent: OrderIntent) -> str:
    until = intent.order.expires_at
    return "" if until is None else f"it was to be sent before {compact_text(until)}"


def is_unsent(intent: OrderIntent) -> bool:
    """Whether nothing of an intent is at the venue; one that it took and rejected then was."""
    return intent.state in UNSENT and not intent.taken


class PlacedOrder(Protocol):
    """An order as a venue's answer describes it."""

    @property
    def client_order_id(self) -> str:
        """Our id of it, that of the first where others have taken its place."""
        ...

    @property
    def progress(self) -> Progress: ...

    @property
    def is_done(self) -> bool:
        """Whether nothing more can happen to it."""
        ...

    def is_of(self, intent: OrderIntent) -> bool:
        """Whether it has the terms of an intent, as far as the answer says them."""
        ...


Placed = TypeVar("Placed", bound=PlacedOrder)


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
    time: Time

    def now(self) -> np.datetime64: ...

    def estimated_now(self) -> np.datetime64: ...

    def post(self, intent: OrderIntent, patience: float) -> Placed:
        """Its answer to one order.

        patience: seconds to wait while it is busy.

        Raises
        ------
        OrderRejected
            for an order that it does not take; `OrderWithheld` for one that it did nothing with.
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

    def refreshed(self, placed: Placed) -> Placed: ...

    def is_dead(self, intent: OrderIntent, now: np.datetime64) -> bool:
        """Whether an order that it does not know by now will never reach it."""
        ...


class Outbox(Generic[Placed]):
    """Order intents that become orders of one venue.

    venue: takes them.
    book: where they are kept; none keeps them in memory, until the process ends.
    guard: has the last word before an intent is sent.
    job: whose orders go this way.
    """

    def __init__(
        self,
        venue: Venue[Placed],
        book: OrderStore | None = None,
        guard: Guard = unguarded,
        job: str = "",
    ) -> None:
        self._venue = venue
        self._time = venue.time
        self.book = OrderStore() if book is None else book
        self._guard = guard
        self._job = job

    def post(self, order: AnyOrder, seen: RiskSnapshot | None = None) -> Placed:
        """Have an order taken, and return what the venue says of it.

        An order of this id that was sent before is that order, or stays rejected; one that was
        planned is sent as it was planned.

        seen: the account, for the guard.

        Raises
        ------
        OrderRejected
            for an order that it does not take, or that has expired.
        OutcomeUnknown
            where nobody knows what became of it: it may be working, and stays open until the venue
            has said more.
        """
        name = order.client_order_id
        before = self.book.get(name)
        if before is not None and not is_same(before.order, order):
            raise OrderRejected(f"{name}: another order of this id was meant to be sent before")
        if before is not None and not self.may_be_sent(before):
            if is_unsent(before):
                raise OrderRejected(f"{before.why}; it is not sent a second time")
            return self._seen_again(before, (*ONE_POLL, *POLL_DELAYS), seen=seen)
        now = self._venue.estimated_now()
        intent = before or self._own(OrderIntent(order, now, part=part_of(order)))
        intent = replace(intent, state="sending", why="", sent_at=now)
        if why := self._guard(intent, now, seen):
            self.book.withhold(intent, why)
            raise OrderRejected(f"{name}: not sent: {why}")
        self.book.begin(intent)
        with self._outcome_noted(name):
            if not intent.wanted(now):
                raise TooLate(f"{name}: not sent: {too_late(intent)}")
            try:
                answer: Placed | Unseen = self._venue.post(intent, BUSY_PATIENCE)
            except NoAnswer as error:
                _warn_of_silence(name, error)
                answer = self._looked_for(intent, POLL_DELAYS, seen)
            return self._settled(intent, answer)

    def may_be_sent(self, intent: OrderIntent) -> bool:
        """Whether an intent may go out; where an id works twice, what was answered may not."""
        return is_unsent(intent) and (
            self._venue.idempotent_client_ids or intent.state in _UNANSWERED
        )

    def _own(self, intent: OrderIntent) -> OrderIntent:
        return replace(intent, job=self._job, venue=self._venue.name)

    def withhold(self, client_order_id: str, why: str) -> None:
        """Write down why an intent that was planned is not sent."""
        planned = self.book.get(client_order_id)
        if planned is not None and planned.state == "planned":
            self.book.withhold(planned, why)

    def follow(self, concerned: Callable[[OrderIntent], bool]) -> None:
        """Write down what has become of orders that still worked when they were last heard of."""
        self._looked_at(filter(concerned, self.book.in_states(("working",))))

    def undetermined(self, concerned: Callable[[OrderIntent], bool]) -> tuple[OrderIntent, ...]:
        """Those of the orders sent of which the venue does not say what became.

        concerned: which orders are to be looked for.
        """
        return self._looked_at(filter(concerned, self.book.undetermined()))

    def _looked_at(self, intents: Iterable[OrderIntent]) -> tuple[OrderIntent, ...]:
        """Have the book say what the venue says of intents, and return those it says nothing of.

        Looking for them takes 20 seconds at most, however many there are.
        """
        from foundation.transport import time_limit

        silent = []
        with time_limit(LOOKING):
            for intent in intents:
                try:
                    self._seen_again(intent, ONE_POLL, again=False)
                except BrokerError as error:
                    # One answer that says nothing makes one symbol uncertain, not the account.
                    log.warning("%s", error)
                    if not isinstance(error, OrderRejected):
                        silent.append(intent)
        return tuple(silent)

    def was_begun(self, client_order_id: str) -> bool:
        """Whether an order was ever written down to be sent, so that it may have left."""
        intent = self.book.get(client_order_id)
        return intent is not None and intent.state != "planned"

    def is_undetermined(self, client_order_id: str) -> bool:
        """Whether an order was sent, and nobody knows what became of it."""
        intent = self.book.get(client_order_id)
        return intent is not None and intent.state in UNDETERMINED

    def resolve(
        self, client_order_id: str, *, again: bool = False
    ) -> Placed | Literal["open"] | None:
        """What became of an order of an id of ours, once nothing more can happen to it.

        An order that works is cancelled; one that may be on its way is `open`, as is one that does
        not end when it is cancelled. None for one that never came about. Where that is not known,
        looking takes 20 seconds at most.

        again: whether it is asked for once more where the venue does not know it. It may trade then
            as if it were new, so what it assumes of the account has to be so.
        """
        from foundation.transport import time_limit

        intent = self.book.get(client_order_id)
        if intent is None:
            # It is written down before it is sent: what is not in the book was sent by nobody here.
            answer = self._venue.find(client_order_id, None)
        elif is_unsent(intent):
            answer = None
        else:
            try:
                with time_limit(LOOKING):
                    answer = self._seen_again(intent, ONE_POLL, again=again)
            except OrderRejected:
                answer = None
            except OutcomeUnknown:
                return "open"
        if answer is None:
            return None
        answer = self.cancel_and_wait(answer)
        return answer if answer.is_done else "open"

    def cancel_and_wait(self, placed: Placed) -> Placed:
        """Cancel an order if it still works, and return it as it is after that; the book says it.

        It may still work then, where the venue takes long. The requests take 30 seconds at most.
        """
        from foundation.transport import time_limit

        if not placed.is_done:
            with time_limit(ENDING):
                self._time.tried(CANCELS, lambda: self._venue.cancel(placed))
                for _ in self._time.tries(ENDED_POLLS):
                    placed = self._venue.refreshed(placed)
                    if placed.is_done:
                        break
        return self.noted(placed)

    def _seen_again(
        self,
        intent: OrderIntent,
        polls: Sequence[float],
        *,
        again: bool = True,
        seen: RiskSnapshot | None = None,
    ) -> Placed:
        """What the venue says of an intent that was sent before.

        again: whether one that it has not taken, and does not show, is sent again.
        seen: the account, for the guard.
        """
        if intent.taken:
            return self._taken(intent.client_order_id, polls)
        with self._outcome_noted(intent.client_order_id):
            return self._settled(intent, self._looked_for(intent, polls, seen, again=again))

    def noted(self, placed: Placed) -> Placed:
        """The order, of which the book then says the same.

        Of two orders with one id it follows the first. An order that the venue accepts and rejects
        later is a refusal too.
        """
        intent = self.book.get(placed.client_order_id)
        if (
            intent is not None
            and placed.is_of(intent)
            and intent.progress.venue_id in ("", placed.progress.venue_id)
        ):
            self.book.note(placed.client_order_id, placed.progress)
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
        elif after.taken and not before.taken and after.state != "rejected":
            self.book.refusals.accept(after.order)

    @contextmanager
    def _outcome_noted(self, name: str) -> Iterator[None]:
        """Have the book say of an intent that the venue has not taken yet why it is not taken."""
        try:
            yield
        except OrderRejected as error:
            state = _REFUSED.get(type(error), "rejected")
            if isinstance(error, NeverTaken | TooLate):
                self.book.settle(name, state, str(error))
            elif isinstance(error, OrderPaused):
                self.book.pause(name, str(error))
                error.alerted = True
            else:
                self.book.refuse(name, state, str(error))
                error.alerted = True
            raise
        except OutcomeUnknown as error:
            self.book.settle(name, "open", str(error))
            raise

    def _settled(self, intent: OrderIntent, answer: Placed | Unseen) -> Placed:
        """The order that the venue has for an intent, which the book then says too."""
        if not isinstance(answer, Unseen) and not answer.is_of(intent):
            answer = self._polled_again(intent, answer)
        if isinstance(answer, Unseen):
            raise self._unknown(intent, answer)
        return self.noted(answer)

    def _polled_again(self, intent: OrderIntent, other: Placed) -> Placed | Unseen:
        """What a second look says, where a first answer was of another order than was meant.

        One answer could be wrong, and what was taken would be followed by nobody.
        """
        name = intent.client_order_id
        log.warning("%s: the venue describes another order than was sent; asked again", name)
        again = self._poll(name, POLL_DELAYS)
        if isinstance(again, Unseen) or again.is_of(intent):
            return again
        if again.progress.venue_id == other.progress.venue_id:
            raise OrderRejected(f"{name}: the venue has another order of this id")
        return Unseen.SILENT

    def _unknown(self, intent: OrderIntent, unseen: Unseen) -> OrderRejected | OutcomeUnknown:
        """What is to be said of an intent that the venue was asked for and does not show."""
        name = intent.client_order_id
        # One answer of the clock could be wrong: it is asked once more before an order is given up.
        if (
            unseen is Unseen.ABSENT
            and self._venue.is_dead(intent, self._venue.estimated_now())
            and self._venue.is_dead(intent, self._venue.now())
        ):
            return NeverTaken(f"{name}: the venue never took it")
        return OutcomeUnknown(
            f"{name}: sent, and the venue does not say what became of it; it may be working"
        )

    def _looked_for(
        self,
        intent: OrderIntent,
        polls: Sequence[float],
        seen: RiskSnapshot | None,
        *,
        again: bool = True,
    ) -> Placed | Unseen:
        """What looks say of an intent that was sent; again: else what they say of it sent anew."""
        found = self._poll(intent.client_order_id, polls)
        if isinstance(found, Unseen) and again:
            return self._send_again(intent, polls, found, seen)
        return found

    def _send_again(
        self, intent: OrderIntent, polls: Sequence[float], unseen: Unseen, seen: RiskSnapshot | None
    ) -> Placed | Unseen:
        """Send an intent under its id once more, where no second order can come of that.

        unseen: what the look for it found.
        """
        name = intent.client_order_id
        now = self._venue.estimated_now()
        once_more = self._venue.idempotent_client_ids and intent.wanted(now)
        if not once_more or self._guard(intent, now, seen):
            return unseen
        try:
            return self._venue.post(intent, 0.0)
        except OrderRejected as error:
            # Of an order that was sent before, a refusal of this one says nothing.
            log.warning("%s; an earlier one of its id may still land", error)
        except NoAnswer as error:
            _warn_of_silence(name, error)
        return self._poll(name, polls)

    def _poll(self, name: str, polls: Sequence[float]) -> Placed | Unseen:
        """The order with this id of ours, or what the last look said in its place.

        polls: seconds before each.
        """
        from foundation.transport import time_limit

        unseen = Unseen.SILENT
        with time_limit(LOOKING):
            for _ in self._time.tries(polls):
                try:
                    answer = self._venue.find(name, self.book.get(name))
                except BrokerError as error:
                    log.info("%s", error)
                    unseen = Unseen.SILENT
                    continue
                if answer is not None:
                    return answer
                unseen = Unseen.ABSENT
        return unseen

    def _taken(self, name: str, polls: Sequence[float]) -> Placed:
        """An order that the venue has taken: it is never sent again, whatever a look says."""
        answer = self._poll(name, polls)
        if isinstance(answer, Unseen):
            raise BrokerError(f"order {name}: the venue took it, and does not say how it is now")
        return self.noted(answer)


def _warn_of_silence(name: str, error: NoAnswer) -> None:
    log.warning("%s: sent, and no answer that says what became of it (%s)", name, error)
