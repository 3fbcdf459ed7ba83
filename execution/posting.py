"""How an order reaches a venue: written down, posted, and looked up by our id of it.

After an answer that leaves open whether an order was taken (a lost connection, a status of 500 and
above, nonsense) it is looked up by its `client_order_id`. A venue that takes one order of an id and
no second is then asked once more under the same id; any other is only looked at. What is still not
known stays open: an order can land after every look for it.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
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
            return self._settled(before, (*ONE_LOOK, *LOOK_DELAYS))
        now = self.estimated_now()
        new = Intent(order, now, expires_at, part=part, reason=reason)
        intent = before or replace(new, job=self._job, venue=self.venue)
        intent = replace(intent, state="sending", why="", sent_at=now)
        if why := self._guard(intent, now):
            self._book.withhold(intent, why)
            raise OrderRejected(f"{name}: not sent: {why}")
        self._book.begin(intent)
        return self._settled(intent)

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
                    self._settled(intent, ONE_LOOK, again=False)
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
                    answer = self._settled(intent, ONE_LOOK, again=again)
            except OrderRejected:
                answer = None
            except OutcomeUnknown:
                return "open"
        if answer is None:
            return None
        answer = self.end(answer)
        return answer if self._is_done(answer) else "open"

    def _noted(self, answer: Answer) -> Answer:
        """The answer, which the book then says as well."""
        self._book.note(*self._progress(answer))
        return answer

    def _settled(
        self, intent: Intent, looks: tuple[float, ...] = (), *, again: bool = True
    ) -> Answer:
        """What the venue says of an intent, which the book then says as well.

        looks: seconds before each look for it, where it was sent before; none where it was not.
        again: whether one that was sent before, and that the venue does not know, is sent again.
        """
        name = intent.client_order_id
        if intent.taken:
            return self._taken(name, looks)
        try:
            answer = self._asked(intent, looks, again)
            if not self._same_terms(intent, answer):
                raise OrderRejected(f"{name}: the venue has another order of this id")
        except OrderRejected as error:
            self._book.settle(name, _REFUSED.get(type(error), "rejected"), str(error))
            raise
        except OutcomeUnknown as error:
            self._book.settle(name, "open", str(error))
            raise
        return self._noted(answer)

    def _taken(self, name: str, looks: tuple[float, ...]) -> Answer:
        """An order that the venue has taken: it is never sent again, whatever a look says."""
        answer, _ = self._look_up(name, looks)
        if answer is None:
            raise BrokerError(f"order {name}: the venue took it, and does not say how it is now")
        return self._noted(answer)

    def _asked(self, intent: Intent, looks: tuple[float, ...], again: bool) -> Answer:
        """The venue's answer to an order, looked for, posted, and looked for."""
        name = intent.client_order_id
        absent = False
        if looks:
            answer, absent = self._look_up(name, looks)
            if answer is not None:
                return answer
        for sent in self._posts(sent_before=bool(looks), again=again):
            now = self.estimated_now()
            if sent and (not intent.wanted(now) or self._guard(intent, now)):
                break
            answer = self._offered(intent, sent)
            if answer is None:
                answer, absent = self._look_up(name, looks or LOOK_DELAYS)
            if answer is not None:
                return answer
        # One answer of the clock could be wrong: it is asked once more before an order is given up.
        if (
            absent
            and self._lands_no_more(intent, self.estimated_now())
            and self._lands_no_more(intent, self.now())
        ):
            raise NeverTaken(f"{name}: the venue never took it")
        raise OutcomeUnknown(
            f"{name}: sent, and the venue does not say what became of it; it may be working"
        )

    def _posts(self, *, sent_before: bool, again: bool) -> tuple[bool, ...]:
        """Of each post that an order may have, whether one of it has left already."""
        # Where a second order of its id would be taken, what may have landed is never posted.
        if not self.one_order_an_id:
            return () if sent_before else (False,)
        if not sent_before:
            return (False, True)
        return (True,) if again else ()

    def _offered(self, intent: Intent, sent: bool) -> Answer | None:
        """The venue's answer to an order; None where it does not say what becomes of it.

        sent: whether the order was posted before.
        """
        name = intent.client_order_id
        try:
            if not intent.wanted(self.estimated_now()):
                raise OrderWithheld(f"{name}: not sent: {too_late(intent)}")
            return self._posted(intent, 0.0 if sent else BUSY_PATIENCE)
        except OrderRejected as error:
            # Of an order that was sent before, a refusal of this one says nothing.
            if not sent:
                raise
            log.warning("%s; an earlier one of its id may still land", error)
        except NoAnswer as error:
            log.warning("%s: sent, and no answer that says what became of it (%s)", name, error)
        return None

    def _look_up(self, name: str, looks: tuple[float, ...]) -> tuple[Answer | None, bool]:
        """The order with this id of ours, or None; and whether the last look said there is none."""
        from foundation.transport import time_limit

        absent = False
        with time_limit(self._looking()):
            for seconds in looks:
                self._pause(seconds)
                try:
                    answer = self.find_order(name)
                except BrokerError as error:
                    log.info("%s", error)
                    absent = False
                    continue
                if answer is not None:
                    return answer, False
                absent = True
        return None, absent
