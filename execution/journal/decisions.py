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
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
from pydantic import Json, PlainSerializer, PlainValidator

from execution.decision.choice import Choice, Rationale
from execution.journal.cycles import CycleBook
from execution.journal.events import EventLog
from execution.journal.order_store import OrderIntent, OrderStore, role_of
from execution.journal.rows import ExactDecimal, Float, Instant, JournalTable, Text, format_instant
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.orders import Order
from foundation.database import Database
from trainingdata.instants import compact_text

if TYPE_CHECKING:
    from execution.decision.decision import Decision  # its machine code is none of a reader's

EXPIRED_REASON = "expired: its decision was not sent in time"
DECISIONS_SEARCHED = 120  # the latest: four days of hourly coins hide no stock's decision
WITHDRAWN = "taken back"  # how a decision ended whose instant was decided again
_ENDED = "ended"


def choice_entry(choice: Choice) -> dict[str, Any]:
    """A choice as the journal writes it; quantities as text, what is not a number as none."""
    entry = {**choice._asdict(), "qty": str(choice.qty), "rationale": choice.rationale._asdict()}
    return {key: _without_nan(value) for key, value in entry.items()}


def decode_choice(entry: Mapping[str, Any]) -> Choice:
    """The choice that an entry of the journal was written of."""
    written = entry["rationale"]
    rationale = {key: _number(written[key]) for key in Rationale._fields if key != "shrinkage"}
    numbers = ("mu", "sigma", "kelly", "held", "target", "price", "cost")
    return Choice(
        symbol=entry["symbol"],
        qty=Decimal(entry["qty"]),
        binding={key: _number(value) for key, value in entry["binding"].items()},
        rationale=Rationale(shrinkage=written["shrinkage"], **rationale),
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


def _choices(text: str) -> Mapping[str, Choice]:
    return {entry["symbol"]: decode_choice(entry) for entry in json.loads(text)}


def _entries(choices: Mapping[str, Choice]) -> str:
    return json.dumps([choice_entry(choice) for choice in choices.values()])


Choices = Annotated[Mapping[str, Choice], PlainValidator(_choices), PlainSerializer(_entries)]


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """A decision as the journal has it.

    name: its id.
    at, until: the interval that it decided for.
    decided_at: when, by the venue's clock.
    equity: USD, of the account then.
    stock_ceiling: stock gross allowed then, in multiples of equity.
    failure: of sizing, or empty.
    rules: of its strategy, a sentence each.
    choices: by symbol.
    cancels: what it saw as not filled of each order that it replaces, by its id.
    positions: what was held then, signed quantities by symbol.
    job: that decided.
    ended: how it ended; empty while it is not sent whole.
    optimality_gap: `Decision.optimality_gap`; None if unknown.
    group_limit_names: names of the limits on groups.
    """

    name: Text
    at: Instant
    until: Instant
    decided_at: Instant
    equity: Float
    stock_ceiling: Float
    failure: Text
    rules: Json[tuple[str, ...]]
    choices: Choices
    cancels: Json[Mapping[str, ExactDecimal]]
    positions: Json[Mapping[str, ExactDecimal]]
    job: Text = ""
    ended: Text = ""
    optimality_gap: Json[float | None] = 0.0
    group_limit_names: Json[tuple[str, ...]] = ()

    @property
    def prices(self) -> dict[str, float]:
        """That it sized at, USD by symbol."""
        return {symbol: choice.price for symbol, choice in self.choices.items()}


DECISIONS = JournalTable(
    "decisions",
    DecisionRow,
    "CREATE INDEX IF NOT EXISTS decisions_by_instant ON decisions (job, at)",
    column_names={"name": "id", "rules": "rule"},
)


class ChoiceRow(NamedTuple):
    """What was decided last of a symbol, by which decision, and for which interval."""

    decision: str
    at: np.datetime64
    until: np.datetime64
    choice: Choice


class DecisionJournal:
    """What one job of an account writes down.

    job: its name.
    cycles: of the job.
    """

    def __init__(self, database: Database, events: EventLog, book: OrderStore, job: str) -> None:
        self._database = database
        self._events = events
        self._book = book
        self._job = job
        DECISIONS.create(database)
        self.cycles = CycleBook(database, job)

    def is_decided(self, at: np.datetime64) -> bool:
        """Whether an instant was decided, by a decision that was not taken back."""
        query = "SELECT 1 FROM decisions WHERE job = ? AND at = ? AND ended != ?"
        return bool(self._database.rows(query, (self._job, format_instant(at), WITHDRAWN)))

    def write(self, decision: Decision, account: AccountSnapshot) -> str:
        """Write a decision and its orders in one transaction, and return its name.

        A second decision of an instant replaces the first, as after the account has changed; its
        orders that were not sent are planned again.
        """
        name = f"{self._job}-{compact_text(decision.at)}"
        with self._database.transaction():
            query = "SELECT 1 FROM decisions WHERE job = ? AND at = ?"
            if before := self._database.rows(query, (self._job, format_instant(decision.at))):
                name = f"{name}.{len(before) + 1}"
            row = DecisionRow(
                name=name,
                at=decision.at,
                until=decision.until,
                decided_at=account.as_of,
                equity=float(decision.equity),
                stock_ceiling=float(decision.stock_ceiling),
                failure=decision.failure,
                rules=tuple(str(rule) for rule in decision.rule),
                choices={choice.symbol: choice for choice in decision.choices},
                cancels=decision.cancelled,
                positions=account.positions,
                job=self._job,
                optimality_gap=None
                if np.isnan(decision.optimality_gap)
                else float(decision.optimality_gap),
                group_limit_names=decision.group_limit_names,
            )
            DECISIONS.insert(self._database, row)
            self._events.append("decided", name, {"orders": len(decision.orders)})
            for order in decision.orders:
                self._book.plan(self._planned(order, name, account.as_of))
        return name

    def _planned(self, order: Order, decision: str, at: np.datetime64) -> OrderIntent:
        return OrderIntent(
            order, at, "planned", job=self._job, decision=decision, role=role_of(order)
        )

    def write_orders(self, name: str, orders: Sequence[Order], at: np.datetime64) -> None:
        """Write down orders that follow from no decision, and reduce what is held.

        name: what they follow from, in the place of a decision's.
        """
        with self._database.transaction():
            self._events.append("reducing", name, {"orders": len(orders)})
            for order in orders:
                self._book.plan(replace(self._planned(order, name, at), role="night"))

    def next_overnight_trim(self, closes: np.datetime64) -> tuple[str, int]:
        """What the next cut before a close follows from, and its number, which none has had yet."""
        prefix = f"{self._job}-night-{compact_text(closes)}-"
        earlier = self._book.select("decision GLOB ?", (f"{prefix}*",))
        numbers = [int(intent.decision.removeprefix(prefix)) for intent in earlier]
        number = max(numbers, default=-1) + 1
        return f"{prefix}{number}", number

    def deny_unsent(self) -> None:
        """Withhold what was planned, and left by a process that ended before it could be sent.

        Decisions that were not ended are gone on with elsewhere.
        """
        unfinished = {decision.name for decision in self.unfinished_decisions()}
        with self._database.transaction():
            for intent in self._book.in_states(("planned",)):
                if intent.job == self._job and intent.decision not in unfinished:
                    self._book.deny(intent, "the process ended before it was sent")

    def end(self, name: str, why: str, *, may_redecide: bool = False) -> None:
        """Withhold whatever of a decision was not sent.

        why: it was not.
        may_redecide: whether its instant may be decided again.
        """
        with self._database.transaction():
            for intent in self._book.of_decision(name):
                if intent.state == "planned":
                    self._book.deny(intent, why)
            ended = WITHDRAWN if may_redecide else _ENDED
            DECISIONS.change(self._database, "WHERE id = ?", (name,), ended=ended)

    def unfinished_decisions(self) -> list[DecisionRow]:
        """Decisions that were begun and not ended, oldest first."""
        condition = "WHERE job = ? AND ended = '' ORDER BY rowid"
        return DECISIONS.rows(self._database, condition, (self._job,))

    def last_decision(self) -> DecisionRow | None:
        """The last decision; none before the first."""
        condition = "NOT INDEXED WHERE job = ? ORDER BY rowid DESC"
        return DECISIONS.last(self._database, condition, (self._job,))

    def last_choices(self) -> list[ChoiceRow]:
        """What was decided last of each symbol of the latest decisions, the last decision first."""
        latest = "NOT INDEXED WHERE job = ? ORDER BY rowid DESC LIMIT ?"
        found: dict[str, ChoiceRow] = {}
        for row in DECISIONS.rows(self._database, latest, (self._job, DECISIONS_SEARCHED)):
            for symbol, choice in sorted(row.choices.items()):
                found.setdefault(symbol, ChoiceRow(row.name, row.at, row.until, choice))
        return list(found.values())


def decisions_since(database: Database, job: str, since: np.datetime64) -> list[DecisionRow]:
    """What a job decided after an instant and did not take back, in the order of writing."""
    condition = "WHERE job = ? AND decided_at > ? AND ended != ? ORDER BY rowid"
    return DECISIONS.rows(database, condition, (job, format_instant(since), WITHDRAWN))
