"""What the account should hold by what is written down, beside what the venue says it holds.

The ground is what it held when the journal first met it; trades and other activities come on top.
Whatever the venue holds beyond that sum was done by nobody here.

A coin's fee is taken at once in the coin that is bought: at a taker fee of 25 basis points 0.1
bitcoin leave 0.09975. It is listed, as CFEE, hours later or at the end of the day (Alpaca's
documentation, "Crypto Fees"). Until then a coin is below the sum by the fee, which is explained.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal

import numpy as np

from execution.alpaca.activities import COIN_FEE, EXACT, FILL, TRANSFERS, Activity
from execution.events import EventLog
from execution.intents import IntentBook
from execution.live.differences import (
    NONE,
    Difference,
    Explained,
    plain,
    taker_fees,
    total,
    unexplained,
)
from foundation.database import Database
from trainingdata.instants import DAY, instant, new_york_date
from trainingdata.instruments import is_coin, is_symbol

log = logging.getLogger(__name__)

# For so long before the last trade is asked again: what has only a day is listed after a night,
# a weekend, or with the statement of a month's last days.
OVERLAP = np.timedelta64(7, "D").astype("timedelta64[ns]")
CASH = ""  # the symbol under which the ground has its cash, USD

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

    Raises
    ------
    DatabaseFailed
        here and in every method, for a file that cannot be read or written.
    """

    def __init__(self, database: Database, events: EventLog) -> None:
        self._database = database
        self._events = events
        # Fills are linked to intents, whose table is this book's.
        IntentBook(database, events)
        database.create(*_SCHEMA)

    @property
    def begun(self) -> bool:
        """Whether the ground is written down."""
        return self._ground() > 0

    @property
    def begun_at(self) -> np.datetime64:
        """The instant of the ground that counts.

        Raises
        ------
        ValueError
            before one is written down.
        """
        return self._beginning()[1]

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
        with self._database.transaction():
            self._write(listed, at, lambda _: number - 1)
            for symbol, quantity in [(CASH, cash), *sorted(holdings.items())]:
                self._database.execute(
                    "INSERT INTO beginnings VALUES (?, ?, ?, ?)",
                    (number, symbol, plain(quantity), _stamp(at)),
                )
            held = {symbol: plain(quantity) for symbol, quantity in holdings.items()}
            self._events.append("holdings begun", str(number), {"cash": plain(cash), "held": held})

    def add(self, activities: Iterable[Activity], at: np.datetime64) -> int:
        """Write down what is not there yet, as one transaction, and return how many that were.

        An activity that the venue lists with another content than before takes its own place. A
        fill is linked to the intent whose order the venue calls so, once the book of intents knows
        that; legs of options and exits have other orders, and are linked to none.

        at: instant by the venue's clock at which they were listed.

        Raises
        ------
        ValueError
            before the ground is written down.
        """
        number, begun_at = self._beginning()
        return self._write(
            activities, at, lambda each: number if _is_after(each, begun_at) else number - 1
        )

    def last_at(self) -> np.datetime64:
        """From when on activities are to be asked for next.

        That is a week before the last trade, or before the ground where none came after it.

        Raises
        ------
        ValueError
            before the ground is written down.
        """
        _, begun_at = self._beginning()
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
        number, _ = self._beginning()
        rows = self._database.rows(
            "SELECT symbol, qty FROM beginnings WHERE number = ? AND symbol != ''"
            " UNION ALL SELECT symbol, qty FROM fills WHERE ground = ?"
            " UNION ALL SELECT symbol, qty FROM activities WHERE ground = ? AND symbol != ''",
            (number, number, number),
        )
        sums: dict[str, Decimal] = {}
        with self._database.checked():
            for symbol, quantity in rows:
                sums[symbol] = EXACT.add(sums.get(symbol, NONE), Decimal(quantity))
        return {symbol: held for symbol, held in sorted(sums.items()) if held}

    def differences(
        self, actual: Mapping[str, Decimal], taker_fee: Decimal
    ) -> Mapping[str, Difference]:
        """What is held at the venue and not explained by what is written down, by symbol.

        A coin may be below the sum by at most the taker fee of its purchases since the day before
        the last fee of it that was listed: a fee has no instant, only a day, which may be the next.
        It may be above the sum by at most the taker fee of what was bought before the ground on its
        day or the day before: that fee was taken by then, and may have been listed since.

        Trades go on between two answers: a difference counts once it is seen twice.

        actual: signed quantities by symbol.
        taker_fee: the fraction that the venue keeps of a coin at most.

        Raises
        ------
        ValueError
            before the ground is written down.
        """
        return unexplained(self.expected(), actual, self._explained(taker_fee))

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
            (*sorted(TRANSFERS), _stamp(since)),
        )
        with self._database.checked():
            return total(Decimal(amount) for (amount,) in rows)

    def _ground(self) -> int:
        """The number of the ground that counts; 0 for none."""
        return int(self._database.rows("SELECT coalesce(max(number), 0) FROM beginnings")[0][0])

    def _beginning(self) -> tuple[int, np.datetime64]:
        """The number of the ground that counts, and its instant."""
        rows = self._database.rows("SELECT number, at FROM beginnings ORDER BY number DESC LIMIT 1")
        if not rows:
            raise ValueError("holdings: there is no ground to add to; begin it first")
        with self._database.checked():
            return int(rows[0][0]), np.datetime64(rows[0][1], "ns")

    def _write(
        self,
        activities: Iterable[Activity],
        at: np.datetime64,
        ground_of: Callable[[Activity], int],
    ) -> int:
        """Write activities down that are not there yet; ground_of: the ground that one adds to."""
        count = 0
        with self._database.transaction():
            for activity in activities:
                table, stated = _stated_by(activity)
                before = self._database.rows(
                    f"SELECT {', '.join(stated)} FROM {table} WHERE id = ?", (activity.id,)
                )
                if not before:
                    self._insert(table, activity.id, stated, at, ground_of(activity))
                elif before[0] != tuple(stated.values()):
                    self._replace(
                        table, activity.id, dict(zip(stated, before[0], strict=True)), stated
                    )
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
        row = {"id": name, **stated, "listed_at": _stamp(at), "ground": ground}
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
        self._events.append("activity changed", name, {"before": before, "after": after})

    def _explained(self, taker_fee: Decimal) -> dict[str, Explained]:
        """By how much each coin that was bought may differ from the sum."""
        number, begun_at = self._beginning()
        earliest = _midnight(begun_at) - DAY
        fees = self._database.rows(
            "SELECT symbol, max(at) FROM activities WHERE kind = ? GROUP BY symbol", (COIN_FEE,)
        )
        rows = self._database.rows(
            "SELECT symbol, qty, at, ground FROM fills"
            " WHERE symbol LIKE '%USD' AND qty NOT LIKE '-%'"
        )
        missing: defaultdict[str, list[Decimal]] = defaultdict(list)
        listed: defaultdict[str, list[Decimal]] = defaultdict(list)
        with self._database.checked():
            since = {symbol: np.datetime64(last, "ns") - DAY for symbol, last in fees}
            for symbol, quantity, stamp, ground in rows:
                at = np.datetime64(stamp, "ns")
                if not (is_symbol(symbol) and is_coin(symbol)):
                    continue
                if ground == number and (symbol not in since or at >= since[symbol]):
                    missing[symbol].append(Decimal(quantity))
                elif ground < number and at >= earliest:
                    listed[symbol].append(Decimal(quantity))
        return {
            symbol: Explained(
                missing=taker_fees(missing[symbol], taker_fee),
                listed=taker_fees(listed[symbol], taker_fee),
            )
            for symbol in {*missing, *listed}
        }


def _is_after(activity: Activity, begun_at: np.datetime64) -> bool:
    """Whether an activity that was not listed with the ground comes on top of it."""
    if activity.kind == FILL:
        return bool(activity.at >= begun_at)
    # A coin's fee is listed after it was taken: one of an earlier day was taken before the ground.
    if activity.kind == COIN_FEE:
        return bool(activity.at >= _midnight(begun_at))
    # Everything else changes a position as it is listed, whatever its day.
    return True


def _midnight(at: np.datetime64) -> np.datetime64:
    """The instant at which the New York day of an instant begins."""
    return instant(str(new_york_date(np.array([at]))[0]), name="the day")


def _stated_by(activity: Activity) -> tuple[str, dict[str, str | None]]:
    """The table that an activity goes to, and what the venue says of it, as text by column."""
    if activity.kind == FILL:
        return "fills", {
            "order_id": activity.order_id,
            "symbol": activity.symbol,
            "qty": plain(activity.quantity),
            "price": None if activity.price is None else plain(activity.price),
            "at": _stamp(activity.at),
        }
    return "activities", {
        "kind": activity.kind,
        "at": _stamp(activity.at),
        "symbol": activity.symbol,
        "qty": plain(activity.quantity),
        "amount": plain(activity.amount),
    }


def _stamp(at: np.datetime64) -> str:
    """An instant as the journal writes it: texts of one length, in the order of time."""
    return str(at.astype("datetime64[ns]"))
