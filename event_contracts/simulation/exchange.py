"""An exchange of event contracts with one account: several markets, stepped tick by tick.

Orders are matched by the same `kernel` as in the environments. A new order trades at once with the
book that its market shows; the book then shows less until the next tick. The remainder that rests
can fill with each call of `advance`. Each market is a record of the kernel. While a market trades,
its record holds the account's cash and the value of positions in other markets.

    tape = session_to_tape(session)
    exchange = Exchange([SimulatedListing("RAIN", tape)], EpisodeSettings(starting_cash=1000))
    placed = exchange.submit(EventContractOrder("mine", "RAIN", "BUY", "YES", D("0.42"), D(10)))
    placed.filled_count, placed.remaining     # traded at the ask, and resting
    exchange.advance()                        # every open market shows its next tick
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
    is_yes_outcome,
    match_new_order,
    reachable_depth,
    reset_depth,
    step,
)
from event_contracts.simulation.settings import EpisodeSettings
from event_contracts.trading.actions import INTENT_SIDES, intent_of
from event_contracts.trading.event_risk import MarketEvent, Strike, compute_exposure
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
    MAX_AMOUNT,
    MAX_FILLS,
    MAX_RESTING_ORDERS,
    MICROS_PER_DOLLAR,
    MICROS_PER_PRICE_UNIT,
    ORDER_DTYPE,
    PRICE_UNITS,
    Record,
    price_usd,
    quote_from_tick,
)
from event_contracts.trading.venue_orders import (
    STATE_OF_STATUS,
    SelfTrade,
    Status,
    contract_order,
    self_trade_prevention,
)
from execution.journal.order_store import OrderIntent, OrderProgress, OrderStore
from execution.journal.outbox import Outbox
from execution.orders.gate import UNGUARDED, OrderGate
from foundation.arrays import Records
from foundation.clock import TimeSource
from foundation.errors import InputError, OrderRejected

# Kalshi's names: closed once it has settled, determined a tick before it pays.
MarketState = Literal["initialized", "active", "closed", "determined", "finalized"]

_NO_ACTION = 0
_EPOCH = np.datetime64("2026-01-01T00:00:00", "ns")
_MINUTE = np.timedelta64(1, "m")


@dataclass(frozen=True, eq=False, slots=True)
class SimulatedListing:
    """A market that is listed on the simulated exchange.

    tape: TICK records [T], T ≥ 2, the settlement row last (`sessions.session_to_tape`).
    first_tick: tick of the exchange at which the market opens and shows row 0.
    event: ticker of the market's event; if empty, the market is its own event.
    is_mutually_exclusive: true if at most one market of its event pays YES.
    strike: range of figures for which the market pays YES; None for a market without thresholds.
    """

    ticker: str
    tape: Records = field(repr=False)
    first_tick: int = 0
    event: str = ""
    is_mutually_exclusive: bool = False
    strike: Strike | None = None

    def __post_init__(self) -> None:
        if len(self.tape) < 2 or self.first_tick < 0:
            raise InputError(
                f"{self.ticker}: expected at least two rows and a first tick of 0 or later, got"
                f" {len(self.tape)} rows and first tick {self.first_tick}"
            )

    @property
    def market_event(self) -> MarketEvent:
        return MarketEvent(self.event or self.ticker, self.is_mutually_exclusive, self.strike)


@dataclass(eq=False, slots=True)
class PlacedOrder:
    """An accepted order and its progress.

    placed_tick: tick at which the order was accepted.
    remaining: contracts that can still trade, without withheld ones; 0 once the order has ended.
    state: `resting`; `executed`, completely traded; `canceled`, ended before that.
    fills: fills of the order, in booking order.
    expires: UTC, instant after which no tick fills the order; None: no expiry.
    withheld_count: contracts beyond the order's count that a fault keeps from trading; they are
        cancelled when the order ends.
    rejects_later: true if a fault keeps the order from trading and ends it before the next tick.
    """

    order_id: str
    order: EventContractOrder
    placed_tick: int
    remaining: Decimal
    state: Status = "resting"
    fills: list[ContractFill] = field(default_factory=list)
    expires: np.datetime64 | None = None
    withheld_count: Decimal = ZERO
    rejects_later: bool = False

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
        return ZERO if self.is_done else self.remaining + self.withheld_count

    @property
    def is_done(self) -> bool:
        return self.state != "resting"

    @property
    def progress(self) -> OrderProgress:
        filled = self.filled_count
        paid = sum((each.price * each.count for each in self.fills), ZERO)
        return OrderProgress(
            STATE_OF_STATUS[self.state], self.order_id, filled, paid / filled if filled else None
        )

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
    record: Records
    slots: Records
    tape: Records
    settlement: SimulatedSettlement | None = None

    @classmethod
    def from_listing(cls, listing: SimulatedListing) -> _Market:
        record = np.zeros(1, MARKET_DTYPE)
        record["rows"] = len(listing.tape)
        tape = np.ascontiguousarray(listing.tape)
        reset_depth(record[0], tape[0])
        return cls(listing, record[0], np.zeros(MAX_RESTING_ORDERS, ORDER_DTYPE), tape)

    @property
    def shown_tick(self) -> Record:
        return self.tape[int(self.record["row"])]

    @property
    def is_settled(self) -> bool:
        return bool(self.record["row"] == self.record["rows"] - 1)

    @property
    def position(self) -> Decimal:
        return Decimal(int(self.record["yes"]) - int(self.record["no"]))

    @property
    def value_micros(self) -> int:
        """Return the position's value at mid quote, millionths of a USD."""
        quotes = int(self.shown_tick["bid"]) + int(self.shown_tick["ask"])
        yes, no = int(self.record["yes"]), int(self.record["no"])
        return (yes * quotes + no * (2 * PRICE_UNITS - quotes)) * (MICROS_PER_PRICE_UNIT // 2)

    def order_id(self, number: Any) -> str:
        return f"{self.listing.ticker}-{int(number)}"

    def remaining(self) -> dict[str, Decimal]:
        """Return the remaining contracts of each resting order, by order id, in slot order."""
        rows = self.slots[: int(self.record["resting"])]
        return {self.order_id(row["number"]): Decimal(int(row["remaining"])) for row in rows}

    def remove_order(self, order_id: str) -> None:
        slot = list(self.remaining()).index(order_id)
        resting = int(self.record["resting"])
        self.slots[slot : resting - 1] = self.slots[slot + 1 : resting].copy()
        self.record["resting"] -= 1


class OrderCheck(Protocol):
    """Interface of a pre-trade check of orders."""

    def refusal(
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
    settlement_ticks: ticks from the end of trading until a market pays. The outcome is known one
        tick before the payment.
    """

    def __init__(
        self,
        listings: Sequence[SimulatedListing],
        settings: EpisodeSettings | None = None,
        start: np.datetime64 = _EPOCH,
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
        self._terms = self.settings.build_order_rule_terms()
        self._cash = self.settings.starting_cash_micros
        self._delay = settlement_ticks
        self._markets = {each.ticker: _Market.from_listing(each) for each in listings}
        self._fills = np.zeros(MAX_FILLS, FILL_DTYPE)
        self._open: dict[str, PlacedOrder] = {}

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
        return Decimal(sum(map(self._worth, self.listings))) / MICROS_PER_DOLLAR

    @property
    def settlement_timer(self) -> np.timedelta64:
        """Return the time from the end of trading until a market pays."""
        return self._delay * self.interval

    @property
    def payments(self) -> list[SimulatedSettlement]:
        return [each for each in self.settlements if each.payout_tick <= self.tick]

    @property
    def is_over(self) -> bool:
        """Return whether every market has settled and paid."""
        return len(self.payments) == len(self.listings)

    @property
    def resting_orders(self) -> tuple[RestingOrder, ...]:
        """Return the account's orders in every market, oldest first."""
        placed = self._open.values()
        return tuple(RestingOrder(each.order_id, each.order, each.remaining) for each in placed)

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
        unpaid = self._unpaid(market)
        return unpaid.position if unpaid else self._market(market).position

    def shown_tick(self, market: str) -> Record:
        """Return the current tick of a market, a TICK record; the settlement row once settled."""
        if self.market_state(market) == "initialized":
            raise InputError(
                f"{market} opens at tick {self.listings[market].first_tick} and has no quote yet"
            )
        return self._market(market).shown_tick

    def quote(self, market: str) -> ContractQuote:
        return quote_from_tick(self.shown_tick(market), price_usd(self._terms.tick))

    def view(self, market: str) -> MarketView:
        """Return the account and the quote of a market, as input for a decision.

        Positions in other markets are valued at mid quotes, or at their pending payouts.
        """
        position = self.position(market)
        others = (other for other in self.listings if other != market)
        elsewhere = Decimal(sum(map(self._worth, others))) / MICROS_PER_DOLLAR
        quote = self.quote(market)
        exposure = self._exposure(market, self.resting_orders)
        return MarketView(
            market, self.cash, position, self.resting_orders, quote, elsewhere, exposure
        )

    def depth(self, market: str) -> tuple[Decimal, Decimal]:
        """Return the contracts available at the YES bid and at the YES ask of a market."""
        record = self._market(market).record
        return Decimal(int(record["bids"])), Decimal(int(record["asks"]))

    def reachable_depth(self, order: EventContractOrder) -> tuple[Decimal, Decimal | None]:
        """Return the depth that a new order can reach, and the depth before a self-trade.

        The first number is the contracts of the opposite quote within the order's limit price. The
        second is the contracts that would trade before the new order meets a resting order of the
        same account; None if it meets none.
        """
        market = self._market(order.market)
        tables = market.record, market.slots, market.shown_tick
        depth, own = reachable_depth(*tables, intent_of(order), int(order.price * PRICE_UNITS))
        return Decimal(int(depth)), None if own == MAX_AMOUNT else Decimal(int(own))

    def submit(
        self,
        order: EventContractOrder,
        *,
        self_trade: SelfTrade | None = None,
        withheld_count: Decimal = ZERO,
        rejects_later: bool = False,
    ) -> PlacedOrder:
        """Accept an order: it trades with the present book, and its remainder rests or ends.

        A client_order_id may repeat. Raises `OrderRejected` if the order is refused.

        self_trade: type of self-trade prevention; None: the type that the live client requests.
        withheld_count, rejects_later: injected faults, as in `PlacedOrder`.
        """
        market = self._market(order.market)
        price = int(order.price * PRICE_UNITS)
        state = self.market_state(order.market)
        if state != "active":
            why: str | None = f"the market is {state} and accepts no orders"
        elif price % self._terms.tick or order.count % 1:
            why = f"{order.count} at ${order.price} is not on whole contracts and ticks"
        elif market.record["resting"] == MAX_RESTING_ORDERS:
            why = f"{MAX_RESTING_ORDERS} orders rest already, the maximum of a market"
        else:
            terms = order.action, order.side, order.price, order.count
            why = self.order_check.refusal(*terms, self.view(order.market), rests=order.rests)
        prevention = self_trade or self_trade_prevention(order)
        if not why and order.time_in_force == "fill_or_kill":
            depth, own = self.reachable_depth(order)
            found = depth if own is None or prevention == "maker" else min(depth, own)
            if found < order.count:
                why = f"fill-or-kill of {order.count} at ${order.price}; the book offers {found}"
        if why:
            raise OrderRejected(f"{order.market}: {why}")
        order_id = market.order_id(market.record["numbers"])
        placed = PlacedOrder(
            order_id,
            order,
            self.tick,
            order.count,
            withheld_count=withheld_count,
            rejects_later=rejects_later,
        )
        self.orders[order_id] = self._open[order_id] = placed
        self._trade(market, placed, cancels_own=prevention == "maker")
        return placed

    def cancel(self, order_id: str) -> None:
        """Cancel an order, unless it has ended. Raises `InputError` for an unknown id."""
        if order_id not in self.orders:
            raise InputError(f"{order_id}: unknown order id")
        if placed := self._open.get(order_id):
            self._market(placed.order.market).remove_order(order_id)
            self._end(placed)

    def advance(self, *, paused: bool = False) -> None:
        """Move every active market to its next tick, and match its resting orders with the tick.

        paused: true if trading is paused. Orders then rest without fills until they expire.
        """
        after = self.now + self.interval
        for placed in list(self._open.values()):
            if placed.rejects_later or (placed.expires is not None and placed.expires < after):
                self.cancel(placed.order_id)
        self.tick += 1
        due = [each for each in self.settlements if each.payout_tick == self.tick]
        self._cash += sum(int(each.payout * MICROS_PER_DOLLAR) for each in due)
        worth = sum(map(self._worth, self.listings))
        for ticker, market in self._markets.items():
            if self.tick > market.listing.first_tick and not market.is_settled:
                elsewhere = worth - self._worth(ticker)
                if market.record["resting"]:
                    self._set_exposure(ticker, market)
                self._step(ticker, market, elsewhere, paused)
                worth = elsewhere + self._worth(ticker)

    def _trade(self, market: _Market, placed: PlacedOrder, *, cancels_own: bool) -> None:
        """Match a new order with the current book; its remainder rests or ends."""
        order = placed.order
        ticker = order.market
        self._lend(market, sum(map(self._worth, self.listings)) - self._worth(ticker))
        self._set_exposure(ticker, market)
        market.record["fills"] = 0
        tables = market.record, market.slots, self._fills, market.shown_tick, self._terms
        terms = intent_of(order), int(order.price * PRICE_UNITS), int(order.count)
        match_new_order(*tables, *terms, order.rests, cancels_own, placed.rejects_later)
        self._cash = int(market.record["cash"])
        self._take_fills(ticker, market)
        self._note_remaining(ticker, market)

    def _lend(self, market: _Market, elsewhere: int) -> None:
        """Copy the account's cash and the value of its other markets into this market's record.

        elsewhere: value of the other markets, millionths of a USD.
        """
        market.record["cash"] = self._cash
        market.record["elsewhere"] = elsewhere

    def _set_exposure(self, ticker: str, market: _Market) -> None:
        """Write maximum losses of positions (not orders) in other markets into this record."""
        record = market.record
        exposure = self._exposure(ticker, ())
        record["event_if_yes"], record["event_if_no"], record["other_events"] = exposure

    def _take_fills(self, ticker: str, market: _Market) -> None:
        """Append the fills of the kernel's last step to `fills` and to the orders concerned."""
        for row in self._fills[: int(market.record["fills"])]:
            order_id = market.order_id(row["number"])
            self.fills.append(to_contract_fill(row, order_id, ticker, self.tick))
            self.orders[order_id].fills.append(self.fills[-1])

    def _step(self, ticker: str, market: _Market, elsewhere: int, paused: bool) -> None:
        """Move a market to its next tick, match its resting orders, and settle it at the last tick.

        elsewhere: value of other markets, millionths of a USD.
        """
        record, held = market.record, market.position
        self._lend(market, elsewhere)
        resting = int(record["resting"])
        if paused:
            # The kernel matches every order that is in its slots.
            record["resting"] = 0
        step(record, market.slots, self._fills, market.tape, self._terms, _NO_ACTION)
        if paused and not market.is_settled:
            record["resting"] = resting
        if market.is_settled:
            outcome: Outcome = "YES" if is_yes_outcome(market.shown_tick) else "NO"
            payout = Decimal(int(record["cash"]) - self._cash) / MICROS_PER_DOLLAR
            pays = self.tick + self._delay
            market.settlement = SimulatedSettlement(ticker, self.tick, pays, outcome, held, payout)
            self.settlements.append(market.settlement)
        if not self._unpaid(ticker):
            self._cash = int(record["cash"])
        self._take_fills(ticker, market)
        self._note_remaining(ticker, market)

    def _note_remaining(self, ticker: str, market: _Market) -> None:
        """Copy the remainder of each order from the kernel; end orders that no longer rest."""
        left = market.remaining()
        for placed in [each for each in self._open.values() if each.order.market == ticker]:
            if placed.order_id in left:
                placed.remaining = left[placed.order_id]
            else:
                self._end(placed)

    def _end(self, placed: PlacedOrder) -> None:
        placed.remaining = ZERO
        placed.state = "executed" if placed.filled_count == placed.count else "canceled"
        del self._open[placed.order_id]

    def _worth(self, ticker: str) -> int:
        """Return a position's value at mid quote, or its pending payout, millionths of a USD."""
        unpaid = self._unpaid(ticker)
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

    def _unpaid(self, ticker: str) -> SimulatedSettlement | None:
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
    """Convert a FILL record of the kernel to a `ContractFill`."""
    action, side = INTENT_SIDES[int(row["intent"]) - 1]
    price, count = price_usd(row["price"]), Decimal(int(row["count"]))
    fee = Decimal(int(row["fee"])) / MICROS_PER_DOLLAR
    return ContractFill(order_id, market, action, side, price, count, bool(row["maker"]), fee, tick)


class SimulatedOrderManager:
    """Order manager over a simulated exchange; the caller moves time with `advance`.

    Orders are recorded before they are sent, as at a real venue. An order with a used
    client_order_id returns the earlier order.

    book: store of intents; None keeps them in memory.
    gate: gate that checks each order right before it is sent.
    """

    def __init__(
        self, exchange: Exchange, book: OrderStore | None = None, gate: OrderGate = UNGUARDED
    ) -> None:
        self.exchange = exchange
        self._outbox = Outbox(_Venue(exchange), book)
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
        """Send an order once.

        The order trades with the current book; a resting remainder can fill from the next tick on.
        """
        before = self.exchange.resting_orders
        placed = self._outbox.post(order, self._gate)
        for each in before:
            self._outbox.record_report(self.exchange.orders[each.order_id])
        return OrderReceipt(placed.order_id, placed.filled_count, placed.remaining)

    def query_unknown_outcomes(self, market: str) -> tuple[OrderIntent, ...]:
        unknown = self._outbox.book.unknown_outcomes()
        return self._outbox.refresh(
            each for each in unknown if contract_order(each).market == market
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


class _Venue:
    """Adapter of the exchange to the `Venue` interface; a client_order_id may be used twice."""

    name: ClassVar[str] = "simulated"
    has_idempotent_client_ids: ClassVar[bool] = False

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.time = TimeSource(now=self.now, wait=lambda seconds: None)

    def now(self) -> np.datetime64:
        return self._exchange.now

    def estimated_now(self) -> np.datetime64:
        return self._exchange.now

    def find(self, client_order_id: str, intent: OrderIntent | None) -> PlacedOrder | None:
        del intent
        orders = self._exchange.orders.values()
        return next((each for each in orders if each.client_order_id == client_order_id), None)

    def cancel(self, placed: PlacedOrder) -> None:
        self._exchange.cancel(placed.order_id)

    def reload(self, placed: PlacedOrder) -> PlacedOrder:
        return placed

    def post(self, intent: OrderIntent, patience: float) -> PlacedOrder:
        del patience
        return self._exchange.submit(contract_order(intent))

    def is_lost(self, intent: OrderIntent, now: np.datetime64) -> bool:
        # An order reaches the exchange within the call that sends it, or never.
        del intent, now
        return True
