"""How a journal of commit 5b173ee becomes one of today; no other version is taken over.

The file's `user_version` says which it is of: 0 is that commit's, or a file that has no tables yet,
which whoever keeps them creates as they are today.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from execution.journal.linked_returns import Point
from execution.option_orders import SHARES, is_option
from foundation import database as files
from foundation.database import Damaged, Database, DatabaseFailed
from foundation.decimals import EXACT, plain, total
from foundation.errors import InputError

VERSION = 28
DIGEST = "row_digest"  # of a row, in its last column; empty where 5b173ee wrote it
WITH_DIGEST = (
    "SELECT kept.name FROM sqlite_master AS kept JOIN pragma_table_info(kept.name) AS found"
    f" ON found.name = '{DIGEST}' WHERE kept.type = 'table'"
)
_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"

_LET_GO = (("let_daily_loss", 0), ("let_drawdown", 0))


def _link_marks(database: Database) -> None:
    """Give marks their place in the index of linked returns.

    What a person let go on is not in it: the next mark halts again.
    """
    for name, begin in (("linked", 1), ("peak", 1), ("day", 1), *_LET_GO):
        database.execute(f"ALTER TABLE marks ADD COLUMN {name} TEXT NOT NULL DEFAULT '{begin}'")
    last: Point | None = None
    for at, equity, flow in database.rows("SELECT at, equity, flows FROM marks ORDER BY at"):
        when = np.datetime64(at, "ns")
        last = Point.first(when, equity) if last is None else last.next(when, equity, flow)
        database.execute(
            "UPDATE marks SET linked = ?, peak = ?, day = ? WHERE at = ?",
            (str(last.index), str(last.peak), str(last.day), at),
        )


# Orders were kept as the JSON of their venue: Alpaca's, with a credit below 0, or Kalshi's, whose
# one book is of YES. The practice exchange of event contracts had words of ours.
_COLUMNS = """client_order_id, job, venue, decision, part, terms, reason, sent_at, expires_at,
    state, why, venue_id, filled, filled_price, successor"""
_LIMIT = "json_extract(request, '$.limit_price')"
ORDERS_IN_OUR_WORDS = (
    "ALTER TABLE intents RENAME TO intents_before",
    """
    CREATE TABLE intents (
        client_order_id TEXT PRIMARY KEY,
        job TEXT NOT NULL,
        venue TEXT NOT NULL,
        decision TEXT NOT NULL,
        part TEXT NOT NULL,
        terms TEXT NOT NULL,
        reason TEXT NOT NULL,
        sent_at TEXT NOT NULL,
        expires_at TEXT,
        state TEXT NOT NULL,
        why TEXT NOT NULL,
        venue_id TEXT NOT NULL,
        filled TEXT NOT NULL,
        filled_price TEXT,
        successor TEXT NOT NULL,
        symbol TEXT GENERATED ALWAYS AS (json_extract(terms, '$.symbol')) VIRTUAL,
        side TEXT GENERATED ALWAYS AS (json_extract(terms, '$.side')) VIRTUAL,
        qty TEXT GENERATED ALWAYS AS (json_extract(terms, '$.qty')) VIRTUAL,
        type TEXT GENERATED ALWAYS AS (json_extract(terms, '$.type')) VIRTUAL,
        limit_price TEXT GENERATED ALWAYS AS (json_extract(terms, '$.limit_price')) VIRTUAL,
        least_credit TEXT GENERATED ALWAYS AS (json_extract(terms, '$.least_credit')) VIRTUAL,
        stop_price TEXT GENERATED ALWAYS AS (json_extract(terms, '$.stop_price')) VIRTUAL
    ) STRICT
    """,
    f"""
    INSERT INTO intents ({_COLUMNS})
    SELECT client_order_id, job, venue, decision, part,
        CASE
        WHEN json_extract(request, '$.legs') IS NOT NULL THEN json_object(
            'kind', 'spread',
            'legs', (
                SELECT json_group_array(json_object(
                    'symbol', json_extract(value, '$.symbol'), 'side', json_extract(value, '$.side')
                )) FROM json_each(request, '$.legs')
            ),
            'qty', json_extract(request, '$.qty'),
            'type', json_extract(request, '$.type'),
            'least_credit',
            CASE WHEN {_LIMIT} LIKE '-%' THEN substr({_LIMIT}, 2) ELSE '-' || {_LIMIT} END
        )
        WHEN json_extract(request, '$.ticker') IS NOT NULL THEN json_object(
            'kind', 'contract',
            'symbol', json_extract(request, '$.ticker'),
            'side', CASE json_extract(request, '$.side') || json_extract(request, '$.reduce_only')
                WHEN 'bid0' THEN 'BUY YES' WHEN 'ask0' THEN 'BUY NO'
                WHEN 'bid1' THEN 'SELL NO' WHEN 'ask1' THEN 'SELL YES' END,
            'qty', json_extract(request, '$.count'),
            'limit_price',
            CASE WHEN json_extract(request, '$.side') || json_extract(request, '$.reduce_only')
                IN ('ask0', 'bid1')
                THEN printf('%.4f', 1 - CAST(json_extract(request, '$.price') AS REAL))
                ELSE json_extract(request, '$.price') END
        )
        WHEN json_extract(request, '$.side') LIKE '% %' THEN json_object(
            'kind', 'contract',
            'symbol', json_extract(request, '$.symbol'),
            'side', json_extract(request, '$.side'),
            'qty', json_extract(request, '$.qty'),
            'limit_price', {_LIMIT}
        )
        ELSE json_object(
            'kind', 'single',
            'symbol', replace(json_extract(request, '$.symbol'), '/', ''),
            'side', json_extract(request, '$.side'),
            'qty', json_extract(request, '$.qty'),
            'type', json_extract(request, '$.type'),
            'tif', json_extract(request, '$.time_in_force'),
            'limit_price', {_LIMIT},
            'stop_price', json_extract(request, '$.stop_price'),
            'trail_price', json_extract(request, '$.trail_price'),
            'trail_percent', json_extract(request, '$.trail_percent'),
            'extended_hours', json(
                CASE json_extract(request, '$.extended_hours') WHEN 1 THEN 'true' ELSE 'false' END
            )
        )
        END,
        reason, sent_at,
        coalesce(
            expires_at,
            strftime(
                '%Y-%m-%dT%H:%M:%S.000000000',
                json_extract(request, '$.expiration_time'), 'unixepoch'
            )
        ),
        state, why, venue_id, filled, filled_price, successor
    FROM intents_before ORDER BY rowid
    """,
    "DROP TABLE intents_before",
    "CREATE INDEX intents_by_state ON intents (state)",
    "CREATE INDEX intents_by_sending ON intents (sent_at)",
    "CREATE INDEX intents_by_decision ON intents (decision)",
)
EXPECTED = (
    """
    CREATE TABLE ground (
        number INTEGER PRIMARY KEY CHECK (number = 1),
        begun_at TEXT NOT NULL,
        cash TEXT NOT NULL,
        booked TEXT NOT NULL,
        believed_beyond TEXT,
        believed_booked TEXT
    ) STRICT
    """,
    """
    CREATE TABLE expected (
        symbol TEXT PRIMARY KEY, qty TEXT NOT NULL, fee TEXT NOT NULL
    ) STRICT
    """,
    "CREATE TABLE counted (name TEXT PRIMARY KEY, qty TEXT NOT NULL) STRICT",
    "INSERT INTO counted SELECT client_order_id, filled FROM intents"
    " UNION ALL SELECT id, qty FROM activities",
)
# What the venue books was kept in Alpaca's words.
KINDS = """
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
DECISIONS = (
    "ALTER TABLE decisions ADD COLUMN gap TEXT NOT NULL DEFAULT '0.0'",
    "ALTER TABLE decisions ADD COLUMN limits TEXT NOT NULL DEFAULT '[]'",
    """
    UPDATE decisions SET choices = replace(
        replace(choices, '"basis": ', '"rationale": '), '"worth": ', '"shrinkage": '
    )
    """,
)


def _expect_what_was(database: Database) -> None:
    """Go on from the last ground of an account, and all that came on it."""
    database.create(*EXPECTED)
    last = "(SELECT max(number) FROM beginnings)"
    held: dict[str, Decimal] = {}
    for symbol, quantity in database.rows(
        f"SELECT symbol, qty FROM beginnings WHERE number = {last}"
        f" UNION ALL SELECT symbol, qty FROM fills WHERE ground = {last}"
        f" UNION ALL SELECT symbol, qty FROM activities WHERE ground = {last}"
    ):
        held[symbol] = EXACT.add(held.get(symbol, Decimal(0)), Decimal(quantity))
    began = database.rows(f"SELECT at FROM beginnings WHERE number = {last}")
    if began:
        fills = database.rows(f"SELECT symbol, qty, price FROM fills WHERE ground = {last}")
        traded = [
            EXACT.multiply(Decimal(quantity), Decimal(price)) * (-SHARES if is_option(s) else -1)
            for s, quantity, price in fills
        ]
        amounts = database.rows(f"SELECT amount FROM activities WHERE ground = {last}")
        booked = total(Decimal(amount) for (amount,) in amounts)
        cash = total((held.pop(""), *traded, booked))
        database.execute(
            "INSERT INTO ground (number, begun_at, cash, booked) VALUES (1, ?, ?, ?)",
            (began[0][0], plain(cash), plain(booked)),
        )
        for symbol, quantity in held.items():
            database.execute("INSERT INTO expected VALUES (?, ?, '0')", (symbol, plain(quantity)))
        _count_what_is_listed(database, began[0][0])
    database.execute("DROP TABLE beginnings")


def _count_what_is_listed(database: Database, began: str) -> None:
    """Have of each order be counted what its listed fills have: what is held was made of these.

    Legs have orders of their own at the venue: what their order has answered stays counted.

    began: when the last ground was written down; what had filled by then may never be listed.
    """
    orders = database.rows(
        "SELECT client_order_id, venue_id, sent_at FROM intents"
        " WHERE json_extract(terms, '$.kind') = 'single'"
    )
    for name, venue_id, sent_at in orders:
        fills = database.rows(
            "SELECT qty FROM fills WHERE client_order_id = ?1"
            " OR (client_order_id = '' AND order_id != '' AND order_id = ?2)",
            (name, venue_id),
        )
        if fills or sent_at >= began:
            listed = total(Decimal(quantity).copy_abs() for (quantity,) in fills)
            database.execute("UPDATE counted SET qty = ? WHERE name = ?", (plain(listed), name))


def _write_plainly(database: Database) -> None:
    """Have equal fills be equal texts: what is counted of an order is compared with its row."""
    for table, column in (("intents", "filled"), ("counted", "qty")):
        if not database.rows("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)):
            continue
        for row, number in database.rows(f"SELECT rowid, {column} FROM {table}"):
            if number != (written := plain(Decimal(number))):
                database.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (written, row))


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
        _refuse_another(database.path, version)
        tables = {name for (name,) in database.rows("SELECT name FROM sqlite_master")}
        try:
            _take_over(database, tables)
        except (LookupError, TypeError, ArithmeticError, ValueError) as error:
            place = "memory" if database.path is None else database.path
            raise Damaged(f"{place}: the journal is damaged: a row of it makes no sense") from error
        database.execute(f"PRAGMA user_version = {VERSION}")


def _take_over(database: Database, tables: set[str]) -> None:
    """Bring those of the tables that are there to what they are today."""
    if "intents" in tables:
        database.create(*ORDERS_IN_OUR_WORDS)
    if "marks" in tables:
        _link_marks(database)
    if "beginnings" in tables:
        _expect_what_was(database)
    if "activities" in tables:
        database.execute(KINDS)
    if "intents" in tables:
        _write_plainly(database)
    if "decisions" in tables:
        database.create(*DECISIONS)
    for (table,) in database.rows(_TABLES):
        database.execute(f"ALTER TABLE {table} ADD COLUMN {DIGEST} TEXT NOT NULL DEFAULT ''")


def _refuse_another(path: Path | None, version: int) -> None:
    if version not in (0, VERSION):
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
    _refuse_another(path, version)
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
