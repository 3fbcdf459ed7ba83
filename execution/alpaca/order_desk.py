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
from typing import Any, Literal

import numpy as np

from execution.alpaca.connection import Answer, elapsed_seconds
from execution.alpaca.order_answers import chain_of, checked_order, is_done, same_terms
from execution.alpaca.order_reader import BUSY, LOOK_DELAYS, OTHER_STATE, OrderReader
from execution.intents import Intent, IntentBook
from execution.spreads.orders import contract_of
from foundation.errors import BrokerError, OrderRejected, OutcomeUnknown
from trainingdata.feed.endpoint import BrokerSettings, Keys
from trainingdata.instants import compact_text
from trainingdata.sessions import session_of

log = logging.getLogger(__name__)

TERMS = ("symbol", "side", "qty", "type", "legs")  # in which orders of one id may not differ
BUSY_PATIENCE = 60.0  # seconds that an order waits while the venue is busy
ONE_LOOK = (0.0,)
LOOKING = 20.0  # seconds that the looks for an order take together, or asking again what became
POSTS = 5  # tries of an order that the venue answers with 429, which says that it did nothing
EXPIRED = np.timedelta64(1, "h")  # after the last session of an option nobody trades it any more
NOT_UNDERSTOOD = (408, 425)  # statuses below 500 that do not say what became of a request


class OrderDesk(OrderReader):
    """Requests about orders to one venue.

    pause: waits for so many seconds.
    book: where intents are kept; none keeps them in memory, until the process ends.
    clock: seconds that only increase.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        keys: Keys,
        pause: Callable[[float], None],
        book: IntentBook | None = None,
        clock: Callable[[], float] = elapsed_seconds,
    ) -> None:
        super().__init__(settings, keys, pause, clock)
        self._book = IntentBook() if book is None else book

    def post(self, request: Mapping[str, Any], expires_at: np.datetime64 | None = None) -> Answer:
        """Have an order taken, and return what the venue says of it.

        An order of this id that was sent before is that order.

        expires_at: instant by the venue's clock from which on it is not sent any more.

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
        if before is not None and before.state not in ("refused", "never_taken"):
            return self._settled(before, (*ONE_LOOK, *LOOK_DELAYS))
        intent = Intent(name, request, self.estimated_now(), expires_at)
        self._book.begin(intent)
        return self._settled(intent)

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
        elif intent.state in ("refused", "never_taken"):
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
        if intent.state == "taken":
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
        except OrderRejected as error:
            self._book.settle(name, "refused", str(error))
            raise
        except OutcomeUnknown as error:
            self._book.settle(name, "open", str(error))
            raise
        self._book.settle(name, "taken")
        return answer

    def _taken(self, name: str, looks: tuple[float, ...]) -> Answer:
        """An order that the venue has taken: it is never sent again, whatever a look says."""
        answer, _ = self._look_up(name, looks)
        if answer is None:
            raise BrokerError(f"order {name}: the venue took it, and does not say how it is now")
        return answer

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
            if sent and not intent.wanted(self.estimated_now()):
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
                raise OrderRejected(f"{name}: not sent: {_expired(intent)}")
            return self._post_once(intent, 0.0 if sent else BUSY_PATIENCE)
        except OrderRejected as error:
            # Of an order that was sent before, a refusal of this one says nothing.
            if not sent:
                raise
            log.warning("%s; an earlier one of its id may still land", error)
        except _NoAnswer as error:
            log.warning("%s: sent, and no answer that says what became of it (%s)", name, error)
        return None

    def _post_once(self, intent: Intent, patience: float) -> Answer:
        """The venue's answer to a POST.

        patience: seconds that it waits while the venue is busy.

        Raises
        ------
        OrderRejected
            for an order that it does not take.
        _NoAnswer
            for an answer that does not say whether it takes it.
        """
        from alpaca.common.exceptions import APIError
        from requests.exceptions import RequestException

        from foundation.transport import note_pause, seconds_to_wait

        name = intent.client_order_id
        waited = 0.0
        for _ in range(POSTS):
            try:
                return checked_order(name, self.client.post("/orders", intent.request))
            except APIError as error:
                status = error.status_code
                words = self._keys.redact(" ".join(str(error).split()))[:300]
                # 429 alone says that the venue has done nothing, so the same order may be sent.
                if status == BUSY:
                    headers = {} if error.response is None else error.response.headers
                    seconds = seconds_to_wait(headers)
                    seconds = 1.0 if seconds is None else seconds
                    waited += seconds
                    # Whatever else is open is looked at by nobody meanwhile.
                    if waited > patience:
                        break
                    note_pause(seconds, f"{name}: the venue is busy and asks for it")
                    self._pause(seconds)
                    if not intent.wanted(self.estimated_now()):
                        raise OrderRejected(f"{name}: not sent: {_expired(intent)}") from None
                    continue
                # A refusal of the id says that the venue has an order of this id, which may be this
                # very order, sent before a crash. It is no refusal of the order.
                known_id = status == OTHER_STATE and "client_order_id" in words
                if status is None or status >= 500 or known_id or status in NOT_UNDERSTOOD:
                    raise _NoAnswer(f"status {status}") from None
                raise OrderRejected(f"{name}: rejected ({status}): {words}") from None
            except (RequestException, ValueError, KeyError, TypeError, RecursionError) as error:
                raise _NoAnswer(type(error).__name__) from None
        raise OrderRejected(f"{name}: not sent: the venue has no room for requests (429)")

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


class _NoAnswer(Exception):
    """A POST whose answer does not say whether the order was taken."""


def _lands_no_more(intent: Intent, now: np.datetime64) -> bool:
    """Whether an order that the venue does not know by now will never reach it."""
    return intent.lands_no_more(now) or _options_have_ended(intent.request, now)


def _options_have_ended(request: Mapping[str, Any], now: np.datetime64) -> bool:
    """Whether an option of an order has expired so long ago that no venue takes the order."""
    expiries = {contract_of(leg["symbol"]).expiry for leg in request.get("legs", ())}
    sessions = [session_of(np.datetime64(expiry, "D")) for expiry in expiries]
    return any(each is not None and now >= each.closes + EXPIRED for each in sessions)


def _expired(intent: Intent) -> str:
    until = intent.expires_at
    return "" if until is None else f"it was to be sent before {compact_text(until)}"
