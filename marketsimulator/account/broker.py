"""The simulated broker: an account that trades on recorded bars, one instant at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from operator import itemgetter
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.broker import Asset
from execution.orders.gate import ALLOW_ALL_ORDERS, OrderGate
from execution.orders.orders import (
    DEFAULT_SIZE_LIMITS,
    USD_PRICE_FIELDS,
    Fill,
    Order,
    OrderSizeLimits,
    OrderType,
    to_shortest_decimal,
)
from execution.orders.venue_rules import venue_refusal_reason
from foundation.arrays import Index, StructuredArray
from marketsimulator.account.book import (
    ACCOUNT_DTYPE,
    CANCELLED,
    CASH_FLOW_FIELDS,
    DAY_ORDER,
    GTC,
    LIMIT,
    MARKET,
    ON_CLOSE,
    ON_OPEN,
    ORDER_DTYPE,
    STOP,
    STOP_LIMIT,
    TRAILING,
    WORKING,
    Book,
    ReferencePrices,
    create_account_log,
    max_logged_cash_flows,
)
from marketsimulator.account.matching import match_highs_and_lows, match_opens, send_orders
from marketsimulator.account.settlement import mark_positions, reset_bar_volume
from marketsimulator.account.tape import AccountLogEntry, append_fills_and_bookings
from marketsimulator.account.timeline import (
    ConfirmedBar,
    Timeline,
    advance_account,
    advance_from_opens,
    advance_to_opens,
    can_fill_orders,
    open_bars,
    process_finer_bars,
)
from marketsimulator.run_result import Booking, EquityRow
from trainingdata.bars import HIGH, LOW, OPEN, VOLUME
from trainingdata.instruments import AssetClass
from trainingdata.market import Market

log = logging.getLogger(__name__)

ORDER_TYPE_CODES = {
    "market": MARKET,
    "limit": LIMIT,
    "stop": STOP,
    "stop_limit": STOP_LIMIT,
    "trailing_stop": TRAILING,
}
TIME_IN_FORCE_CODES = {"day": DAY_ORDER, "gtc": GTC, "opg": ON_OPEN, "cls": ON_CLOSE}
# Columns of the book with the prices that a split or a dividend changes.
_ADJUSTED_PRICES = {name: name.removesuffix("_price") for name in USD_PRICE_FIELDS}
OrderState = Literal["working", "filled", "canceled", "expired"]
# Indexed by the book's numbers of order states.
ORDER_STATES: tuple[OrderState, ...] = ("working", "filled", "canceled", "expired")

_NO_ORDERS = np.zeros(0, ORDER_DTYPE)
_ROW_FIELDS = ("cash", "equity", "stock", "crypto", *CASH_FLOW_FIELDS)
_SNAPSHOT_FIELDS = ("cash", "equity", "unsettled", "unsettled_short_proceeds", "short_proceeds")


def _account_columns(fields: Iterable[str]) -> list[int]:
    """Return the column numbers of these fields in an ACCOUNT record viewed as an array.

    All fields of ACCOUNT have eight bytes, so the record can be viewed in this way.
    """
    names = ACCOUNT_DTYPE.names or ()
    return [names.index(field) for field in fields]


_row_values = itemgetter(*_account_columns(_ROW_FIELDS))
_snapshot_values = itemgetter(*_account_columns(_SNAPSHOT_FIELDS))
_FLOW_COLUMNS = _account_columns(CASH_FLOW_FIELDS)


class SimulatedBroker:
    """A simulated account, stepped through the instants of a run.

    At each instant call `advance`, `account`, `submit`, `open_bars` and `equity_row`, in this
    order. A market order fills at the open of the bar that starts at that instant. If there are
    finer bars, its unfilled remainder fills at their opens until the next instant. Other orders
    wait and are matched with later bars. `account` and `short_proceeds` only read the state.
    """

    def __init__(
        self,
        market: Market,
        line: Timeline,
        book: Book,
        terms: OrderSizeLimits = DEFAULT_SIZE_LIMITS,
        *,
        cancel_remainders: bool = True,
        confirmed_bars: Mapping[tuple[int, int], Sequence[ConfirmedBar]] = MappingProxyType({}),
    ) -> None:
        """Create a broker for the account in `book`, whose arrays it updates in place.

        cancel_remainders: true if unfilled remainders of market orders are cancelled at the next
            instant.
        confirmed_bars: bars that a later bar confirms, from `find_confirmed_bars`.
        """
        self.fills: list[Fill] = []
        self.bookings: list[Booking] = []
        bars = self._bars = market.bars
        self._line = line
        self._book = book
        self._terms = terms
        self._symbol = {symbol: s for s, symbol in enumerate(bars.symbols)}
        self._orders: list[Order] = []
        self._numbers: dict[str, int] = {}
        self._states: list[OrderState] = []
        # With finer bars the timeline has more rows than the run has instants.
        self._rows = np.searchsorted(line.instants_ns, bars.times.astype(np.int64))
        self._index = market.start_row
        self._row = int(self._rows[self._index])
        self._cancels = cancel_remainders and market.finer_bars is not None
        self._opening: ReferencePrices | None = None
        self._confirmed = confirmed_bars
        self._is_at_auction = False
        self._recorded: np.ndarray | None = None
        self._columns = book.account.view(np.float64)
        self._leverage = line.day_terms["leverage"].tolist()
        self._margin_equity = line.day_terms["margin_equity"].tolist()
        self._tape_buffer = create_account_log(0)
        mark_positions(book.account[0], book.holdings, market.initial_history.last_closes())

    def advance(
        self,
        row: int,
        on_finer_bar: Callable[[], None] | None = None,
        on_auction: Callable[[], None] | None = None,
    ) -> None:
        """Advance to a later instant of the panel: apply its bars and charge carrying costs.

        All instants in between are processed too, because orders fill and sessions close at them.
        After `advance_to_auction`, the call continues from the auction.

        on_finer_bar: callback at each end of a finer bar in between, which may send orders.
        on_auction: callback after each auction in between, which may send orders.
        """
        if not self._is_at_auction:
            self._begin_rows()
        while self._index < row or self._is_at_auction:
            if not self._is_at_auction:
                self._begin_instant(on_finer_bar)
                if on_auction is not None and self._fill_auction():
                    on_auction()
            self._end_instant()
        self._drop_done_orders()

    def advance_to_auction(self) -> None:
        """Advance to the auction of stocks before the next instant, and fill its orders.

        The broker's instant is then the open of the daily bar, and positions are valued at the
        prices of the auction.
        """
        self._begin_rows()
        self._begin_instant(None)
        self._fill_auction()

    def _begin_rows(self) -> None:
        self.open_bars()
        self._columns[_FLOW_COLUMNS] = 0.0

    def _begin_instant(self, on_finer_bar: Callable[[], None] | None) -> None:
        """Advance through the finer bars before the next instant of the panel."""
        self.open_bars()
        self._opening = None
        self._index += 1
        last = int(self._rows[self._index])
        while self._row + 1 < last:
            if on_finer_bar is None and not self._confirmed:
                finer = self._row + 1, last
                tape = self._allocate_account_log()
                self._row = process_finer_bars(
                    self._book, self._line, tape, finer, self._max_entries()
                )
                self._record_fills_and_bookings(tape)
            else:
                self._row += 1
                self._match_confirmed_bars(self._line.intermediate_open_rows[self._row])
                self._advance_row(advance_account)
                if on_finer_bar is not None:
                    on_finer_bar()
                self.open_bars()
                self._opening = None
        self._row = last
        self._match_confirmed_bars(self._line.intermediate_open_rows[last])

    def _fill_auction(self) -> bool:
        """Fill the auction before the present instant; return whether there is one."""
        line, t = self._line, self._row
        rows = line.intermediate_open_rows[t]
        if not line.waits_for_auction or rows[0] < 0:
            return False
        self._advance_row(advance_to_opens)
        self._is_at_auction = True
        opens, volumes = line.bar_values[rows[0], :, OPEN], line.bar_values[rows[0], :, VOLUME]
        prices = np.where(self._bars.crypto, np.nan, opens)
        mark_positions(self._book.account[0], self._book.holdings, prices)
        volatility = line.bar_volatility[min(t - 1, len(line.bar_volatility) - 1)]
        self._opening = ReferencePrices(prices, volumes.copy(), volatility)
        return True

    def _end_instant(self) -> None:
        """Match the rest of the bars that end at the present instant."""
        self._advance_row(advance_from_opens if self._is_at_auction else advance_account)
        self._is_at_auction = False
        self._opening = None
        if self._cancels:
            self._cancel_remainders()

    def _advance_row(self, step: Callable[[Book, Timeline, StructuredArray, int], None]) -> None:
        """Apply a step of the timeline at the present row, and record its fills and bookings."""
        tape = self._allocate_account_log()
        step(self._book, self._line, tape, self._row)
        self._record_fills_and_bookings(tape)

    def _match_confirmed_bars(self, rows: Index) -> None:
        """Match resting orders with the bars that the bars opening now confirm.

        A bar with a large price move values no position until the next bar confirms it, but the
        venue has filled orders on it. Its fills are booked when the confirming bar opens, so no
        earlier decision knows them. Auction orders of that bar's session have expired.

        rows: rows in the timeline of the stock bars and of the crypto bars that open now; -1: none.
        """
        line, book = self._line, self._book
        day = line.day_terms[line.day_term_rows[self._row]]
        for is_crypto, row in enumerate(rows.tolist()):
            for s, start, end, values in self._confirmed.get((row, is_crypto), ()):
                if np.isnan(line.bar_values[row, s, OPEN]) or not can_fill_orders(
                    day, values[VOLUME]
                ):
                    continue
                bar = np.full((len(values), len(book.holdings)), np.nan)
                bar[:, s] = values
                volatility = line.bar_volatility[min(self._row, len(line.bar_volatility) - 1)]
                starts = np.full(2, start)
                tape = self._allocate_account_log()
                reset_bar_volume(book, day, bar[VOLUME])
                opens = ReferencePrices(bar[OPEN], bar[VOLUME], volatility)
                match_opens(book, day, tape, opens, starts, False)
                match_highs_and_lows(
                    book, day, tape, bar[HIGH], bar[LOW], bar[VOLUME], volatility, starts, end
                )
                self._record_fills_and_bookings(tape)

    def open_bars(self) -> None:
        """Open the bars that start at this instant and match waiting orders with their opens.

        A second call at the same instant does nothing.
        """
        if self._opening is None:
            self._match_confirmed_bars(self._line.bar_end_rows[self._row])
            tape = self._allocate_account_log()
            self._opening = open_bars(self._book, self._line, tape, self._row)
            self._record_fills_and_bookings(tape)

    def account(self) -> AccountSnapshot:
        """Return a snapshot of the account at this instant, before the bars that start now open."""
        state = self._book.account.item()
        cash, equity, unsettled, unsettled_short_proceeds, short_proceeds = _snapshot_values(state)
        day = self._line.day_term_rows[self._row]
        lends = equity >= self._margin_equity[day]
        leverage = self._leverage[day]
        quantities = self._book.holdings["quantity"].tolist()
        marks = self._book.holdings["mark"].tolist()
        positions: dict[str, Decimal] = {}
        prices: dict[str, float] = {}
        for symbol, quantity, mark in zip(self._bars.symbols, quantities, marks, strict=True):
            if quantity:
                positions[symbol] = to_shortest_decimal(quantity)
            # A mark is NaN, which differs from itself, before a symbol's first close.
            if mark == mark:
                prices[symbol] = mark
        # Today's short proceeds have not settled and are collateral: count them once, as
        # collateral.
        return AccountSnapshot(
            cash=cash,
            positions=positions,
            prices=prices,
            as_of=self.now(),
            open_orders=tuple(self._open_orders()),
            unsettled_proceeds=unsettled - unsettled_short_proceeds,
            short_proceeds=short_proceeds,
            max_leverage=leverage if lends else min(leverage, 1.0),
            is_shorting_enabled=lends,
        )

    def short_proceeds(self) -> dict[str, float]:
        """Return the proceeds (USD) from the sale of each open short position, by symbol."""
        short_proceeds = self._book.holdings["short_proceeds"]
        return {
            self._bars.symbols[s]: float(short_proceeds[s]) for s in np.flatnonzero(short_proceeds)
        }

    def submit(
        self,
        orders: Sequence[Order],
        gate: OrderGate = ALLOW_ALL_ORDERS,
        *,
        matched_from: np.datetime64 | None = None,
    ) -> list[Fill]:
        """Send orders in sequence and return the fills at this instant.

        gate: ignored; it exists because live brokers check each order with a pre-trade gate.
        matched_from: earliest start of a bar with which the orders are matched; None: this instant.
        """
        del gate
        if orders:
            account = self.account()
            orders = [order for order in orders if self._accept_order(order, account)]
        if not orders:
            return []
        self.open_bars()
        assert self._opening is not None
        first = len(self._book.orders)
        rows = self._book_rows(orders)
        if matched_from is not None:
            rows["active_from"] = int(matched_from.astype("datetime64[ns]").astype(np.int64))
        if first:
            rows = np.concatenate([self._book.orders, rows])
        self._book = self._book._replace(orders=rows)
        line = self._line
        t = self._row
        tape = self._allocate_account_log()
        day = line.day_terms[line.day_term_rows[t]]
        send_orders(self._book, day, tape, first, self._opening, self._now_ns())
        fills = self._record_fills_and_bookings(tape)
        self._drop_done_orders()
        return fills

    def _accept_order(self, order: Order, account: AccountSnapshot) -> bool:
        """Return whether the venue accepts an order.

        An accepted order is recorded; a rejected order is logged and counted as a refusal.
        """
        if order.client_order_id in self._numbers:
            why = "its client_order_id was already used; choose a unique one"
        else:
            why = venue_refusal_reason(order, None, account, self._terms)
        if why:
            log.warning("order %s was rejected: %s", order.client_order_id, why)
            self._book.account["refusals"] += 1
            return False
        self._numbers[order.client_order_id] = len(self._orders)
        self._orders.append(order)
        self._states.append("working")
        return True

    def order_states(self, client_order_ids: Iterable[str]) -> dict[str, OrderState]:
        """Return the state of each order by client_order_id.

        Orders that were never accepted are left out.
        """
        self._sync_states()
        numbers = self._numbers
        return {name: self._states[numbers[name]] for name in client_order_ids if name in numbers}

    def open_price(self, symbol: str) -> float | None:
        """Return the open of the bar of `symbol` that starts at this instant, before spread, USD.

        None if no bar starts now, or if the bar cannot fill orders because it has no volume.
        """
        s = self._symbol[symbol]
        line = self._line
        rows = line.intermediate_open_rows if self._is_at_auction else line.bar_end_rows
        row = rows[self._row, int(self._bars.crypto[s])]
        bar = line.bar_values[row, s]
        meets = row >= 0 and can_fill_orders(
            line.day_terms[line.day_term_rows[self._row]], bar[VOLUME]
        )
        return float(bar[OPEN]) if meets else None

    def set_halted(self, symbol: str, halted: bool) -> None:
        """Halt or resume trading in a symbol after this instant.

        A halted symbol has no bars until it resumes.
        """
        s = self._symbol[symbol]
        later = self._row + 1
        # The recorded bars are needed when trading resumes.
        if self._recorded is None:
            self._recorded = self._line.bar_values
            self._line = self._line._replace(bar_values=self._recorded.copy())
        self._line.bar_values[later:, s] = np.nan if halted else self._recorded[later:, s]
        if self._opening is not None and halted:
            self._opening.prices[s] = np.nan

    def _sync_states(self) -> None:
        orders = self._book.orders
        numbers = orders["number"].tolist()
        for number, state in zip(numbers, orders["state"].tolist(), strict=True):
            self._states[number] = ORDER_STATES[state]

    def now(self) -> np.datetime64:
        return np.datetime64(self._now_ns(), "ns")

    def _now_ns(self) -> int:
        line, t = self._line, self._row
        if self._is_at_auction:
            return int(line.bar_start_times[line.intermediate_open_rows[t, 0], 0])
        return int(line.instants_ns[t])

    def assets(self, symbols: Sequence[str]) -> dict[str, Asset]:
        """Return the assets of these symbols: all are tradable, and stocks can be sold short."""
        assets = {}
        for item in self._bars.instruments:
            if item.symbol in symbols:
                stock = item.kind is AssetClass.STOCK
                step = item.qty_increment
                assets[item.symbol] = Asset(
                    item.symbol, True, item.is_shortable, stock, True, step, step
                )
        return assets

    def cancel(self, client_order_ids: Iterable[str]) -> dict[str, Decimal]:
        """Cancel working orders and return the unfilled quantity of each."""
        names = set(client_order_ids)
        rows = self._book.orders
        left = {}
        for k in range(len(rows)):
            name = self._orders[rows[k]["number"]].client_order_id
            if rows[k]["state"] == WORKING and name in names:
                rows[k]["state"] = CANCELLED
                left[name] = to_shortest_decimal(abs(float(rows[k]["quantity"])))
        return left

    def defer_matching(self, client_order_id: str, at: np.datetime64, kind: OrderType) -> None:
        """Change the type of a working order, and match it only with bars from an instant on."""
        rows = self._book.orders
        chosen = rows["number"] == self._numbers[client_order_id]
        rows["active_from"][chosen] = int(at.astype("datetime64[ns]").astype(np.int64))
        rows["kind"][chosen] = ORDER_TYPE_CODES[kind]

    def deposit(self, usd: float) -> None:
        """Deposit cash, USD; a negative amount is a withdrawal.

        The practice venue also books the cash flows of options as deposits, because this account
        holds no options.
        """
        self._book.account["cash"] += usd
        self._book.account["equity"] += usd

    def equity_row(self) -> EquityRow:
        """Return cash, equity, exposure and cash flows of this instant, after the fills so far."""
        return EquityRow(self.now(), *_row_values(self._book.account.item()))

    def margin_event_counts(self) -> dict[str, int]:
        """Return the number of margin interventions since the account began, by kind.

        Kinds: margin calls, intraday deficits, account freezes, and orders that were refused or
        reduced.
        """
        return count_margin_events(self._book)

    def _max_entries(self) -> int:
        """Return the maximum number of fills and cash flows that one step appends to the log.

        A split and a liquidation per symbol are counted. Each order may fill at an open and again
        within a bar, each time with a crypto fee. The cash flows of the step are added.
        """
        size, actions = len(self._book.holdings), len(self._line.corporate_actions)
        return (
            4 * (size + len(self._book.orders))
            + actions
            + int(max_logged_cash_flows(size, actions))
        )

    def _allocate_account_log(self) -> StructuredArray:
        """Return an empty account log with space for the fills and cash flows of one step."""
        self._book.account["tape_length"] = 0
        needed = self._max_entries()
        if len(self._tape_buffer) < needed:
            self._tape_buffer = create_account_log(needed)
        return self._tape_buffer

    def _record_fills_and_bookings(self, tape: StructuredArray) -> list[Fill]:
        """Add logged fills and cash flows to the account's lists; return the new fills."""
        before = len(self.fills)
        written = tape[: int(self._book.account["tape_length"][0])]
        if len(written):
            symbols = self._bars.symbols
            at = np.datetime64(self._bars.times[self._index])
            append_fills_and_bookings(
                written, at, symbols, self._order_id_of, self.fills, self.bookings
            )
        return self.fills[before:]

    def _order_id_of(self, entry: AccountLogEntry) -> str:
        return self._orders[entry.order_number].client_order_id

    def _book_rows(self, orders: Sequence[Order]) -> StructuredArray:
        """Convert orders to records of dtype ORDER, as the compiled code needs them."""
        now = self._now_ns()
        rows = [
            (
                self._numbers[order.client_order_id],
                self._symbol[order.symbol],
                float(order.signed_qty),
                ORDER_TYPE_CODES[order.type],
                # A bar that begins with the closing auction opens at the auction's price.
                ON_OPEN
                if order.tif == self._bars.timeframe.auction_time_in_force
                else TIME_IN_FORCE_CODES[order.tif],
                order.limit_price or np.nan,
                order.stop_price or np.nan,
                order.trail_price or 0.0,
                (order.trail_percent or 0.0) / 100,
                now,
                int(order.reduces),
                WORKING,
            )
            for order in orders
        ]
        return np.array(rows, dtype=ORDER_DTYPE)

    def _open_orders(self) -> Iterable[Order]:
        """Return the working orders with their unfilled quantities and adjusted prices."""
        if not len(self._book.orders):
            return
        for row in self._book.orders:
            if row["state"] == WORKING and row["quantity"] != 0:
                remaining = to_shortest_decimal(abs(float(row["quantity"])))
                order = self._orders[row["number"]]
                changes: dict[str, Any] = {
                    name: float(row[column])
                    for name, column in _ADJUSTED_PRICES.items()
                    if getattr(order, name) not in (None, row[column]) and row[column] > 0
                }
                if order.qty != remaining or changes:
                    order = replace(order, qty=remaining, **changes)
                yield order

    def _cancel_remainders(self) -> None:
        for row in self._book.orders:
            # A triggered stop has become a market order; it is not cancelled.
            if self._orders[row["number"]].is_immediate and row["state"] == WORKING:
                row["state"] = CANCELLED

    def _drop_done_orders(self) -> None:
        """Remove all orders from the book if none is working."""
        states = self._book.orders["state"].tolist()
        if states and min(states) > WORKING:
            self._sync_states()
            self._book = self._book._replace(orders=_NO_ORDERS)


def count_margin_events(book: Book) -> dict[str, int]:
    """Return the number of margin interventions since the account began, by kind.

    Kinds: margin calls, intraday deficits, account freezes, and orders refused or reduced.
    """
    names = ("margin_calls", "deficits", "freezes", "refusals")
    return {name: int(book.account[name][0]) for name in names}
