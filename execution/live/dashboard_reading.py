"""What the dashboard reads of a journal: rows as values, and nothing is ever written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from execution.journal.halts import Halt
from execution.journal.intents import TAKEN
from execution.live.accounts import TRADE
from foundation.arrays import Array, Instants
from foundation.database import DatabaseFailed, Row, rows_of

DECISIONS_SEARCHED = 120  # the latest: four days of hourly coins hide no stock's decision
EVENTS_SEARCHED = 500  # for the event of a stop, after which its cancellations come
CONTRACTS = "kalshi"  # the job whose intents are of event contracts
EVENT_LENGTH = 600  # characters of an event's content
WAITING = ("planned", "sending", "open", "working")

_ORDERS = """
    SELECT client_order_id, job, part, coalesce(symbol, json_extract(request, '$.ticker')), side,
        coalesce(qty, json_extract(request, '$.count')), type,
        coalesce(limit_price, json_extract(request, '$.price')), stop_price,
        json_extract(request, '$.legs'), state, why, reason, filled, filled_price, sent_at,
        expires_at
    FROM intents
"""


class CycleRow(NamedTuple):
    """A pass of a job. ended_at: none while it lasts. idle, failed: why, or empty."""

    job: str
    began_at: np.datetime64
    ended_at: np.datetime64 | None
    decision: str
    fills: int
    idle: str
    failed: str


class OrderRow(NamedTuple):
    """An intent as the book has it; quantities and prices are text, exact; none where none is."""

    client_order_id: str
    job: str
    part: str
    symbol: str
    side: str
    qty: str | None
    type: str
    limit_price: str | None
    stop_price: str | None
    state: str
    why: str
    reason: str
    filled: str
    filled_price: str | None
    sent_at: np.datetime64
    expires_at: np.datetime64 | None


class SentIntent(NamedTuple):
    """An intent of event contracts that the venue took. request: as the venue takes it.

    filled: contracts. filled_price: USD of the order's own side; none where it is not known.
    """

    client_order_id: str
    request: Mapping[str, Any]
    filled: Decimal
    filled_price: Decimal | None
    sent_at: np.datetime64


class ChoiceRow(NamedTuple):
    """What was decided last of a symbol. entry: as `journal.choice_entry` writes it."""

    decision: str
    at: np.datetime64
    until: np.datetime64
    entry: Mapping[str, Any]


class DecisionRow(NamedTuple):
    """The last decision: its equity in USD, stock ceiling, failure of sizing, and rules."""

    name: str
    at: np.datetime64
    until: np.datetime64
    decided_at: np.datetime64
    equity: float
    stock_ceiling: float
    failure: str
    rules: tuple[str, ...]


class EventRow(NamedTuple):
    """What happened, and to what; content: text or JSON, shortened."""

    number: int
    at: np.datetime64
    kind: str
    subject: str
    content: str


class NoticeRow(NamedTuple):
    """What a person was told of; text: redacted."""

    at: np.datetime64
    kind: str
    text: str


@dataclass(frozen=True, eq=False, slots=True)
class History:
    """Every mark of the account, oldest first; USD.

    at: [T] instants.
    equity: [T] cash plus positions.
    cash: [T].
    stock: [T] gross value of stocks.
    coin: [T] gross value of coins.
    ceiling: [T] stock gross allowed, in multiples of equity.
    flows: [T] paid in less taken out since the mark before.
    positions: signed value of each position at the last mark, by symbol.
    """

    at: Instants
    equity: Array
    cash: Array
    stock: Array
    coin: Array
    ceiling: Array
    flows: Array
    positions: Mapping[str, float]


class JournalReader:
    """A journal as it is read for one page.

    path: of the file.

    Raises
    ------
    DatabaseFailed
        here and in every method, for a file that is not there, or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        names = rows_of(path, "SELECT name FROM sqlite_master WHERE type = 'table'")
        self._tables = frozenset(name for (name,) in names)

    def _rows(self, table: str, query: str, values: Sequence[object] = ()) -> list[Row]:
        """What a query finds; nothing where the journal does not have the table yet."""
        return rows_of(self._path, query, values) if table in self._tables else []

    @contextmanager
    def _checked(self, table: str) -> Iterator[None]:
        """Rows that say nothing raise what a file that cannot be read does."""
        try:
            yield
        except DatabaseFailed:
            raise
        except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError) as error:
            raise DatabaseFailed(f"{table}: what is written there says nothing: {error}") from error

    @cached_property
    def history(self) -> History | None:
        """Every mark; none before the first."""
        rows = self._rows(
            "marks",
            "SELECT at, equity, cash, gross_stock, gross_crypto, stock_ceiling, flows FROM marks"
            " ORDER BY at",
        )
        if not rows:
            return None
        with self._checked("marks"):
            stamps = [row[0] for row in rows]
            columns = np.array([row[1:] for row in rows], dtype=float).T
            last = self._rows("marks", "SELECT positions FROM marks WHERE at = ?", (stamps[-1],))
            positions = {str(key): float(value) for key, value in json.loads(last[0][0]).items()}
            at = np.array(stamps, dtype="datetime64[ns]")
            equity, cash, stock, coin, ceiling, flows = columns
            return History(at, equity, cash, stock, coin, ceiling, flows, positions)

    def cycles(self, most: int) -> list[CycleRow]:
        """The latest passes, the last one first."""
        rows = self._rows(
            "cycles",
            "SELECT job, began_at, ended_at, decision, fills, idle, failed FROM cycles"
            " ORDER BY number DESC LIMIT ?",
            (most,),
        )
        with self._checked("cycles"):
            return [
                CycleRow(job, _instant(began), _instant_or_none(ended), *rest)
                for job, began, ended, *rest in rows
            ]

    def stop(self) -> tuple[np.datetime64, str] | None:
        """When the loop was last told to stop, and why; none where it was not for a long time."""
        rows = self._rows(
            "events",
            "SELECT at, content FROM"
            " (SELECT at, kind, content FROM events ORDER BY number DESC LIMIT ?)"
            " WHERE kind = 'stopped' LIMIT 1",
            (EVENTS_SEARCHED,),
        )
        with self._checked("events"):
            return (_instant(rows[0][0]), str(json.loads(rows[0][1])["why"])) if rows else None

    def interval(self) -> np.timedelta64 | None:
        """The longest between two ticks of event contracts; none where none were traded."""
        rows = self._rows("kalshi_markets", "SELECT max(interval) FROM kalshi_markets")
        with self._checked("kalshi_markets"):
            longest = rows[0][0] if rows else None
            return None if longest is None else np.timedelta64(int(longest), "ns")

    def halts(self) -> list[Halt]:
        """Those that stand, oldest first."""
        rows = self._rows(
            "halts",
            "SELECT number, kind, raised_at, why FROM halts WHERE cleared_at IS NULL"
            " ORDER BY number",
        )
        with self._checked("halts"):
            return [Halt(n, kind, _instant(at), why) for n, kind, at, why in rows]

    def waiting(self, most: int) -> list[OrderRow]:
        """The latest orders that are meant to be sent, or may fill, the last one first."""
        marks = ", ".join("?" * len(WAITING))
        where = f"WHERE state IN ({marks}) ORDER BY rowid DESC LIMIT ?"
        return self._orders(where, (*WAITING, most))

    def orders(self, most: int) -> list[OrderRow]:
        """The latest orders that do not wait, the last one first."""
        marks = ", ".join("?" * len(WAITING))
        where = f"WHERE state NOT IN ({marks}) ORDER BY rowid DESC LIMIT ?"
        return self._orders(where, (*WAITING, most))

    def order_counts(self) -> dict[str, int]:
        """How many orders there are, by state."""
        query = "SELECT state, count(*) FROM intents GROUP BY state ORDER BY state"
        return dict(self._rows("intents", query))

    def sent_contracts(self, markets: int) -> list[SentIntent]:
        """Orders of event contracts that were taken, of so many latest markets, oldest first."""
        marks = ", ".join("?" * len(TAKEN))
        rows = self._rows(
            "intents",
            f"""
            WITH taken AS (
                SELECT rowid AS number, json_extract(request, '$.ticker') AS market, *
                FROM intents WHERE job = ? AND state IN ({marks})
            )
            SELECT client_order_id, request, filled, filled_price, sent_at FROM taken
            WHERE market IN (
                SELECT market FROM taken GROUP BY market ORDER BY max(number) DESC LIMIT ?
            )
            ORDER BY number
            """,
            (CONTRACTS, *TAKEN, markets),
        )
        with self._checked("intents"):
            return [_sent_intent(row) for row in rows]

    def _orders(self, where: str, values: Sequence[object]) -> list[OrderRow]:
        rows = self._rows("intents", f"{_ORDERS} {where}", values)
        with self._checked("intents"):
            return [_order(row) for row in rows]

    def decision(self) -> DecisionRow | None:
        """The last decision; none before the first."""
        rows = self._rows(
            "decisions",
            "SELECT id, at, until, decided_at, equity, stock_ceiling, failure, rule FROM decisions"
            " WHERE job = ? ORDER BY rowid DESC LIMIT 1",
            (TRADE,),
        )
        if not rows:
            return None
        name, at, until, decided, equity, ceiling, failure, rule = rows[0]
        with self._checked("decisions"):
            instants = (_instant(at), _instant(until), _instant(decided))
            rules = tuple(str(line) for line in json.loads(rule))
            return DecisionRow(name, *instants, equity, ceiling, failure, rules)

    @cached_property
    def choices(self) -> list[ChoiceRow]:
        """What was decided last of each symbol of the latest decisions, the last decision first."""
        rows = self._rows(
            "decisions",
            """
            WITH latest AS (
                SELECT rowid AS number, id, at, until, choices FROM decisions WHERE job = ?
                ORDER BY rowid DESC LIMIT ?
            )
            SELECT latest.id, at, until, value, max(number) FROM latest, json_each(choices)
            GROUP BY json_extract(value, '$.symbol')
            ORDER BY max(number) DESC, json_extract(value, '$.symbol')
            """,
            (TRADE, DECISIONS_SEARCHED),
        )
        with self._checked("decisions"):
            return [
                ChoiceRow(name, _instant(at), _instant(until), json.loads(entry))
                for name, at, until, entry, _ in rows
            ]

    def events(self, most: int) -> list[EventRow]:
        """What happened, the latest first."""
        rows = self._rows(
            "events",
            "SELECT number, at, kind, subject, substr(CASE json_type(content)"
            " WHEN 'text' THEN json_extract(content, '$') WHEN 'null' THEN '' ELSE content END,"
            " 1, ?) FROM events ORDER BY number DESC LIMIT ?",
            (EVENT_LENGTH, most),
        )
        with self._checked("events"):
            return [EventRow(number, _instant(at), *rest) for number, at, *rest in rows]

    def notices(self, most: int) -> list[NoticeRow]:
        """What a person was told of, the latest first."""
        query = "SELECT at, kind, text FROM notices ORDER BY number DESC LIMIT ?"
        rows = self._rows("notices", query, (most,))
        with self._checked("notices"):
            return [NoticeRow(_instant(at), kind, text) for at, kind, text in rows]


def _order(row: Row) -> OrderRow:
    name, job, part, symbol, side, qty, kind, limit, stop, legs, *rest = row
    state, why, reason, filled, price, sent, expires = rest
    if symbol is None and legs is not None:
        each = [f"{leg['side']} {leg['symbol']}" for leg in json.loads(legs)]
        symbol = ", ".join(each)
    return OrderRow(
        client_order_id=name,
        job=job,
        part=part,
        symbol=symbol or "",
        side=side or "",
        qty=qty,
        type=kind or "",
        limit_price=limit,
        stop_price=stop,
        state=state,
        why=why,
        reason=reason,
        filled=filled,
        filled_price=price,
        sent_at=_instant(sent),
        expires_at=_instant_or_none(expires),
    )


def _sent_intent(row: Row) -> SentIntent:
    name, request, filled, price, sent = row
    return SentIntent(
        client_order_id=name,
        request=json.loads(request),
        filled=Decimal(filled),
        filled_price=None if price is None else Decimal(price),
        sent_at=_instant(sent),
    )


def _instant(text: str) -> np.datetime64:
    at = np.datetime64(text, "ns")
    if np.isnat(at):
        raise ValueError(f"{text!r} is no instant")
    return at


def _instant_or_none(text: str | None) -> np.datetime64 | None:
    return None if text is None else _instant(text)
