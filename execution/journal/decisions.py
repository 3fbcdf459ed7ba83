"""What an account's job decided, did and saw, on the disk before anything of it is sent.

A decision and the orders that follow from it are one commit. Tables are read by the account's page
and by drift; instants are UTC, as text that sorts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

from execution.decision import Basis, Choice, Decision
from execution.journal.events import EventLog
from execution.journal.intents import Intent, IntentBook, Part
from execution.journal.marks import MarkBook
from execution.journal.migrations import create_tables
from execution.orders import Account, Order
from foundation.database import Database, Row
from trainingdata.instants import compact_text

EXPIRED = "expired: its decision was not sent in time"
DECISIONS_SEARCHED = 120  # the latest: four days of hourly coins hide no stock's decision
TAKEN_BACK = "taken back"  # how a decision ended whose instant was decided again

_SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS decisions (
        id TEXT PRIMARY KEY,
        job TEXT NOT NULL,
        at TEXT NOT NULL,
        until TEXT NOT NULL,
        decided_at TEXT NOT NULL,
        equity REAL NOT NULL,
        stock_ceiling REAL NOT NULL,
        failure TEXT NOT NULL,
        rule TEXT NOT NULL,
        choices TEXT NOT NULL,
        cancels TEXT NOT NULL,
        positions TEXT NOT NULL,
        ended TEXT NOT NULL DEFAULT ''
    ) STRICT
    """,
    "CREATE INDEX IF NOT EXISTS decisions_by_instant ON decisions (job, at)",
    """
    CREATE TABLE IF NOT EXISTS cycles (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        job TEXT NOT NULL,
        began_at TEXT NOT NULL,
        ended_at TEXT,
        decision TEXT NOT NULL DEFAULT '',
        fills INTEGER NOT NULL DEFAULT 0,
        idle TEXT NOT NULL DEFAULT '',
        failed TEXT NOT NULL DEFAULT ''
    ) STRICT
    """,
)


@dataclass(frozen=True, slots=True)
class WrittenDecision:
    """A decision as the journal has it.

    name: its id.
    cancels: what it saw as not filled of each order that it replaces, by its id.
    positions: what was held then, signed quantities by symbol.
    prices: that it sized at, USD by symbol.
    """

    name: str
    cancels: Mapping[str, Decimal]
    positions: Mapping[str, Decimal]
    prices: Mapping[str, float]


class DecisionRow(NamedTuple):
    """A decision as a person reads it; equity in USD, the ceiling in multiples of it.

    failure: of sizing, or empty. rules: of its strategy, a sentence each.
    """

    name: str
    at: np.datetime64
    until: np.datetime64
    equity: float
    stock_ceiling: float
    failure: str
    rules: tuple[str, ...]


class ChoiceRow(NamedTuple):
    """What was decided last of a symbol, by which decision, and for which interval."""

    decision: str
    at: np.datetime64
    until: np.datetime64
    choice: Choice


class Journal(MarkBook):
    """What one job of an account writes down, beside the account's marks.

    job: its name.
    """

    def __init__(self, database: Database, events: EventLog, book: IntentBook, job: str) -> None:
        super().__init__(database)
        self._events = events
        self._book = book
        self._job = job
        create_tables(database, *_SCHEMA)

    def decided(self, at: np.datetime64) -> bool:
        """Whether an instant was decided, by a decision that was not taken back."""
        query = "SELECT 1 FROM decisions WHERE job = ? AND at = ? AND ended != ?"
        return bool(self._database.rows(query, (self._job, str(at), TAKEN_BACK)))

    def write(self, decision: Decision, account: Account) -> str:
        """Write a decision and its orders down as one, and return its name.

        A decision of an instant that was decided before takes its place, as after an account that
        changed meanwhile; orders of it that were not sent are planned anew.
        """
        name = f"{self._job}-{compact_text(decision.at)}"
        with self._database.transaction():
            count = len(
                self._database.rows(
                    "SELECT 1 FROM decisions WHERE job = ? AND at = ?",
                    (self._job, str(decision.at)),
                )
            )
            if count:
                name = f"{name}.{count + 1}"
            self._database.execute(
                "INSERT INTO decisions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '')",
                (
                    name,
                    self._job,
                    str(decision.at),
                    str(decision.until),
                    str(account.as_of),
                    decision.equity,
                    decision.stock_ceiling,
                    decision.failure,
                    json.dumps([str(rule) for rule in decision.rule]),
                    json.dumps([choice_entry(choice) for choice in decision.choices]),
                    json.dumps({key: str(left) for key, left in decision.cancelled.items()}),
                    json.dumps({key: str(held) for key, held in account.positions.items()}),
                ),
            )
            self._events.append("decided", name, {"orders": len(decision.orders)})
            for order in decision.orders:
                self._book.plan(self._planned(order, name, account.as_of))
        return name

    def _planned(self, order: Order, decision: str, at: np.datetime64) -> Intent:
        part: Part = "reduction" if order.reduces else "opening"
        return Intent(
            order=order,
            sent_at=at,
            expires_at=order.expires_at,
            state="planned",
            job=self._job,
            decision=decision,
            part=part,
            reason=str(order.reason),
        )

    def write_orders(self, name: str, orders: Sequence[Order], at: np.datetime64) -> None:
        """Write down orders that follow from no decision, and reduce what is held.

        name: what they follow from, in the place of a decision's.
        """
        with self._database.transaction():
            self._events.append("reducing", name, {"orders": len(orders)})
            for order in orders:
                self._book.plan(replace(self._planned(order, name, at), part="night"))

    def next_night(self, closes: np.datetime64) -> tuple[str, int]:
        """What the next cut before a close follows from, and its number, which none has had yet."""
        prefix = f"{self._job}-night-{compact_text(closes)}-"
        earlier = self._book.select("decision GLOB ?", (f"{prefix}*",))
        numbers = [int(intent.decision.removeprefix(prefix)) for intent in earlier]
        number = max(numbers, default=-1) + 1
        return f"{prefix}{number}", number

    def end_unfollowed(self) -> None:
        """Withhold what was planned, and left by a process that ended before it could be sent.

        Decisions that were not ended are gone on with elsewhere.
        """
        unfinished = {decision.name for decision in self.unfinished()}
        with self._database.transaction():
            for intent in self._book.in_states(("planned",)):
                if intent.job == self._job and intent.decision not in unfinished:
                    self._book.withhold(intent, "the process ended before it was sent")

    def end(self, name: str, why: str, *, taken_back: bool = False) -> None:
        """Withhold whatever of a decision was not sent.

        why: it was not.
        taken_back: whether its instant may be decided again.
        """
        with self._database.transaction():
            for intent in self._book.of_decision(name):
                if intent.state == "planned":
                    self._book.withhold(intent, why)
            ended = TAKEN_BACK if taken_back else _ENDED
            self._database.execute("UPDATE decisions SET ended = ? WHERE id = ?", (ended, name))

    def unfinished(self) -> tuple[WrittenDecision, ...]:
        """Decisions that were begun and not ended, oldest first."""
        rows = self._database.rows(
            "SELECT id, cancels, positions, choices FROM decisions"
            " WHERE job = ? AND ended = '' ORDER BY rowid",
            (self._job,),
        )
        with self._database.checked():
            return tuple(_written(row) for row in rows)

    def last_pass(self) -> np.datetime64 | None:
        """When the latest pass began, by the venue's clock; none before there was one."""
        query = "SELECT began_at FROM cycles WHERE job = ? ORDER BY number DESC LIMIT 1"
        rows = self._database.rows(query, (self._job,))
        with self._database.checked():
            return np.datetime64(rows[0][0], "ns") if rows else None

    def last_idle(self) -> str:
        """Why the last pass that has ended decided nothing; empty where it decided."""
        query = "SELECT idle FROM cycles WHERE job = ? AND ended_at IS NOT NULL"
        rows = self._database.rows(f"{query} ORDER BY number DESC LIMIT 1", (self._job,))
        return str(rows[0][0]) if rows else ""

    def last_decision(self) -> DecisionRow | None:
        """The last decision; none before the first."""
        rows = self._database.rows(
            "SELECT id, at, until, equity, stock_ceiling, failure, rule FROM decisions"
            " NOT INDEXED WHERE job = ? ORDER BY rowid DESC LIMIT 1",
            (self._job,),
        )
        with self._database.checked():
            found = [
                DecisionRow(
                    name, _instant(at), _instant(until), equity, ceiling, failure, _rules(rule)
                )
                for name, at, until, equity, ceiling, failure, rule in rows
            ]
        return found[0] if found else None

    def last_choices(self) -> list[ChoiceRow]:
        """What was decided last of each symbol of the latest decisions, the last decision first."""
        rows = self._database.rows(
            """
            WITH latest AS (
                SELECT rowid AS number, id, at, until, choices FROM decisions NOT INDEXED
                WHERE job = ? ORDER BY rowid DESC LIMIT ?
            )
            SELECT latest.id, at, until, value, max(number) FROM latest, json_each(choices)
            GROUP BY json_extract(value, '$.symbol')
            ORDER BY max(number) DESC, json_extract(value, '$.symbol')
            """,
            (self._job, DECISIONS_SEARCHED),
        )
        with self._database.checked():
            return [
                ChoiceRow(name, _instant(at), _instant(until), choice_of_entry(json.loads(entry)))
                for name, at, until, entry, _ in rows
            ]

    def begin_cycle(self, at: np.datetime64) -> int:
        """Write down that a pass begins, and return its number."""
        with self._database.transaction():
            self._database.execute(
                "INSERT INTO cycles (job, began_at) VALUES (?, ?)", (self._job, str(at))
            )
            return int(self._database.rows("SELECT max(number) FROM cycles")[0][0])

    def end_cycle(
        self,
        number: int,
        at: np.datetime64,
        *,
        decision: str = "",
        fills: int = 0,
        idle: str = "",
        failed: str = "",
    ) -> None:
        """Write down what a pass came to; failed: what ended it."""
        self._database.execute(
            "UPDATE cycles SET ended_at = ?, decision = ?, fills = ?, idle = ?, failed = ?"
            " WHERE number = ?",
            (str(at), decision, fills, idle, failed, number),
        )


_ENDED = "ended"


def _instant(text: str) -> np.datetime64:
    return np.datetime64(text, "ns")


def choice_entry(choice: Choice) -> dict[str, Any]:
    """A choice as the journal writes it; quantities as text, what is not a number as none."""
    entry = {**choice._asdict(), "qty": str(choice.qty), "basis": choice.basis._asdict()}
    return {key: _without_nan(value) for key, value in entry.items()}


def choice_of_entry(entry: Mapping[str, Any]) -> Choice:
    """The choice that an entry of the journal was written of.

    What earlier versions did not write of a basis is not a number.

    Raises
    ------
    LookupError, TypeError, ValueError, ArithmeticError
        for an entry that is none.
    """
    written = Basis._field_defaults | entry["basis"]
    basis = {key: _number(written[key]) for key in Basis._fields if key != "worth"}
    numbers = ("mu", "sigma", "kelly", "held", "target", "price", "cost")
    return Choice(
        symbol=entry["symbol"],
        qty=Decimal(entry["qty"]),
        binding={key: _number(value) for key, value in entry["binding"].items()},
        basis=Basis(worth=written["worth"], **basis),
        **{key: _number(entry[key]) for key in numbers},
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _without_nan(value: Any) -> Any:
    """The value with None for what is not a number: JSON has no NaN."""
    if isinstance(value, Mapping):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value


def _written(row: Row) -> WrittenDecision:
    name, cancels, positions, choices = row
    return WrittenDecision(
        name=name,
        cancels={key: Decimal(left) for key, left in json.loads(cancels).items()},
        positions={key: Decimal(held) for key, held in json.loads(positions).items()},
        prices={each["symbol"]: each["price"] for each in json.loads(choices)},
    )


def _rules(text: str) -> tuple[str, ...]:
    return tuple(str(line) for line in json.loads(text))
