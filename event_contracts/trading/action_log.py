"""Journal of event-contract trading: ticks, decisions, orders, and the account's books.

A decision and the intent of its order are committed together before the order is sent. Instants are
stored as UTC text that sorts by time, money as text in USD.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from decimal import Decimal
from typing import Final
from uuid import NAMESPACE_URL, uuid5

import numpy as np
from pydantic import Json

from event_contracts.trading.listings import SidePrices
from event_contracts.trading.manager import AccountBooks, PaidPosition
from event_contracts.trading.records import TICK_DTYPE, MarketUpdate, SamplingSchedule
from execution.journal.events import EventLog
from execution.journal.order_store import OrderIntent, OrderStore
from execution.journal.rows import (
    BoundedAmount,
    Float,
    Instant,
    Integer,
    JournalTable,
    Text,
    format_instant,
)
from foundation.database import Database

UNSENT_AT_END_REASON = "the process ended before it was sent"
_ACTION_TABLE_NAME: Final = "kalshi_actions"
_ACCOUNT_ROW_NAME = "account"


@dataclass(frozen=True, slots=True)
class _StartingEquityRow:
    name: Text
    equity: BoundedAmount


@dataclass(frozen=True, slots=True)
class _StoredBooks:
    books: AccountBooks
    sale_prices: Mapping[str, tuple[BoundedAmount, BoundedAmount]]  # USD of YES and of NO


@dataclass(frozen=True, slots=True)
class _BooksRow:
    name: Text
    content: Json[_StoredBooks]


@dataclass(frozen=True, slots=True)
class _ScheduleRow:
    market: Text
    start: Instant
    interval: Integer  # nanoseconds
    rows: Integer


@dataclass(frozen=True, slots=True)
class _TickRow:
    market: Text
    at: Instant
    bid: Integer
    ask: Integer
    bid_size: Integer
    ask_size: Integer
    sold: Integer
    bought: Integer
    estimate: Float


def _to_schedule(row: _ScheduleRow) -> tuple[str, SamplingSchedule]:
    return row.market, SamplingSchedule(row.start, np.timedelta64(row.interval, "ns"), row.rows)


def _to_market_update(row: _TickRow) -> MarketUpdate:
    return MarketUpdate(row.market, row.at, np.array([astuple(row)[2:]], TICK_DTYPE)[0])


@dataclass(frozen=True, slots=True)
class SettledMarket:
    """A market that has settled and paid.

    at: UTC, instant of the payment.
    result: `yes`, `no`, or the venue's word for another result.
    yes_payout: settlement value of a YES contract, USD.
    position: contracts at settlement, YES positive and NO negative.
    payout: USD paid for the contracts held.
    profit: USD after fees, as the venue states it; None if it does not.
    """

    market: Text
    at: Instant
    result: Text
    yes_payout: BoundedAmount
    position: BoundedAmount
    payout: BoundedAmount
    profit: BoundedAmount | None


_STARTING_EQUITY_TABLE = JournalTable("kalshi_began", _StartingEquityRow)
_SETTLEMENTS_TABLE = JournalTable(
    "kalshi_settlements",
    SettledMarket,
    key="market, at",
    column_names={"position": "held", "yes_payout": "yes"},
)
_BOOKS_TABLE = JournalTable("kalshi_books", _BooksRow)
_SCHEDULES_TABLE = JournalTable("kalshi_markets", _ScheduleRow, column_names={"start": "begins"})
_TICKS_TABLE = JournalTable("kalshi_ticks", _TickRow, key="market, at")
PAYOUT_STEP_USD = Decimal("0.000001")  # USD, step of a contract's payout, which may be a quotient
_IGNORE_CONFLICT_SQL = "ON CONFLICT DO NOTHING"


@dataclass(frozen=True, slots=True)
class ActionEntry:
    """One decision of a policy on a market at a tick.

    at: UTC, instant of the tick.
    action: action code.
    intent: HOLD, BUY_YES, SELL_YES, BUY_NO or SELL_NO.
    size: contracts of the order; 0 without one.
    price: limit price of the order, USD; None without an order.
    reason: reason why the order, or no order, was sent.
    observation_digest: SHA-256 of the observation (features and action mask); empty without an
        observation.
    allowed_bits: bit mask of permitted actions, bit k for action k; 0 without an observation.
    cash: cash of the account before the decision, USD.
    equity: equity of the account with positions at mid quotes, USD.
    client_order_id: id of the order; empty without one.
    response: response of the venue, `accepted …`, `rejected: …` or `unknown: …`; empty if no order
        was sent, or if the process ended before the response.
    """

    market: Text
    at: Instant
    policy: Text
    action: Integer
    intent: Text
    size: Integer
    price: BoundedAmount | None
    reason: Text
    observation_digest: Text
    allowed_bits: Integer
    cash: BoundedAmount
    equity: BoundedAmount
    client_order_id: Text = ""
    response: Text = ""
    job: Text = ""

    @property
    def sent_count(self) -> int:
        """Return the contracts of the order, or 0 if none was sent or it was rejected."""
        return 0 if self.response.startswith("rejected") else self.size


_ACTIONS_TABLE = JournalTable(
    _ACTION_TABLE_NAME,
    ActionEntry,
    key="market, at",
    column_names={"observation_digest": "digest", "allowed_bits": "allowed", "response": "answer"},
)


def make_client_order_id(account: str, market: str, at: np.datetime64, action: int) -> str:
    """Return the client_order_id of an action on a market at an instant.

    The same arguments always give the same id.
    """
    return str(uuid5(NAMESPACE_URL, f"kalshi {account} {market} {at} {action}"))


class ActionRecords:
    """Read access to the tables of event contracts in a journal."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def read_schedules(self) -> Mapping[str, SamplingSchedule]:
        return dict(_SCHEDULES_TABLE.map_rows(self.database, _to_schedule))

    def read_ticks(self, market: str) -> list[MarketUpdate]:
        return _TICKS_TABLE.map_rows(
            self.database, _to_market_update, "WHERE market = ? ORDER BY at", (market,)
        )

    def read_settled_markets(self, max_markets: int | None = None) -> list[SettledMarket]:
        """Return the markets that have paid, newest first.

        max_markets: maximum number of markets; None: all.
        """
        limit = "" if max_markets is None else f" LIMIT {max_markets}"
        return _SETTLEMENTS_TABLE.select_rows(self.database, f"ORDER BY at DESC, rowid DESC{limit}")

    def read_entries(self, market: str | None = None) -> list[ActionEntry]:
        """Return the decisions on one market, or on all markets if None, oldest first."""
        condition, values = ("", ()) if market is None else ("WHERE market = ? ", (market,))
        clause = f"{condition}ORDER BY at, rowid"
        return _ACTIONS_TABLE.select_rows(self.database, clause, values)


class ActionLog(ActionRecords):
    """Log to which one job of an account writes its ticks, decisions and books.

    job: name of the job.
    """

    def __init__(
        self, database: Database, events: EventLog, order_store: OrderStore, job: str = "kalshi"
    ) -> None:
        super().__init__(database)
        self.order_store = order_store
        self.job = job
        self._events = events
        for table in (
            _STARTING_EQUITY_TABLE,
            _BOOKS_TABLE,
            _SCHEDULES_TABLE,
            _TICKS_TABLE,
            _ACTIONS_TABLE,
            _SETTLEMENTS_TABLE,
        ):
            table.create(database)

    def read_starting_equity(self) -> Decimal | None:
        """Return the recorded equity at the start of the journal, USD; None if none is recorded."""
        row = _STARTING_EQUITY_TABLE.first_row(self.database)
        return None if row is None else row.equity

    def record_starting_equity(self, equity: Decimal) -> Decimal:
        """Record the starting equity, unless one is recorded already; return the recorded value.

        equity: current equity, USD.
        """
        with self.database.transaction():
            _STARTING_EQUITY_TABLE.insert(
                self.database,
                _StartingEquityRow(_ACCOUNT_ROW_NAME, equity),
                conflict_clause=_IGNORE_CONFLICT_SQL,
            )
            first = self.read_starting_equity()
        return equity if first is None else first

    def record_schedule(self, market: str, schedule: SamplingSchedule) -> SamplingSchedule:
        """Record a market's schedule, unless one is recorded already; return the recorded one."""
        interval = int(schedule.interval.astype("timedelta64[ns]").astype(np.int64))
        with self.database.transaction():
            row = _ScheduleRow(market, schedule.start, interval, schedule.row_count)
            _SCHEDULES_TABLE.insert(self.database, row, conflict_clause=_IGNORE_CONFLICT_SQL)
            return self.read_schedules()[market]

    def record_tick(self, update: MarketUpdate) -> None:
        """Record a tick, unless the market already has one at that instant."""
        row = _TickRow(update.market, update.at, *update.tick.item())
        _TICKS_TABLE.insert(self.database, row, conflict_clause=_IGNORE_CONFLICT_SQL)

    def record_decision(
        self, update: MarketUpdate, entry: ActionEntry, intent: OrderIntent | None = None
    ) -> None:
        """Record a tick, the decision on it and the order's intent, if any, in one commit."""
        with self.database.transaction():
            self.record_tick(update)
            _ACTIONS_TABLE.insert(self.database, entry)
            details = {"action": entry.action, "size": entry.size, "reason": entry.reason}
            self._events.append("decided", f"{entry.market} {entry.at}", details)
            if intent is not None:
                self.order_store.record_plan(intent)

    def record_response(self, market: str, at: np.datetime64, response: str) -> None:
        """Record the venue's response to the order of a decision."""
        one = "WHERE market = ? AND at = ?"
        _ACTIONS_TABLE.update(self.database, one, (market, format_instant(at)), response=response)

    def record_books(self, books: AccountBooks, sale_prices: Mapping[str, SidePrices]) -> None:
        """Record the account's books, and the last prices at which its contracts could be sold."""
        _BOOKS_TABLE.upsert(
            self.database, _BooksRow(_ACCOUNT_ROW_NAME, _StoredBooks(books, sale_prices))
        )

    def read_books(self) -> tuple[AccountBooks, Mapping[str, SidePrices]] | None:
        """Return the last recorded books and sale prices; None before the first record."""
        row = _BOOKS_TABLE.first_row(self.database)
        if row is None:
            return None
        return row.content.books, row.content.sale_prices

    def record_settlements(self, paid_positions: Iterable[PaidPosition]) -> None:
        """Record positions that settlements have paid.

        An existing record of the same market and instant is kept. If the books no longer contained
        a position, the contracts that its settlement states are recorded.
        """
        for each in paid_positions:
            settled = each.settlement
            held = each.position or settled.net_position or each.position
            row = SettledMarket(
                settled.market,
                settled.paid_at,
                settled.result,
                settled.yes_payout.quantize(PAYOUT_STEP_USD),
                held,
                each.payout if held == each.position else settled.payout(held),
                settled.profit,
            )
            _SETTLEMENTS_TABLE.insert(self.database, row, conflict_clause=_IGNORE_CONFLICT_SQL)

    def deny_unsent_orders(self) -> int:
        """Deny intents that an earlier process recorded but never sent; return their number."""
        with self.database.transaction():
            left = [
                each
                for each in self.order_store.intents_in_states(("planned",))
                if each.job == self.job
            ]
            for intent in left:
                self.order_store.deny(intent, UNSENT_AT_END_REASON)
                one = "WHERE client_order_id = ?"
                response = f"rejected: {UNSENT_AT_END_REASON}"
                _ACTIONS_TABLE.update(
                    self.database, one, (intent.client_order_id,), response=response
                )
        return len(left)
