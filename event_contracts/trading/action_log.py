"""What was seen, decided and sent on markets of event contracts, in the account's journal.

A decision and the intent that follows from it are one commit, before anything is sent. Instants are
UTC, as text that sorts; money is text in USD.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Final
from uuid import NAMESPACE_URL, uuid5

import numpy as np

from event_contracts.trading.actions import ACTIONS, INTENTS, process_action
from event_contracts.trading.fees import NOTHING
from event_contracts.trading.journal_rows import JournalRow, Query, journal_rows
from event_contracts.trading.orders import LimitOrder, Outcome, Verb, check_terms
from event_contracts.trading.records import MOST, TICK, WHOLE
from event_contracts.trading.updates import MarketSpan, MarketUpdate
from execution.journal.events import EventLog
from execution.journal.intents import Intent, IntentBook
from execution.journal.migrations import create_tables
from foundation.database import Database, DatabaseFailed
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
_ACTION = (
    "market, at, job, policy, action, intent, size, price, reason, digest, allowed, cash,"
    " worth, client_order_id, answer"
)
_COLUMNS = tuple(TICK.names or ())


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

    market: str
    at: np.datetime64
    policy: str
    action: int
    intent: str
    size: int
    price: Decimal | None
    reason: str
    digest: str
    allowed: int
    cash: Decimal
    worth: Decimal
    client_order_id: str = ""
    answer: str = ""

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


class ActionRecords:
    """What is in a journal.

    rows: what a query finds in it.
    journal: what messages call it.

    Raises
    ------
    DatabaseFailed
        in every method, for a journal that cannot be read, naming table, row and value of what
        cannot be.
    """

    def __init__(self, rows: Query, journal: str = "memory") -> None:
        self.journal = journal
        self._rows = partial(journal_rows, rows, journal)

    def began_with(self) -> Decimal | None:
        """USD that the account was worth when it was first seen; none before that."""
        rows = self._rows("kalshi_began", "name, worth", keys=1)
        return rows[0].amount("worth") if rows else None

    def spans(self) -> Mapping[str, MarketSpan]:
        """The steps of every market that was ever shown."""
        rows = self._rows("kalshi_markets", "market, begins, interval, rows", keys=1)
        return {row.text("market"): _span(row) for row in rows}

    def ticks(self, market: str) -> list[MarketUpdate]:
        """The ticks of a market, oldest first."""
        columns = f"market, at, {', '.join(_COLUMNS)}"
        rows = self._rows(TICK_TABLE, columns, "WHERE market = ? ORDER BY at", (market,))
        tape = np.array([_tick(row) for row in rows], TICK)
        return [
            MarketUpdate(market, row.instant("at"), tick)
            for row, tick in zip(rows, tape, strict=True)
        ]

    def entries(self, market: str | None = None) -> list[ActionEntry]:
        """The decisions on a market, or on all, oldest first."""
        condition = "" if market is None else "WHERE market = ? "
        values = () if market is None else (market,)
        rows = self._rows(ACTION_TABLE, _ACTION, f"{condition}ORDER BY at, rowid", values)
        return [_entry(row) for row in rows]

    def requests(self) -> Mapping[str, JournalRow]:
        """The intents of decisions, by client_order_id: rows with `terms`."""
        decided = f"WHERE client_order_id IN (SELECT client_order_id FROM {ACTION_TABLE})"
        rows = self._rows("intents", "client_order_id, terms", decided, keys=1)
        return {row.text("client_order_id"): row for row in rows}

    def refusal(self, table: str, market: str, at: np.datetime64, why: str) -> DatabaseFailed:
        """The error that says why a decision's or a tick's row cannot be beside the others."""
        return JournalRow(self.journal, table, f"{market} {at}", {}).refusal(why)


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
            self._database.execute(
                "INSERT OR IGNORE INTO kalshi_began VALUES (?, ?)", (_ACCOUNT, str(worth))
            )
            return self.began_with() or worth

    def span(self, market: str, span: MarketSpan) -> MarketSpan:
        """The steps in which a market is shown: those that are written down, else these."""
        interval = int(span.interval.astype("timedelta64[ns]").astype(np.int64))
        with self._database.transaction():
            self._database.execute(
                "INSERT OR IGNORE INTO kalshi_markets VALUES (?, ?, ?, ?)",
                (market, str(span.begins), interval, span.rows),
            )
            return self.spans()[market]

    def show(self, update: MarketUpdate) -> None:
        """Write a tick down; of one instant the first word counts."""
        values = [update.tick[name].item() for name in _COLUMNS]
        self._database.execute(
            "INSERT OR IGNORE INTO kalshi_ticks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (update.market, str(update.at), *values),
        )

    def write(self, update: MarketUpdate, entry: ActionEntry, intent: Intent | None = None) -> None:
        """Write down what was shown, what was decided on it and what is to be sent, as one."""
        with self._database.transaction():
            self.show(update)
            self._database.execute(
                f"INSERT INTO {ACTION_TABLE} ({_ACTION})"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    entry.market,
                    str(entry.at),
                    self.job,
                    entry.policy,
                    entry.action,
                    entry.intent,
                    entry.size,
                    None if entry.price is None else str(entry.price),
                    entry.reason,
                    entry.digest,
                    entry.allowed,
                    str(entry.cash),
                    str(entry.worth),
                    entry.client_order_id,
                    entry.answer,
                ),
            )
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


def _span(row: JournalRow) -> MarketSpan:
    """The steps of a market as its columns say them."""
    begins = row.instant("begins")
    interval = np.timedelta64(row.whole("interval", 1, MOST), "ns")
    return MarketSpan(begins, interval, row.whole("rows", 2, MOST))


def _tick(row: JournalRow) -> tuple[float, ...]:
    """A tick [7] as its columns say it."""
    prices = (row.whole(name, 0, WHOLE) for name in _COLUMNS[:2])
    counts = (row.whole(name, 0, MOST) for name in _COLUMNS[2:-1])
    return (*prices, *counts, row.share(_COLUMNS[-1]))


def _entry(row: JournalRow) -> ActionEntry:
    """A decision as its columns say it."""
    with row.checked():
        return ActionEntry(
            market=row.text("market"),
            at=row.instant("at"),
            policy=row.text("policy"),
            action=row.whole("action", 0, ACTIONS - 1),
            intent=row.text("intent"),
            size=row.whole("size", 0, MOST),
            price=None if row.values["price"] is None else row.amount("price"),
            reason=row.text("reason"),
            digest=row.text("digest"),
            allowed=row.whole("allowed", 0, (1 << ACTIONS) - 1),
            cash=row.amount("cash"),
            worth=row.amount("worth"),
            client_order_id=row.text("client_order_id"),
            answer=row.text("answer"),
        )
