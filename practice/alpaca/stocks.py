"""The practice venue without HTTP: an account on recorded bars, with Alpaca's rules for orders.

The account is at an instant of the panel; `advance` moves it to a later one. A market order fills
at the open of the bar that starts at that instant; waiting orders are matched with later bars.
Fills come from the simulated broker of a backtest. With daily bars the clock also stops in the
evening, when auctions start to accept orders, and at each auction, after its fills.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from math import isinf
from types import MappingProxyType
from typing import Any

import numpy as np

from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.auctions import NEXT_AUCTION_ACCEPTANCE_TIME
from execution.orders.broker import Asset
from execution.orders.orders import PRICE_FIELDS, STOP_TYPES, Fill, Order, Side, parse_order_prefix
from execution.orders.venue_rules import (
    stop_price_refusal_reason,
    tick_size_refusal_reason,
    venue_refusal_reason,
)
from foundation.arrays import Instants
from marketsimulator.account.broker import SimulatedBroker
from marketsimulator.run_result import DELISTED, BookingKind
from marketsimulator.settings import BacktestSettings
from practice.alpaca.entry_prices import DailyEntryPrices, trading_day
from practice.alpaca.options import VenueOptions
from practice.alpaca.record import VenueOrder, VenueRecord
from practice.alpaca.tickets import OrderTicket, format_quantity, format_timestamp, parse_order
from practice.faults import FaultKind, InjectedFault, OrderStatus
from practice.request import RequestRefused, ResponseBody
from practice.settings import OptionTerms, PracticeSettings
from sizing.quantity import truncate_to_increment
from trainingdata.bars import CLOSE, HIGH, LOW
from trainingdata.instants import at_new_york_time, new_york_date, new_york_midnight
from trainingdata.instruments import MIN_CRYPTO_QTY, AssetClass, is_crypto, venue_spelling
from trainingdata.market import Market
from trainingdata.sessions import is_in_session

PARTIAL_FILL_CRYPTO_INCREMENT = Decimal("0.001")
# Activities other than trades, by Alpaca's document: cash for a fraction is part of SPLIT, PTC is
# the cost of a short.
_ACTIVITY_TYPE_BY_BOOKING_KIND: Mapping[BookingKind, str] = {
    "interest": "INT",
    "cash_interest": "INT",
    "rounding": "FEE",
    "dividend": "DIV",
    "split": "SPLIT",
    "borrow": "PTC",
}
_SYMBOL_ACTIVITY_TYPES = ("DIV", "SPLIT", "PTC")
INVALID_PRICE_ERROR_CODE = 42210000  # Alpaca's, between two increments or beyond the market
NEVER = np.datetime64("2262-01-01", "ns")
# docs.alpaca.markets/docs/orders-at-alpaca: a buy stop becomes a stop-limit order; its limit is 4 %
# above a stop below 50 USD, and 2.5 % above any other.
CONVERTED_LIMIT_RATIOS = (1.04, 1.025)
CONVERTED_LIMIT_THRESHOLD = 50.0  # USD
ASSET_PERMISSIONS = ("tradable", "shortable", "easy_to_borrow", "fractionable")


class Venue:
    """The practice venue: one account, its orders and its clock.

    settings: costs, margin and lot sizes, as for a backtest.
    market: market of the venue; the clock starts at the market's `start_row`.
    index: row of the panel of the last instant reached.
    stops: instants at which the clock stops.
    stop: number of the present stop.
    client_bars: bars that clients may request, which include bars not yet confirmed.
    broker: simulated broker with the account.
    options: options trading of the account.
    record: activities and orders of stocks, crypto and options.
    tickets: orders of stocks and crypto by client_order_id, in order of arrival.
    entries: entry prices of positions, and the last trading day's closes.
    equities: last equity of each trading day so far, USD by date.
    flags: permissions of restricted assets, by symbol.
    halts: start and end (None: still halted) of each trading halt, by symbol.
    """

    def __init__(self, settings: BacktestSettings, market: Market) -> None:
        # At Alpaca the remainder of a market order keeps working if a bar is missing or has too
        # little volume; a client that wants it cancelled has to cancel it.
        settings = replace(settings, fills=replace(settings.fills, remainder="carry"))
        self.settings = settings
        self.market = market
        self.client_bars = market.bars.with_unconfirmed_bars()
        self.index = market.start_row
        self._auctions = auction_instants(market)
        self.stops = np.union1d(clock_stop_instants(market), self._auctions)
        self.stop = 0
        self.broker: SimulatedBroker = settings.build_broker(market)
        self.tickets: dict[str, OrderTicket] = {}
        self.record = VenueRecord(lambda: self.now)
        self.flags: dict[str, dict[str, bool]] = {}
        self.halts: dict[str, list[tuple[np.datetime64, np.datetime64 | None]]] = {}
        self.entries = DailyEntryPrices(self._closes_before(trading_day(self.now)))
        self.equities: dict[np.datetime64, float] = {}
        self._working: dict[str, OrderTicket] = {}
        self._ticket_by_part: dict[str, OrderTicket] = {}
        self._lagging_fills: list[tuple[np.datetime64, Fill]] = []
        self._increments = {each.symbol: each.qty_increment for each in market.bars.instruments}
        self._fills_seen = 0
        self._bookings_seen = 0
        terms = settings.options if isinstance(settings, PracticeSettings) else OptionTerms()
        self.options = VenueOptions(self.record, self.broker, market.bars, self.market_price, terms)

    @property
    def now(self) -> np.datetime64:
        return np.datetime64(self.stops[self.stop])

    @property
    def is_over(self) -> bool:
        """Return whether the clock is at its last stop."""
        return self.stop + 1 >= len(self.stops)

    def advance(self, row: int) -> None:
        """Advance to a later row of the panel, through all instants in between.

        Waiting orders are matched with the bars on the way.
        """
        while self.index < min(row, len(self.market.bars.times) - 1):
            self.step()

    def step(self) -> None:
        """Advance to the clock's next stop; match waiting orders with bars that become known."""
        following = self.stops[self.stop + 1]
        is_auction = following in self._auctions
        ends_bar = following == self.market.bars.times[self.index + 1]
        # The row of an instant is complete once the clock leaves it: later orders at the same
        # instant still fill at its open.
        if is_auction or (ends_bar and self.now not in self._auctions):
            self._record_bookings()
            self.end_due_cancellations(following - np.timedelta64(1, "ns"))
            self.equities[trading_day(self.now)] = self.equity
        if (is_auction or ends_bar) and trading_day(following) != trading_day(self.now):
            self.entries.start_day(self.broker.account().prices)
            self.options.start_day()
        self.stop += 1
        if is_auction:
            self.broker.advance_to_auction()
        elif ends_bar:
            self.index += 1
            self.broker.advance(self.index)
            self.options.advance()
            self._elect_resting_orders()
        self._update_tickets()

    @property
    def equity(self) -> float:
        """Return cash plus the value of all positions, including options, USD."""
        options = sum(float(position["market_value"]) for position in self.options.positions())
        return self.broker.account().equity + self.options.reserved_cash + options

    def _closes_before(self, day: np.datetime64) -> dict[str, float]:
        """Return the last close of each symbol before a New York date."""
        until = new_york_midnight(np.array([day]))[0]
        closes = {}
        for s, symbol in enumerate(self.market.bars.symbols):
            times, values = self.market.bars.bars_of_symbol(s)
            known = int(np.searchsorted(times, until, side="right"))
            if known:
                closes[symbol] = float(values[known - 1, CLOSE])
        return closes

    def submit(
        self,
        request: Mapping[str, Any],
        *,
        partial: bool = False,
        reject: bool = False,
        slow: Mapping[FaultKind, InjectedFault] = MappingProxyType({}),
    ) -> ResponseBody:
        """Accept an order and return it in Alpaca's format.

        request: body of `POST /v2/orders`.
        partial: true to fill half of the order and cancel the rest.
        reject: true to accept the order and reject it afterwards.
        slow: slow-venue faults that apply to the order, by kind.

        Raises `RequestRefused` for an order that Alpaca would refuse.
        """
        if request.get("order_class") == "mleg":
            return self.options.submit(request, partial=partial, reject=reject)
        order = parse_order(request, len(self.tickets))
        if "converted_stop" in slow:
            order = _convert_to_stop_limit(order)
        account = self.broker.account()
        held = account.positions.get(order.symbol, Decimal(0))
        if order.type in STOP_TYPES and held * order.signed_qty < 0:
            # Its shares are reserved for it: if the broker closes the position, it ends.
            order = replace(order, reduces=True)
        self._check_order(order, account)
        ticket = OrderTicket(order, self.record.current_timestamp, slow=dict(slow))
        self._send_order(ticket, partial=partial, reject=reject)
        return ticket.to_response()

    def cancel(self, order: VenueOrder, seconds: float = 0.0) -> None:
        """Cancel an open order. Raises `RequestRefused` if it has ended or is being cancelled.

        seconds: time until the cancellation completes, not used for options; infinite: never.
        """
        if not order.is_open:
            raise RequestRefused(422, None, f"order is already in {order.status} state")
        if not isinstance(order, OrderTicket):
            self.options.cancel(order)
            return
        if order.cancels_at is not None:
            raise RequestRefused(422, None, "order pending cancel")
        order.cancels_at = self._instant_after(seconds)
        order.status = "pending_cancel"
        if not seconds:
            self._end_cancellation(order)

    def end_due_cancellations(self, at: np.datetime64) -> None:
        """Complete the cancellations that are due at an instant within the present bar.

        Before that, orders are matched with the open of the bar that starts now.
        """
        due = [t for t in self._working.values() if t.cancels_at is not None and t.cancels_at <= at]
        if due:
            self.broker.open_bars()
            self._update_tickets()
        for ticket in due:
            self._end_cancellation(ticket)

    def _end_cancellation(self, ticket: OrderTicket) -> None:
        self.broker.cancel(ticket.parts)
        self._update_tickets()

    def _instant_after(self, seconds: float) -> np.datetime64:
        """Return the time on the clock plus `seconds`; infinite seconds are `NEVER`."""
        if isinf(seconds):
            return NEVER
        passed = np.timedelta64(round(seconds * 1e9), "ns")
        return np.datetime64(max(self.now, self.record.running()) + passed)

    def shown_positions(self) -> dict[str, Decimal]:
        """Return the positions that the API shows, by symbol, without lagging fills."""
        positions = defaultdict(Decimal, self.broker.account().positions)
        for until, fill in self._lagging_fills:
            if self.record.running() < until:
                positions[fill.symbol] -= fill.qty
        return {symbol: quantity for symbol, quantity in positions.items() if quantity}

    def _check_order(self, order: Order, account: AccountSnapshot) -> None:
        """Raise `RequestRefused` for an order that Alpaca would refuse."""
        self.record.refuse_duplicate_order_id(order.client_order_id)
        if order.symbol not in self.market.bars.symbols:
            raise RequestRefused(
                422, None, f"asset {order.symbol} is not tradable at the practice venue"
            )
        if reason := tick_size_refusal_reason(order) or stop_price_refusal_reason(
            order, account.prices.get(order.symbol)
        ):
            raise RequestRefused(422, INVALID_PRICE_ERROR_CODE, reason)
        # A request does not state whether it opens or closes: the venue derives that from the
        # position. Only an order marked as opening is subject to the asset's limits on shorts.
        held = account.positions.get(order.symbol, Decimal(0))
        opens_short = not order.reduces and order.side == "sell" and held <= 0
        marked = order if opens_short else replace(order, reduces=True)
        asset, at = self.asset(order.symbol), self.record.running()
        if reason := venue_refusal_reason(marked, asset, account, self.settings.orders, at):
            raise RequestRefused(403, None, reason)
        if opens_short and order.instrument.kind is AssetClass.CRYPTO:
            name = venue_spelling(order.symbol)
            raise RequestRefused(403, None, f"insufficient balance for {name} (available: 0)")

    def _send_order(
        self, ticket: OrderTicket, *, partial: bool = False, reject: bool = False
    ) -> None:
        """Record a ticket and send its order to the broker, unless the order is to be rejected.

        partial: true to send half of the order only; the ticket then ends as cancelled.
        reject: true to mark the ticket as rejected.
        """
        order = ticket.order
        self.tickets[order.client_order_id] = ticket
        self.record.record_order(ticket)
        if reject:
            ticket.status = "rejected"
            ticket.closed_at = self.record.current_timestamp
            return
        self._working[order.client_order_id] = ticket
        ticket.parts = (order.client_order_id,)
        rests = "partial_rests" in ticket.slow and not order.is_for_auction
        if (partial or rests) and (half := _half_quantity(order)):
            # The ticket keeps the whole quantity. After the half has filled, the ticket ends as
            # cancelled, or the rest trades later.
            if rests:
                rest = replace(
                    order, client_order_id=f"{ticket.venue_order_id}.rest", qty=order.qty - half
                )
                ticket.parts += (rest.client_order_id,)
                self.broker.submit([rest], matched_from=NEVER)
            order = replace(order, qty=half)
        self._ticket_by_part |= dict.fromkeys(ticket.parts, ticket)
        self.broker.submit([order], matched_from=NEVER if "elected_rests" in ticket.slow else None)
        self._update_tickets()

    def _elect_resting_orders(self) -> None:
        """Turn stop-limit orders whose stop the last bar has reached into resting limit orders."""
        for ticket in self._working.values():
            order = ticket.order
            s = self.market.bars.symbols.index(order.symbol)
            bar = self.market.bars.values[s, self.index]
            stop = order.stop_price or 0.0
            reached = bar[LOW] <= stop if order.side == "sell" else bar[HIGH] >= stop
            if reached and (fault := ticket.slow.pop("elected_rests", None)):
                at = self._instant_after(fault.delay_seconds)
                self.broker.defer_matching(order.client_order_id, at, "limit")

    def _release_rest(self, ticket: OrderTicket, *, filled: bool) -> None:
        """Let the second half of an order trade, or cancel it if the first half has not filled."""
        rest = ticket.parts[1]
        if filled:
            at = self._instant_after(ticket.slow["partial_rests"].delay_seconds)
            self.broker.defer_matching(
                rest, at, "market" if ticket.order.limit_price is None else "limit"
            )
            ticket.parts = (rest,)
        else:
            self.broker.cancel([rest])

    def market_price(self, symbol: str) -> float | None:
        """Return the present price of a symbol before costs, USD; None before its first bar.

        It is the open of the bar that starts at this instant, or without one the last close.
        """
        opening = self.broker.open_price(symbol) if symbol in self.market.bars.symbols else None
        return opening or self.broker.account().prices.get(symbol)

    def asset(self, symbol: str) -> Asset:
        """Return the permissions, lot size and minimum order quantity of a symbol of the panel."""
        coin = is_crypto(symbol)
        flags = {
            "tradable": True,
            "shortable": not coin,
            "easy_to_borrow": not coin,
            "fractionable": True,
        }
        flags |= self.flags.get(symbol, {})
        return Asset(
            symbol,
            **flags,
            increment=MIN_CRYPTO_QTY,
            min_order_qty=self._min_order_quantity(symbol),
        )

    def _min_order_quantity(self, symbol: str) -> Decimal:
        """Return the minimum order quantity of a symbol.

        For crypto it is the quantity whose present value is `orders.crypto_dust`, in USD.
        """
        price = self.broker.account().prices.get(symbol)
        if not is_crypto(symbol) or price is None:
            return MIN_CRYPTO_QTY
        quantity = truncate_to_increment(self.settings.orders.crypto_dust / price, MIN_CRYPTO_QTY)
        return max(quantity, MIN_CRYPTO_QTY)

    def set_halted(self, symbol: str, halted: bool) -> None:
        """Halt or resume trading in a symbol.

        A halted symbol has no bars, and its orders wait.
        """
        spans = self.halts.setdefault(symbol, [])
        if halted == bool(spans and spans[-1][1] is None):
            return
        if halted:
            spans.append((self.now, None))
        else:
            spans[-1] = (spans[-1][0], self.now)
        self.broker.set_halted(symbol, halted)

    def _record_bookings(self) -> None:
        """Record the present instant's cash flows other than trades as activities."""
        self.broker.open_bars()
        row = self.broker.equity_row()
        self._update_tickets()
        for order in self.broker.account().open_orders:
            ticket = self._ticket_by_part[order.client_order_id]
            prices = {name: getattr(order, name) for name in PRICE_FIELDS}
            ticket.order = replace(ticket.order, **prices)
        flows: defaultdict[tuple[str, str], float] = defaultdict(float, {("FEE", ""): -row.fees})
        for booking in self.broker.bookings[self._bookings_seen :]:
            if kind := _ACTIVITY_TYPE_BY_BOOKING_KIND.get(booking.kind):
                symbol = booking.symbol if kind in _SYMBOL_ACTIVITY_TYPES else ""
                flows[kind, symbol] += booking.usd
        self._bookings_seen = len(self.broker.bookings)
        for (kind, symbol), usd in flows.items():
            if usd:
                entry = {
                    "activity_type": kind,
                    "date": str(self.now.astype("datetime64[D]")),
                    "net_amount": repr(usd),
                }
                self.record.record_activity(entry | ({"symbol": symbol} if symbol else {}))

    def _update_tickets(self) -> None:
        """Apply the broker's new fills and order states to the tickets."""
        for fill in self.broker.fills[self._fills_seen :]:
            self._record_fill(fill)
        self._fills_seen = len(self.broker.fills)
        parts = [part for ticket in self._working.values() for part in ticket.parts]
        states = self.broker.order_states(parts)
        for client_id, ticket in list(self._working.items()):
            # An order that the broker refused has no state there: it ends as cancelled.
            state, *rest = [states.get(part, "canceled") for part in ticket.parts]
            if state != "working" and "working" in rest:
                self._release_rest(ticket, filled=state == "filled")
                state = "working" if state == "filled" else state
            if state == "working":
                ticket.status = self._open_status(ticket)
                continue
            ticket.closed_at = self.record.current_timestamp
            del self._working[client_id]
            if ticket.filled_quantity == ticket.order.qty:
                ticket.status = "filled"
                continue
            ticket.status = "expired" if state == "expired" else "canceled"

    def _open_status(self, ticket: OrderTicket) -> OrderStatus:
        """Return Alpaca's word for the status of an order that is open at the broker."""
        if ticket.cancels_at is not None:
            return "pending_cancel"
        if ticket.filled_quantity:
            return "partially_filled"
        # An order for a closed market is accepted, and new once the market opens.
        stock = ticket.order.instrument.kind is AssetClass.STOCK
        return "accepted" if stock and not is_in_session(np.array([self.now]))[0] else "new"

    def _record_fill(self, fill: Fill) -> None:
        """Record a fill as an activity, and add it to the ticket of its order if there is one.

        A liquidation first gets an order of the venue.
        """
        ticket = self._ticket_by_part.get(fill.client_order_id)
        traded_at = max(format_timestamp(fill.at), self.record.current_timestamp)
        ended = parse_order_prefix(fill.client_order_id) == DELISTED
        if ticket is None and fill.price > 0 and not ended:
            # It was priced at the open, even if the clock has moved over several instants since.
            ticket, traded_at = self._record_liquidation_order(fill), format_timestamp(fill.at)
        if ticket is not None:
            ticket.fills.append(fill)
            if fault := ticket.slow.get("stale_positions"):
                self._lagging_fills.append((self._instant_after(fault.delay_seconds), fill))
        if ticket is None or fill.price == 0:
            kind = "CFEE" if ticket else "MA" if ended else "SPLIT"
            if kind == "SPLIT":
                ratio = self.entries.apply_split(fill.symbol, fill.qty)
                self._adjust_tickets(fill.symbol, ratio)
            else:
                self.entries.add_fill(fill.symbol, fill.qty, fill.price)
            self._record_unordered_fill(fill, kind)
            return
        self.entries.add_fill(fill.symbol, fill.qty, fill.price)
        done = ticket.filled_quantity == ticket.order.qty
        ticket.status = "filled" if done else "partially_filled"
        ticket.closed_at = self.record.current_timestamp if done else None
        activity = {
            "activity_type": "FILL",
            "type": "fill" if done else "partial_fill",
            "transaction_time": traded_at,
            **_trade_fields(fill),
            "side": ticket.order.side,
            "leaves_qty": format_quantity(ticket.order.qty - ticket.filled_quantity),
            "cum_qty": format_quantity(ticket.filled_quantity),
            "order_id": ticket.venue_order_id,
            "order_status": ticket.status,
        }
        self.record.record_activity(activity)

    def _adjust_tickets(self, symbol: str, ratio: float) -> None:
        """Apply a split to the orders of a symbol that were open, as the broker does.

        FINRA Rule 5330 has the rule. An order may have filled since.

        ratio: old shares per new share.
        """
        for ticket in self._working.values():
            order, filled = ticket.order, ticket.filled_quantity
            if order.symbol != symbol:
                continue
            increment = self._increments[symbol]
            left = truncate_to_increment(float(order.qty - filled) / ratio, increment)
            limit, stop = order.limit_price, order.stop_price
            ticket.order = replace(
                order,
                qty=max(left + filled, increment),
                limit_price=None if limit is None else limit * ratio,
                stop_price=None if stop is None else stop * ratio,
            )

    def _record_unordered_fill(self, fill: Fill, kind: str) -> None:
        """Record a position change that is not a trade as an activity, with its signed quantity.

        A crypto fee (CFEE) reduces the purchased quantity. A split (SPLIT) changes the number of
        shares. A merger or another delisting (MA) pays the value of the shares.

        kind: Alpaca's type of the activity.
        """
        day = str(fill.at.astype("datetime64[D]"))
        signed = {**_trade_fields(fill), "qty": format_quantity(fill.qty)}
        paid = repr(0.0 - float(fill.qty) * fill.price) if fill.price else "0"
        self.record.record_activity(
            {"activity_type": kind, "date": day, **signed, "net_amount": paid}
        )

    def _record_liquidation_order(self, fill: Fill) -> OrderTicket:
        """Create and record the venue's own order for a fill that liquidates; return its ticket."""
        side: Side = "buy" if fill.qty > 0 else "sell"
        order = Order(fill.client_order_id, fill.symbol, side, abs(fill.qty), "margin call")
        ticket = OrderTicket(order, format_timestamp(fill.booked_at))
        self.tickets[order.client_order_id] = ticket
        self._ticket_by_part[order.client_order_id] = ticket
        self.record.record_order(ticket)
        return ticket


def clock_stop_instants(market: Market) -> Instants:
    """Return the instants at which the clock stops: new bars, and openings of order entry.

    With daily bars that fill at the open, the auction accepts orders from the evening before on.
    """
    bars = market.bars
    times = bars.times[market.start_row :]
    if bars.timeframe.auction_time_in_force != "opg" or bars.crypto.all():
        return times
    evenings = at_new_york_time(new_york_date(times), NEXT_AUCTION_ACCEPTANCE_TIME)
    return np.union1d(times, evenings[(evenings > times[0]) & (evenings < times[-1])])


def _half_quantity(order: Order) -> Decimal:
    """Return half of an order's quantity, in whole shares or coin increments; 0 if too small."""
    is_stock = order.instrument.kind is AssetClass.STOCK
    increment = Decimal(1) if is_stock else PARTIAL_FILL_CRYPTO_INCREMENT
    return truncate_to_increment(float(order.qty) / 2, increment)


def _convert_to_stop_limit(order: Order) -> Order:
    """Return the stop-limit order into which Alpaca converts a buy stop."""
    assert order.stop_price is not None
    below, above = CONVERTED_LIMIT_RATIOS
    limit = order.stop_price * (below if order.stop_price < CONVERTED_LIMIT_THRESHOLD else above)
    return replace(order, type="stop_limit", limit_price=round(limit, 2 if limit >= 1 else 4))


def auction_instants(market: Market) -> Instants:
    """Return the instants of the auctions within the daily bars of stocks."""
    bars = market.bars
    if bars.timeframe.auction_time_in_force is None or bars.crypto.all():
        return bars.times[:0]
    times = bars.times[market.start_row + 1 :]
    starts = bars.clock(AssetClass.STOCK).starts_by_end(times)
    return starts[~np.isnat(starts) & ~np.isin(starts, bars.times)]


def _trade_fields(fill: Fill) -> ResponseBody:
    return {
        "symbol": venue_spelling(fill.symbol),
        "qty": format_quantity(abs(fill.qty)),
        "price": repr(fill.price),
    }
