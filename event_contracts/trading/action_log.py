"""What was seen, decided and sent on markets of event contracts, and how the account stood: in its
journal.

A decision and the intent that follows from it are one commit, before anything is sent. Instants are
UTC, as text that sorts; money is text in USD.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from decimal import Decimal
from typing import Annotated, Any, Final
from uuid import NAMESPACE_URL, uuid5

import numpy as np
from pydantic import Field, Json, TypeAdapter

from event_contracts.trading.actions import ACTIONS, INTENTS, process_action
from event_contracts.trading.books import AccountBooks
from event_contracts.trading.fees import NOTHING
from event_contracts.trading.journal_rows import (
    Amount,
    Instant,
    JournalRows,
    Share,
    Text,
    Whole,
    insert,
)
from event_contracts.trading.orders import LimitOrder, Outcome, Verb, check_terms
from event_contracts.trading.records import MOST, TICK, WHOLE
from event_contracts.trading.updates import MarketSpan, MarketUpdate
from event_contracts.trading.valuation import Sides
from execution.journal.events import EventLog
from execution.journal.intents import Intent, IntentBook
from execution.journal.migrations import create_tables
from execution.journal.orders import AnyOrder, order_of
from foundation.database import Database
from foundation.errors import InputError

UNSENT_AT_END = "the process ended before it was sent"
ACTION_TABLE: Final = "kalshi_actions"
TICK_TABLE: Final = "kalshi_ticks"
_ACCOUNT = "account"
_DIGEST = re.compile("([0-9a-f]{64})?")

_SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS kalshi_began (
        name TEXT PRIMARY KEY,
        worth TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE IF NOT EXISTS kalshi_books (
        name TEXT PRIMARY KEY,
        at TEXT NOT NULL,
        content TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE IF NOT EXISTS kalshi_markets (
        market TEXT PRIMARY KEY,
        begins TEXT NOT NULL,
        interval INTEGER NOT NULL,
        rows INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE IF NOT EXISTS kalshi_ticks (
        market TEXT NOT NULL,
        at TEXT NOT NULL,
        bid INTEGER NOT NULL,
        ask INTEGER NOT NULL,
        bid_size INTEGER NOT NULL,
        ask_size INTEGER NOT NULL,
        sold INTEGER NOT NULL,
        bought INTEGER NOT NULL,
        estimate REAL NOT NULL,
        PRIMARY KEY (market, at)
    ) STRICT
    """,
    """
    CREATE TABLE IF NOT EXISTS kalshi_actions (
        market TEXT NOT NULL,
        at TEXT NOT NULL,
        job TEXT NOT NULL,
        policy TEXT NOT NULL,
        action INTEGER NOT NULL,
        intent TEXT NOT NULL,
        size INTEGER NOT NULL,
        price TEXT,
        reason TEXT NOT NULL,
        digest TEXT NOT NULL,
        allowed INTEGER NOT NULL,
        cash TEXT NOT NULL,
        worth TEXT NOT NULL,
        client_order_id TEXT NOT NULL,
        answer TEXT NOT NULL,
        PRIMARY KEY (market, at)
    ) STRICT
    """,
)
_COUNT = Field(strict=True, ge=0, le=MOST)


@dataclass(frozen=True, slots=True)
class _SpanRow:
    market: Text
    begins: Instant
    interval: Annotated[int, Field(strict=True, ge=1, le=MOST)]  # nanoseconds
    rows: Annotated[int, Field(strict=True, ge=2, le=MOST)]


@dataclass(frozen=True, slots=True)
class _TickRow:
    market: Text
    at: Instant
    bid: Annotated[int, Field(strict=True, ge=0, le=WHOLE)]
    ask: Annotated[int, Field(strict=True, ge=0, le=WHOLE)]
    bid_size: Annotated[int, _COUNT]
    ask_size: Annotated[int, _COUNT]
    sold: Annotated[int, _COUNT]
    bought: Annotated[int, _COUNT]
    estimate: Share


@dataclass(frozen=True, slots=True)
class _TermsRow:
    client_order_id: Text
    terms: Json[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _BeganRow:
    name: Text
    worth: Amount


@dataclass(frozen=True, slots=True)
class _BooksRow:
    name: Text
    at: Instant
    content: Text


@dataclass(frozen=True, slots=True)
class _Kept:
    cash: Amount
    positions: Mapping[str, Amount]
    fills: frozenset[str]
    settlements: frozenset[tuple[str, Instant]]
    sales: Mapping[str, tuple[Amount, Amount]]  # USD of YES and of NO


@dataclass(frozen=True, slots=True)
class ActionEntry:
    """One decision on a market; it checks itself.

    market: its ticker.
    at: UTC, the tick that it was decided on.
    policy: who chose.
    action: the code.
    intent: HOLD, BUY_YES, SELL_YES, BUY_NO or SELL_NO.
    size: contracts that were to be sent; 0 of what was not.
    price: USD of the order; none without one.
    reason: why this order, or why none.
    digest: SHA-256 of the features and masks that were shown; empty where nothing was.
    allowed: bit k is 1 where action k was allowed; 0 where nothing was shown.
    cash: USD of the account before.
    worth: USD, with positions at the middle of their quotes.
    client_order_id: of the order; empty without one.
    answer: what the venue said, `taken …`, `rejected: …` or `unknown: …`; empty where it was not
        asked, or the process ended before it answered.
    """

    market: Text
    at: Instant
    policy: Text
    action: Whole
    intent: Text
    size: Annotated[int, _COUNT]
    price: Amount | None
    reason: Text
    digest: Text
    allowed: Whole
    cash: Amount
    worth: Amount
    client_order_id: Text = ""
    answer: Text = ""

    def __post_init__(self) -> None:
        if not 0 <= self.action < ACTIONS:
            raise InputError(f"action is {self.action}, outside 0 … {ACTIONS - 1}")
        if self.intent != process_action(self.action)[0]:
            raise InputError(f"intent is {self.intent!r}, which action {self.action} is not")
        if not 0 <= self.allowed < 1 << ACTIONS:
            raise InputError(f"allowed is {self.allowed}, no mask of {ACTIONS} actions")
        if not _DIGEST.fullmatch(self.digest):
            raise InputError(f"digest is {self.digest!r}, no SHA-256")
        is_order = {self.size != 0, self.price is not None, self.client_order_id != ""}
        if len(is_order) > 1 or (self.size and self.intent == INTENTS[0]):
            raise InputError(
                f"{self.intent} of size {self.size} at price {self.price} as"
                f" {self.client_order_id!r} is neither an order nor none"
            )
        if self.price is not None:
            check_terms(self.client_order_id, self.price, Decimal(self.size))

    @property
    def order(self) -> LimitOrder:
        """What was to be sent, of a decision that has an order."""
        action: Verb = "BUY" if self.intent.startswith("BUY") else "SELL"
        side: Outcome = "YES" if self.intent.endswith("YES") else "NO"
        price = self.price or NOTHING
        count = Decimal(self.size)
        return LimitOrder(self.client_order_id, self.market, action, side, price, count)

    @property
    def sent(self) -> int:
        """Contracts that were sent, as far as is known."""
        return 0 if self.answer.startswith("rejected") else self.size


def order_name(account: str, market: str, at: np.datetime64, action: int) -> str:
    """The client_order_id of an intention: the same one never has two."""
    return str(uuid5(NAMESPACE_URL, f"kalshi {account} {market} {at} {action}"))


class ActionRecords(JournalRows):
    """What is in a journal of event contracts."""

    def began_with(self) -> Decimal | None:
        """USD that the account was worth when it was first seen; none before that."""
        rows = self.read("kalshi_began", _BeganRow)
        return rows[0].worth if rows else None

    def spans(self) -> Mapping[str, MarketSpan]:
        """The steps of every market that was ever shown."""
        return {
            row.market: MarketSpan(row.begins, np.timedelta64(row.interval, "ns"), row.rows)
            for row in self.read("kalshi_markets", _SpanRow)
        }

    def ticks(self, market: str) -> list[MarketUpdate]:
        """The ticks of a market, oldest first."""
        rows = self.read(TICK_TABLE, _TickRow, "WHERE market = ? ORDER BY at", (market,), keys=2)
        tape = np.array([astuple(row)[2:] for row in rows], TICK)
        return [MarketUpdate(market, row.at, tick) for row, tick in zip(rows, tape, strict=True)]

    def entries(self, market: str | None = None) -> list[ActionEntry]:
        """The decisions on a market, or on all, oldest first."""
        condition = "" if market is None else "WHERE market = ? "
        values = () if market is None else (market,)
        return self.read(
            ACTION_TABLE, ActionEntry, f"{condition}ORDER BY at, rowid", values, keys=2
        )

    def requests(self) -> Mapping[str, AnyOrder]:
        """The orders that the intents of decisions ask for, by client_order_id."""
        decided = f"WHERE client_order_id IN (SELECT client_order_id FROM {ACTION_TABLE})"
        orders = {}
        for row in self.read("intents", _TermsRow, decided):
            name = row.client_order_id
            with self.checked("intents", name):
                orders[name] = order_of(name, {"kind": "contract", **row.terms})
        return orders


class ActionLog(ActionRecords):
    """The decisions of one job of an account, as they are made.

    database: the account's journal.
    events: its events.
    book: its intents.
    job: whose decisions these are.

    Raises
    ------
    DatabaseFailed
        here and in every method, for a journal that cannot be read or written.
    """

    def __init__(
        self, database: Database, events: EventLog, book: IntentBook, job: str = "kalshi"
    ) -> None:
        super().__init__(database.rows, str(database.path or "memory"))
        self.book = book
        self.job = job
        self._database = database
        self._events = events
        create_tables(database, *_SCHEMA)

    def began(self, worth: Decimal) -> Decimal:
        """USD that the account was worth when it was first seen; worth: now, if that is now."""
        with self._database.transaction():
            insert(self._database, "kalshi_began", _BeganRow(_ACCOUNT, worth), "OR IGNORE")
            return self.began_with() or worth

    def span(self, market: str, span: MarketSpan) -> MarketSpan:
        """The steps in which a market is shown: those that are written down, else these."""
        interval = int(span.interval.astype("timedelta64[ns]").astype(np.int64))
        row = _SpanRow(market, span.begins, interval, span.rows)
        with self._database.transaction():
            insert(self._database, "kalshi_markets", row, "OR IGNORE")
            return self.spans()[market]

    def show(self, update: MarketUpdate) -> None:
        """Write a tick down; of one instant the first word counts."""
        values = (update.tick[name].item() for name in TICK.names or ())
        row = _TickRow(update.market, update.at, *values)
        insert(self._database, TICK_TABLE, row, "OR IGNORE")

    def write(self, update: MarketUpdate, entry: ActionEntry, intent: Intent | None = None) -> None:
        """Write down what was shown, what was decided on it and what is to be sent, as one."""
        with self._database.transaction():
            self.show(update)
            insert(self._database, ACTION_TABLE, entry, job=self.job)
            said = {"action": entry.action, "size": entry.size, "reason": entry.reason}
            self._events.append("decided", f"{entry.market} {entry.at}", said)
            if intent is not None:
                self.book.plan(intent)

    def answer(self, market: str, at: np.datetime64, said: str) -> None:
        """Write down what the venue said to the order of a decision."""
        self._database.execute(
            "UPDATE kalshi_actions SET answer = ? WHERE market = ? AND at = ?",
            (said, market, str(at)),
        )

    def keep(self, books: AccountBooks, sales: Mapping[str, Sides]) -> None:
        """Write down how the account stands; sales: what its contracts could last be sold for."""
        kept = _Kept(books.cash, books.positions, books.fills, books.settlements, sales)
        content = TypeAdapter(_Kept).dump_json(kept).decode()
        row = _BooksRow(_ACCOUNT, books.at, content)
        insert(self._database, "kalshi_books", row, "OR REPLACE")

    def kept(self) -> tuple[AccountBooks, Mapping[str, Sides]] | None:
        """What was kept last, if anything was."""
        for row in self.read("kalshi_books", _BooksRow):
            with self.checked("kalshi_books", row.name):
                kept = TypeAdapter(_Kept).validate_json(row.content)
            books = AccountBooks(row.at, kept.cash, kept.positions, kept.fills, kept.settlements)
            return books, kept.sales
        return None

    def withhold_planned(self) -> int:
        """Withhold what a process that has ended planned and did not send; how many they were."""
        with self._database.transaction():
            left = [each for each in self.book.in_states(("planned",)) if each.job == self.job]
            for intent in left:
                self.book.withhold(intent, UNSENT_AT_END)
                self._database.execute(
                    "UPDATE kalshi_actions SET answer = ? WHERE client_order_id = ?",
                    (f"rejected: {UNSENT_AT_END}", intent.client_order_id),
                )
        return len(left)
