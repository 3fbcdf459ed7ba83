"""Many markets of one account at Kalshi: what it holds, what waits, and orders that go out once."""

from __future__ import annotations

import re
import threading
from dataclasses import replace

import numpy as np

from event_contracts.trading.actions import Admission
from event_contracts.trading.books import BEGINNING, AccountBooks, AccountReader, Reading, RulesOf
from event_contracts.trading.endpoint import KalshiKeys, KalshiSettings
from event_contracts.trading.fees import NOTHING
from event_contracts.trading.listings import Listing, bid_value, read_markets
from event_contracts.trading.orders import LimitOrder, MarketView, Receipt
from event_contracts.trading.venue_orders import OrderVenue, awaited, epoch_seconds, order_of
from execution.journal.order_store import OrderIntent, OrderStore
from execution.posting import Guard, Outbox, unguarded
from foundation.clock import OURS, Time
from foundation.errors import BrokerError, OrderRejected, OutcomeUnknown

ORDER_LIFE = np.timedelta64(600, "s")
NAMES = re.compile(r"[A-Za-z0-9_:+=/-]{1,64}")  # ids that the venue takes; over REST: U


class KalshiMultiMarketOrderManager:
    """An `OrderManager` for every market of one account.

    admission: what every order has to leave; it is asked before an order is sent.
    rules_of: fee rules of a market at an instant.
    book: where intents are kept; none keeps them in memory, until the process ends.
    guard: has the last word before an intent is sent.
    job: whose orders go this way.
    life: after which an order that still waits ends at the venue.
    time: this machine's; the venue shows none.

    Raises `BrokerError` in every method, for a venue that does not answer, and answers that do not
    agree, by name.
    """

    def __init__(
        self,
        settings: KalshiSettings,
        keys: KalshiKeys,
        admission: Admission,
        rules_of: RulesOf,
        *,
        book: OrderStore | None = None,
        guard: Guard = unguarded,
        job: str = "",
        life: np.timedelta64 = ORDER_LIFE,
        time: Time = OURS,
    ) -> None:
        self.venue = OrderVenue(settings, keys, time)
        self._life = life
        self._outbox = Outbox(self.venue, book, guard, job)
        self._account = AccountReader(self.venue, self._outbox, rules_of)
        self._admission = admission
        self._job = job
        # An order is admitted on an account in which the one before it stands.
        self._turn = threading.RLock()

    def begin(self, books: AccountBooks) -> None:
        """Explain the account from books on; without it those of the first reading."""
        with self._turn:
            self._account.begin(books)

    def reading(self) -> Reading:
        """The account now, beside the books before; what was paid in since is not spent yet."""
        with self._turn:
            return self._account.read()

    def view(self, market: str) -> MarketView:
        """The account in front of a market now.

        Where the venue's cash is not what its fills and settlements make of the books, the smaller
        one counts. Orders of unknown outcome are among the resting ones, whole and under our id.
        """
        with self._turn:
            return self._look(market)[0]

    def expiry(self) -> np.datetime64:
        """When an order that is sent now ends at the venue, to the second before."""
        return np.datetime64(epoch_seconds(self.venue.now() + self._life) * 10**9, "ns")

    def submit(self, order: LimitOrder) -> Receipt:
        """Send an order once; one of its id that was sent before is that order.

        Raises `OrderRejected` where the venue does not take it or did not before, or the account
        may not have it; `OutcomeUnknown` where nobody says what became of it: it counts as waiting
        until the venue does.
        """
        with self._turn:
            name = order.client_order_id
            before = self._outbox.book.get(name)
            is_new = before is None or self._outbox.may_be_sent(before)
            if is_new and (why := self._refusal(order)):
                self._outbox.withhold(name, why)
                raise OrderRejected(f"{name}: not sent: {why}")
            answer = self._outbox.post(replace(order, expires_at=self.expiry()))
            if is_new:
                self._account.expect(answer, self.venue.now())
            return Receipt(answer.order_id, answer.filled, answer.remaining)

    def cancel(self, order_id: str) -> None:
        """Take an order out of the book; one that has ended already stays as it ended.

        order_id: the venue's, or ours of an order of unknown outcome.

        Raises `OutcomeUnknown` for an order of ours that may still come to work; `BrokerError` for
        a venue that does not answer, or an order that it does not end.
        """
        with self._turn:
            if self._outbox.was_begun(order_id):
                if self._outbox.resolve(order_id) == "open":
                    raise OutcomeUnknown(f"order {order_id}: it may still come to work")
                return
            self._end(order_id, BEGINNING)

    def withdraw(self, market: str, before: np.datetime64) -> tuple[OrderIntent, ...]:
        """Take orders of ours that are known to work in a market out of its book: those sent before
        an instant, and those that would not be admitted now; they are returned.

        The venue asks nobody before a fill: what is left of an order has to be admitted as if it
        were sent beside the others that rest. Orders of others, of other jobs and those of unknown
        outcome stay. No guard is asked, for it only takes risk away, and without an order of ours
        that works the venue is not asked either.
        """
        with self._turn:
            working = self._outbox.book.in_states(("working",))
            ours = [i for i in working if _is_of(i, market) and i.job == self._job]
            ended = [i for i in ours if i.sent_at < before]
            for intent in reversed(ended):
                self._end(intent.progress.venue_id, intent.sent_at)
            for intent in reversed([i for i in ours if i.sent_at >= before]):
                if not self._may_rest(intent):
                    self._end(intent.progress.venue_id, intent.sent_at)
                    ended.append(intent)
            return tuple(ended)

    def undetermined(self, market: str) -> tuple[OrderIntent, ...]:
        """Orders of a market of which nobody knows what became, once they were looked for.

        Looking for them takes 20 seconds at most, however many there are.
        """
        with self._turn:
            return self._outbox.undetermined(lambda intent: _is_of(intent, market))

    def _look(self, market: str) -> tuple[MarketView, Listing]:
        """The account in front of a market, and the market."""
        waiting = self._outbox.undetermined(lambda intent: intent.venue == OrderVenue.name)
        reading = self._account.read()
        positions = reading.books.positions
        listings = read_markets(self.venue, (market, *positions))
        elsewhere = {name: count for name, count in positions.items() if name != market}
        listed = {each.order.client_order_id for each in reading.resting}
        unknown = [awaited(each) for each in waiting if each.client_order_id not in listed]
        view = MarketView(
            market,
            reading.cash,
            positions.get(market, NOTHING),
            (*reading.resting, *unknown),
            listings[market].quote,
            bid_value(elsewhere, listings),
        )
        return view, listings[market]

    def _may_rest(self, intent: OrderIntent) -> bool:
        """Whether what is left of an order would be admitted beside the others that rest."""
        order = order_of(intent)
        view, _ = self._look(order.market)
        name = intent.progress.venue_id
        others = replace(view, resting=tuple(r for r in view.resting if r.order_id != name))
        left = [each.remaining for each in view.resting if each.order_id == name]
        return not any(
            self._admission.refusal(order.action, order.side, order.price, count, others)
            for count in left
        )

    def _end(self, order_id: str, sent_at: np.datetime64) -> None:
        """Cancel an order if it still works; what it has filled by then has to be listed."""
        order = self.venue.order(order_id)
        if order is None:
            raise BrokerError(f"order {order_id}: the venue knows no such order")
        ended = self._outbox.cancel_and_wait(order)
        self._account.expect(ended, sent_at)
        if ended.status == "resting":
            raise BrokerError(f"order {order_id}: it was cancelled, and still works")

    def _refusal(self, order: LimitOrder) -> str | None:
        """Why an order may not be sent, in words; nothing where it may."""
        if not NAMES.fullmatch(order.client_order_id):
            return (
                "its id is longer than 64 characters, or has others than letters, digits and -_:+=/"
            )
        view, listing = self._look(order.market)
        return listing.refusal(order) or self._admission.refusal(
            order.action, order.side, order.price, order.count, view
        )


def _is_of(intent: OrderIntent, market: str) -> bool:
    return intent.venue == OrderVenue.name and order_of(intent).market == market
