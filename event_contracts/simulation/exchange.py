"""An exchange of event contracts with one account: several markets, stepped tick by tick.

Orders are matched by the same `kernel` as in the environments. A new order trades at once with the
book that its market shows; the book then shows less until the next tick. The remainder that rests
can fill with each call of `advance`. Each market is a record of the kernel. While a market trades,
its record holds the account's cash and the value of positions in other markets.

    tape = session_to_tick_records(session)
    exchange = Exchange([SimulatedListing("RAIN", tape)], EpisodeSettings(starting_cash=1000))
    placed = exchange.submit(EventContractOrder("mine", "RAIN", "BUY", "YES", D("0.42"), D(10)))
    placed.filled_count, placed.remaining_count   # traded at the ask, and resting
    exchange.advance()                            # every open market shows its next tick
    exchange.cash, exchange.position("RAIN"), exchange.fills

Markets step in the order in which they are listed. A market is active from its listing's first tick
until it shows the last row of its tape, which settles it: resting orders are cancelled, and the
position is paid, at once or `settlement_ticks` ticks later. `order_check` checks orders (cash,
inventory, limits); a venue without limits has `cash_buffer=0, limits=NO_POSITION_LIMITS`. The
exchange reads no clock and is not thread-safe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from event_contracts.simulation.kernel import (
    depth_within_limit,
    is_yes_outcome,
    match_new_order,
    reset_depth,
    step_market,
)
from event_contracts.simulation.settings import EpisodeSettings
from event_contracts.trading.actions import INTENT_SIDES, intent_code_of
from event_contracts.trading.event_risk import MarketEvent, StrikeRange, compute_exposure
from event_contracts.trading.fees import ZERO
from event_contracts.trading.orders import (
    ContractAction,
    ContractFill,
    ContractQuote,
    EventContractOrder,
    Exposure,
    MarketView,
    OrderReceipt,
    Outcome,
    RestingOrder,
)
from event_contracts.trading.records import (
    FILL_DTYPE,
    MARKET_DTYPE,
    MAX_FILLS_PER_STEP,
    MAX_RECORD_AMOUNT,
    MAX_RESTING_ORDERS,
    MICROS_PER_DOLLAR,
    MICROS_PER_PRICE_UNIT,
    ORDER_DTYPE,
    PRICE_UNITS_PER_DOLLAR,
    Record,
    price_to_usd,
    quote_from_tick,
)
from event_contracts.trading.venue_orders import (
    ORDER_STATE_BY_STATUS,
    SelfTradePrevention,
    VenueOrderStatus,
    self_trade_prevention,
    to_contract_order,
)
from execution.journal.order_store import OrderIntent, OrderProgress, OrderStore
from execution.journal.outbox import Outbox
from execution.orders.gate import ALLOW_ALL_ORDERS, OrderGate
from foundation.arrays import StructuredArray
from foundation.clock import TimeSource
from foundation.errors import InputError, OrderRejected

# Kalshi's names: closed once it has settled, determined a tick before it pays.
MarketState = Literal["initialized", "active", "closed", "determined", "finalized"]

_NO_ACTION = 0
_DEFAULT_START = np.datetime64("2026-01-01T00:00:00", "ns")
_MINUTE = np.timedelta64(1, "m")


@dataclass(frozen=True, eq=False, slots=True)
class SimulatedListing:
    """A market that is listed on the simulated exchange.

    tick_records: records of dtype `TICK_DTYPE` [T], T ≥ 2, the settlement row last.
    first_tick: tick of the exchange at which the market opens and shows row 0.
    event_ticker: ticker of the market's event; if empty, the market is its own event.
    is_mutually_exclusive: true if at most one market of its event pays YES.
    strike: range of figures for which the market pays YES; None for a market without thresholds.
    """

    ticker: str
    tick_records: StructuredArray = field(repr=False)
    first_tick: int = 0
    event_ticker: str = ""
    is_mutually_exclusive: bool = False
    strike: StrikeRange | None = None

    def __post_init__(self) -> None:
        if len(self.tick_records) < 2 or self.first_tick < 0:
            raise InputError(
                f"{self.ticker}: expected at least two rows and a first tick of 0 or later, got"
                f" {len(self.tick_records)} rows and first tick {self.first_tick}"
            )

    @property
    def market_event(self) -> MarketEvent:
        event_ticker = self.event_ticker or self.ticker
        return MarketEvent(event_ticker, self.is_mutually_exclusive, self.strike)


@dataclass(eq=False, slots=True)
class PlacedOrder:
    """An accepted order and its progress.

    placed_tick: tick at which the order was accepted.
    remaining_count: contracts that can still trade, without withheld ones; 0 in an ended order.
    state: `resting`; `executed`, completely traded; `canceled`, ended before that.
    fills: fills of the order, in booking order.
    expires_at: UTC, instant after which no tick fills the order; None: no expiry.
    withheld_count: contracts beyond the order's count that a fault withholds until the order ends.
    is_rejected_later: true if a fault keeps the order from trading and ends it by the next tick.
    """

    order_id: str
    order: EventContractOrder
    placed_tick: int
    remaining_count: Decimal
    state: VenueOrderStatus = "resting"
    fills: list[ContractFill] = field(default_factory=list)
    expires_at: np.datetime64 | None = None
    withheld_count: Decimal = ZERO
    is_rejected_later: bool = False

    @property
    def client_order_id(self) -> str:
        return self.order.client_order_id

    @property
    def count(self) -> Decimal:
        """Return the contracts of the order, including withheld ones."""
        return self.order.count + self.withheld_count

    @property
    def filled_count(self) -> Decimal:
        return sum((each.count for each in self.fills), ZERO)

    @property
    def open_count(self) -> Decimal:
        """Return the contracts that can still trade, plus withheld ones until the order ends."""
        return ZERO if self.is_done else self.remaining_count + self.withheld_count

    @property
    def is_done(self) -> bool:
        return self.state != "resting"

    @property
    def progress(self) -> OrderProgress:
        filled = self.filled_count
        paid = sum((each.price * each.count for each in self.fills), ZERO)
        state = ORDER_STATE_BY_STATUS[self.state]
        return OrderProgress(state, self.order_id, filled, paid / filled if filled else None)

    def matches(self, intent: OrderIntent) -> bool:
        return intent.order == self.order


@dataclass(frozen=True, slots=True)
class SimulatedSettlement:
    """Settlement of a simulated market.

    settled_tick: tick of the exchange at which the market settled.
    payout_tick: tick at which the payout is added to the cash.
    outcome: the winning side.
    position: contracts before settlement, YES positive and NO negative.
    payout: USD.
    """

    market: str
    settled_tick: int
    payout_tick: int
    outcome: Outcome
    position: Decimal
    payout: Decimal


@dataclass(eq=False, slots=True)
class _Market:
    """State of one listed market: kernel record, slots of resting orders, tape [T], settlement."""

    listing: SimulatedListing
    market_record: StructuredArray
    order_slots: StructuredArray
    tick_records: StructuredArray
    settlement: SimulatedSettlement | None = None

    @classmethod
    def from_listing(cls, listing: SimulatedListing) -> _Market:
        record = np.zeros(1, MARKET_DTYPE)
        record["rows"] = len(listing.tick_records)
        tape = np.ascontiguousarray(listing.tick_records)
        reset_depth(record[0], tape[0])
        return cls(listing, record[0], np.zeros(MAX_RESTING_ORDERS, ORDER_DTYPE), tape)

    @property
    def current_tick(self) -> Record:
        return self.tick_records[int(self.market_record["row"])]

    @property
    def is_settled(self) -> bool:
        return bool(self.market_record["row"] == self.market_record["rows"] - 1)

    @property
    def position(self) -> Decimal:
        return Decimal(int(self.market_record["yes"]) - int(self.market_record["no"]))

    @property
    def value_micros(self) -> int:
        """Return the position's value at mid quote, millionths of a USD."""
        quotes = int(self.current_tick["bid"]) + int(self.current_tick["ask"])
        yes, no = int(self.market_record["yes"]), int(self.market_record["no"])
        return (yes * quotes + no * (2 * PRICE_UNITS_PER_DOLLAR - quotes)) * (
            MICROS_PER_PRICE_UNIT // 2
        )

    def format_order_id(self, number: Any) -> str:
        return f"{self.listing.ticker}-{int(number)}"

    def remaining_by_order_id(self) -> dict[str, Decimal]:
        """Return the remaining contracts of each resting order, by order id, in slot order."""
        rows = self.order_slots[: int(self.market_record["resting"])]
        return {self.format_order_id(row["number"]): Decimal(int(row["remaining"])) for row in rows}

    def remove_order(self, order_id: str) -> None:
        slot = list(self.remaining_by_order_id()).index(order_id)
        resting = int(self.market_record["resting"])
        self.order_slots[slot : resting - 1] = self.order_slots[slot + 1 : resting].copy()
        self.market_record["resting"] -= 1


class OrderCheck(Protocol):
    """Interface of a pre-trade check of orders."""

    def refusal_reason(
        self,
        action: ContractAction,
        side: Outcome,
        price: Decimal,
        count: Decimal,
        view: MarketView,
        *,
        rests: bool,
    ) -> str | None:
        """Return the reason to refuse an order, or None if it is accepted."""


class Exchange:
    """A simulated exchange of several markets with one account; see the module's example.

    tick: present tick, the number of calls of `advance`.
    space: action space of the settings.
    order_check: pre-trade check of orders; by default the check of the action space.
    orders: every accepted order by its order_id, in the order of placement.
    fills: fills of all markets, in booking order.
    settlements: settlements of markets, paid or not.

    listings: one or more markets with distinct names.
    settings: starting cash, life of an order, limits, fees, price tick; the settings of synthetic
        markets, rewards and features are not used.
    start: UTC, the instant of tick 0.
    interval: time between ticks.
    settlement_ticks: ticks from end of trading to payment; the outcome is known a tick earlier.
    """

    def __init__(
        self,
        listings: Sequence[SimulatedListing],
        settings: EpisodeSettings | None = None,
        start: np.datetime64 = _DEFAULT_START,
        interval: np.timedelta64 = _MINUTE,
        settlement_ticks: int = 0,
    ) -> None:
        self.listings = {listing.ticker: listing for listing in listings}
        if not listings or len(self.listings) != len(listings):
            raise InputError("listings: expected at least one market, each with a different ticker")
        self.settings = settings or EpisodeSettings()
        self.start = start
        self.interval = interval
        self.tick = 0
        self.orders: dict[str, PlacedOrder] = {}
        self.fills: list[ContractFill] = []
        self.settlements: list[SimulatedSettlement] = []
        self.space = self.settings.default_action_space()
        self.order_check: OrderCheck = self.space.pre_trade_check
        self._terms = self.settings.build_scaled_order_rules()
        self._price_step = price_to_usd(self._terms.price_step_units)
        self._cash = self.settings.starting_cash_micros
        self._delay = settlement_ticks
        self._markets = {each.ticker: _Market.from_listing(each) for each in listings}
        self._fills = np.zeros(MAX_FILLS_PER_STEP, FILL_DTYPE)
        self._resting: dict[str, PlacedOrder] = {}

    @property
    def now(self) -> np.datetime64:
        """Return the instant of the current tick, UTC."""
        return self.instant_of(self.tick)

    def instant_of(self, tick: int) -> np.datetime64:
        """Return the instant of a tick, UTC."""
        instant: np.datetime64 = self.start + tick * self.interval
        return instant

    @property
    def cash(self) -> Decimal:
        """Return the cash in USD, without pending payouts, before costs of resting orders."""
        return Decimal(self._cash) / MICROS_PER_DOLLAR

    @property
    def position_value(self) -> Decimal:
        """Return the value of positions at mid quotes plus pending payouts, USD."""
        return Decimal(sum(map(self._position_value_micros, self.listings))) / MICROS_PER_DOLLAR

    @property
    def settlement_timer(self) -> np.timedelta64:
        """Return the time from the end of trading until a market pays."""
        return self._delay * self.interval

    @property
    def paid_settlements(self) -> list[SimulatedSettlement]:
        return [each for each in self.settlements if each.payout_tick <= self.tick]

    @property
    def is_over(self) -> bool:
        """Return whether every market has settled and paid."""
        return len(self.paid_settlements) == len(self.listings)

    @property
    def resting_orders(self) -> tuple[RestingOrder, ...]:
        """Return the account's orders in every market, oldest first."""
        placed = self._resting.values()
        return tuple(RestingOrder(one.order_id, one.order, one.remaining_count) for one in placed)

    def market_state(self, market: str) -> MarketState:
        """Return the current state of a market."""
        settlement = self._market(market).settlement
        if settlement is None:
            return "initialized" if self.tick < self.listings[market].first_tick else "active"
        left = settlement.payout_tick - self.tick
        if left <= 0:
            return "finalized"
        return "determined" if left == 1 else "closed"

    def outcome(self, market: str) -> Outcome | None:
        """Return the winning side; None before the market is determined."""
        settlement = self._market(market).settlement
        return (
            settlement.outcome if settlement and settlement.payout_tick <= self.tick + 1 else None
        )

    def position(self, market: str) -> Decimal:
        """Return the contracts held of a market, YES positive and NO negative.

        After settlement the position remains until the market pays.
        """
        unpaid = self._find_unpaid_settlement(market)
        return unpaid.position if unpaid else self._market(market).position

    def current_tick(self, market: str) -> Record:
        """Return the current tick of a market, a tick record; the settlement row once settled."""
        if self.market_state(market) == "initialized":
            raise InputError(
                f"{market} opens at tick {self.listings[market].first_tick} and has no quote yet"
            )
        return self._market(market).current_tick

    def quote(self, market: str) -> ContractQuote:
        return quote_from_tick(self.current_tick(market), self._price_step)

    def view(self, market: str) -> MarketView:
        """Return the account and the quote of a market, as input for a decision.

        Positions in other markets are valued at mid quotes, or at their pending payouts.
        """
        position = self.position(market)
        others = (other for other in self.listings if other != market)
        elsewhere = Decimal(sum(map(self._position_value_micros, others))) / MICROS_PER_DOLLAR
        quote = self.quote(market)
        resting = self.resting_orders
        exposure = self._exposure(market, resting)
        return MarketView(market, self.cash, position, resting, quote, elsewhere, exposure)

    def bid_and_ask_depth(self, market: str) -> tuple[Decimal, Decimal]:
        """Return the contracts available at the YES bid and at the YES ask of a market."""
        record = self._market(market).market_record
        return Decimal(int(record["bids"])), Decimal(int(record["asks"]))

    def depth_within_limit(self, order: EventContractOrder) -> tuple[Decimal, Decimal | None]:
        """Return the depth that a new order can reach, and the depth before a self-trade.

        The first number is the contracts of the opposite quote within the order's limit price, the
        second those that trade before it meets the account's own order; None if it meets none.
        """
        market = self._market(order.market)
        tables = market.market_record, market.order_slots, market.current_tick
        depth, own = depth_within_limit(
            *tables, intent_code_of(order), int(order.price * PRICE_UNITS_PER_DOLLAR)
        )
        return Decimal(int(depth)), None if own == MAX_RECORD_AMOUNT else Decimal(int(own))

    def submit(
        self,
        order: EventContractOrder,
        *,
        self_trade: SelfTradePrevention | None = None,
        withheld_count: Decimal = ZERO,
        rejects_later: bool = False,
    ) -> PlacedOrder:
        """Accept an order: it trades with the present book, and its remainder rests or ends.

        A client_order_id may repeat. Raises `OrderRejected` if the order is refused.

        self_trade: type of self-trade prevention; None: the type that the live client requests.
        withheld_count, rejects_later: injected faults, as in `PlacedOrder`.
        """
        market = self._market(order.market)
        price = int(order.price * PRICE_UNITS_PER_DOLLAR)
        state = self.market_state(order.market)
        if state != "active":
            why: str | None = f"the market is {state} and accepts no orders"
        elif price % self._terms.price_step_units:
            why = f"price ${order.price} is not a multiple of the price step, ${self._price_step}"
        elif order.count % 1:
            why = f"{order.count} is not a whole number of contracts"
        elif market.market_record["resting"] == MAX_RESTING_ORDERS:
            why = f"{MAX_RESTING_ORDERS} orders rest already, the maximum of a market"
        else:
            terms = order.action, order.side, order.price, order.count
            view = self.view(order.market)
            why = self.order_check.refusal_reason(*terms, view, rests=order.can_rest)
        prevention = self_trade or self_trade_prevention(order)
        if not why and order.time_in_force == "fill_or_kill":
            depth, own = self.depth_within_limit(order)
            found = depth if own is None or prevention == "maker" else min(depth, own)
            if found < order.count:
                why = f"fill-or-kill of {order.count} contracts, but the book offers {found} now"
        if why:
            raise OrderRejected(f"{order.market}: {why}")
        order_id = market.format_order_id(market.market_record["numbers"])
        placed = PlacedOrder(order_id, order, self.tick, order.count)
        placed.withheld_count, placed.is_rejected_later = withheld_count, rejects_later
        self.orders[order_id] = self._resting[order_id] = placed
        self._match_order(market, placed, cancels_own=prevention == "maker")
        return placed

    def cancel(self, order_id: str) -> None:
        """Cancel an order, unless it has ended. Raises `InputError` for an unknown id."""
        if order_id not in self.orders:
            raise InputError(f"{order_id}: unknown order id")
        if placed := self._resting.get(order_id):
            self._market(placed.order.market).remove_order(order_id)
            self._end_order(placed)

    def advance(self, *, paused: bool = False) -> None:
        """Move every active market to its next tick, and match its resting orders with the tick.

        paused: true if trading is paused. Orders then rest without fills until they expire.
        """
        after = self.now + self.interval
        for placed in list(self._resting.values()):
            is_expiring = placed.expires_at is not None and placed.expires_at < after
            if placed.is_rejected_later or is_expiring:
                self.cancel(placed.order_id)
        self.tick += 1
        due = [each for each in self.settlements if each.payout_tick == self.tick]
        self._cash += sum(int(each.payout * MICROS_PER_DOLLAR) for each in due)
        worth = sum(map(self._position_value_micros, self.listings))
        for ticker, market in self._markets.items():
            if self.tick > market.listing.first_tick and not market.is_settled:
                elsewhere = worth - self._position_value_micros(ticker)
                if market.market_record["resting"]:
                    self._set_exposure(ticker, market)
                self._step_market(ticker, market, elsewhere, paused)
                worth = elsewhere + self._position_value_micros(ticker)

    def _match_order(self, market: _Market, placed: PlacedOrder, *, cancels_own: bool) -> None:
        """Match a new order with the current book; its remainder rests or ends."""
        order = placed.order
        ticker, record = order.market, market.market_record
        worth = sum(map(self._position_value_micros, self.listings))
        self._write_account_values(market, worth - self._position_value_micros(ticker))
        self._set_exposure(ticker, market)
        record["fills"] = 0
        tables = record, market.order_slots, self._fills, market.current_tick, self._terms
        terms = intent_code_of(order), int(order.price * PRICE_UNITS_PER_DOLLAR), int(order.count)
        match_new_order(*tables, *terms, order.can_rest, cancels_own, placed.is_rejected_later)
        self._cash = int(record["cash"])
        self._append_fills(ticker, market)
        self._update_remaining_counts(ticker, market)

    def _write_account_values(self, market: _Market, elsewhere: int) -> None:
        """Copy the account's cash and the value of its other markets into this market's record.

        elsewhere: value of the other markets, millionths of a USD.
        """
        market.market_record["cash"] = self._cash
        market.market_record["elsewhere"] = elsewhere

    def _set_exposure(self, ticker: str, market: _Market) -> None:
        """Write maximum losses of positions (not orders) in other markets into this record."""
        record = market.market_record
        exposure = self._exposure(ticker, ())
        record["event_if_yes"], record["event_if_no"], record["other_events"] = exposure

    def _append_fills(self, ticker: str, market: _Market) -> None:
        """Append the fills of the kernel's last step to `fills` and to the orders concerned."""
        for row in self._fills[: int(market.market_record["fills"])]:
            order_id = market.format_order_id(row["number"])
            self.fills.append(to_contract_fill(row, order_id, ticker, self.tick))
            self.orders[order_id].fills.append(self.fills[-1])

    def _step_market(self, ticker: str, market: _Market, elsewhere: int, paused: bool) -> None:
        """Move a market to its next tick, match its resting orders, and settle it at the last tick.

        elsewhere: value of other markets, millionths of a USD.
        """
        record, held = market.market_record, market.position
        self._write_account_values(market, elsewhere)
        resting = int(record["resting"])
        if paused:
            # The kernel matches every order that is in its slots.
            record["resting"] = 0
        step_market(
            record, market.order_slots, self._fills, market.tick_records, self._terms, _NO_ACTION
        )
        if paused and not market.is_settled:
            record["resting"] = resting
        if market.is_settled:
            outcome: Outcome = "YES" if is_yes_outcome(market.current_tick) else "NO"
            payout = Decimal(int(record["cash"]) - self._cash) / MICROS_PER_DOLLAR
            pays = self.tick + self._delay
            market.settlement = SimulatedSettlement(ticker, self.tick, pays, outcome, held, payout)
            self.settlements.append(market.settlement)
        if not self._find_unpaid_settlement(ticker):
            self._cash = int(record["cash"])
        self._append_fills(ticker, market)
        self._update_remaining_counts(ticker, market)

    def _update_remaining_counts(self, ticker: str, market: _Market) -> None:
        """Copy the remainder of each order from the kernel; end orders that no longer rest."""
        left = market.remaining_by_order_id()
        for placed in [each for each in self._resting.values() if each.order.market == ticker]:
            if placed.order_id in left:
                placed.remaining_count = left[placed.order_id]
            else:
                self._end_order(placed)

    def _end_order(self, placed: PlacedOrder) -> None:
        placed.remaining_count = ZERO
        placed.state = "executed" if placed.filled_count == placed.count else "canceled"
        del self._resting[placed.order_id]

    def _position_value_micros(self, ticker: str) -> int:
        """Return a position's value at mid quote, or its pending payout, millionths of a USD."""
        unpaid = self._find_unpaid_settlement(ticker)
        return (
            int(unpaid.payout * MICROS_PER_DOLLAR) if unpaid else self._market(ticker).value_micros
        )

    def _exposure(self, market: str, resting: tuple[RestingOrder, ...]) -> Exposure:
        """Return the maximum losses of all other markets, if the orders in `resting` fill."""
        held = {
            ticker: each.position
            for ticker, each in self._markets.items()
            if each.position and not each.is_settled
        }
        quotes = {ticker: self.quote(ticker) for ticker in held}
        events = {ticker: each.market_event for ticker, each in self.listings.items()}
        return compute_exposure(market, held, resting, quotes, events)

    def _find_unpaid_settlement(self, ticker: str) -> SimulatedSettlement | None:
        """Return the settlement of a market if it is not paid yet, else None."""
        settlement = self._market(ticker).settlement
        return settlement if settlement and settlement.payout_tick > self.tick else None

    def _market(self, ticker: str) -> _Market:
        if ticker not in self._markets:
            raise InputError(
                f"{ticker}: unknown market; the exchange lists {', '.join(self.listings)}"
            )
        return self._markets[ticker]


def to_contract_fill(row: Record, order_id: str, market: str, tick: int = 0) -> ContractFill:
    """Convert a fill record of the kernel to a `ContractFill`."""
    action, side = INTENT_SIDES[int(row["intent"]) - 1]
    price, count = price_to_usd(row["price"]), Decimal(int(row["count"]))
    fee = Decimal(int(row["fee"])) / MICROS_PER_DOLLAR
    return ContractFill(order_id, market, action, side, price, count, bool(row["maker"]), fee, tick)


class SimulatedOrderManager:
    """Order manager over a simulated exchange; the caller moves time with `advance`.

    Orders are recorded before they are sent. A used client_order_id returns the earlier order.

    order_store: store of intents.
    gate: gate that checks each order right before it is sent.
    """

    def __init__(
        self, exchange: Exchange, order_store: OrderStore, gate: OrderGate = ALLOW_ALL_ORDERS
    ) -> None:
        self.exchange = exchange
        self._outbox = Outbox(_SimulatedVenue(exchange), order_store)
        self._gate = gate

    def advance(self) -> None:
        """Move every active market to its next tick, and match its resting orders with the tick."""
        before = self.exchange.resting_orders
        self.exchange.advance()
        for each in before:
            self._outbox.record_report(self.exchange.orders[each.order_id])

    def view(self, market: str) -> MarketView:
        return self.exchange.view(market)

    def next_order_expiry(self) -> None:
        """Return None: orders on the simulated exchange do not expire at an instant."""

    def submit(self, order: EventContractOrder) -> OrderReceipt:
        """Send an order once: it trades with the current book, and its remainder may rest."""
        before = self.exchange.resting_orders
        placed = self._outbox.post(order, self._gate)
        for each in before:
            self._outbox.record_report(self.exchange.orders[each.order_id])
        return OrderReceipt(placed.order_id, placed.filled_count, placed.remaining_count)

    def query_unknown_outcomes(self, market: str) -> tuple[OrderIntent, ...]:
        unknown = self._outbox.book.intents_with_unknown_outcome()
        return self._outbox.refresh_intents(
            each for each in unknown if to_contract_order(each).market == market
        )

    def cancel_stale_orders(
        self, market: str, sent_before: np.datetime64
    ) -> tuple[OrderIntent, ...]:
        """Return an empty tuple, because the exchange itself ends orders after `life` ticks."""
        del market, sent_before
        return ()

    def cancel(self, order_id: str) -> None:
        self.exchange.cancel(order_id)
        self._outbox.record_report(self.exchange.orders[order_id])


class _SimulatedVenue:
    """Adapter of the exchange to the `Venue` interface; a client_order_id may be used twice."""

    name: ClassVar[str] = "simulated"
    has_idempotent_client_ids: ClassVar[bool] = False

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.time = TimeSource(now=self.now, wait=lambda seconds: None)

    def now(self) -> np.datetime64:
        return self._exchange.now

    estimated_now = now

    def find(self, client_order_id: str, intent: OrderIntent | None) -> PlacedOrder | None:
        del intent
        orders = self._exchange.orders.values()
        return next((each for each in orders if each.client_order_id == client_order_id), None)

    def cancel(self, placed: PlacedOrder) -> None:
        self._exchange.cancel(placed.order_id)

    def refresh_order(self, placed: PlacedOrder) -> PlacedOrder:
        return placed

    def post(self, intent: OrderIntent, max_wait_seconds: float) -> PlacedOrder:
        del max_wait_seconds
        return self._exchange.submit(to_contract_order(intent))

    def is_lost(self, intent: OrderIntent, now: np.datetime64) -> bool:
        # An order reaches the exchange within the call that sends it, or never.
        del intent, now
        return True
