"""What an account should hold, kept up in its journal as orders fill and the venue books."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import numpy as np

from execution.alpaca.activities import (
    FILL,
    SHARE_TRANSFERS,
    TRANSFERS,
    Activity,
    traded_amount,
)
from execution.journal.events import EventLog
from execution.journal.intents import UNDETERMINED, IntentBook
from execution.journal.migrations import create_tables
from execution.live.cash import CashReading
from execution.live.reconcile import (
    NONE,
    Difference,
    Owned,
    Room,
    changes_of,
    explaining,
    is_coin_symbol,
    odd_prices,
    rooms_of,
    unexplained,
)
from execution.orders import Order
from foundation.cents import CENT
from foundation.database import Database
from foundation.decimals import EXACT, plain, total
from trainingdata.instants import DAY

log = logging.getLogger(__name__)

# For so long before the last trade is asked again: what has only a day is listed after a night,
# a weekend, or with the statement of a month's last days.
OVERLAP = np.timedelta64(7, "D").astype("timedelta64[ns]")

_SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS ground (
        number INTEGER PRIMARY KEY CHECK (number = 1),
        begun_at TEXT NOT NULL,
        cash TEXT NOT NULL,
        booked TEXT NOT NULL,
        believed_beyond TEXT,
        believed_booked TEXT
    ) STRICT
    """,
    """
    CREATE TABLE IF NOT EXISTS expected (
        symbol TEXT PRIMARY KEY,
        qty TEXT NOT NULL,
        fee TEXT NOT NULL
    ) STRICT
    """,
    "CREATE TABLE IF NOT EXISTS counted (name TEXT PRIMARY KEY, qty TEXT NOT NULL) STRICT",
    """
    CREATE TABLE IF NOT EXISTS fills (
        id TEXT PRIMARY KEY,
        client_order_id TEXT NOT NULL DEFAULT '',
        order_id TEXT NOT NULL,
        symbol TEXT NOT NULL,
        qty TEXT NOT NULL,
        price TEXT,
        at TEXT NOT NULL,
        listed_at TEXT NOT NULL,
        ground INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE IF NOT EXISTS activities (
        id TEXT PRIMARY KEY,
        kind TEXT NOT NULL,
        at TEXT NOT NULL,
        symbol TEXT NOT NULL,
        qty TEXT NOT NULL,
        amount TEXT NOT NULL,
        listed_at TEXT NOT NULL,
        ground INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE INDEX IF NOT EXISTS fills_by_instant ON fills (at)",
    "CREATE INDEX IF NOT EXISTS fills_by_symbol ON fills (symbol, at)",
    "CREATE INDEX IF NOT EXISTS activities_by_kind ON activities (kind, symbol, at)",
)
# What the venue says of an activity, by table.
_STATED: Mapping[str, tuple[str, ...]] = {
    "fills": ("order_id", "symbol", "qty", "price", "at"),
    "activities": ("kind", "at", "symbol", "qty", "amount"),
}
# The venue's id of an order says whose intent a fill is of, once the intent has one.
_LINK = """
    UPDATE fills SET client_order_id =
        (SELECT client_order_id FROM intents WHERE venue_id = fills.order_id)
    WHERE client_order_id = ''
        AND order_id IN (SELECT venue_id FROM intents WHERE venue_id != '')
"""
# Orders of which more has filled than is counted.
_NEWS = "filled != coalesce((SELECT qty FROM counted WHERE name = client_order_id), '0')"
_COUNT_FILLS = "INSERT OR REPLACE INTO counted SELECT client_order_id, filled FROM intents"
_COUNT_BOOKINGS = "INSERT OR REPLACE INTO counted SELECT id, qty FROM activities"


class HoldingsBook:
    """What an account should hold, and its cash; nothing else writes these tables.

    `expected` has what should be held, `counted` what of each order and booking is in that, and
    `ground` the cash that trades and bookings come to. `fills` and `activities` are what the venue
    lists.

    Raises
    ------
    DatabaseFailed
        here and in every method, for a file that cannot be read or written.
    """

    def __init__(self, database: Database, events: EventLog) -> None:
        self._database = database
        self._events = events
        self._intents = IntentBook(database, events)
        create_tables(database, *_SCHEMA)

    @property
    def begun(self) -> bool:
        """Whether it is written down what the account held at first."""
        return bool(self._database.rows("SELECT 1 FROM ground"))

    def begin(
        self,
        held: Mapping[str, Decimal],
        cash: Decimal,
        at: np.datetime64,
        listed: Iterable[Activity],
    ) -> None:
        """Write down what the account holds, and what it has been through by then.

        held: signed quantities by symbol, everything that is held.
        cash: USD.
        at: instant by the venue's clock, read before the rest.
        listed: activities since `at - OVERLAP`, which what is held has in it.
        """
        with self._database.transaction():
            self._database.execute(
                "INSERT INTO ground (number, begun_at, cash, booked) VALUES (1, ?, ?, '0')",
                (stamp(at), plain(cash)),
            )
            self._expect({symbol: Owned(quantity) for symbol, quantity in held.items()})
            self._database.execute(_COUNT_FILLS)
            self._write(listed, at, ground=0)
            self._database.execute(_COUNT_BOOKINGS)
            texts = {symbol: plain(quantity) for symbol, quantity in held.items()}
            self._events.append("holdings begun", "1", {"cash": plain(cash), "held": texts})

    def add(self, activities: Iterable[Activity], at: np.datetime64) -> int:
        """Write down what is not there yet, as one transaction, and return how many that were.

        An activity that the venue lists with another content than before takes its own place. A
        fill is linked to the intent whose order the venue calls so, once the book of intents knows
        that; legs of options and exits have other orders, and are linked to none.

        at: instant by the venue's clock at which they were listed.
        """
        return self._write(activities, at, ground=1)

    def last_at(self) -> np.datetime64:
        """From when on activities are to be asked for next: a week before the last trade."""
        begun_at, last = self._database.rows(
            "SELECT begun_at, (SELECT max(at) FROM fills) FROM ground"
        )[0]
        with self._database.checked():
            newest = max(np.datetime64(at, "ns") for at in (begun_at, last) if at is not None)
            return np.datetime64(newest - OVERLAP, "ns")

    def expected(self) -> dict[str, Decimal]:
        """What should be held as it was compared last: signed quantities by symbol, none is 0."""
        return {symbol: each.quantity for symbol, each in self._owned().items() if each.quantity}

    def compare(self, held: Mapping[str, Decimal], at: np.datetime64) -> dict[str, Difference]:
        """Bring what should be held up to now, and return where something else is held.

        Trades go on between two answers: a difference counts once it is seen again.

        held: signed quantities by symbol.
        at: instant by the venue's clock.
        """
        with self._database.transaction():
            before = self._owned()
            expected = defaultdict(Owned, before)
            self._count_fills(expected)
            rooms = rooms_of(self._intents.in_states((*UNDETERMINED, "working")))
            moving = set(rooms)
            for symbol, owned in expected.items():
                rooms[symbol] = Room(rooms[symbol].below + owned.fee, rooms[symbol].above)
            found = unexplained(expected, held, rooms, at)
            for symbol in list(found):
                changes = self._uncounted(symbol, at)
                names = explaining(found[symbol].surplus, changes, rooms[symbol])
                for name in names:
                    expected[symbol] = expected[symbol].changed(changes[name])
                    self._database.execute(f"{_COUNT_BOOKINGS} WHERE id = ?", (name,))
                if names:
                    del found[symbol]
            for symbol in {*expected, *held} - {*found} - moving:
                expected[symbol] = expected[symbol].seen(held.get(symbol, NONE))
            self._expect({s: each for s, each in expected.items() if each != before.get(s)})
        return found

    def accept(self, surpluses: Mapping[str, Decimal], orders: Iterable[str]) -> None:
        """Have what a person has looked at be as it should; orders: ids of others' orders."""
        with self._database.transaction():
            owned = defaultdict(Owned, self._owned())
            self._expect({s: owned[s].changed(surplus) for s, surplus in surpluses.items()})
            for symbol, surplus in surpluses.items():
                self._database.execute(f"{_COUNT_BOOKINGS} WHERE symbol = ?", (symbol,))
                self._events.append("accepted", symbol, plain(surplus))
            for name in orders:
                self._count(name, "0")
                self._events.append("accepted", name)

    def unknown(self, orders: Iterable[Order]) -> list[Order]:
        """Open orders that are neither ours, nor in the place of one of ours, nor accepted."""
        query = (
            "SELECT 1 FROM intents WHERE client_order_id = ?1 OR successor = ?1"
            " UNION ALL SELECT 1 FROM counted WHERE name = ?1 LIMIT 1"
        )
        return [each for each in orders if not self._database.rows(query, (each.client_order_id,))]

    def unlisted(self, at: np.datetime64) -> str:
        """An order that has answered more fills than the venue lists, in words; empty for none.

        A list that knows less than that is not believed. What it does not know after a day it never
        will: positions and cash have to show it then. An order that was adopted has filled before.

        at: instant by the venue's clock.
        """
        single = "symbol IS NOT NULL AND successor = '' AND reason != 'adopted' AND sent_at > ?"
        for intent in self._intents.select(f"{_NEWS} AND {single}", (str(at - DAY),)):
            filled = intent.progress.filled
            rows = self._database.rows(
                "SELECT qty FROM fills WHERE symbol = ? AND order_id = ?",
                (*changes_of(intent, filled), intent.progress.venue_id),
            )
            listed = total(abs(Decimal(quantity)) for (quantity,) in rows)
            if listed < filled:
                name = intent.client_order_id
                return f"order {name} has filled {plain(filled)}, and {plain(listed)} are listed"
        return ""

    def unwritten(self, activities: Iterable[Activity]) -> list[Activity]:
        """Those that are not written down, or not with this content."""
        return [each for each in activities if self._written(each)[0] != _stated(each)]

    def odd_prices(self, activities: Iterable[Activity]) -> str:
        """Trades that are new, at another price than their order's, in a line; empty for none."""
        trades = [each for each in self.unwritten(activities) if each.kind == FILL]
        orders = self._intents.select(
            f"venue_id IN ({_marks(trades)})", tuple(each.order_id for each in trades)
        )
        means = {each.progress.venue_id: each.progress.filled_price for each in orders}
        return odd_prices(trades, means)

    def explained_flows(self, since: np.datetime64) -> Decimal:
        """Deposits less withdrawals that were listed after an instant, USD.

        They count from when they were listed first, not by their day, which begins before they
        come: `add` comes before the account is marked. What was listed with the ground is in its
        cash. Dividends, interest and fees are profit or cost. So is what shares are worth that were
        moved between accounts: the venue names no amount.
        """
        rows = self._database.rows(
            f"SELECT amount FROM activities WHERE kind IN ({_marks(TRANSFERS)})"
            " AND listed_at > ? AND ground > 0",
            (*sorted(TRANSFERS), stamp(since)),
        )
        with self._database.checked():
            return total(Decimal(amount) for (amount,) in rows)

    def cash_reading(self, cash: Decimal) -> CashReading:
        """The venue's cash beside what is written down; cash: USD."""
        expected, booked = self._cash("cash, booked")
        return CashReading(EXACT.subtract(cash, expected), booked)

    def last_cash(self) -> CashReading | None:
        """The last reading of cash that was believed; none before there was one."""
        believed = self._cash("believed_beyond, believed_booked")
        return CashReading(*believed) if believed else None

    def believe_cash(self, reading: CashReading) -> None:
        """Have a reading of cash, to the cent, be what later ones are looked at beside."""
        cents = [each.quantize(CENT, context=EXACT) for each in (reading.beyond, reading.booked)]
        if CashReading(*cents) != self.last_cash():
            statement = "UPDATE ground SET believed_beyond = ?, believed_booked = ?"
            self._database.execute(statement, [plain(each) for each in cents])

    def _cash(self, columns: str) -> list[Decimal]:
        """Columns of the ground, USD; none where they are empty."""
        rows = self._database.rows(f"SELECT {columns} FROM ground")
        with self._database.checked():
            return [Decimal(text) for text in rows[0] if text is not None]

    def _owned(self) -> dict[str, Owned]:
        rows = self._database.rows("SELECT symbol, qty, fee FROM expected ORDER BY symbol")
        with self._database.checked():
            return {
                symbol: Owned(Decimal(quantity), Decimal(fee)) for symbol, quantity, fee in rows
            }

    def _expect(self, expected: Mapping[str, Owned]) -> None:
        for symbol, each in expected.items():
            row = (symbol, plain(each.quantity), plain(each.fee))
            self._database.execute("INSERT OR REPLACE INTO expected VALUES (?, ?, ?)", row)

    def _count(self, name: str, quantity: str) -> None:
        self._database.execute("INSERT OR REPLACE INTO counted VALUES (?, ?)", (name, quantity))

    def _count_fills(self, expected: defaultdict[str, Owned]) -> None:
        """Have what orders have filled since they were counted be expected."""
        for intent in self._intents.select(_NEWS):
            name = intent.client_order_id
            rows = self._database.rows("SELECT qty FROM counted WHERE name = ?", (name,))
            with self._database.checked():
                news = intent.progress.filled - total(Decimal(text) for (text,) in rows)
            for symbol, change in changes_of(intent, news).items():
                bought = change > 0 and is_coin_symbol(symbol)
                expected[symbol] = expected[symbol].changed(change, bought=bought)
            self._count(name, str(intent.progress.filled))

    def _uncounted(self, symbol: str, at: np.datetime64) -> dict[str, Decimal]:
        """By how much bookings of a week, by name, change a symbol beyond what is counted."""
        rows = self._database.rows(
            "SELECT id, activities.qty, coalesce(counted.qty, '0') FROM activities"
            " LEFT JOIN counted ON name = id WHERE symbol = ? AND listed_at > ?"
            f" AND kind NOT IN ({_marks(SHARE_TRANSFERS)}) ORDER BY activities.rowid",
            (symbol, stamp(at - OVERLAP), *sorted(SHARE_TRANSFERS)),
        )
        with self._database.checked():
            changes = {
                name: EXACT.subtract(Decimal(quantity), Decimal(counted))
                for name, quantity, counted in rows
            }
        return {name: change for name, change in changes.items() if change}

    def _written(self, activity: Activity) -> tuple[dict[str, str], int]:
        """What is written down of an activity, if anything, and whether cash counts it."""
        table = _table(activity)
        columns = _STATED[table]
        rows = self._database.rows(
            f"SELECT {', '.join(columns)}, ground FROM {table} WHERE id = ?", (activity.id,)
        )
        return (dict(zip(columns, rows[0], strict=False)), rows[0][-1]) if rows else ({}, 0)

    def _write(self, activities: Iterable[Activity], at: np.datetime64, *, ground: int) -> int:
        """Write activities down; ground: 0 for those that its cash has in it."""
        written = 0
        moved = booked = NONE
        with self._database.transaction():
            for activity in activities:
                before, counts = self._written(activity)
                after = _stated(activity)
                if before == after:
                    continue
                written += 1
                row = {"id": activity.id, **after, "listed_at": stamp(at), "ground": ground}
                changes = ", ".join(f"{column} = excluded.{column}" for column in after)
                self._database.execute(
                    f"INSERT INTO {_table(activity)} ({', '.join(row)}) VALUES ({_marks(row)})"
                    f" ON CONFLICT (id) DO UPDATE SET {changes}",
                    tuple(row.values()),
                )
                if before:
                    log.warning(
                        "activity %s: the venue lists it otherwise than before", activity.id
                    )
                    said = {"before": before, "after": after}
                    self._events.append("activity changed", activity.id, said)
                if counts if before else ground:
                    amount = EXACT.subtract(_amount(after), _amount(before))
                    moved = EXACT.add(moved, amount)
                    booked = EXACT.add(booked, NONE if activity.kind == FILL else amount)
            if moved or booked:
                sums = zip(self._cash("cash, booked"), (moved, booked), strict=True)
                self._database.execute(
                    "UPDATE ground SET cash = ?, booked = ?", [plain(total(each)) for each in sums]
                )
            self._database.execute(_LINK)
        return written


def stamp(at: np.datetime64) -> str:
    """An instant as the journal writes it: texts of one length, in the order of time."""
    return str(at.astype("datetime64[ns]"))


def _marks(values: Iterable[object]) -> str:
    return ", ".join("?" for _ in values)


def _table(activity: Activity) -> str:
    return "fills" if activity.kind == FILL else "activities"


def _stated(activity: Activity) -> dict[str, str]:
    """What the venue says of an activity, as text by column of its table."""
    texts: dict[str, Any] = {
        "kind": activity.kind,
        "order_id": activity.order_id,
        "symbol": activity.symbol,
        "qty": plain(activity.quantity),
        "price": plain(activity.price or NONE),
        "amount": plain(activity.amount),
        "at": stamp(activity.at),
    }
    return {column: texts[column] for column in _STATED[_table(activity)]}


def _amount(row: Mapping[str, str]) -> Decimal:
    """USD by which what a row says changes cash, signed; of no row nothing."""
    if "price" in row:
        return traded_amount(row["symbol"], Decimal(row["qty"]), Decimal(row["price"]))
    return Decimal(row.get("amount", 0))
