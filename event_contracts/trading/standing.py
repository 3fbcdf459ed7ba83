"""How an account stands: what the venue shows, once it knows what its answers to us said.

The venue is believed, and one rule holds what it shows to what it has said: no reading counts that
lists less of an order's fills than an answer about that order. What no fill and no settlement
explains may be listed late: it is read again, believed once it lasts, and told.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from event_contracts.trading.books import (
    AccountBooks,
    News,
    Positions,
    RulesOf,
    explained,
    read_cash,
    read_news,
    read_positions,
)
from event_contracts.trading.connection import KalshiConnection
from event_contracts.trading.fees import NOTHING
from event_contracts.trading.order_venue import OrderVenue
from event_contracts.trading.orders import Outcome, RestingOrder
from event_contracts.trading.venue_orders import VenueOrder, awaited, reduces, sold_side
from execution.posting import LOOK_DELAYS, ONE_LOOK, Outbox
from foundation.errors import BrokerError

log = logging.getLogger(__name__)

OVERLAP = np.timedelta64(1, "h")  # read again of fills and settlements: some are listed late


@dataclass(frozen=True, slots=True)
class Reading:
    """An account that was read, beside the books before.

    books: of it.
    resting: the account's orders, whoever sent them, oldest first.
    unlisted: orders of ours that may still trade and that are not among them.
    fills: listed beyond the books before.
    cash: USD that may be spent: no deposit before it is booked, no cash of a fill twice.
    flow: USD paid in less taken out since the books before.
    differences: what its fills, settlements and our fees do not explain, in words; no flow.
    """

    books: AccountBooks
    resting: tuple[VenueOrder, ...]
    unlisted: tuple[RestingOrder, ...]
    fills: int
    cash: Decimal
    flow: Decimal
    differences: tuple[str, ...]


class AccountReader:
    """Reads one account.

    connection: to it.
    venue: of its orders.
    outbox: through which ours go.
    rules_of: fee rules of a market at an instant.
    books: of an earlier reading, from which on it is explained; without them those of the first.
    """

    def __init__(
        self,
        connection: KalshiConnection,
        venue: OrderVenue,
        outbox: Outbox[VenueOrder],
        rules_of: RulesOf,
    ) -> None:
        self.books: AccountBooks | None = None
        self._connection = connection
        self._venue = venue
        self._outbox = outbox
        self._rules_of = rules_of
        self._began_at: np.datetime64 | None = None
        self._answered: dict[str, Decimal] = {}
        self._listed: dict[str, dict[str, Decimal]] = defaultdict(dict)
        self._lasting: tuple[Decimal, tuple[str, ...]] | None = None

    def expect(self, order: VenueOrder, sent_at: np.datetime64) -> None:
        """Believe no reading that lists less of an order's fills than its answer said.

        sent_at: of one that was sent before the first books fills may be too old to be listed.
        """
        if order.filled and self._began_at is not None and sent_at >= self._began_at:
            self._answered[order.order_id] = order.filled

    def read(self) -> Reading:
        """The account, read until it stands still and knows our answers, and is explained or not
        for longer than it takes to list things.

        Raises
        ------
        BrokerError
            for a venue that does not answer, something that trades whenever the account is read,
            and fills that were answered and are not listed, by name.
        """
        for _ in self._connection.time.tries((*ONE_LOOK, *LOOK_DELAYS)):
            at = self._connection.now()
            since = (at if self.books is None else min(self.books.at, at)) - OVERLAP
            news = read_news(self._connection, since)
            cash = read_cash(self._connection)
            positions = read_positions(self._connection)
            resting = self._venue.resting()
            unlisted = self._unlisted(resting)
            # What trades meanwhile is in the cash or not: nobody knows which.
            still = read_news(self._connection, since) == news
            self._began_at = at if self._began_at is None else self._began_at
            missing = self._missing(news)
            if not still or missing:
                continue
            books = AccountBooks.of(at, cash, positions, news)
            if self.books is None:
                self.books = books
            come_to = explained(self.books, news, self._rules_of)
            unexplained = (come_to.flow(books), come_to.contracts(books))
            if not any(unexplained) or unexplained == self._lasting:
                break
        if missing:
            raise BrokerError(f"the account does not add up: {'; '.join(missing)}")
        if not still:
            raise BrokerError("the account: something trades in it whenever it is read")
        if any(unexplained) and unexplained != self._lasting:
            log.warning("the account: $%s and contracts %s are not explained", *unexplained)
        self._lasting = unexplained
        return Reading(
            books=books,
            resting=resting,
            unlisted=unlisted,
            fills=come_to.fills,
            cash=min(books.cash, come_to.cash),
            flow=come_to.flow(books),
            differences=(*come_to.contracts(books), *come_to.fees),
        )

    def _unlisted(self, resting: Iterable[VenueOrder]) -> tuple[RestingOrder, ...]:
        """Orders of ours that worked when they were last heard of, that are not among those that
        wait, and that may still trade: all that has not traded, where the venue says nothing.

        What has become of the others the book says then, and their fills have to be listed.

        resting: orders that the venue lists as waiting.
        """
        listed = {self._outbox.noted(order).order_id for order in resting}
        left = []
        for intent in self._outbox.book.in_states(("working",)):
            venue_id = intent.progress.venue_id
            if intent.venue != self._venue.name or venue_id in listed:
                continue
            try:
                order = self._venue.read(venue_id)
            except BrokerError as error:
                log.warning("%s", error)
                order = None
            if order is None:
                left.append(awaited(intent))
            elif self._outbox.noted(order).is_done or not order.remaining:
                self.expect(order, intent.sent_at)
            else:
                left.append(order.resting(reduces(intent)))
        return tuple(left)

    def begin(self, books: AccountBooks) -> None:
        """Explain the account from books on."""
        self.books = books
        self._began_at = books.at if self._began_at is None else self._began_at

    def resting_orders(self, reading: Reading) -> tuple[RestingOrder, ...]:
        """What waits, in our words: orders of ours as they were meant, those of others by what
        they would sell of what ours leave.

        Raises
        ------
        BrokerError
            for an order that cannot be.
        """
        free = _Free(reading.books.positions)
        ours: list[RestingOrder] = []
        others: list[VenueOrder] = []
        with self._connection.translated_errors("orders that wait"):
            for order in reading.resting:
                intent = self._outbox.book.get(order.client_order_id)
                if intent is None or not order.is_of(intent):
                    others.append(order)
                else:
                    ours.append(order.resting(reduces(intent)))
                    free.take(ours[-1])
            for each in reading.unlisted:
                free.take(each)
            parts = [part for order in others for part in free.parts(order)]
        return (*ours, *reading.unlisted, *parts)

    def _missing(self, news: News) -> tuple[str, ...]:
        """Fills that the venue has said and does not list yet, in words."""
        for fill in news.fills:
            self._listed[fill.order_id][fill.fill_id] = fill.count
        listed = {name: sum(self._listed[name].values(), NOTHING) for name in self._answered}
        left = {name: said for name, said in self._answered.items() if listed[name] < said}
        self._answered = left
        return tuple(
            f"order {name}: {said} traded, {listed[name]} listed" for name, said in left.items()
        )


class _Free:
    """Contracts held that no sale has reserved."""

    def __init__(self, positions: Positions) -> None:
        self._counts: dict[tuple[str, Outcome], Decimal] = defaultdict(Decimal)
        for market, count in positions.items():
            self._counts[market, "YES" if count > 0 else "NO"] = abs(count)

    def take(self, resting: RestingOrder) -> None:
        """Reserve what an order sells."""
        if resting.order.action == "SELL":
            self._counts[resting.order.market, resting.order.side] -= resting.remaining

    def parts(self, order: VenueOrder) -> tuple[RestingOrder, ...]:
        """The order of somebody else, as a sale of what is free and a purchase beyond it."""
        parts = order.resting_of_others(self._counts[order.market, sold_side(order.side)])
        for part in parts:
            self.take(part)
        return parts
