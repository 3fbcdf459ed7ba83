"""How a journal of commit 5b173ee becomes one of today; no other version is taken over.

The file's `user_version` says which it is of: 0 is that commit's, or a file that has no tables yet,
which whoever keeps them creates as they are today.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from foundation import database as files
from foundation.database import Damaged, Database, DatabaseFailed
from foundation.decimals import EXACT, plain, total
from foundation.errors import InputError

VERSION = 28
DIGEST = "row_digest"  # of a row, in its last column; empty where 5b173ee wrote it
_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
_COLUMNS = "SELECT name FROM pragma_table_info(?)"
# What the venue books was kept in Alpaca's words.
_KINDS = """
    UPDATE activities SET kind = CASE
        WHEN kind IN ('ACATC', 'CSD', 'CSR', 'CSW', 'JNL', 'JNLC', 'TRANS') THEN 'transfer'
        WHEN kind IN ('ACATS', 'JNLS') THEN 'share transfer'
        WHEN kind LIKE 'DIV%' THEN 'dividend'
        WHEN kind LIKE 'OP%' THEN 'option'
        WHEN kind = 'INT' THEN 'interest'
        WHEN kind = 'FEE' THEN 'fee'
        WHEN kind = 'CFEE' THEN 'coin fee'
        WHEN kind = 'SPLIT' THEN 'split'
        ELSE 'other' END
    """
_KEPT = ("intents", "marks", "beginnings", "fills", "activities", "decisions")

Cells = dict[str, Any]  # of a row, by column


def create_tables(database: Database, *schema: str) -> None:
    """Bring a journal to today's version, and create tables that it has not.

    schema: their definitions, each with IF NOT EXISTS.
    """
    with database.transaction():
        migrate(database)
        database.create(*schema)


def migrate(database: Database) -> None:
    """Take over a journal of 5b173ee, or nothing of it."""
    with database.transaction():
        [(version,)] = database.rows("PRAGMA user_version")
        if version == VERSION:
            return
        _refuse_another(database.path, version, database.rows(_COLUMNS, ("intents",)))
        # Tables of today are created on the way.
        database.execute(f"PRAGMA user_version = {VERSION}")
        tables = {name for (name,) in database.rows(_TABLES)}
        had = {name: _rows_of(database, name) for name in _KEPT if name in tables}
        try:
            _take_over(database, had)
        except (LookupError, TypeError, ArithmeticError, ValueError) as error:
            if isinstance(error, Damaged):
                raise
            place = "memory" if database.path is None else database.path
            raise Damaged(f"{place}: the journal is damaged: a row of it makes no sense") from error


def _take_over(database: Database, had: Mapping[str, Sequence[Cells]]) -> None:
    """Bring those of the tables that are there to what they are today."""
    # They are defined above this, and create themselves by it.
    from execution.journal.decisions import DECISIONS
    from execution.journal.marks import MARKS
    from execution.journal.order_store import INTENTS

    if "intents" in had:
        INTENTS.renew(database, map(_in_our_words, had["intents"]))
    if "marks" in had:
        MARKS.renew(database, _with_index(had["marks"]))
    if "beginnings" in had:
        _expect_what_was(database, had)
        database.execute("DROP TABLE beginnings")
    if "activities" in had:
        database.execute(_KINDS)
    if "decisions" in had:
        DECISIONS.renew(database, map(_with_rationale, had["decisions"]))
    for (table,) in database.rows(_TABLES):
        if (DIGEST,) not in database.rows(_COLUMNS, (table,)):
            database.execute(f"ALTER TABLE {table} ADD COLUMN {DIGEST} TEXT NOT NULL DEFAULT ''")


def _rows_of(database: Database, table: str) -> list[Cells]:
    names = [name for (name,) in database.rows(_COLUMNS, (table,))]
    found = database.rows(f"SELECT {', '.join(names)} FROM {table} ORDER BY rowid")
    return [dict(zip(names, row, strict=True)) for row in found]


def _in_our_words(row: Cells) -> Cells:
    """An order, of which the venue's JSON was kept."""
    said = json.loads(row["request"])
    expires_at = row["expires_at"]
    if expires_at is None and (seconds := said.get("expiration_time")) is not None:
        expires_at = str(np.datetime64(seconds, "s").astype("datetime64[ns]"))
    return row | {"terms": json.dumps(_terms(said)), "expires_at": expires_at}


def _terms(said: Mapping[str, Any]) -> Cells:
    """What an order asks for in our words.

    said: Alpaca's words, with a credit below 0, or Kalshi's, whose one book is of YES. The practice
        exchange of event contracts had words of ours.
    """
    limit = said.get("limit_price")
    if "legs" in said:
        return {
            "kind": "spread",
            "legs": [{"symbol": leg["symbol"], "side": leg["side"]} for leg in said["legs"]],
            "qty": said["qty"],
            "type": said["type"],
            "least_credit": None if limit is None else str(-Decimal(limit)),
        }
    if "ticker" in said:
        reduces, price = bool(said["reduce_only"]), Decimal(said["price"])
        of_no = (said["side"] == "ask") != reduces
        return {
            "kind": "contract",
            "symbol": said["ticker"],
            "side": f"{'SELL' if reduces else 'BUY'} {'NO' if of_no else 'YES'}",
            "qty": said["count"],
            "limit_price": str(1 - price if of_no else price),
        }
    same = {name: said[name] for name in ("side", "qty")} | {"limit_price": limit}
    if " " in said["side"]:
        return {"kind": "contract", "symbol": said["symbol"], **same}
    return {
        "kind": "single",
        "symbol": said["symbol"].replace("/", ""),
        **same,
        "type": said["type"],
        "tif": said["time_in_force"],
        **{name: said.get(name) for name in ("stop_price", "trail_price", "trail_percent")},
        "extended_hours": bool(said.get("extended_hours")),
    }


def _with_index(marks: Sequence[Cells]) -> Iterator[Cells]:
    """Marks with their place in the index of linked returns.

    What a person let go on is not in it: the next mark halts again.
    """
    from execution.journal.marks import Point

    last: Point | None = None
    for mark in sorted(marks, key=lambda mark: str(mark["at"])):
        at, equity = np.datetime64(mark["at"], "ns"), mark["equity"]
        last = Point.first(at, equity) if last is None else last.next(at, equity, mark["flows"])
        yield mark | {"linked": str(last.index), "peak": str(last.peak), "day": str(last.day)}


def _with_rationale(decision: Cells) -> Cells:
    choices = decision["choices"].replace('"basis": ', '"rationale": ')
    return decision | {"choices": choices.replace('"worth": ', '"shrinkage": ')}


def _expect_what_was(database: Database, had: Mapping[str, Sequence[Cells]]) -> None:
    """Go on from the last ground of an account, and all that came on it."""
    from execution.journal.activities import traded_amount
    from execution.journal.expected import COUNTED, EXPECTED, GROUND

    orders, fills, bookings = (had.get(name, ()) for name in ("intents", "fills", "activities"))
    last = max((each["number"] for each in had["beginnings"]), default=0)
    began = [each for each in had["beginnings"] if each["number"] == last]
    counted = {each["id"]: each["qty"] for each in bookings}
    counted |= {each["client_order_id"]: each["filled"] for each in orders}
    if began:
        begun_at = str(began[0]["at"])
        on_it = [each for each in (*fills, *bookings) if each["ground"] == last]
        held: defaultdict[str, Decimal] = defaultdict(Decimal)
        for each in (*began, *on_it):
            held[each["symbol"]] = EXACT.add(held[each["symbol"]], Decimal(each["qty"]))
        booked = total(Decimal(each["amount"]) for each in on_it if "amount" in each)
        traded = [
            traded_amount(each["symbol"], Decimal(each["qty"]), Decimal(each["price"]))
            for each in on_it
            if "price" in each
        ]
        cash = plain(total((held.pop(""), *traded, booked)))
        ground = {"begun_at": begun_at, "cash": cash, "booked": plain(booked), "number": 1}
        GROUND.renew(database, [ground])
        owned = [{"symbol": s, "qty": plain(qty), "fee": "0"} for s, qty in held.items()]
        EXPECTED.renew(database, owned)
        counted |= _listed(orders, fills, begun_at)
    COUNTED.renew(database, [{"name": name, "qty": qty} for name, qty in counted.items()])


def _listed(orders: Sequence[Cells], fills: Sequence[Cells], begun_at: str) -> dict[str, str]:
    """What has been listed of each order, by its id: what is held was made of these fills.

    Legs have orders of their own at the venue: what their order has answered stays counted.

    begun_at: when the last ground was written down; what had filled by then may never be listed.
    """
    listed = {}
    for order in orders:
        name, venue_id = order["client_order_id"], order["venue_id"]
        own = [
            Decimal(each["qty"]).copy_abs()
            for each in fills
            if name == each["client_order_id"]
            or (not each["client_order_id"] and venue_id and venue_id == each["order_id"])
        ]
        single = _terms(json.loads(order["request"]))["kind"] == "single"
        if single and (own or order["sent_at"] >= begun_at):
            listed[name] = plain(total(own))
    return listed


def _refuse_another(path: Path | None, version: int, orders: Sequence[tuple[str]]) -> None:
    """Refuse a journal of another version; orders: their columns. The first knew no decisions."""
    if version not in (0, VERSION) or (orders and ("decision",) not in orders):
        raise InputError(
            f"{path}: a journal of another version ({version}, this one writes {VERSION}); trade it"
            " with that one"
        )


@contextmanager
def as_it_is_today(path: Path) -> Iterator[Database]:
    """A journal for reading: of an earlier version a copy that was taken over, so that a process
    of that version may go on with it.
    """
    [(version,)] = files.rows_of(path, "PRAGMA user_version")
    _refuse_another(path, version, files.rows_of(path, _COLUMNS, ("intents",)))
    with TemporaryDirectory() as scratch:
        place = path if version == VERSION else files.copied(path, Path(scratch))
        try:
            with closing(Database(place)) as database:
                if place != path:
                    migrate(database)
                yield database
        except DatabaseFailed as error:
            # The copy is gone by the time that somebody reads of it.
            named = str(error).replace(str(place), str(path))
            raise type(error)(named) from error.__cause__
