"""Alpaca, or a server with the same interface, as an implementation of the `Broker` protocol."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np

from execution.alpaca.account import (
    AccountResponses,
    apply_fills,
    find_unpriced_symbols,
    parse_account_reading,
    parse_open_order,
    read_order_id,
)
from execution.alpaca.activities import activities_since
from execution.alpaca.connection import JsonObject, VenueConnection
from execution.alpaca.fields import AssetEntry, OrderEntry
from execution.alpaca.holdings import read_positions
from execution.alpaca.order_venue import MAX_ORDERS_LISTED, OrderVenue
from execution.alpaca.placed_order import AlpacaOrder
from execution.brokers import AccountReading, RereadRequired, read_until_accepted
from execution.journal.order_store import OrderIntent, OrderStore
from execution.journal.outbox import Outbox
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.broker import Asset, CancellationPending
from execution.orders.gate import ALLOW_ALL_ORDERS, OrderGate, OrderRole
from execution.orders.last_trades import EmptyTradeSource, TradeSource, fetch_last_prices
from execution.orders.orders import DEFAULT_SIZE_LIMITS, STOP_TYPES, Fill, Order, OrderSizeLimits
from execution.orders.venue_rules import venue_refusal_reason
from foundation.clock import SYSTEM_TIME, TimeSource
from foundation.errors import BrokerError, InvalidResponse, OrderRejected, ResponseRejected
from trainingdata.feed.endpoint import ApiKeys, BrokerSettings
from trainingdata.feed.fields import parse_object_list
from trainingdata.instruments import (
    MIN_CRYPTO_QTY,
    AssetClass,
    instrument,
    is_symbol,
    venue_spelling,
)

log = logging.getLogger(__name__)

# Assets; for more, the whole list is read, as 200 requests a minute are allowed.
MAX_SINGLE_ASSET_QUERIES = 50
ADOPTION_REASON = "rested at the venue when this journal began"  # reason of an adopted order
ACCOUNT_MAX_AGE_SECONDS = 60.0  # longest use of an account snapshot


class AlpacaBroker:
    """Gateway to one Alpaca account: it reads the account, and sends orders through an outbox.

    terms: smallest and largest values of an order; an order below or above them is not sent.
    patience: longest wait for orders to fill, seconds; a market order still open then is cancelled.
    book: store that records orders before they are sent.
    time: local clock that measures waits and extrapolates the venue's time.
    job: name of the job that sends the orders, as stored in the book.
    feed: source of last trades, for positions that the venue does not price.

    Raises
    ------
    BrokerError
        in every method, if the venue does not respond, refuses, or sends an unreadable response.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        keys: ApiKeys,
        *,
        book: OrderStore,
        terms: OrderSizeLimits = DEFAULT_SIZE_LIMITS,
        patience: float = 10.0,
        time: TimeSource = SYSTEM_TIME,
        job: str = "",
        feed: TradeSource | None = None,
    ) -> None:
        self._venue = OrderVenue(settings, keys, time)
        self._outbox = Outbox(self._venue, book, job)
        self._paper = settings.paper
        self._feed = feed or EmptyTradeSource()
        self._time = time
        self._patience = patience
        self._assets: dict[str, Asset] = {}
        self._terms = terms
        self._unknown: tuple[OrderIntent, ...] = ()
        self._last: AccountSnapshot | None = None
        self._read_at = 0.0

    def account(self) -> AccountSnapshot:
        """Return the account as the venue reports it, not reconciled with the journal."""
        account = read_until_accepted(
            lambda reread: self.read_account(reread=reread).account, self._time
        )
        self.cache_account(account)
        return account

    def read_account(self, *, reread: bool = False) -> AccountReading:
        """Return the account as the venue reports it now, with open orders and the venue's prices.

        An order of unknown outcome counts as open, and makes its symbol uncertain. Cash for crypto
        never exceeds the venue's non-marginable buying power. Positions that are neither stocks nor
        crypto are valued at their last mark. The cost of buying back short options is deducted from
        cash.

        reread: true if the previous responses were rejected.

        Raises
        ------
        RereadRequired
            if responses contradict each other.
        """
        if not reread:
            # Their outcomes are queried first, so that the reading includes their fills.
            intents = self._outbox.book.intents_with_unknown_outcome()
            self._unknown = self._outbox.refresh_intents(filter(_is_single_order, intents))
        self._last = None
        try:
            with self._venue.translate_errors("the account"):
                return self._fetch_reading(reread=reread)
        except ResponseRejected as error:
            raise RereadRequired(str(error)) from error

    def _fetch_reading(self, *, reread: bool) -> AccountReading:
        client = self._venue.client
        # Orders are read before positions. An order that fills in between is counted twice, which
        # is conservative; in the other order it would not be counted at all. An empty list of
        # orders is read twice, as no other response can contradict it.
        orders = self._venue.open_order_entries() or self._venue.open_order_entries()
        if len(orders) >= MAX_ORDERS_LISTED:
            raise BrokerError(
                f"cannot read all open orders: the venue lists at most {MAX_ORDERS_LISTED} and"
                f" {len(orders)} are listed; cancel some of them"
            )
        positions = parse_object_list(client.get_all_positions())
        facts = client.get_account()
        clock = client.get_clock()
        names = map(read_order_id, orders)
        sent = {name: intent.order for name in names if (intent := self._outbox.book.get(name))}
        unpriced = find_unpriced_symbols(positions)
        reading = parse_account_reading(
            AccountResponses(
                facts,
                positions,
                orders,
                clock,
                self._unknown,
                reread,
                fetch_last_prices(self._feed, unpriced) if unpriced else {},
                sent,
                self._paper,
            )
        )
        account = replace(reading.account, as_of=self._venue.record_clock(clock))
        return replace(reading, account=account)

    @property
    def has_recent_account(self) -> bool:
        """Whether there is a cached account snapshot, at most a minute old.

        A cancellation, a failed request, or an order that stays open after it was sent removes the
        snapshot.
        """
        return (
            self._last is not None
            and self._time.monotonic() - self._read_at <= ACCOUNT_MAX_AGE_SECONDS
        )

    def cache_account(self, account: AccountSnapshot) -> None:
        """Cache this snapshot for a minute, for pre-trade checks; later fills are added to it."""
        self._last = account
        self._read_at = self._time.monotonic()

    def refresh_open_orders(self) -> None:
        """Query orders that were open when last reported, and record the venue's new reports."""
        accepted = self._outbox.book.intents_in_states(("accepted",))
        self._outbox.refresh_intents(filter(_is_single_order, accepted))

    def adopt_orders(self, is_adopted: Callable[[Order], bool], role: OrderRole) -> None:
        """Record open orders that the journal lacks; unreadable ones stay unknown."""
        with self._venue.translate_errors("open orders"):
            entries = self._venue.open_order_entries() or self._venue.open_order_entries()
        for entry in entries:
            name = read_order_id(entry)
            if self._outbox.book.get(name) is not None:
                continue
            with suppress(BrokerError):
                placed = AlpacaOrder.parse(name, entry)
                for order in filter(is_adopted, parse_open_order(entry)):
                    whole = replace(
                        order, qty=order.qty + placed.filled_quantity, reason=ADOPTION_REASON
                    )
                    self._outbox.adopt(whole, role, placed)

    def has_order_id(self, client_order_id: str) -> bool:
        return self._venue.find(client_order_id) is not None

    def now(self) -> np.datetime64:
        return self._venue.now()

    def submit(self, orders: Sequence[Order], gate: OrderGate = ALLOW_ALL_ORDERS) -> list[Fill]:
        """Send orders in sequence, wait until all are filled or ended, and return their fills.

        The wait ends after `patience` seconds. An order that the venue rejects is logged and has no
        fills. An order that breaks the venue's rules, given the last account snapshot and the
        orders sent before it, is logged and not sent.

        gate: pre-trade checks that run right before each order is sent. A reported fill price far
            from the gate's price of the symbol makes the venue's response invalid.

        Raises
        ------
        OutcomeUnknown
            for an order of unknown outcome; the orders after it are not sent.
        """
        if not orders:
            return []
        # The venue's clock decides whether an order has expired, not an estimate from before.
        if any(order.expires_at is not None for order in orders):
            self._venue.now()
        if gate.prices:
            self._venue.prices = gate.prices
        before = (
            self._last if self._last is not None and self.has_recent_account else self.account()
        )
        # After an early end the account has to be read again.
        self._last = None
        account = before
        sent = []
        for order in orders:
            if why := self._refusal(order, account):
                log.warning("%s: not sent: %s", order.client_order_id, why)
                self._outbox.deny(order.client_order_id, why)
                continue
            try:
                sent.append((order, self._outbox.post(order, gate)))
            except OrderRejected as error:
                log.warning("%s", error)
                continue
            # A resting order counts against the orders after it. An immediate one becomes a
            # position.
            if not order.is_immediate:
                account = replace(account, open_orders=(*account.open_orders, order))
        fills, done = self._await_fills(sent)
        # An order that still rests may fill at any time.
        if done:
            self._last = apply_fills(before, fills)
        return fills

    def _await_fills(self, sent: Sequence[tuple[Order, AlpacaOrder]]) -> tuple[list[Fill], bool]:
        """Wait for accepted orders; return their fills, and whether every order has ended.

        An order that should trade at once and is still open after the wait is cancelled. Stops are
        not waited for.
        """
        resting = sent and all(order.type in STOP_TYPES for order, _ in sent)
        patience = 0.0 if resting else self._patience
        awaited = self._venue.wait_until_done([placed for _, placed in sent], patience)
        fills: list[Fill] = []
        done = True
        immediate = [
            each for (order, _), each in zip(sent, awaited, strict=True) if order.is_immediate
        ]
        ended = iter(self._outbox.cancel_all(immediate))
        for (order, _), placed in zip(sent, awaited, strict=True):
            last = next(ended).report if order.is_immediate else self._outbox.record_report(placed)
            done = done and last.is_done
            if last.status in ("rejected", "expired"):
                name = order.client_order_id
                log.warning("%s: accepted by the venue, then %s", name, last.status)
            with self._venue.translate_errors(f"order {order.client_order_id}"):
                fills += _build_fills(order, last)
        return fills, done

    def _refusal(self, order: Order, account: AccountSnapshot) -> str:
        """Return why the venue would refuse this order, given the account, or an empty string."""
        others = account.without_orders(self._nonblocking_orders(order, account))
        asset = self._assets.get(order.symbol)
        return venue_refusal_reason(order, asset, others, self._terms, self._venue.estimated_now())

    def _nonblocking_orders(self, order: Order, account: AccountSnapshot) -> list[Order]:
        """Return the open orders that the check for wash trades ignores when it checks `order`.

        These are the order itself and, for a reduction, opposite orders of unknown outcome.
        """
        # An order that may be on its way counts as open, but not against itself. A reduction does
        # not wait for an opening of unknown outcome: if the venue has the opening, it refuses the
        # reduction.
        against = [o for o in account.open_orders if o.signed_qty * order.signed_qty < 0]
        unknown = [o for o in against if self._outbox.has_unknown_outcome(o.client_order_id)]
        return [order, *unknown] if order.reduces else [order]

    def cancel(self, client_order_ids: Iterable[str]) -> dict[str, Decimal]:
        self._last = None
        found: list[AlpacaOrder] = []
        unfilled: dict[str, Decimal] = {}
        reasons: dict[str, str] = {}
        for name in client_order_ids:
            try:
                found += filter(None, [self._venue.find(name)])
            except BrokerError as error:
                reasons[name] = str(error)
        for report, failure in self._outbox.cancel_all(found):
            name = report.client_order_id
            if not report.is_done:
                state = f"{name}: the order is still open after its cancellation ({report.status})"
                reasons[name] = state if failure is None else f"{name}: not cancelled: {failure}"
                continue
            with self._venue.translate_errors(f"order {name}"):
                ordered = OrderEntry.required_qty.read(report.response)
                unfilled[name] = ordered - report.filled_quantity
        if reasons:
            raise CancellationPending(unfilled, reasons)
        return unfilled

    def assets(self, symbols: Sequence[str]) -> dict[str, Asset]:
        listed: dict[str, JsonObject] = {}
        if len(symbols) > MAX_SINGLE_ASSET_QUERIES:
            for kind in {instrument(symbol).kind for symbol in symbols}:
                listed |= self._listed_entries(kind)
        assets = {}
        for symbol in symbols:
            what = f"asset {symbol}"
            answer = listed.get(venue_spelling(symbol))
            if answer is None and not listed:
                answer = self._venue.get_or_none(what, f"/assets/{symbol}")
            if answer is not None:
                with self._venue.translate_errors(what):
                    assets[symbol] = _asset(symbol, answer)
        self._assets |= assets
        return assets

    def listed_symbols(self) -> list[str]:
        names: list[str] = []
        for kind in AssetClass:
            with suppress(BrokerError):
                names += self._listed_entries(kind)
        return sorted(instrument(name).symbol for name in names if is_symbol(name))

    def _listed_entries(self, kind: AssetClass) -> dict[str, JsonObject]:
        """Return the venue's entry for each active asset of a class, by the venue's symbol."""
        name = "crypto" if kind is AssetClass.CRYPTO else "us_equity"
        with self._venue.translate_errors(f"assets of {name}"):
            query = {"status": "active", "asset_class": name}
            found = parse_object_list(self._venue.client.get("/assets", query))
            answers = {AssetEntry.symbol.read(answer): answer for answer in found}
            if not answers:
                raise InvalidResponse("the list of assets is empty")
            return answers


class AlpacaConnection(VenueConnection):
    """A `BrokerConnection` to the Alpaca account that the API keys belong to."""

    positions = read_positions
    activities_since = activities_since

    def create_gateway(self, **options: Any) -> AlpacaBroker:
        return AlpacaBroker(self._settings, self._keys, time=self.time, **options)


def _build_fills(order: Order, placed: AlpacaOrder) -> list[Fill]:
    """Return one fill for each order of a replacement chain that traded, at its mean fill price."""
    fills = []
    for each in reversed(placed.replacement_chain):
        if quantity := each.filled_quantity:
            signed = quantity if order.side == "buy" else -quantity
            price = float(OrderEntry.required_fill_price.read(each.response))
            name = order.client_order_id
            fills.append(Fill(name, order.symbol, signed, price, 0.0, each.last_filled_at))
    return fills


def _is_single_order(intent: OrderIntent) -> bool:
    """Return whether an order is for a stock or crypto, and not for a spread.

    Orders of several legs belong to other jobs.
    """
    return isinstance(intent.order, Order)


def _asset(symbol: str, answer: JsonObject) -> Asset:
    fractions = AssetEntry.fractionable.read(answer)
    # Without an increment of the venue, quantities have nine decimals if fractions trade, and are
    # whole otherwise.
    increment = AssetEntry.min_trade_increment.read(answer) or (
        MIN_CRYPTO_QTY if fractions else Decimal(1)
    )
    easy = AssetEntry.easy_to_borrow.read(answer)
    if easy is None:
        easy = AssetEntry.borrow_status.read(answer) == "easy_to_borrow"
    return Asset(
        symbol,
        tradable=AssetEntry.tradable.read(answer) and AssetEntry.status.read(answer) == "active",
        shortable=AssetEntry.shortable.read(answer),
        easy_to_borrow=easy,
        fractionable=fractions,
        increment=increment,
        min_order_qty=AssetEntry.min_order_size.read(answer) or increment,
    )
