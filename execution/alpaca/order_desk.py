"""How an order reaches the venue: written down, posted, and looked up by its id.

After an answer that leaves open whether an order was taken (a timeout, a lost connection, a status
of 500 and above, nonsense) it is looked up by its `client_order_id`. Where the venue does not know
it, it is asked for once more under the same id, of which the venue takes one order and no second.
What is still not known then stays open: an order can land after every look for it. Later on it is
only looked for. Whoever has made sure that what the order assumes is still so may ask for it again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from execution.alpaca.connection import Answer, elapsed_seconds
from execution.alpaca.fields import OrderEntry
from execution.alpaca.order_answers import (
    chain_of,
    is_done,
    progress_of,
    same_terms,
)
from execution.alpaca.order_reader import LOOK_DELAYS, OrderReader
from execution.alpaca.posting import NoAnswer, OrderWithheld, post_order, too_late
from execution.intents import UNDETERMINED, UNSENT, Intent, IntentBook, Part
from execution.spreads.orders import contract_of
from foundation.errors import BrokerError, OrderRejected, OutcomeUnknown
from trainingdata.feed.endpoint import BrokerSettings, Keys
from trainingdata.feed.fields import entries
from trainingdata.sessions import session_of

log = logging.getLogger(__name__)

TERMS = ("symbol", "side", "qty", "type", "legs")  # in which orders of one id may not differ
BUSY_PATIENCE = 60.0  # seconds that an order waits while the venue is busy
ONE_LOOK = (0.0,)
ORDERS_LISTED = 500  # the most that the venue lists at once
ADOPTED = (
    *("client_order_id", "symbol", "side", "qty", "type", "time_in_force"),
    *("limit_price", "stop_price", "trail_price", "trail_percent"),
)
LOOKING = 20.0  # seconds that the looks for an order take together, or asking again what became
EXPIRED = np.timedelta64(1, "h")  # after the last session of an option nobody trades it any more

# Why an intent may not be sent at an instant of the venue's clock; empty where it may.
Guard = Callable[[Intent, np.datetime64], str]


def unguarded(intent: Intent, now: np.datetime64) -> str:
    """Nothing forbids an intent."""
    del intent, now
    return ""


class OrderDesk(OrderReader):
    """Requests about orders to one venue.

    pause: waits for so many seconds.
    book: where intents are kept; none keeps them in memory, until the process ends.
    clock: seconds that only increase.
    guard: has the last word before an intent is sent.
    job: whose orders go this way.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        keys: Keys,
        pause: Callable[[float], None],
        book: IntentBook | None = None,
        clock: Callable[[], float] = elapsed_seconds,
        guard: Guard = unguarded,
        job: str = "",
    ) -> None:
        super().__init__(settings, keys, pause, clock)
        self._book = IntentBook() if book is None else book
        self._guard = guard
        self._job = job

    def post(
        self,
        request: Mapping[str, Any],
        expires_at: np.datetime64 | None = None,
        part: Part = "",
        reason: str = "",
    ) -> Answer:
        """Have an order taken, and return what the venue says of it.

        An order of this id that was sent before is that order; one that was planned is sent as it
        was planned.

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
        name = str(request["client_order_id"])
        before = self._book.get(name)
        if before is not None and any(before.request.get(k) != request.get(k) for k in TERMS):
            raise OrderRejected(f"{name}: another order of this id was meant to be sent before")
        if before is not None and not _is_unsent(before):
            return self._settled(before, (*ONE_LOOK, *LOOK_DELAYS))
        now = self.estimated_now()
        if before is not None:
            intent = replace(before, state="sending", why="", sent_at=now)
        else:
            intent = Intent(name, request, now, expires_at, job=self._job, part=part, reason=reason)
        if why := self._guard(intent, now):
            self._book.withhold(intent, why)
            raise OrderRejected(f"{name}: not sent: {why}")
        self._book.begin(intent)
        return self._settled(intent)

    def withhold(self, client_order_id: str, why: str) -> None:
        """Write down why an intent that was planned is not sent."""
        planned = self._book.get(client_order_id)
        if planned is not None and planned.state == "planned":
            self._book.withhold(planned, why)

    def adopt(self, ours: Callable[[str], bool]) -> None:
        """Write down orders that work at the venue, are ours by their id, and are not in the book.

        ours: whether an id is one of ours.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """
        with self.translated_errors("open orders"):
            query = {"status": "open", "limit": ORDERS_LISTED, "nested": "true"}
            for answer in entries(self.client.get("/orders", query)):
                name = OrderEntry.client_order_id.of(answer)
                if not ours(name) or self._book.get(name) is not None:
                    continue
                log.warning("%s works at the venue and is not in the book: it is now", name)
                request = {key: answer[key] for key in ADOPTED if answer.get(key) is not None}
                self._book.begin(
                    Intent(name, request, self.estimated_now(), job=self._job, reason="adopted")
                )
                self._noted(answer)

    def follow(self, concerned: Callable[[Intent], bool]) -> None:
        """Write down what has become of orders that still worked when they were last heard of.

        Looking for them takes 20 seconds at most, however many there are.
        """
        from foundation.transport import time_limit

        with time_limit(LOOKING):
            for intent in filter(concerned, self._book.in_states(("working",))):
                try:
                    self._taken(intent.client_order_id, ONE_LOOK)
                except BrokerError as error:
                    log.warning("%s", error)

    def refreshed(self, answer: Answer) -> Answer:
        """The order as it is now, which the book then says as well.

        Raises
        ------
        BrokerError
            for a venue that does not answer, or answers about something else.
        """
        return self._noted(super().refreshed(answer))

    def end(self, answer: Answer) -> Answer:
        """Cancel an order if it still works, and return it as it is after that; the book says it.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """
        return self._noted(super().end(answer))

    def _noted(self, answer: Answer) -> Answer:
        name = OrderEntry.client_order_id.of(chain_of(answer)[-1])
        self._book.note(name, progress_of(answer))
        return answer

    def undetermined(self, concerned: Callable[[Intent], bool]) -> tuple[Intent, ...]:
        """Those of the orders sent of which the venue does not say what became.

        Looking for them takes 20 seconds at most, however many there are.

        concerned: which orders are to be looked for.
        """
        from foundation.transport import time_limit

        intents = []
        with time_limit(LOOKING):
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

    def ask_again(self, client_order_id: str) -> Answer | Literal["open"] | None:
        """The `fate` of an order, which is asked for once more where the venue does not know it.

        It may trade then as if it were new, so what it assumes of the account has to be so.
        """
        return self._fate(client_order_id, again=True)

    def _fate(self, client_order_id: str, *, again: bool) -> Answer | Literal["open"] | None:
        from foundation.transport import time_limit

        intent = self._book.get(client_order_id)
        answer: Answer | None
        if intent is None:
            # It is written down before it is sent: what is not in the book was sent by nobody here.
            answer = self.find_order(client_order_id)
        elif _is_unsent(intent):
            answer = None
        else:
            try:
                with time_limit(LOOKING):
                    answer = self._settled(intent, ONE_LOOK, again=again)
            except OrderRejected:
                answer = None
            except OutcomeUnknown:
                return "open"
        if answer is None:
            return None
        answer = self.end(answer)
        return answer if is_done(answer) else "open"

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
            # Whoever has replaced it may have changed its terms: those it was sent with count.
            with self.translated_errors(f"order {name}"):
                same = same_terms(intent.request, chain_of(answer)[-1])
            if not same:
                raise OrderRejected(f"{name}: the venue has another order of this id")
        except _NeverTaken as error:
            self._book.settle(name, "never_taken", str(error))
            raise
        except OrderWithheld as error:
            self._book.settle(name, "withheld", str(error))
            raise
        except OrderRejected as error:
            self._book.settle(name, "rejected", str(error))
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
        # An order that was never sent is posted twice at most, one that may have landed once more.
        posts = (False, True) if not looks else (True,) if again else ()
        for sent in posts:
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
            and _lands_no_more(intent, self.estimated_now())
            and _lands_no_more(intent, self.now())
        ):
            raise _NeverTaken(f"{name}: the venue never took it")
        raise OutcomeUnknown(
            f"{name}: sent, and the venue does not say what became of it; it may be working"
        )

    def _offered(self, intent: Intent, sent: bool) -> Answer | None:
        """The venue's answer to an order; None where it does not say what becomes of it.

        sent: whether the order was posted before.
        """
        name = intent.client_order_id
        try:
            if not intent.wanted(self.estimated_now()):
                raise OrderWithheld(f"{name}: not sent: {too_late(intent)}")
            patience = 0.0 if sent else BUSY_PATIENCE
            return post_order(
                self.client, self._keys, intent, patience, self._pause, self.estimated_now
            )
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
        with time_limit(LOOKING):
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


class _NeverTaken(OrderRejected):
    """An order that can land no more, and that the venue does not know."""


def _is_unsent(intent: Intent) -> bool:
    """Whether nothing of an intent is at the venue; one that it took and rejected then was."""
    return intent.state in UNSENT and not intent.taken


def _lands_no_more(intent: Intent, now: np.datetime64) -> bool:
    """Whether an order that the venue does not know by now will never reach it."""
    return intent.lands_no_more(now) or _options_have_ended(intent.request, now)


def _options_have_ended(request: Mapping[str, Any], now: np.datetime64) -> bool:
    """Whether an option of an order has expired so long ago that no venue takes the order."""
    expiries = {contract_of(leg["symbol"]).expiry for leg in request.get("legs", ())}
    sessions = [session_of(np.datetime64(expiry, "D")) for expiry in expiries]
    return any(each is not None and now >= each.closes + EXPIRED for each in sessions)
