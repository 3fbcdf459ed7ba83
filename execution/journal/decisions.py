"""Decisions of an account's jobs, recorded on disk with their orders before an order is sent.

A decision and its orders are written in one transaction. The status page and the drift report read
these tables. Instants are UTC, as text that sorts by time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
from pydantic import Json, PlainSerializer, PlainValidator

from execution.decision.choice import OPTIONAL_RATIONALE, Choice, Rationale
from execution.decision.tiers import highest_equity
from execution.journal.cycles import CycleJournal
from execution.journal.events import EventLog
from execution.journal.evidence import (
    EVIDENCE_TABLE,
    EvidenceRow,
    read_last_evidence,
    record_evidence,
)
from execution.journal.order_store import OrderIntent, OrderStore
from execution.journal.rows import ExactDecimal, Float, Instant, JournalTable, Text, format_instant
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.gate import OrderRole, infer_order_role
from execution.orders.orders import Order
from foundation.database import Database
from trainingdata.instants import format_compact_utc

if TYPE_CHECKING:
    from execution.decision.decision import Decision  # readers of a journal need no compiled code

PROCESS_ENDED_REASON = "the process ended before it sent the order"
EXPIRED_REASON = "expired: the decision was not sent in time"
# Latest decisions that are searched; even hourly decisions then reach back over a long weekend.
MAX_DECISIONS_SEARCHED = 120
WITHDRAWN_OUTCOME = "taken back"  # end of a decision whose instant was decided again
_ENDED_OUTCOME = "ended"
NO_REASONS: Mapping[str, str] = MappingProxyType({})


def encode_choice(choice: Choice) -> dict[str, Any]:
    """Return a choice as a JSON object, with the quantity as text, and NaN and infinity as null."""
    entry = {**choice._asdict(), "qty": str(choice.qty), "rationale": choice.rationale._asdict()}
    return {key: _nan_to_none(value) for key, value in entry.items()}


def decode_choice(entry: Mapping[str, Any]) -> Choice:
    """Return the choice that a journal's JSON entry encodes."""
    written = entry["rationale"]
    optional = {name: written.get(name) for name in OPTIONAL_RATIONALE}
    rationale = {
        key: _none_to_nan(written[key]) for key in Rationale._fields if key not in optional
    }
    numbers = ("mu", "sigma", "kelly", "held_weight", "target_weight", "price", "unit_cost")
    return Choice(
        symbol=entry["symbol"],
        qty=Decimal(entry["qty"]),
        binding_shadow_prices={
            key: _none_to_nan(value) for key, value in entry["binding_shadow_prices"].items()
        },
        rationale=Rationale(**rationale, **optional),
        strategy_reason=entry.get("strategy_reason", ""),
        **{key: _none_to_nan(entry[key]) for key in numbers},
    )


def _none_to_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _nan_to_none(value: Any) -> Any:
    """Return the value with None in place of NaN and infinity, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: _nan_to_none(each) for key, each in value.items()}
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value


def _decode_choices(text: str) -> Mapping[str, Choice]:
    return {entry["symbol"]: decode_choice(entry) for entry in json.loads(text)}


def _encode_choices(choices: Mapping[str, Choice]) -> str:
    return json.dumps([encode_choice(choice) for choice in choices.values()])


ChoicesBySymbol = Annotated[
    Mapping[str, Choice], PlainValidator(_decode_choices), PlainSerializer(_encode_choices)
]


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """Journal row of a decision.

    decision_id: id of the decision.
    at, interval_end: instant of the decision's bars, and end of its first period.
    decided_at: instant of the decision by the venue's clock.
    equity: equity of the account at the decision, USD.
    stock_ceiling: largest gross stock exposure at the decision, in multiples of equity.
    sizing_failure: reason why sizing failed; empty without a failure.
    sizing_rules: sizing rule of each asset class, one log line each.
    choices: choices by symbol.
    cancelled_quantities: unfilled quantity of each order that the decision replaces, by order id.
    positions: positions at the decision, signed quantities by symbol.
    job: name of the job that decided.
    outcome: outcome of the decision; empty until all its orders are sent.
    group_limit_names: names of the group limits.
    """

    decision_id: Text
    at: Instant
    interval_end: Instant
    decided_at: Instant
    equity: Float
    stock_ceiling: Float
    sizing_failure: Text
    sizing_rules: Json[tuple[str, ...]]
    choices: ChoicesBySymbol
    cancelled_quantities: Json[Mapping[str, ExactDecimal]]
    positions: Json[Mapping[str, ExactDecimal]]
    job: Text = ""
    outcome: Text = ""
    group_limit_names: Json[tuple[str, ...]] = ()

    @property
    def prices(self) -> dict[str, float]:
        """Prices at which the decision sized its orders, USD by symbol."""
        return {symbol: choice.price for symbol, choice in self.choices.items()}


DECISIONS_TABLE = JournalTable(
    "decisions",
    DecisionRow,
    "CREATE INDEX IF NOT EXISTS decisions_by_instant ON decisions (job, at)",
    column_names={
        "decision_id": "id",
        "sizing_rules": "rule",
        "sizing_failure": "failure",
        "interval_end": "until",
        "outcome": "ended",
        "cancelled_quantities": "cancels",
    },
)


class ChoiceRow(NamedTuple):
    """The last choice on a symbol, with the id and the interval of its decision."""

    decision_id: str
    at: np.datetime64
    interval_end: np.datetime64
    choice: Choice


class DecisionJournal:
    """The decisions and orders of one job of an account, as recorded in the account's journal.

    job: name of the job.
    cycles: cycles of the job.
    """

    def __init__(self, database: Database, events: EventLog, book: OrderStore, job: str) -> None:
        self._database = database
        self._events = events
        self._book = book
        self._job = job
        DECISIONS_TABLE.create(database)
        EVIDENCE_TABLE.create(database)
        self.cycles = CycleJournal(database, job)

    def has_decision(self, at: np.datetime64) -> bool:
        """Return whether the journal has a decision at this instant, other than a withdrawn one."""
        query = "SELECT 1 FROM decisions WHERE job = ? AND at = ? AND ended != ?"
        return bool(self._database.query(query, (self._job, format_instant(at), WITHDRAWN_OUTCOME)))

    def write_decision(self, decision: Decision, account: AccountSnapshot) -> str:
        """Write a decision and its orders in one transaction, and return the decision's id.

        A second decision at the same instant, for example after the account has changed, replaces
        the first. Its orders replace those of the first that were not sent.
        """
        name = f"{self._job}-{format_compact_utc(decision.at)}"
        with self._database.transaction():
            query = "SELECT 1 FROM decisions WHERE job = ? AND at = ?"
            if before := self._database.query(query, (self._job, format_instant(decision.at))):
                name = f"{name}.{len(before) + 1}"
            row = DecisionRow(
                decision_id=name,
                at=decision.at,
                interval_end=decision.interval_end,
                decided_at=account.as_of,
                equity=float(decision.equity),
                stock_ceiling=float(decision.stock_ceiling),
                sizing_failure=decision.sizing_failure,
                sizing_rules=tuple(str(rule) for rule in decision.sizing_rules),
                choices={choice.symbol: choice for choice in decision.choices},
                cancelled_quantities=decision.cancelled_quantities,
                positions=account.positions,
                job=self._job,
                group_limit_names=decision.group_limit_names,
            )
            DECISIONS_TABLE.insert(self._database, row)
            if decision.evidence_state is not None:
                record_evidence(self._database, self._job, decision.evidence_state)
            self._events.append("decided", name, {"orders": len(decision.orders)})
            for order in decision.orders:
                self._book.record_plan(self._build_intent(order, name, account.as_of))
        return name

    def _build_intent(self, order: Order, decision: str, at: np.datetime64) -> OrderIntent:
        return OrderIntent(
            order, at, "planned", job=self._job, decision_id=decision, role=infer_order_role(order)
        )

    def record_reducing_orders(
        self,
        order_group_id: str,
        orders: Sequence[Order],
        at: np.datetime64,
        role: OrderRole = "night",
    ) -> None:
        """Record reducing orders that no decision ordered, such as overnight trims, as planned.

        order_group_id: id of the group of orders, used in place of a decision id.
        role: role of the orders.
        """
        with self._database.transaction():
            self._events.append("reducing", order_group_id, {"orders": len(orders)})
            for order in orders:
                self._book.record_plan(
                    replace(self._build_intent(order, order_group_id, at), role=role)
                )

    def next_overnight_trim_id(self, session_close: np.datetime64) -> tuple[str, int]:
        """Return an unused id for the next group of overnight trims before a close, and its number.

        session_close: instant of the session's close.
        """
        prefix = f"{self._job}-night-{format_compact_utc(session_close)}-"
        earlier = self._book.select_intents("decision GLOB ?", (f"{prefix}*",))
        numbers = [int(intent.decision_id.removeprefix(prefix)) for intent in earlier]
        number = max(numbers, default=-1) + 1
        return f"{prefix}{number}", number

    def deny_unsent_orders(self) -> None:
        """Mark as denied the orders that an earlier process planned and never sent.

        Orders of unfinished decisions stay planned, because `live.resumption` resumes these
        decisions.
        """
        unfinished = {decision.decision_id for decision in self.unfinished_decisions()}
        with self._database.transaction():
            for intent in self._book.intents_in_states(("planned",)):
                if intent.job == self._job and intent.decision_id not in unfinished:
                    self._book.deny(intent, PROCESS_ENDED_REASON)

    def end_decision(
        self,
        decision_id: str,
        unsent_reason: str,
        reasons_by_symbol: Mapping[str, str] = NO_REASONS,
        *,
        may_redecide: bool = False,
    ) -> None:
        """End a decision, and mark its unsent orders as denied.

        unsent_reason: reason why those orders were not sent.
        reasons_by_symbol: reasons that replace `unsent_reason` for the orders in some symbols.
        may_redecide: true withdraws the decision, so that a new one may be made at the same
            instant.
        """
        with self._database.transaction():
            for intent in self._book.intents_for_decision(decision_id):
                if intent.state == "planned":
                    symbol = intent.stock_or_crypto_order.symbol
                    self._book.deny(intent, reasons_by_symbol.get(symbol, unsent_reason))
            ended = WITHDRAWN_OUTCOME if may_redecide else _ENDED_OUTCOME
            DECISIONS_TABLE.update(self._database, "WHERE id = ?", (decision_id,), outcome=ended)

    def unfinished_decisions(self) -> list[DecisionRow]:
        """Return decisions that have not ended, oldest first."""
        condition = "WHERE job = ? AND ended = '' ORDER BY rowid"
        return DECISIONS_TABLE.select_rows(self._database, condition, (self._job,))

    def last_decision(self) -> DecisionRow | None:
        """Return the job's last decision; None before the first."""
        condition = "NOT INDEXED WHERE job = ? ORDER BY rowid DESC"
        return DECISIONS_TABLE.first_row(self._database, condition, (self._job,))

    def last_evidence(self) -> EvidenceRow | None:
        """Return the evidence at the last decision that judged the forecast; None without one."""
        return read_last_evidence(self._database, self._job)

    def latest_choice_by_symbol(self) -> list[ChoiceRow]:
        """Return the last choice on each symbol, those of the newest decision first."""
        latest = "NOT INDEXED WHERE job = ? ORDER BY rowid DESC LIMIT ?"
        found: dict[str, ChoiceRow] = {}
        for row in DECISIONS_TABLE.select_rows(
            self._database, latest, (self._job, MAX_DECISIONS_SEARCHED)
        ):
            for symbol, choice in sorted(row.choices.items()):
                found.setdefault(
                    symbol, ChoiceRow(row.decision_id, row.at, row.interval_end, choice)
                )
        return list(found.values())


def read_highest_equity(database: Database, job: str) -> float:
    """Return the highest equity at a job's decisions, USD, adjusted for deposits; 0 without any.

    Withdrawn decisions do not count.
    """
    tables = database.query("SELECT name FROM sqlite_master WHERE name IN ('decisions', 'marks')")
    if len(tables) < 2:  # a process may have ended before it created the tables
        return 0.0
    query = "SELECT decided_at, equity FROM decisions WHERE job = ? AND ended != ?"
    decided = database.query(query, (job, WITHDRAWN_OUTCOME))
    return highest_equity(
        dict(decided), dict(database.query("SELECT at, flows FROM marks WHERE flows != 0"))
    )


def decisions_since(database: Database, job: str, since: np.datetime64) -> list[DecisionRow]:
    """Return the decisions of a job after an instant, in the order in which they were written.

    Withdrawn decisions are left out.
    """
    condition = "WHERE job = ? AND decided_at > ? AND ended != ? ORDER BY rowid"
    return DECISIONS_TABLE.select_rows(
        database, condition, (job, format_instant(since), WITHDRAWN_OUTCOME)
    )
