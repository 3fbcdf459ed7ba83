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
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from typing import ClassVar, Generic, Literal, TypeVar

import numpy as np

from execution.journal.intents import (
    UNDETERMINED,
    UNSENT,
    Intent,
    IntentBook,
    Part,
    Progress,
    State,
)
from execution.journal.orders import AnyOrder, is_same
from foundation.errors import BrokerError, OrderRejected, OutcomeUnknown
from trainingdata.instants import compact_text

log = logging.getLogger(__name__)

LOOK_DELAYS = (0.1, 0.5, 1.0, 2.0, 4.0)  # seconds before each look for an order whose fate is open
ONE_LOOK = (0.0,)
LOOKING = 20.0  # seconds that the looks for an order take together, or asking again what became
BUSY_PATIENCE = 60.0  # seconds that an order waits while the venue is busy

Answer = TypeVar("Answer")  # an order as a venue's answers describe it
# Why an intent may not be sent at an instant of the venue's clock; empty where it may.
Guard = Callable[[Intent, np.datetime64], str]


class Unseen(Enum):
    """What a look for an order says that finds none."""

    ABSENT = "the venue has none of its id"
    SILENT = "the venue does not answer"


class OrderWithheld(OrderRejected):
    """An order that the venue was not asked for, or that it certainly did nothing with."""


class NoAnswer(Exception):
    """A POST whose answer does not say whether the order was taken."""


class NeverTaken(OrderRejected):
    """An order that can land no more, and that the venue does not know."""


_UNANSWERED: tuple[State, ...] = ("planned", "withheld")
_REFUSED: Mapping[type, State] = {NeverTaken: "never_taken", OrderWithheld: "withheld"}


def unguarded(intent: Intent, now: np.datetime64) -> str:
    """Nothing forbids an intent."""
    del intent, now
    return ""


def too_late(intent: Intent) -> str:
    """Why an intent that has expired is not sent."""
    until = intent.expires_at
    return "" if until is None else f"it was to be sent before {compact_text(until)}"


def is_unsent(intent: Intent) -> bool:
    """Whether nothing of an intent is at the venue; one that it took and rejected then was."""
    return intent.state in UNSENT and not intent.taken


class PostingDesk(ABC, Generic[Answer]):
    """Intents that become orders of one venue; the venue's own words are left to its desk.

    pause: waits for so many seconds.
    book: where intents are kept; none keeps them in memory, until the process ends.
    guard: has the last word before an intent is sent.
    job: whose orders go this way.
    venue: that they go to, as the book calls it.
    one_order_an_id: whether the venue takes one order of an id and no second, so that one whose
        fate is open, or that it rejected, may be asked for again.
    """

    venue: ClassVar[str]
    one_order_an_id: ClassVar[bool]

    def __init__(
        self,
        pause: Callable[[float], None],
        book: IntentBook | None = None,
        guard: Guard = unguarded,
        job: str = "",
    ) -> None:
        self._pause = pause
        self._book = IntentBook() if book is None else book
        self._guard = guard
        self._job = job

    @abstractmethod
    def now(self) -> np.datetime64:
        """The instant that the venue's clock shows."""

    @abstractmethod
    def estimated_now(self) -> np.datetime64:
        """The venue's time as far as it is known."""

    @abstractmethod
    def find_order(self, client_order_id: str) -> Answer | None:
        """The order with this id of ours; None where the venue has none.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """

    @abstractmethod
    def end(self, answer: Answer) -> Answer:
        """Cancel an order if it still works, and return it as it is after that; the book says it.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """

    @abstractmethod
    def _posted(self, intent: Intent, patience: float) -> Answer:
        """The venue's answer to one order.

        patience: seconds that it waits while the venue is busy.

        Raises
        ------
        OrderRejected
            for an order that it does not take; `OrderWithheld` for one that it did nothing with.
        NoAnswer
            for an answer that does not say whether it takes it.
        """

    @abstractmethod
    def _same_terms(self, intent: Intent, answer: Answer) -> bool:
        """Whether an answer is about an order of an intent's terms, as far as it says them."""

    @abstractmethod
    def _progress(self, answer: Answer) -> tuple[str, Progress]:
        """Our id of the order that an answer is about, and what it says of it, for the book."""

    @abstractmethod
    def _is_done(self, answer: Answer) -> bool:
        """Whether nothing more can happen to an order."""

    def _lands_no_more(self, intent: Intent, now: np.datetime64) -> bool:
        return intent.lands_no_more(now)

    def _looking(self) -> float:
        return LOOKING

    def post(
        self,
        order: AnyOrder,
        expires_at: np.datetime64 | None = None,
        part: Part = "",
        reason: str = "",
    ) -> Answer:
        """Have an order taken, and return what the venue says of it.

        An order of this id that was sent before is that order, or stays rejected; one that was
        planned is sent as it was planned.

        expires_at: instant by the venue's clock from which on it is not sent any more.
        part: what it is to the account.
        reason: why it exists.

        Raises
        ------
        OrderRejected
            for an order that it does not take, or that has expired.
        OutcomeUnknown
            where nobody knows what became of it: it may be working, and stays open until the venue
            has said more.
        """
        name = order.client_order_id
        before = self._book.get(name)
        if before is not None and not is_same(before.order, order):
            raise OrderRejected(f"{name}: another order of this id was meant to be sent before")
        if before is not None and not self.may_be_sent(before):
            if is_unsent(before):
                raise OrderRejected(f"{before.why}; it is not sent a second time")
            return self._seen_again(before, (*ONE_LOOK, *LOOK_DELAYS))
        now = self.estimated_now()
        new = Intent(order, now, expires_at, part=part, reason=reason)
        intent = before or replace(new, job=self._job, venue=self.venue)
        intent = replace(intent, state="sending", why="", sent_at=now)
        if why := self._guard(intent, now):
            self._book.withhold(intent, why)
            raise OrderRejected(f"{name}: not sent: {why}")
        self._book.begin(intent)
        return self._settled(intent, self._send_first)

    def may_be_sent(self, intent: Intent) -> bool:
        """Whether an intent may go out; where an id works twice, what was answered may not."""
        return is_unsent(intent) and (self.one_order_an_id or intent.state in _UNANSWERED)

    def withhold(self, client_order_id: str, why: str) -> None:
        """Write down why an intent that was planned is not sent."""
        planned = self._book.get(client_order_id)
        if planned is not None and planned.state == "planned":
            self._book.withhold(planned, why)

    def follow(self, concerned: Callable[[Intent], bool]) -> None:
        """Write down what has become of orders that still worked when they were last heard of.

        Looking for them takes 20 seconds at most, however many there are.
        """
        from foundation.transport import time_limit

        with time_limit(self._looking()):
            for intent in filter(concerned, self._book.in_states(("working",))):
                try:
                    self._taken(intent.client_order_id, ONE_LOOK)
                except BrokerError as error:
                    log.warning("%s", error)

    def undetermined(self, concerned: Callable[[Intent], bool]) -> tuple[Intent, ...]:
        """Those of the orders sent of which the venue does not say what became.

        Looking for them takes 20 seconds at most, however many there are.

        concerned: which orders are to be looked for.
        """
        from foundation.transport import time_limit

        intents = []
        with time_limit(self._looking()):
            for intent in filter(concerned, self._book.undetermined()):
                try:
                    self._seen_again(intent, ONE_LOOK, again=False)
                except OrderRejected as error:
                    log.warning("%s", error)
                except BrokerError as error:
                    # One answer that says nothing makes one symbol uncertain, not the account.
                    log.warning("%s", error)
                    intents.append(intent)
        return tuple(intents)

    def was_begun(self, client_order_id: str) -> bool:
        """Whether an order was ever written down to be sent, so that it may have left."""
        intent = self._book.get(client_order_id)
        return intent is not None and intent.state != "planned"

    def is_undetermined(self, client_order_id: str) -> bool:
        """Whether an order was sent, and nobody knows what became of it."""
        intent = self._book.get(client_order_id)
        return intent is not None and intent.state in UNDETERMINED

    def fate(self, client_order_id: str) -> Answer | Literal["open"] | None:
        """What became of an order of an id of ours, once nothing more can happen to it.

        An order that works is cancelled; one that may be on its way is `open`, as is one that does
        not end when it is cancelled. None for one that never came about. Where that is not known,
        looking takes 20 seconds at most.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """
        return self._fate(client_order_id, again=False)

    def _fate(self, client_order_id: str, *, again: bool) -> Answer | Literal["open"] | None:
        from foundation.transport import time_limit

        intent = self._book.get(client_order_id)
        if intent is None:
            # It is written down before it is sent: what is not in the book was sent by nobody here.
            answer: Answer | None = self.find_order(client_order_id)
        elif is_unsent(intent):
            answer = None
        else:
            try:
                with time_limit(self._looking()):
                    answer = self._seen_again(intent, ONE_LOOK, again=again)
            except OrderRejected:
                answer = None
            except OutcomeUnknown:
                return "open"
        if answer is None:
            return None
        answer = self.end(answer)
        return answer if self._is_done(answer) else "open"

    def _seen_again(self, intent: Intent, looks: Sequence[float], *, again: bool = True) -> Answer:
        """What the venue says of an intent that was sent before.

        again: whether one that it has not taken, and does not show, is sent again.
        """
        if intent.taken:
            return self._taken(intent.client_order_id, looks)
        if not again:
            return self._settled(intent, self._look_once)
        return self._settled(intent, lambda each: self._look_and_send_again(each, looks))

    def _noted(self, answer: Answer) -> Answer:
        """The answer, which the book then says as well."""
        self._book.note(*self._progress(answer))
        return answer

    def _settled(self, intent: Intent, asked: Callable[[Intent], Answer | Unseen]) -> Answer:
        """What the venue says of an intent that it has not taken yet, which the book then says too.

        asked: how the venue is asked.
        """
        name = intent.client_order_id
        try:
            answer = asked(intent)
            if isinstance(answer, Unseen):
                raise self._unknown(intent, answer)
            if not self._same_terms(intent, answer):
                raise OrderRejected(f"{name}: the venue has another order of this id")
        except OrderRejected as error:
            self._book.settle(name, _REFUSED.get(type(error), "rejected"), str(error))
            raise
        except OutcomeUnknown as error:
            self._book.settle(name, "open", str(error))
            raise
        return self._noted(answer)

    def _unknown(self, intent: Intent, unseen: Unseen) -> OrderRejected | OutcomeUnknown:
        """What is to be said of an intent that the venue was asked for and does not show."""
        name = intent.client_order_id
        # One answer of the clock could be wrong: it is asked once more before an order is given up.
        if (
            unseen is Unseen.ABSENT
            and self._lands_no_more(intent, self.estimated_now())
            and self._lands_no_more(intent, self.now())
        ):
            return NeverTaken(f"{name}: the venue never took it")
        return OutcomeUnknown(
            f"{name}: sent, and the venue does not say what became of it; it may be working"
        )

    def _send_first(self, intent: Intent) -> Answer | Unseen:
        """Send an intent of which nothing has left, and where no answer says more, see to it."""
        name = intent.client_order_id
        if not intent.wanted(self.estimated_now()):
            raise OrderWithheld(f"{name}: not sent: {too_late(intent)}")
        try:
            return self._posted(intent, BUSY_PATIENCE)
        except NoAnswer as error:
            _warn_of_silence(name, error)
        return self._look_and_send_again(intent, LOOK_DELAYS)

    def _look_and_send_again(self, intent: Intent, looks: Sequence[float]) -> Answer | Unseen:
        """Look for an intent that was sent, and send it again where the venue does not show it."""
        seen = self._look(intent.client_order_id, looks)
        return self._send_again(intent, looks, seen) if isinstance(seen, Unseen) else seen

    def _send_again(
        self, intent: Intent, looks: Sequence[float], unseen: Unseen
    ) -> Answer | Unseen:
        """Send an intent under its id once more, where no second order can come of that.

        unseen: what the look for it found.
        """
        name = intent.client_order_id
        now = self.estimated_now()
        if not self.one_order_an_id or not intent.wanted(now) or self._guard(intent, now):
            return unseen
        try:
            return self._posted(intent, 0.0)
        except OrderRejected as error:
            # Of an order that was sent before, a refusal of this one says nothing.
            log.warning("%s; an earlier one of its id may still land", error)
        except NoAnswer as error:
            _warn_of_silence(name, error)
        return self._look(name, looks)

    def _look_once(self, intent: Intent) -> Answer | Unseen:
        return self._look(intent.client_order_id, ONE_LOOK)

    def _look(self, name: str, looks: Sequence[float]) -> Answer | Unseen:
        """The order with this id of ours, or what the last look said in its place.

        looks: seconds before each.
        """
        from foundation.transport import time_limit

        unseen = Unseen.SILENT
        with time_limit(self._looking()):
            for seconds in looks:
                self._pause(seconds)
                try:
                    answer = self.find_order(name)
                except BrokerError as error:
                    log.info("%s", error)
                    unseen = Unseen.SILENT
                    continue
                if answer is not None:
                    return answer
                unseen = Unseen.ABSENT
        return unseen

    def _taken(self, name: str, looks: Sequence[float]) -> Answer:
        """An order that the venue has taken: it is never sent again, whatever a look says."""
        answer = self._look(name, looks)
        if isinstance(answer, Unseen):
            raise BrokerError(f"order {name}: the venue took it, and does not say how it is now")
        return self._noted(answer)


def _warn_of_silence(name: str, error: NoAnswer) -> None:
    log.warning("%s: sent, and no answer that says what became of it (%s)", name, error)
