"""Alpaca, or a server that speaks as it does, behind the `Broker` protocol."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import chain, repeat
from typing import Any

import numpy as np

from execution.alpaca.account import Responses, reading_of, with_fills
from execution.alpaca.activities import activities_since
from execution.alpaca.connection import Response, VenueConnection
from execution.alpaca.fields import AssetEntry, OrderEntry
from execution.alpaca.holdings import held_in
from execution.alpaca.order_venue import ORDERS_LISTED, OrderVenue
from execution.alpaca.placed_order import PlacedOrder
from execution.brokers import READINGS, Reading, Unbelieved
from execution.journal.order_store import OrderIntent, OrderStore
from execution.journal.orders import AnyOrder
from execution.journal.outbox import Guard, Outbox, unguarded
from execution.orders.broker import Asset
from execution.orders.orders import TERMS, Account, Fill, Order, OrderTerms
from execution.orders.risk_snapshot import RiskSnapshot
from execution.orders.venue_rules import refusal
from foundation.clock import OURS, Time
from foundation.errors import BrokerError, OrderRejected, OutcomeUnknown, SenselessAnswer
from trainingdata.feed.endpoint import BrokerSettings, Keys
from trainingdata.feed.fields import objects
from trainingdata.instruments import BILLIONTH, Kind, instrument, venue_spelling

log = logging.getLogger(__name__)

ASKED_ONE_BY_ONE = 50  # assets; a minute has 200 requests, and of more the whole list is read
RECENT = 60.0  # seconds for which an account that was read still counts as the account


class AlpacaBroker:
    """An account at the venue.

    terms: what an order may be worth; an order that the venue would refuse is not sent to it.
    patience: seconds that orders may take; a market order that still works then is cancelled.
    book: where orders are written down before they are sent; none keeps them in memory.
    time: as for `VenueConnection`.
    guard: has the last word before an order is sent.
    job: whose orders these are, for the book.
    collateral: USD that secure open spreads now, which buy neither stock nor coin.
    last_prices: USD that symbols traded at last, of those that the venue's answers price nowhere.
    believe: looks at every reading of the account, and returns the account as it is to be dealt
        with; it raises `SenselessAnswer` where the account is to be read once more, and
        `Unbelieved` where that was done.

    Raises
    ------
    BrokerError
        here and in every method, for a venue that does not answer, refuses, or answers nonsense.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        keys: Keys,
        *,
        terms: OrderTerms = TERMS,
        patience: float = 10.0,
        book: OrderStore | None = None,
        time: Time = OURS,
        guard: Guard = unguarded,
        job: str = "",
        collateral: Callable[[], float] = lambda: 0.0,
        last_prices: Callable[[Collection[str]], Mapping[str, float]] = lambda symbols: {},
        believe: Callable[[Reading], Account] = lambda reading: reading.account,
    ) -> None:
        self._venue = OrderVenue(settings, keys, time, self._price_of)
        self._outbox = Outbox(self._venue, book, guard, job)
        self._paper = settings.paper
        self._believe = believe
        self._last_prices = last_prices
        self._time = time
        self._patience = patience
        self._collateral = collateral
        self._assets: dict[str, Asset] = {}
        self._terms = terms
        self._last: Account | None = None
        self._seen: RiskSnapshot | None = None
        self._read_at = 0.0

    def account(self) -> Account:
        """The account as of the venue's clock, with open orders and the venue's prices.

        An order that may be on its way counts as an open one, and makes its symbol undetermined.

        Cash that may buy coins is never more than what the venue says is not marginable. Positions
        that are neither stocks nor coins here count at their last mark; what sold options would
        cost to buy back is taken off cash. Answers that contradict each other, or that nothing
        explains, are read once more after a pause.
        """
        # They are asked for before anything is read: what they turn out to be is then read.
        undetermined = self._outbox.undetermined(_is_of_one_symbol)
        self._last = None
        again = chain((False,), repeat(True))
        with self._venue.translated_errors("the account"):
            # Something may have filled between two of its answers.
            self._last = self._time.tried(
                READINGS,
                lambda: self._read_account(undetermined, again=next(again)),
                SenselessAnswer,
            )
        self._read_at = self._time.elapsed()
        return self._last

    def _read_account(self, undetermined: Sequence[OrderIntent], *, again: bool) -> Account:
        """The account that the venue's answers describe together.

        again: whether it is read once more, as the answers before did not go together.
        """
        client = self._venue.client
        # Orders are read before positions. An order that fills in between is counted twice, which
        # is too careful; the other way round it would not be counted at all.
        # Nothing contradicts an empty list of orders but the same question again.
        orders = self._venue.open_entries() or self._venue.open_entries()
        if len(orders) >= ORDERS_LISTED:
            raise BrokerError(
                f"{len(orders)} orders are open, and the venue lists no more at once: the account"
                " cannot be seen whole; cancel some"
            )
        positions = objects(client.get_all_positions())
        facts = client.get_account()
        clock = client.get_clock()
        book = self._outbox.book

        def sent(name: str) -> AnyOrder | None:
            intent = book.get(name)
            return None if intent is None else intent.order

        answers = Responses(
            facts,
            positions,
            orders,
            clock,
            undetermined,
            again,
            self._last_prices,
            lambda name: sent(name) is not None,
            sent,
            self._paper,
        )
        reading = reading_of(answers)
        account = replace(reading.account, as_of=self._venue.noted(clock))
        account = self._believe(replace(reading, account=account))
        return account.secured(self._collateral())

    def follow(self) -> None:
        """Write down what has become of orders that still worked when they were last heard of."""
        self._outbox.follow(_is_of_one_symbol)

    def now(self) -> np.datetime64:
        return self._venue.now()

    def submit(self, orders: Sequence[Order], seen: RiskSnapshot | None = None) -> list[Fill]:
        """Send orders, in their order, and return what has filled once they are done.

        It waits no longer than its patience. An order that the venue rejects is logged and fills
        nothing. So is one that it would not take beside the account as it was last read and what
        has filled since.

        seen: the account, for the guard; prices of fills are looked at beside its prices.

        Raises
        ------
        OutcomeUnknown
            where nobody knows what became of an order; those after it are not sent.
        """
        if not orders:
            return []
        # Whether an order has expired is asked of the venue's clock, not of one that slept.
        if any(order.expires_at is not None for order in orders):
            self._venue.now()
        self._seen = seen or self._seen
        before = self._recent_account(orders)
        # Whatever ends this early leaves an account behind that has to be read anew.
        self._last = None
        account = before
        sent = []
        for order in orders:
            if why := self._refusal(order, account):
                log.warning("%s is not sent: %s", order.client_order_id, why)
                self._outbox.withhold(order.client_order_id, why)
                continue
            try:
                sent.append((order, self._outbox.post(order, seen)))
            except OrderRejected as error:
                log.warning("%s", error)
                continue
            # What rests at the venue counts against the orders after it. What trades at once will
            # be a position.
            if not order.is_immediate:
                account = replace(account, open_orders=(*account.open_orders, order))
        fills, done = self._awaited(sent)
        # An order that still works may fill at any time.
        if done:
            self._last = with_fills(before, fills)
        return fills

    def _awaited(self, sent: Sequence[tuple[Order, PlacedOrder]]) -> tuple[list[Fill], bool]:
        """What orders that were taken have filled, and whether nothing more can happen to them."""
        awaited = self._venue.awaited([placed for _, placed in sent], self._patience)
        fills: list[Fill] = []
        done = True
        for (order, _), placed in zip(sent, awaited, strict=True):
            last = (
                self._outbox.cancel_and_wait(placed)
                if order.is_immediate
                else self._outbox.noted(placed)
            )
            done = done and last.is_done
            if last.status in ("rejected", "expired"):
                name = order.client_order_id
                log.warning("%s: %s by the venue after it was taken", name, last.status)
            with self._venue.translated_errors(f"order {order.client_order_id}"):
                fills += _fills_of(order, last)
        return fills, done

    def _price_of(self, symbol: str) -> float | None:
        """What a symbol was worth when it was seen last, USD; None for what was not."""
        if self._seen is None or not self._seen.has_price(symbol):
            return None
        return self._seen.price(symbol)

    def _recent_account(self, orders: Sequence[Order]) -> Account:
        """The account as last read, with what has filled since.

        It is read anew where it is old, or where something may have happened. What only reduces
        does not wait for a reading that is believed.
        """
        if self._last is not None and self._time.elapsed() - self._read_at <= RECENT:
            return self._last
        try:
            return self.account()
        except Unbelieved as error:
            if not all(order.reduces for order in orders):
                raise
            return error.account

    def _refusal(self, order: Order, account: Account) -> str:
        """Why the venue would not take an order beside an account; empty where it would."""
        others = account.without(self._not_against(order, account))
        asset = self._assets.get(order.symbol)
        return refusal(order, asset, others, self._terms, self._venue.estimated_now())

    def _not_against(self, order: Order, account: Account) -> list[Order]:
        """Open orders that are no reason to keep an order back."""
        # One that may be on its way already counts as open, but not against itself. Nor does a
        # reduction wait for an opening of unknown outcome: a venue that has that refuses this
        # itself.
        against = [o for o in account.open_orders if o.signed_qty * order.signed_qty < 0]
        unknown = [o for o in against if self._outbox.is_undetermined(o.client_order_id)]
        return [order, *unknown] if order.reduces else [order]

    def cancel(self, client_order_ids: Iterable[str]) -> dict[str, Decimal]:
        """Cancel what is open under these ids, and return what of each has not filled.

        Others are left alone, and an order that the venue does not know is not in the answer.

        Raises
        ------
        OutcomeUnknown
            for one that still works after it was cancelled.
        BrokerError
            for a venue that does not answer.
        """
        self._last = None
        left = {}
        for name in client_order_ids:
            answer = self._venue.find(name)
            if answer is None:
                continue
            answer = self._outbox.cancel_and_wait(answer)
            if not answer.is_done:
                raise OutcomeUnknown(f"{name}: cancelled, and it still works")
            with self._venue.translated_errors(f"order {name}"):
                left[name] = OrderEntry.whole_qty.of(answer.answer) - answer.filled
        return left

    def assets(self, symbols: Sequence[str]) -> dict[str, Asset]:
        listed: dict[str, Response] = {}
        if len(symbols) > ASKED_ONE_BY_ONE:
            for kind in {instrument(symbol).kind for symbol in symbols}:
                listed |= self._listed(kind)
        assets = {}
        for symbol in symbols:
            what = f"asset {symbol}"
            answer = listed.get(venue_spelling(symbol))
            if answer is None and not listed:
                answer = self._venue.lookup(what, f"/assets/{symbol}")
            if answer is not None:
                with self._venue.translated_errors(what):
                    assets[symbol] = _asset(symbol, answer)
        self._assets |= assets
        return assets

    def _listed(self, kind: Kind) -> dict[str, Response]:
        """What the venue says of every asset of a class that is active, by its name there."""
        name = "crypto" if kind is Kind.CRYPTO else "us_equity"
        with self._venue.translated_errors(f"assets of {name}"):
            query = {"status": "active", "asset_class": name}
            found = objects(self._venue.client.get("/assets", query))
            answers = {AssetEntry.symbol.of(answer): answer for answer in found}
            if not answers:
                raise SenselessAnswer("none is listed")
            return answers


class AlpacaAccount(VenueConnection):
    """The account that keys open there, as a `BrokerAccount`."""

    held = held_in
    activities_since = activities_since

    def broker(self, **words: Any) -> AlpacaBroker:
        return AlpacaBroker(self._settings, self._keys, time=self.time, **words)


def _fills_of(order: Order, placed: PlacedOrder) -> list[Fill]:
    """What an order has filled, a fill at its mean price for each order in its place."""
    fills = []
    for each in reversed(placed.chain):
        if quantity := each.filled:
            signed = quantity if order.side == "buy" else -quantity
            price = float(OrderEntry.filled_price.of(each.answer))
            name = order.client_order_id
            fills.append(Fill(name, order.symbol, signed, price, 0.0, each.traded_at))
    return fills


def _is_of_one_symbol(intent: OrderIntent) -> bool:
    """Whether an intent is for a stock or coin: orders of several legs are another job's."""
    return isinstance(intent.order, Order)


def _asset(symbol: str, answer: Response) -> Asset:
    fractions = AssetEntry.fractionable.of(answer)
    # Where the venue names no increment, quantities have nine decimals if fractions trade, and are
    # whole otherwise.
    increment = AssetEntry.increment.of(answer) or (BILLIONTH if fractions else Decimal(1))
    easy = AssetEntry.easy_to_borrow.of(answer)
    if easy is None:
        easy = AssetEntry.borrow_status.of(answer) == "easy_to_borrow"
    return Asset(
        symbol,
        tradable=AssetEntry.tradable.of(answer) and AssetEntry.status.of(answer) == "active",
        shortable=AssetEntry.shortable.of(answer),
        easy_to_borrow=easy,
        fractionable=fractions,
        increment=increment,
        smallest=AssetEntry.smallest.of(answer) or increment,
    )
