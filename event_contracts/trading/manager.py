"""One account at Kalshi: its state, and its orders in many markets, each sent once.

The reader rejects a snapshot that lists fewer fills of an order than a response about that order
stated. The venue may list fills and settlements late. If the listed ones do not explain a change of
the account, the account is therefore read again. A change that persists is accepted and alerted.

A pair of YES and NO pays $1 at once, so that a NO is booked as a short YES with $1 of collateral.
With positions q, YES positive and NO negative, and independent of the sequence of the fills:

    cash + Σ max(−q, 0)  moves by  −p·C − fee of a bid, p·C − fee of an ask,
                         and by  q·y of a market that pays y for a YES

p is the price of YES, C are contracts, and `fee` is the venue's stated charge, or the fee by this
project's rules if the venue states none. The venue lists no deposits. A change in cash that the
formula does not explain is a deposit, or a withdrawal if negative. Less than $1 is rounding, and
counts as profit or loss. If positions are unexplained as well, the whole change counts as profit or
loss, because unlisted trades have then moved cash.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from types import MappingProxyType

import numpy as np

from event_contracts.trading.actions import PreTradeCheck
from event_contracts.trading.endpoint import (
    JsonObject,
    KalshiConnection,
    KalshiKeys,
    KalshiSettings,
)
from event_contracts.trading.event_risk import compute_exposure
from event_contracts.trading.fees import ZERO, FeeRules
from event_contracts.trading.fields import UnreadableRow
from event_contracts.trading.listings import (
    MarketEventLookup,
    MarketListing,
    MarketSettlement,
    QuarantinedMarket,
    check_all_listed,
    find_unreadable_reasons,
    position_payout,
    read_market_listings,
    value_at_bids,
)
from event_contracts.trading.orders import (
    EventContractOrder,
    MarketView,
    OrderReceipt,
    RestingOrder,
)
from event_contracts.trading.venue_orders import (
    FILLS_PATH,
    OrderVenue,
    VenueFill,
    VenueOrder,
    epoch_seconds,
    parse_signed_count,
    to_contract_order,
    to_resting_order,
)
from execution.journal.order_store import OrderIntent, OrderStore
from execution.journal.outbox import POLL_DELAYS_SECONDS, SINGLE_POLL_DELAYS_SECONDS, Outbox
from execution.journal.rows import BoundedAmount, Instant
from execution.orders.gate import ALLOW_ALL_ORDERS, OrderGate
from foundation.clock import SYSTEM_TIME, TimeSource
from foundation.decimals import CENT
from foundation.errors import BrokerError, OrderRejected, OutcomeUnknown, ResponseRejected
from trainingdata.feed.fields import RequiredField, parse_text

log = logging.getLogger(__name__)

MIN_CASH_FLOW_USD = Decimal(1)  # USD
# A fill's rounding, plus earlier rounding that is rebated with it.
FEE_TOL_USD = 2 * CENT
EPOCH = np.datetime64(0, "ns")
# Fills and settlements of this span are read again: some are listed late.
REREAD_WINDOW = np.timedelta64(1, "h")

NO_REASONS: Mapping[str, str] = MappingProxyType({})

# Returns the rules in force in a market at an instant.
FeeRulesLookup = Callable[[str, np.datetime64], FeeRules]
# Contracts by market, YES positive and NO negative; without zeros.
Positions = Mapping[str, Decimal]


@dataclass(frozen=True, slots=True)
class AccountUpdates:
    """Fills and settlements since an instant, as the venue lists them.

    fills: fills, oldest first.
    settlements: settlements of markets.
    unreadable_rows: rows of both lists that could not be parsed.
    """

    fills: tuple[VenueFill, ...] = ()
    settlements: tuple[MarketSettlement, ...] = ()
    unreadable_rows: tuple[UnreadableRow, ...] = ()


@dataclass(frozen=True, slots=True)
class AccountBooks:
    """Cash and positions of an account at one time, as the venue reports them.

    at: instant on this machine's clock at which the snapshot began.
    cash: USD, including the cash that resting orders may use.
    positions: contracts by market, YES positive and NO negative.
    fill_ids: ids of the fills in these books, as far as the venue still listed them.
    settlement_keys: market and instant of the settlements in these books, as far as still listed.
    """

    at: Instant
    cash: BoundedAmount
    positions: Mapping[str, BoundedAmount] = field(default_factory=dict)
    fill_ids: frozenset[str] = frozenset()
    settlement_keys: frozenset[tuple[str, Instant]] = frozenset()

    @classmethod
    def build(
        cls, at: np.datetime64, cash: Decimal, positions: Positions, updates: AccountUpdates
    ) -> AccountBooks:
        """Return the books of an account snapshot, which include every listed update.

        The id of an unreadable fill is included, because its contracts are in the positions.
        """
        unread = (row.row_id for row in updates.unreadable_rows if row.list_name == "fills")
        fills = frozenset((*(fill.fill_id for fill in updates.fills), *unread))
        settlements = frozenset((each.market, each.paid_at) for each in updates.settlements)
        return cls(at, cash, positions, fills, settlements)


@dataclass(frozen=True, slots=True)
class PaidPosition:
    """A position that a settlement has paid out.

    position: contracts, YES positive and NO negative.
    payout: USD.
    """

    settlement: MarketSettlement
    position: Decimal
    payout: Decimal


@dataclass(frozen=True, slots=True)
class ExpectedBooks:
    """Expected books: earlier books plus the fills and settlements that were listed afterwards.

    books: books with the expected cash and positions.
    new_fill_count: number of fills that are not in the earlier books.
    excess_fee_remarks: descriptions of charges above the fee rules.
    paid_positions: positions that settlements have paid out and removed from the books.
    """

    books: AccountBooks
    new_fill_count: int = 0
    excess_fee_remarks: tuple[str, ...] = ()
    paid_positions: tuple[PaidPosition, ...] = ()

    @property
    def remarks(self) -> tuple[str, ...]:
        """Return descriptions of charges above the fee rules and of contradictory settlements."""
        settled = (each.settlement for each in self.paid_positions)
        remarks = [f"settlement of {each.market}: {each.remark}" for each in settled if each.remark]
        return (*self.excess_fee_remarks, *remarks)

    def net_deposits(self, books: AccountBooks) -> Decimal:
        """Return net deposits up to later books, USD; 0 if small, or if positions do not agree."""
        flow = books.cash - self.books.cash
        return ZERO if self.unexplained_positions(books) or abs(flow) < MIN_CASH_FLOW_USD else flow

    def unexplained_positions(
        self, books: AccountBooks, excluded_markets: Collection[str] = ()
    ) -> tuple[str, ...]:
        """Return descriptions of positions in later books that differ from the expected ones.

        excluded_markets: markets to skip.
        """
        positions = self.books.positions
        return tuple(
            f"{market}: position is {_format_position(shown)} at the venue,"
            f" {_format_position(expected)} by its fills"
            for market in sorted({*positions, *books.positions} - {*excluded_markets})
            if (expected := positions.get(market, ZERO))
            != (shown := books.positions.get(market, ZERO))
        )


def apply_updates(
    books: AccountBooks, updates: AccountUpdates, fee_rules_of: FeeRulesLookup
) -> ExpectedBooks:
    """Return the books that are expected after these updates, by the formula of this module.

    books: earlier books.
    fee_rules_of: returns the fee rules of a market at an instant.
    """
    new = {fill.fill_id: fill for fill in updates.fills if fill.fill_id not in books.fill_ids}
    cash = books.cash + _short_yes_collateral(books.positions)
    traded: dict[str, Decimal] = defaultdict(Decimal)
    fees = []
    for fill in new.values():
        bought = fill.count if fill.side == "bid" else -fill.count
        traded[fill.market] += bought
        rules = fee_rules_of(fill.market, fill.filled_at)
        ours = rules.compute_fee(fill.price, fill.count, maker=not fill.is_taker)
        fee = ours if fill.fee is None else fill.fee
        if fee - ours >= FEE_TOL_USD:
            fees.append(f"fill {fill.fill_id}: fee charged ${fee}, but ${ours} by configured rates")
        cash -= bought * fill.price + fee
    positions = {market: books.positions.get(market, ZERO) for market in traded}
    positions = {**books.positions, **positions}
    held = {market: count + traded[market] for market, count in positions.items()}
    paid = []
    for each in updates.settlements:
        paid_before = (each.market, each.paid_at) in books.settlement_keys
        # In a market that had paid before, fills listed late are paid out as well.
        count = (traded if paid_before else held).get(each.market, ZERO)
        if paid_before:
            payout = position_payout(count, each.yes_payout)
        else:
            payout = each.payout(count)
            paid.append(PaidPosition(each, count, payout))
        # The $1 of collateral of a NO is released at settlement.
        cash += payout - max(-count, ZERO)
        held[each.market] = held.get(each.market, ZERO) - count
    held = {market: count for market, count in held.items() if count}
    expected = replace(books, cash=cash - _short_yes_collateral(held), positions=held)
    return ExpectedBooks(expected, len(new), tuple(fees), tuple(paid))


@dataclass(frozen=True, slots=True)
class KalshiSnapshot:
    """An account snapshot compared with earlier books.

    resting_orders: resting orders of any sender, oldest first, then unlisted orders of this project
        that may still trade.
    new_fill_count: number of fills that the earlier books do not include.
    spendable_cash: USD available for orders, the smaller of the venue's and the expected cash. It
        excludes unbooked deposits.
    net_deposits: deposits less withdrawals since the earlier books, USD.
    discrepancies: descriptions of changes that fills, settlements and fee rules do not explain.
        Deposits and quarantined markets are not included.
    paid_positions: positions that were paid out since the earlier books.
    unreadable_reasons: reasons why rows of markets cannot be read, by ticker. The books keep the
        last known positions in these markets.
    """

    books: AccountBooks
    resting_orders: tuple[RestingOrder, ...]
    new_fill_count: int
    spendable_cash: Decimal
    net_deposits: Decimal
    discrepancies: tuple[str, ...]
    paid_positions: tuple[PaidPosition, ...] = ()
    unreadable_reasons: Mapping[str, str] = field(default_factory=dict)

    def quarantine_reasons(
        self, listings: Iterable[MarketListing] = (), known_reasons: Mapping[str, str] = NO_REASONS
    ) -> dict[str, str]:
        """Return the reasons why markets are quarantined, by ticker.

        listings: listings of markets, some of which may be unreadable.
        known_reasons: further reasons; reasons of listings and of this snapshot take precedence.
        """
        return {**known_reasons, **find_unreadable_reasons(listings), **self.unreadable_reasons}


class AccountReader:
    """Reader of one account, which compares each snapshot with earlier books.

    fee_rules_of: returns the fee rules of a market at an instant.
    books: earlier books, the baseline of the comparison; by default those of the first snapshot.
    """

    def __init__(
        self, venue: OrderVenue, outbox: Outbox[VenueOrder], fee_rules_of: FeeRulesLookup
    ) -> None:
        self.books: AccountBooks | None = None
        self._venue = venue
        self._outbox = outbox
        self._rules_of = fee_rules_of
        self._began_at: np.datetime64 | None = None
        self._answered: dict[str, Decimal] = {}
        self._market_of: dict[str, str] = {}  # by order id
        self._listed: dict[str, dict[str, Decimal]] = defaultdict(dict)
        self._lasting: tuple[Decimal, tuple[str, ...]] | None = None

    def set_baseline(self, books: AccountBooks) -> None:
        self.books = books
        self._began_at = books.at if self._began_at is None else self._began_at

    def expect_fills(self, order: VenueOrder, sent_at: np.datetime64) -> None:
        """Make later snapshots fail if they list fewer fills of an order than its response stated.

        sent_at: instant of sending. Orders sent before the first books are not checked, because
            their fills may be too old to be listed.
        """
        if order.filled_count and self._began_at is not None and sent_at >= self._began_at:
            answered = self._answered.get(order.order_id, ZERO)
            self._answered[order.order_id] = max(answered, order.filled_count)
            self._market_of[order.order_id] = order.market

    def read_snapshot(self) -> KalshiSnapshot:
        """Read the account until two reads of its lists agree; return the snapshot.

        The lists must include all fills that responses to orders stated. Unexplained changes are
        accepted once they persist in a second snapshot. Raises `BrokerError` if the reads never
        agree.
        """
        delays = (*SINGLE_POLL_DELAYS_SECONDS, *POLL_DELAYS_SECONDS)
        for _ in self._venue.time.delayed_attempts(delays):
            at = self._venue.now()
            since = (at if self.books is None else min(self.books.at, at)) - REREAD_WINDOW
            news = self._read_updates(at, since)
            cash = self._venue.read_cash()
            positions, unread_positions = _read_positions(self._venue)
            resting, unread_orders = self._read_resting_orders()
            # A trade between the snapshots may or may not be in the cash.
            still = self._read_updates(at, since) == news
            self._began_at = at if self._began_at is None else self._began_at
            unread = (*news.unreadable_rows, *unread_positions, *unread_orders)
            quarantined = {row.market: self._venue.keys.redact(str(row)) for row in unread}
            missing = self._find_missing_fills(news, quarantined)
            if not still or missing:
                continue
            books = AccountBooks.build(at, cash, positions, news)
            if self.books is None:
                self.books = books
            come_to = apply_updates(self.books, news, self._rules_of)
            before = come_to.books.positions
            expected = {row.market: before.get(row.market) for row in unread_positions}
            known = {market: count for market, count in expected.items() if count}
            books = replace(books, positions={**positions, **known})
            unexplained = (come_to.net_deposits(books), come_to.unexplained_positions(books))
            if not any(unexplained) or unexplained == self._lasting:
                break
        if missing:
            raise BrokerError(f"account does not reconcile: {'; '.join(missing)}")
        if not still:
            raise BrokerError("account changed at every read; stop other trading in it and retry")
        if any(unexplained) and unexplained != self._lasting:
            log.warning("unexplained change of the account: cash $%s, positions %s", *unexplained)
        self._lasting = unexplained
        return KalshiSnapshot(
            books=books,
            resting_orders=resting,
            new_fill_count=come_to.new_fill_count,
            spendable_cash=min(books.cash, come_to.books.cash),
            net_deposits=come_to.net_deposits(books),
            discrepancies=(*come_to.unexplained_positions(books, quarantined), *come_to.remarks),
            paid_positions=come_to.paid_positions,
            unreadable_reasons=quarantined,
        )

    def _read_updates(self, at: np.datetime64, since: np.datetime64) -> AccountUpdates:
        """Read the fills and settlements listed since an instant.

        A settlement without an instant gets the instant of the first snapshot that lists it.
        """
        news = _read_account_updates(self._venue, since)
        known = {} if self.books is None else dict(self.books.settlement_keys)
        settlements = tuple(
            replace(each, paid_at=known.get(each.market, at)) if np.isnat(each.paid_at) else each
            for each in news.settlements
        )
        return replace(news, settlements=settlements)

    def _read_resting_orders(self) -> tuple[tuple[RestingOrder, ...], tuple[UnreadableRow, ...]]:
        """Read the resting orders; return them, and the rows that cannot be read.

        Orders of this project get action and side from their intents. An order that rested before
        and is missing in the list is queried by id. If the query fails, all its unfilled contracts
        count as resting.

        The store of intents is updated with the state of each order. Later snapshots must list the
        fills that the orders state.
        """
        book = self._outbox.book
        waiting, unread = self._venue.list_resting_orders()
        listed = [self._outbox.record_report(order) for order in waiting]
        resting = []
        with self._venue.translate_errors("resting orders"):
            for order in listed:
                intent = book.get(order.client_order_id)
                if intent is None or not order.matches(intent):
                    resting.append(order.to_resting_order(reduces=False))
                else:
                    self.expect_fills(order, intent.sent_at)
                    is_sale = to_contract_order(intent).action == "SELL"
                    resting.append(order.to_resting_order(is_sale))
        names = {order.order_id for order in listed}
        for intent in book.intents_in_states(("accepted",)):
            venue_id = intent.progress.venue_order_id
            if intent.venue != self._venue.name or venue_id in names:
                continue
            found = None
            try:
                found = self._venue.get_order(venue_id)
            except ResponseRejected as error:
                unread = (
                    *unread,
                    UnreadableRow(to_contract_order(intent).market, "orders", venue_id, str(error)),
                )
            except BrokerError as error:
                log.warning("%s", error)
            if found is None:
                resting.append(to_resting_order(intent))
            elif self._outbox.record_report(found).is_done or not found.remaining_count:
                self.expect_fills(found, intent.sent_at)
            else:
                resting.append(found.to_resting_order(to_contract_order(intent).action == "SELL"))
        return tuple(resting), unread

    def _find_missing_fills(
        self, news: AccountUpdates, quarantined: Mapping[str, str]
    ) -> tuple[str, ...]:
        """Return descriptions of stated fills not listed yet, except in quarantined markets."""
        for fill in news.fills:
            self._listed[fill.order_id][fill.fill_id] = fill.count
        listed = {name: sum(self._listed[name].values(), ZERO) for name in self._answered}
        left = {
            name: answered
            for name, answered in self._answered.items()
            if listed[name] < answered and self._market_of[name] not in quarantined
        }
        self._answered = left
        return tuple(
            f"order {name}: {answered} filled by its response, {listed[name]} in the list of fills"
            for name, answered in left.items()
        )


def _read_positions(
    connection: KalshiConnection,
) -> tuple[dict[str, Decimal], tuple[UnreadableRow, ...]]:
    """Read the positions; return contracts by market, without zeros, and unreadable rows."""
    ticker, count = (
        RequiredField("ticker", parse_text),
        RequiredField("position_fp", parse_signed_count),
    )

    def parse_position(entry: JsonObject) -> tuple[str, Decimal]:
        return ticker.read(entry), count.read(entry)

    stated, unread = connection.list_readable_entries(
        "positions", "/portfolio/positions", "market_positions", parse_position
    )
    return {market: count for market, count in stated if count}, unread


def _read_account_updates(connection: KalshiConnection, since: np.datetime64) -> AccountUpdates:
    query = {"min_ts": epoch_seconds(since)}
    fills, unread = connection.list_readable_entries(
        "fills", FILLS_PATH, "fills", VenueFill.parse, **query
    )
    what = "settlements"
    paid, unpaid = connection.list_readable_entries(
        what, f"/portfolio/{what}", what, MarketSettlement.parse, **query
    )
    return AccountUpdates(_sort_fills(fills, since), tuple(paid), (*unread, *unpaid))


def _sort_fills(listed: Sequence[VenueFill], since: np.datetime64) -> tuple[VenueFill, ...]:
    """Return the fills sorted by time, oldest first.

    A fill without an instant gets the instant of the previous fill. Only its fee depends on the
    instant.

    listed: fills, newest first.
    since: instant for fills before the first one with an instant.
    """
    at = since
    fills = []
    for fill in reversed(listed):
        at = at if np.isnat(fill.filled_at) else fill.filled_at
        fills.append(replace(fill, filled_at=at))
    return tuple(sorted(fills, key=lambda fill: fill.filled_at))


def _short_yes_collateral(positions: Positions) -> Decimal:
    """Return the collateral of NO positions, USD: $1 a NO, because it is booked as a short YES."""
    return sum((max(-count, ZERO) for count in positions.values()), ZERO)


def _format_position(position: Decimal) -> str:
    if position < 0:
        return f"{-position} NO"
    return f"{position} YES" if position else "none"


ORDER_LIFE = np.timedelta64(600, "s")


class KalshiMultiMarketOrderManager:
    """Live order manager for every market of one account at Kalshi.

    pre_trade_check: pre-trade check of every order.
    fee_rules_of: function that returns the fee rules of a market at an instant.
    order_store: store of intents.
    gate: gate that checks each order right before it is sent.
    job: name of the job that sends the orders.
    order_life: time after which a resting order expires at the venue.
    time: clock of this machine, because the venue reports none.

    Every method raises `BrokerError` if the venue does not respond or its responses disagree.
    """

    def __init__(
        self,
        settings: KalshiSettings,
        keys: KalshiKeys,
        pre_trade_check: PreTradeCheck,
        fee_rules_of: FeeRulesLookup,
        *,
        order_store: OrderStore,
        gate: OrderGate = ALLOW_ALL_ORDERS,
        job: str = "",
        order_life: np.timedelta64 = ORDER_LIFE,
        time: TimeSource = SYSTEM_TIME,
    ) -> None:
        self.venue = OrderVenue(settings, keys, time)
        self._life = order_life
        self._outbox = Outbox(self.venue, order_store, job)
        self._gate = gate
        self._account = AccountReader(self.venue, self._outbox, fee_rules_of)
        self._admission = pre_trade_check
        self._events = MarketEventLookup(self.venue)
        self._job = job
        # An order is checked against an account that includes the previous one.
        self._turn = threading.RLock()

    def set_baseline(self, books: AccountBooks) -> None:
        """Set the books with which later snapshots are compared; by default the first snapshot."""
        with self._turn:
            self._account.set_baseline(books)

    def read_snapshot(self) -> KalshiSnapshot:
        """Read the account and compare it with the baseline; new deposits are not spendable."""
        with self._turn:
            return self._account.read_snapshot()

    def view(self, market: str) -> MarketView:
        """Read the account and the quote of a market, as the view for a decision.

        The cash is the smaller of the venue's and the expected cash. Orders of unknown outcome
        are included as resting, with their whole count and client_order_id.
        """
        with self._turn:
            return self._read_view_and_listing(market)[0]

    def next_order_expiry(self) -> np.datetime64:
        """Return the instant at which an order sent now would expire, in whole seconds."""
        return np.datetime64(epoch_seconds(self.venue.now() + self._life) * 10**9, "ns")

    def submit(self, order: EventContractOrder) -> OrderReceipt:
        """Send an order once; a used client_order_id returns the earlier order.

        Raises `OrderRejected` if the pre-trade check or the venue rejects the order, or has
        rejected it before. Raises `OutcomeUnknown` if the outcome is unknown: the order counts as
        resting until the venue states an outcome.
        """
        with self._turn:
            name = order.client_order_id
            before = self._outbox.book.get(name)
            is_new = before is None or self._outbox.may_be_sent(before)
            if is_new and (why := self._refusal(order)):
                self._outbox.deny(name, why)
                raise OrderRejected(f"{name}: not sent: {why}")
            answer = self._outbox.post(
                replace(order, expires_at=self.next_order_expiry()), self._gate
            )
            if is_new:
                self._account.expect_fills(answer, self.venue.now())
            return OrderReceipt(answer.order_id, answer.filled_count, answer.remaining_count)

    def cancel(self, order_id: str) -> None:
        """Cancel an order, unless it has ended.

        order_id: the venue's id, or the client_order_id for an order of unknown outcome.
        """
        with self._turn:
            if self._outbox.may_have_been_sent(order_id):
                if self._outbox.resolve_order(order_id) == "unknown":
                    raise OutcomeUnknown(f"order {order_id}: outcome unknown; cancel again later")
                return
            self._cancel_and_expect_fills(order_id, EPOCH)

    def cancel_stale_orders(
        self, market: str, sent_before: np.datetime64
    ) -> tuple[OrderIntent, ...]:
        """Cancel working orders in a market that are old or inadmissible, and return them.

        The venue fills a resting order without a check. An order is therefore inadmissible if its
        remainder would be refused as a new order given the other resting orders. Orders of other
        senders, of other jobs and of unknown outcome stay. Guards are not checked, because
        cancelling only reduces risk. Without a working order the venue is not queried.

        sent_before: orders sent before this instant are old.
        """
        with self._turn:
            working = self._outbox.book.intents_in_states(("accepted",))
            ours = [i for i in working if _is_for_market(i, market) and i.job == self._job]
            ended = [i for i in ours if i.sent_at < sent_before]
            for intent in reversed(ended):
                self._cancel_and_expect_fills(intent.progress.venue_order_id, intent.sent_at)
            for intent in reversed([i for i in ours if i.sent_at >= sent_before]):
                if not self._may_rest(intent):
                    self._cancel_and_expect_fills(intent.progress.venue_order_id, intent.sent_at)
                    ended.append(intent)
            return tuple(ended)

    def query_unknown_outcomes(self, market: str) -> tuple[OrderIntent, ...]:
        """Query a market's orders of unknown outcome, 20 s at most; return those still unknown."""
        with self._turn:
            unknown = self._outbox.book.intents_with_unknown_outcome()
            return self._outbox.refresh_intents(
                each for each in unknown if _is_for_market(each, market)
            )

    def _read_view_and_listing(self, market: str) -> tuple[MarketView, MarketListing]:
        """Read the account; return the view for a decision on a market, and its listing."""
        unknown = self._outbox.book.intents_with_unknown_outcome()
        waiting = self._outbox.refresh_intents(
            each for each in unknown if each.venue == OrderVenue.name
        )
        reading = self._account.read_snapshot()
        positions = reading.books.positions
        elsewhere = {name: count for name, count in positions.items() if name != market}
        listed = {each.order.client_order_id for each in reading.resting_orders}
        unlisted = [
            to_resting_order(each) for each in waiting if each.client_order_id not in listed
        ]
        resting = (*reading.resting_orders, *unlisted)
        markets = (market, *positions, *(each.order.market for each in resting))
        listings = read_market_listings(self.venue, markets)
        events = self._events.lookup_events(listings.values())
        unsettled = {
            name: count for name, count in positions.items() if not listings[name].is_settled
        }
        quotes = {name: each.quote for name, each in listings.items()}
        view = MarketView(
            market,
            reading.spendable_cash,
            positions.get(market, ZERO),
            resting,
            listings[market].quote,
            value_at_bids(elsewhere, listings),
            compute_exposure(market, unsettled, resting, quotes, events),
        )
        check_all_listed((listings[market],))
        if why := reading.quarantine_reasons(listings.values()).get(market):
            raise QuarantinedMarket(f"{market} is quarantined: {why}")
        return view, listings[market]

    def _may_rest(self, intent: OrderIntent) -> bool:
        """Return whether a resting order's remainder may rest, False in a quarantined market."""
        order = to_contract_order(intent)
        try:
            view, _ = self._read_view_and_listing(order.market)
        except QuarantinedMarket as error:
            log.warning("%s", error)
            return False
        name = intent.progress.venue_order_id
        others = replace(
            view, resting_orders=tuple(r for r in view.resting_orders if r.order_id != name)
        )
        left = [each.remaining_count for each in view.resting_orders if each.order_id == name]
        return not any(
            self._admission.refusal_reason(order.action, order.side, order.price, count, others)
            for count in left
        )

    def _cancel_and_expect_fills(self, order_id: str, sent_at: np.datetime64) -> None:
        """Cancel a working order; later snapshots must list the fills that it had until then."""
        order = self.venue.get_order(order_id)
        if order is None:
            raise BrokerError(f"order {order_id}: not found at the venue")
        ended = self._outbox.cancel_and_wait(order)
        self._account.expect_fills(ended, sent_at)
        if ended.status == "resting":
            raise BrokerError(f"order {order_id}: still resting after its cancellation")

    def _refusal(self, order: EventContractOrder) -> str | None:
        """Return why the market or the pre-trade check refuses an order, as text, or None."""
        view, listing = self._read_view_and_listing(order.market)
        return listing.refusal_reason(order) or self._admission.refusal_reason(
            order.action, order.side, order.price, order.count, view, rests=order.can_rest
        )


def _is_for_market(intent: OrderIntent, market: str) -> bool:
    return intent.venue == OrderVenue.name and to_contract_order(intent).market == market
