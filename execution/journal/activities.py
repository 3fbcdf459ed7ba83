"""What happened to an account, as its venue lists it: trades in `fills`, all else in `activities`.

`ground` of a row is 0 where what the account held as its journal began has it in it, else 1.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, NamedTuple, get_args

import numpy as np

from execution.journal.events import EventLog
from execution.journal.migrations import create_tables
from execution.journal.rows import read
from execution.option_orders import SHARES, is_option
from foundation.database import Database
from foundation.decimals import EXACT, is_bounded, plain, total

log = logging.getLogger(__name__)

ALL_TIME = np.datetime64("1970-01-01", "ns")

# A transfer is cash that a person pays in (above 0) or takes out (below 0); an option's is its end
# without a trade, and the shares that are delivered for it.
Kind = Literal[
    "trade",
    "transfer",
    "share transfer",
    "dividend",
    "interest",
    "fee",
    "coin fee",
    "split",
    "option",
    "other",
]

_SCHEMA = (
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


@dataclass(frozen=True, slots=True)
class Activity:
    """Something that happened to an account.

    id: the venue's id of it.
    at: the instant of a trade; of all else New York's midnight at the beginning of its day.
    symbol: what it is about, as positions here spell it; empty where it is about cash alone.
    quantity: by which it changes the position, signed: shares, coins or contracts.
    price: USD a share, coin or contract's share; none where the venue names none.
    amount: USD by which it changes cash, signed.
    order_id: the venue's id of the order that traded; empty for none.
    """

    id: str
    kind: Kind
    at: np.datetime64
    symbol: str
    quantity: Decimal
    price: Decimal | None
    amount: Decimal
    order_id: str = ""

    def __post_init__(self) -> None:
        if not self.id:
            raise ValueError("an activity has no id")
        if self.kind not in get_args(Kind):
            raise ValueError(f"activity {self.id}: kind {self.kind!r} is none")
        if np.isnat(self.at):
            raise ValueError(f"activity {self.id}: nobody knows when it was")
        if not is_bounded(self.quantity):
            raise ValueError(f"activity {self.id}: quantity {self.quantity} is no number")
        if self.quantity and not self.symbol:
            raise ValueError(f"activity {self.id}: quantity {self.quantity} of nothing")
        if self.is_trade and self.price is None:
            raise ValueError(f"activity {self.id}: a trade without a price")
        if self.price is not None and not (is_bounded(self.price) and self.price >= 0):
            raise ValueError(f"activity {self.id}: price {self.price} is no price")
        if not self.amount.is_finite():
            raise ValueError(f"activity {self.id}: amount {self.amount} is no number")

    @property
    def is_trade(self) -> bool:
        """Whether an order made it; all else the venue books."""
        return self.kind == "trade"


class FillRow(NamedTuple):
    """A trade as it is written down.

    order: our id of its order; empty for a trade that no order of ours made.
    quantity: signed. price: USD. at: when it traded. listed_at: when it was read.
    """

    order: str
    symbol: str
    quantity: Decimal
    price: Decimal
    at: np.datetime64
    listed_at: np.datetime64


class BookingRow(NamedTuple):
    """Something that happened beside trades, as it is written down.

    symbol: empty for cash alone. quantity: by which it changed a position, signed.
    amount: USD by which it changed cash, signed. listed_at: when it was read.
    """

    kind: Kind
    symbol: str
    quantity: Decimal
    amount: Decimal
    listed_at: np.datetime64


class ActivityBook:
    """What the venue has listed of one account.

    Raises
    ------
    DatabaseFailed
        here and in every method, for a journal that cannot be read or written.
    """

    def __init__(self, database: Database, events: EventLog) -> None:
        self._database = database
        self._events = events
        create_tables(database, *_SCHEMA)

    def unwritten(self, activities: Iterable[Activity]) -> list[Activity]:
        """Those that are not written down, or not with this content."""
        return [each for each in activities if self._written(each)[0] != _stated(each)]

    def write(
        self, activities: Iterable[Activity], at: np.datetime64, *, ground: int
    ) -> list[tuple[Activity, Decimal]]:
        """Write down what is not there, and what is listed with another content, in its own place.

        A fill is linked to the intent whose order the venue calls so, once the book of intents
        knows that; legs of options and exits have other orders, and are linked to none.

        at: instant by the venue's clock at which they were listed.
        ground: 0 for those that what the account held as its journal began has in it.

        Returns
        -------
        list
            what was written, with the USD by which it changes what cash should be, signed.
        """
        written = []
        with self._database.transaction():
            for activity in activities:
                before, counts = self._written(activity)
                after = _stated(activity)
                if before == after:
                    continue
                row = {"id": activity.id, **after, "listed_at": stamp(at), "ground": ground}
                changes = ", ".join(f"{column} = excluded.{column}" for column in after)
                self._database.execute(
                    f"INSERT INTO {_table(activity)} ({', '.join(row)})"
                    f" VALUES ({', '.join('?' * len(row))}) ON CONFLICT (id) DO UPDATE SET"
                    f" {changes}",
                    tuple(row.values()),
                )
                if before:
                    name = activity.id
                    log.warning("activity %s: the venue lists it otherwise than before", name)
                    said = {"before": before, "after": after}
                    self._events.append("activity changed", name, said)
                counts = counts if before else ground
                change = EXACT.subtract(_amount(after), _amount(before)) if counts else Decimal(0)
                written.append((activity, change))
            self._database.execute(_LINK)
        return written

    def last_trade(self) -> np.datetime64 | None:
        """When the last trade was; none before there was one."""
        [(at,)] = self._database.rows("SELECT max(at) FROM fills")
        with self._database.checked():
            return None if at is None else np.datetime64(at, "ns")

    def traded(self, symbol: str, order_id: str) -> Decimal:
        """How much of a symbol an order has traded, without sign; order_id: the venue's."""
        query = "SELECT qty FROM fills WHERE symbol = ? AND order_id = ?"
        rows = self._database.rows(query, (symbol, order_id))
        with self._database.checked():
            return total(abs(Decimal(quantity)) for (quantity,) in rows)

    def transferred(self, since: np.datetime64) -> Decimal:
        """Deposits less withdrawals that were listed after an instant, beyond the ground; USD."""
        rows = self._database.rows(
            "SELECT amount FROM activities"
            " WHERE kind = 'transfer' AND listed_at > ? AND ground > 0",
            (stamp(since),),
        )
        with self._database.checked():
            return total(Decimal(amount) for (amount,) in rows)

    def changes(self, symbol: str, since: np.datetime64) -> dict[str, Decimal]:
        """By how much what was booked after an instant changes a position, by id, oldest first.

        Shares that a person has moved are none of these.
        """
        rows = self._database.rows(
            "SELECT id, qty FROM activities WHERE symbol = ? AND listed_at > ?"
            " AND kind != 'share transfer' ORDER BY rowid",
            (symbol, stamp(since)),
        )
        with self._database.checked():
            return {name: Decimal(quantity) for name, quantity in rows}

    def _written(self, activity: Activity) -> tuple[dict[str, str], int]:
        """What is written down of an activity, if anything, and whether cash counts it."""
        columns = list(_stated(activity))
        query = f"SELECT {', '.join(columns)}, ground FROM {_table(activity)} WHERE id = ?"
        rows = self._database.rows(query, (activity.id,))
        return (dict(zip(columns, rows[0], strict=False)), rows[0][-1]) if rows else ({}, 0)


def fills_of(database: Database, since: np.datetime64) -> list[FillRow]:
    """Trades after an instant, beyond the ground, oldest first."""
    query = (
        "SELECT client_order_id, symbol, qty, price, at, listed_at FROM fills"
        " WHERE ground > 0 AND at > ? ORDER BY at, rowid"
    )
    return read(database, FillRow, query, (stamp(since),))


def bookings_of(database: Database) -> list[BookingRow]:
    """All that is no trade, beyond the ground, in the order in which it was listed."""
    query = (
        "SELECT kind, symbol, qty, amount, listed_at FROM activities"
        " WHERE ground > 0 ORDER BY listed_at, rowid"
    )
    return read(database, BookingRow, query)


def traded_amount(symbol: str, quantity: Decimal, price: Decimal) -> Decimal:
    """USD by which a trade changes cash, signed; quantity: signed."""
    units = Decimal(-SHARES if is_option(symbol) else -1)
    return EXACT.multiply(EXACT.multiply(quantity, price), units)


def stamp(at: np.datetime64) -> str:
    """An instant as the journal writes it: texts of one length, in the order of time."""
    return str(at.astype("datetime64[ns]"))


def _table(activity: Activity) -> str:
    return "fills" if activity.is_trade else "activities"


def _stated(activity: Activity) -> dict[str, str]:
    """What the venue says of an activity, as text by column of its table."""
    if activity.is_trade:
        return {
            "order_id": activity.order_id,
            "symbol": activity.symbol,
            "qty": plain(activity.quantity),
            "price": plain(activity.price or Decimal(0)),
            "at": stamp(activity.at),
        }
    return {
        "kind": activity.kind,
        "at": stamp(activity.at),
        "symbol": activity.symbol,
        "qty": plain(activity.quantity),
        "amount": plain(activity.amount),
    }


def _amount(row: Mapping[str, str]) -> Decimal:
    """USD by which what a row says changes cash, signed; of no row nothing."""
    if "price" in row:
        return traded_amount(row["symbol"], Decimal(row["qty"]), Decimal(row["price"]))
    return Decimal(row.get("amount", 0))
