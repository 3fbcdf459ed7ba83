"""Positions with entry prices and profits.

Quantities and last prices come from the last accepted account snapshot. Entry prices and profits
are computed from the journal: fills of our orders, trades of other clients, and bookings that
change a position. The entry price is the average cost. A position that is older than the journal
enters at the venue's price at the start of the journal. A realised profit includes fees in crypto.
It excludes dividends, interest and fees in USD.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from execution.journal.activities import EPOCH, ActivityJournal, read_bookings, read_fills_since
from execution.journal.activities import ActivityKind as BookingKind
from execution.journal.events import EventLog
from execution.journal.order_store import OrderStore
from execution.journal.rows import ExactDecimal, JournalTable, Text
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.average_cost import average_cost
from foundation.database import Database
from foundation.decimals import ZERO_FRACTION, to_fraction
from trainingdata.instruments import is_crypto, is_symbol

# Largest fee in crypto that the venue may list later, a fraction of the position.
MAX_UNLISTED_CRYPTO_FEE_SHARE = Fraction(1, 100)


@dataclass(frozen=True, slots=True)
class PositionRow:
    """Journal row of a position at the venue.

    symbol: symbol of the position.
    quantity: signed quantity.
    price: the venue's price of one unit, USD; None if unknown.
    """

    symbol: Text
    quantity: ExactDecimal
    price: ExactDecimal | None


_FILLED_SINGLES_CONDITION = "filled != '0' AND json_extract(terms, '$.kind') = 'single'"
_OPENING_POSITIONS = JournalTable("opening_positions", PositionRow)  # when the journal began
_HELD_POSITIONS = JournalTable(
    "held_positions", PositionRow
)  # at the last accepted account snapshot


class PositionChange(NamedTuple):
    """A change of a position by a trade or a booking, such as a split.

    at: instant of the change, the sort key of changes.
    symbol: symbol of the position.
    quantity: signed change of the position.
    cash_change_usd: signed change of cash, USD; None if the units were moved or exchanged without a
        price.
    kind: `trade`, or the kind of a booking.
    """

    at: np.datetime64
    symbol: str
    quantity: Fraction
    cash_change_usd: Fraction | None
    kind: BookingKind = "trade"


@dataclass(slots=True)
class PositionLedger:
    """A position with its entry price and realised profit, computed at average cost.

    quantity: signed quantity.
    entry_price: mean entry price of one unit, USD; 0 for a flat position.
    realised_profit: profit of closed units, USD.
    is_cost_known: true if every unit has a known cost.
    """

    quantity: Fraction = ZERO_FRACTION
    entry_price: Fraction = ZERO_FRACTION
    realised_profit: Fraction = ZERO_FRACTION
    is_cost_known: bool = True

    @property
    def cost(self) -> Fraction:
        """Cost of the position, USD; below 0 for a short position, as the proceeds of its sales."""
        return self.entry_price * self.quantity

    def apply_change(self, change: PositionChange) -> None:
        """Apply a change of the position to its quantity, entry price and realised profit."""
        if change.kind == "split":
            self._apply_split(change.quantity)
        elif change.cash_change_usd is None:
            self._apply_unpriced_change(change.quantity)
        elif change.quantity:
            self._apply_trade(change.quantity, -change.cash_change_usd / change.quantity)
        if not self.quantity:
            self.entry_price, self.is_cost_known = ZERO_FRACTION, True

    def _apply_split(self, change: Fraction) -> None:
        """Add units without changing the cost of the position, as a share split does."""
        cost = self.cost
        self.quantity += change
        if self.quantity:
            self.entry_price = cost / self.quantity

    def _apply_unpriced_change(self, change: Fraction) -> None:
        """Remove units without realising a profit, or add units whose cost is unknown."""
        reduces = change * self.quantity < 0 and abs(change) <= abs(self.quantity)
        self.quantity += change
        self.is_cost_known = self.is_cost_known and reduces

    def _apply_trade(self, change: Fraction, price: Fraction) -> None:
        """Apply a trade at a price.

        The part of the trade that reduces the position realises a profit. Any part beyond that
        opens a position.

        change: signed quantity.
        price: price of one unit, USD.
        """
        before = self.quantity
        self.entry_price, realised = average_cost(before, self.entry_price, change, price)
        self.quantity += change
        if self.is_cost_known:
            self.realised_profit += realised
        # Units beyond 0 are all of this trade.
        self.is_cost_known = self.is_cost_known or before * self.quantity < 0


class PositionProfit(NamedTuple):
    """A position and its profits, USD; a figure is None if the journal does not determine it.

    symbol: symbol of the position.
    quantity: signed quantity; 0 for a closed position.
    entry_price: average cost of one unit.
    last_price: the venue's price of one unit; None for a closed position.
    unrealised_profit: profit of the open position at `last_price`.
    realised_profit: profit of closed units.
    """

    symbol: str
    quantity: Decimal
    entry_price: Fraction | None
    last_price: Fraction | None
    unrealised_profit: Fraction | None
    realised_profit: Fraction


class PositionJournal:
    """The positions of one account in its journal, with entry prices and profits.

    database: the account's journal.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._orders = OrderStore(database)
        ActivityJournal(database, EventLog(database))
        for table in (_OPENING_POSITIONS, _HELD_POSITIONS):
            table.create(database)

    def changes_between(self, since: np.datetime64, until: np.datetime64) -> list[PositionChange]:
        """Return the changes of positions after an instant, up to another one."""
        return [each for each in self._position_changes() if since < each.at <= until]

    def quantity_at(self, symbol: str, at: np.datetime64) -> Fraction:
        """Return the signed quantity of a position at an instant, by trades and bookings."""
        changes = self._position_changes()
        return sum(
            (each.quantity for each in changes if each.symbol == symbol and each.at <= at),
            ZERO_FRACTION,
        )

    def record_opening_positions(self, opening: Iterable[PositionRow]) -> None:
        """Record the positions with which the journal of the account starts."""
        for position in opening:
            _OPENING_POSITIONS.upsert(self._database, position)

    def record_positions(self, account: AccountSnapshot) -> None:
        """Record the positions in an account snapshot, in place of those recorded before."""
        with self._database.transaction():
            self._database.execute(f"DELETE FROM {_HELD_POSITIONS.name}")
            for symbol, quantity in account.positions.items():
                if quantity:
                    price = Decimal(repr(account.prices[symbol]))
                    _HELD_POSITIONS.upsert(self._database, PositionRow(symbol, quantity, price))

    def position_profits(self) -> list[PositionProfit]:
        """Return profits by position, sorted by symbol.

        Contains all open positions, and closed positions whose profit is not 0.
        """
        ledgers = build_ledgers(self._position_changes())
        held = {each.symbol: each for each in _HELD_POSITIONS.select_rows(self._database)}
        symbols = {*held, *(symbol for symbol, ledger in ledgers.items() if ledger.realised_profit)}
        return [
            compute_position_profit(symbol, held.get(symbol), ledgers.get(symbol, PositionLedger()))
            for symbol in sorted(symbols)
        ]

    def entry_prices(self, positions: Mapping[str, Decimal]) -> dict[str, Fraction]:
        """Return the average entry price of each position, USD by symbol; absent if unknown.

        positions: signed quantities at the venue.
        """
        ledgers = build_ledgers(self._position_changes())
        prices = {}
        for symbol, quantity in positions.items():
            row = PositionRow(symbol, quantity, Decimal(1))
            position = compute_position_profit(symbol, row, ledgers.get(symbol, PositionLedger()))
            if position.entry_price is not None:
                prices[symbol] = position.entry_price
        return prices

    def _position_changes(self) -> Iterator[PositionChange]:
        for opening in _OPENING_POSITIONS.select_rows(self._database):
            worth = None if opening.price is None else -opening.quantity * opening.price
            yield _build_change(EPOCH, opening.symbol, opening.quantity, worth)
        fills = read_fills_since(self._database, EPOCH)
        orders = self._orders.select_intents(_FILLED_SINGLES_CONDITION)
        ours = {intent.progress.venue_order_id for intent in orders}
        listed: defaultdict[str, list[PositionChange]] = defaultdict(list)
        for fill in fills:
            trade = _build_change(fill.at, fill.symbol, fill.quantity, fill.amount)
            if fill.venue_order_id in ours:
                listed[fill.venue_order_id].append(trade)
            else:
                yield trade
        for intent in orders:
            progress = intent.progress
            trades = listed[progress.venue_order_id]
            if sum(abs(each.quantity) for each in trades) == to_fraction(progress.filled):
                yield from trades
            elif progress.filled_price is not None:
                # The venue reports the mean price before it lists the fills.
                order = intent.stock_or_crypto_order
                change = progress.filled.copy_sign(order.signed_qty)
                worth = -change * progress.filled_price
                yield _build_change(intent.sent_at, order.symbol, change, worth)
        for row in read_bookings(self._database):
            if row.quantity:
                # Trades after a split are in new shares, however late the venue lists it.
                at = row.at if row.kind == "split" else row.listed_at
                yield _build_change(
                    at, row.symbol, row.quantity, row.position_cash_change, row.kind
                )


def build_ledgers(trades: Iterable[PositionChange]) -> dict[str, PositionLedger]:
    """Return the ledger of each symbol, computed from the changes of its position in time order."""
    ledgers: defaultdict[str, PositionLedger] = defaultdict(PositionLedger)
    for trade in sorted(trades, key=lambda each: each.at):
        ledgers[trade.symbol].apply_change(trade)
    return dict(ledgers)


def compute_position_profit(
    symbol: str, held: PositionRow | None, ledger: PositionLedger
) -> PositionProfit:
    """Return the profits of a position, computed from its ledger.

    The entry price is unknown (None) if the quantity at the venue differs from the ledger's.
    """
    quantity = Decimal(0) if held is None else held.quantity
    difference = to_fraction(quantity) - ledger.quantity
    if _is_coin_fee(symbol, difference, ledger.quantity):
        ledger = replace(ledger)
        ledger.apply_change(PositionChange(EPOCH, symbol, difference, ZERO_FRACTION, "coin fee"))
        difference = ZERO_FRACTION
    if held is None:
        return PositionProfit(symbol, quantity, None, None, None, ledger.realised_profit)
    last = None if held.price is None else to_fraction(held.price)
    if difference or last is None or not ledger.is_cost_known:
        return PositionProfit(symbol, quantity, None, last, None, ledger.realised_profit)
    unrealised = to_fraction(quantity) * last - ledger.cost
    return PositionProfit(
        symbol, quantity, ledger.entry_price, last, unrealised, ledger.realised_profit
    )


def _is_coin_fee(symbol: str, difference: Fraction, quantity: Fraction) -> bool:
    """Return whether a missing quantity may be a fee in crypto that the venue lists hours later."""
    missing = -difference if quantity > 0 else ZERO_FRACTION
    return (
        0 < missing <= quantity * MAX_UNLISTED_CRYPTO_FEE_SHARE
        and is_symbol(symbol)
        and is_crypto(symbol)
    )


def _build_change(
    at: np.datetime64,
    symbol: str,
    quantity: Decimal,
    amount: Decimal | None,
    kind: BookingKind = "trade",
) -> PositionChange:
    worth = None if amount is None else to_fraction(amount)
    return PositionChange(at, symbol, to_fraction(quantity), worth, kind)
