"""What the account should hold by what is written down, beside what the venue says it holds.

The ground is what it held when the journal first met it; trades and other activities come on top.
Whatever the venue holds beyond that sum was done by nobody here.

A coin's fee is taken at once in the coin that is bought: at a taker fee of 25 basis points 0.1
bitcoin leave 0.09975. It is listed, as CFEE, hours later or at the end of the day (Alpaca's
documentation, "Crypto Fees"). Until then a coin is below the sum by the fee, which is explained.
So is an option that has expired and whose booking is listed later.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal

import numpy as np

from execution.alpaca.activities import (
    EXACT,
    EXERCISED_SHARES,
    OPTION_ENDINGS,
    SPLIT,
    TRANSFERS,
    Activity,
)
from execution.journal.events import EventLog
from execution.journal.intents import IntentBook
from execution.journal.migrations import create_tables
from execution.live.activity_rows import stated_by, turn
from execution.live.cash import CashBook, CashReading
from execution.live.coin_fees import explained_by_fees
from execution.live.differences import NONE, Difference, plain, total, unexplained
from execution.live.grounds import Ground, ground_of, stamp
from execution.live.running_sums import CASH, RunningSums
from execution.live.unlisted import gone_by_expiry, with_likely_causes
from foundation.database import Database

log = logging.getLogger(__name__)

# For so long before the last trade is asked again: what has only a day is listed after a night,
# a weekend, or with the statement of a month's last days.
OVERLAP = np.timedelta64(7, "D").astype("timedelta64[ns]")
LISTED_LATE = OPTION_ENDINGS | {EXERCISED_SHARES, SPLIT}
CLOCK_ERROR = np.timedelta64(2, "h")  # of a venue's clock, at most
_NEVER = np.datetime64("1970-01-01", "ns")  # before every option has expired

_SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS beginnings (
        number INTEGER NOT NULL,
        symbol TEXT NOT NULL,
        qty TEXT NOT NULL,
        at TEXT NOT NULL,
        PRIMARY KEY (number, symbol)
    ) STRICT
    """,
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
# The venue's id of an order says whose intent a fill is of, once the intent has one.
_LINK = """
    UPDATE fills SET client_order_id =
        (SELECT client_order_id FROM intents WHERE venue_id = fills.order_id)
    WHERE client_order_id = ''
        AND order_id IN (SELECT venue_id FROM intents WHERE venue_id != '')
"""


class HoldingsBook:
    """What the account held when the journal met it, and everything that has happened since.

    One book writes a journal.

    Raises
    ------
    DatabaseFailed
        here and in every method, for a file that cannot be read or written.
    """

    def __init__(self, database: Database, events: EventLog) -> None:
        self._database = database
        self._events = events
        self._sums = RunningSums(database)
        self._listed_at: np.datetime64 = _NEVER
        self._cash = CashBook(database)
        # Fills are linked to intents, whose table is this book's.
        IntentBook(database, events)
        create_tables(database, *_SCHEMA)

    @property
    def begun(self) -> bool:
        """Whether the ground is written down."""
        return self._ground() > 0

    def begin(
        self,
        holdings: Mapping[str, Decimal],
        cash: Decimal,
        at: np.datetime64,
        listed: Iterable[Activity],
    ) -> None:
        """Write down the ground: what the account holds, and what it has been through by then.

        A person who has looked at a difference begins anew: what is held then is the ground, and
        what was written down before counts no more.

        holdings: signed quantities by symbol, everything that is held.
        cash: USD.
        at: instant by the venue's clock, read before the rest.
        listed: activities since `at - OVERLAP`, read before the holdings, which hold what they did.
            Where the venue lists others after the holdings were read, all are to be read again.
        """
        number = self._ground() + 1
        self._listed_at = at
        with self._database.transaction():
            self._write(listed, at, lambda _: number - 1)
            for symbol, quantity in [(CASH, cash), *sorted(holdings.items())]:
                self._database.execute(
                    "INSERT INTO beginnings VALUES (?, ?, ?, ?)",
                    (number, symbol, plain(quantity), stamp(at)),
                )
            held = {symbol: plain(quantity) for symbol, quantity in holdings.items()}
            self._events.append("holdings begun", str(number), {"cash": plain(cash), "held": held})

    def add(self, activities: Iterable[Activity], at: np.datetime64) -> int:
        """Write down what is not there yet, as one transaction, and return how many that were.

        An activity that the venue lists with another content than before takes its own place. A
        fill is linked to the intent whose order the venue calls so, once the book of intents knows
        that; legs of options and exits have other orders, and are linked to none.
        What is listed after a ground that has it already moves nothing: see `ground_of`.

        at: instant by the venue's clock at which they were listed.

        Raises
        ------
        ValueError
            before the ground is written down.
        """
        ground = self._beginning()
        self._listed_at = at
        return self._write(activities, at, lambda each: ground_of(self._database, each, ground))

    def last_at(self) -> np.datetime64:
        """From when on activities are to be asked for next.

        That is a week before the last trade, or before the ground where none came after it.

        Raises
        ------
        ValueError
            before the ground is written down.
        """
        begun_at = self._beginning().begun_at
        last = self._database.rows("SELECT max(at) FROM fills")[0][0]
        with self._database.checked():
            newest = begun_at if last is None else max(begun_at, np.datetime64(last, "ns"))
            return np.datetime64(newest - OVERLAP, "ns")

    def expected(self) -> Mapping[str, Decimal]:
        """What the account should hold: signed quantities by symbol, none of them 0.

        Raises
        ------
        ValueError
            before the ground is written down.
        """
        sums = self._sums.of(self._beginning().number)
        return {symbol: held for symbol, held in sorted(sums.items()) if held}

    def differences(
        self, actual: Mapping[str, Decimal], taker_fee: Decimal
    ) -> Mapping[str, Difference]:
        """What is held at the venue and not explained by what is written down, by symbol.

        A coin may be below the sum by at most the taker fee of its purchases since the day before
        the last fee of it that was listed: a fee has no instant, only a day, which may be the next.
        It may be above the sum by at most the taker fee of what was bought before the ground on its
        day or the day before: that fee was taken by then, and may have been listed since.

        An option that is held no more may have expired by when activities were last listed: that
        is explained until the second session after its last one has closed, when the booking has
        to be there. Shares that come or go are a difference until the venue lists why: as an
        exercise, an assignment or a split. What they look like stands beside the difference.

        Trades go on between two answers: a difference counts once it is seen twice.

        actual: signed quantities by symbol.
        taker_fee: the fraction that the venue keeps of a coin at most.

        Raises
        ------
        ValueError
            before the ground is written down.
        """
        expected = self.expected()
        fees = explained_by_fees(
            self._database, self._beginning(), sorted({*expected, *actual}), taker_fee
        )
        expired = gone_by_expiry(expected, actual, self._listed_at)
        differences = unexplained(expected, actual, fees, expired)
        return with_likely_causes(differences, expected, actual, expired)

    def cash_reading(self, cash: Decimal) -> CashReading:
        """The venue's cash beside what is written down; cash: USD.

        Raises
        ------
        ValueError
            before the ground is written down.
        """
        expected, booked = self._sums.cash(self._beginning().number)
        return CashReading(EXACT.subtract(cash, expected), booked)

    def last_cash(self) -> CashReading | None:
        """The last reading of cash that was believed; none on a ground that was never read."""
        return self._cash.last(self._ground())

    def believe_cash(self, reading: CashReading) -> None:
        """Have a reading of cash be what later ones are looked at beside."""
        self._cash.note(self._ground(), reading)

    def unwritten(self, activities: Iterable[Activity]) -> list[Activity]:
        """Those that are not written down, or not with this content."""
        return [each for each in activities if self._written(each) != [stated_by(each)[1]]]

    def _written(self, activity: Activity) -> list[dict[str, str | None]]:
        """What is written down of an activity, by column; nothing where it is not."""
        table, stated = stated_by(activity)
        found = self._database.rows(
            f"SELECT {', '.join(stated)} FROM {table} WHERE id = ?", (activity.id,)
        )
        return [dict(zip(stated, row, strict=True)) for row in found]

    def admit_earlier(self, differences: Mapping[str, Difference]) -> bool:
        """Count trades that are of before the ground by the clock alone; whether there were any.

        A clock that was wrong when the ground was begun makes them look so. What the venue listed
        with the ground is in it; others count where they are the whole difference of a symbol.
        """
        ground = self._beginning()
        admitted = False
        with self._database.transaction():
            for symbol, difference in differences.items():
                rows = self._database.rows(
                    "SELECT id, qty FROM fills WHERE symbol = ? AND ground = ? AND at >= ?"
                    " AND listed_at != ?",
                    (
                        symbol,
                        ground.number - 1,
                        stamp(ground.begun_at - CLOCK_ERROR),
                        stamp(ground.begun_at),
                    ),
                )
                missing = EXACT.subtract(difference.actual, difference.expected)
                if not rows or total(Decimal(quantity) for _, quantity in rows) != missing:
                    continue
                for name, _ in rows:
                    self._database.execute(
                        "UPDATE fills SET ground = ? WHERE id = ?", (ground.number, name)
                    )
                self._events.append("admitted", symbol, plain(missing))
                admitted = True
        if admitted:
            self._sums.forget()
        return admitted

    def explained_flows(self, since: np.datetime64) -> Decimal:
        """Deposits less withdrawals that were listed after an instant, USD.

        They count from when they were listed first, not by their day, which begins before they
        come: `add` comes before the account is marked. What was listed with the first ground is in
        its cash. Dividends, interest and fees are profit or cost. So is what shares are worth that
        were moved between accounts: the venue names no amount.
        """
        marks = ", ".join("?" * len(TRANSFERS))
        rows = self._database.rows(
            f"SELECT amount FROM activities WHERE kind IN ({marks}) AND listed_at > ?"
            " AND ground > 0",
            (*sorted(TRANSFERS), stamp(since)),
        )
        with self._database.checked():
            return total(Decimal(amount) for (amount,) in rows)

    def listed_late(self, since: np.datetime64) -> Mapping[str, Decimal]:
        """By how much bookings that were listed after an instant change positions, by symbol.

        They are what a venue lists after positions have changed: splits, ends of options, and the
        shares of exercises.
        """
        marks = ", ".join("?" * len(LISTED_LATE))
        rows = self._database.rows(
            f"SELECT symbol, qty FROM activities WHERE kind IN ({marks}) AND listed_at > ?"
            " AND ground = ?",
            (*sorted(LISTED_LATE), stamp(since), self._beginning().number),
        )
        listed: dict[str, Decimal] = {}
        with self._database.checked():
            for symbol, quantity in rows:
                listed[symbol] = EXACT.add(listed.get(symbol, NONE), Decimal(quantity))
        return listed

    def _ground(self) -> int:
        """The number of the ground that counts; 0 for none."""
        return int(self._database.rows("SELECT coalesce(max(number), 0) FROM beginnings")[0][0])

    def _beginning(self) -> Ground:
        """The ground that counts."""
        rows = self._database.rows("SELECT number, at FROM beginnings ORDER BY number DESC LIMIT 1")
        if not rows:
            raise ValueError("holdings: there is no ground to add to; begin it first")
        with self._database.checked():
            return Ground(int(rows[0][0]), np.datetime64(rows[0][1], "ns"))

    def _write(
        self,
        activities: Iterable[Activity],
        at: np.datetime64,
        number_of: Callable[[Activity], int],
    ) -> int:
        """Write activities down that are not there yet; number_of: the ground that one adds to."""
        count = 0
        with self._database.transaction():
            for activity in sorted(activities, key=turn):
                table, stated = stated_by(activity)
                before = self._written(activity)
                if not before:
                    self._insert(table, activity.id, stated, at, number_of(activity))
                elif before[0] != stated:
                    self._replace(table, activity.id, before[0], stated)
                else:
                    continue
                count += 1
            self._database.execute(_LINK)
        return count

    def _insert(
        self,
        table: str,
        name: str,
        stated: Mapping[str, str | None],
        at: np.datetime64,
        ground: int,
    ) -> None:
        row = {"id": name, **stated, "listed_at": stamp(at), "ground": ground}
        marks = ", ".join("?" * len(row))
        self._database.execute(
            f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values())
        )

    def _replace(
        self,
        table: str,
        name: str,
        before: Mapping[str, str | None],
        after: Mapping[str, str | None],
    ) -> None:
        log.warning("activity %s: the venue lists it otherwise than before", name)
        changes = ", ".join(f"{column} = ?" for column in after)
        self._database.execute(
            f"UPDATE {table} SET {changes} WHERE id = ?", (*after.values(), name)
        )
        self._sums.forget()
        self._events.append("activity changed", name, {"before": before, "after": after})
