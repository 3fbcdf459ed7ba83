"""Halts stop an account's orders until the cause has ended or a person clears the halt.

Halts are rows of the account's journal, so they survive a restart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np

from execution.journal.events import EventLog
from execution.journal.rows import Instant, Integer, JournalTable, Text
from foundation.database import Database
from foundation.errors import InputError, to_one_line
from trainingdata.instants import format_utc

HaltKind = Literal[
    "positions", "symbols", "cash", "journal", "daily_loss", "drawdown", "paused", "exited", "watch"
]
HaltScope = Literal["everything", "openings", "symbols", "openings of symbols"]

CLEARED_AUTOMATICALLY = "itself"  # in place of a person's name, if the cause of a halt has ended


@dataclass(frozen=True, slots=True)
class HaltRule:
    """Effect of a kind of halt, and the way in which it ends.

    forbidden_scope: orders that the halt forbids: all orders, all but reductions, or both in the
        symbols that the cause names. The halts `positions` and `cash` still allow short options to
        be bought back.
    auto_end_condition: condition on which the halt ends automatically; empty if only a person can
        end it.
    remedy: sentence that tells the operator what to do.
    """

    forbidden_scope: HaltScope
    auto_end_condition: str
    remedy: str


HALT_RULES: Mapping[HaltKind, HaltRule] = MappingProxyType(
    {
        "positions": HaltRule(
            "everything",
            "when the venue's activities explain the whole difference",
            "Compare the venue's positions and orders with the journal's, undo unwanted ones, and"
            " clear the halt: the remaining difference becomes part of the expected positions.",
        ),
        "symbols": HaltRule(
            "symbols",
            "when the venue's activities explain the whole difference",
            "No orders are sent in these symbols. Compare the venue's positions and orders with the"
            " journal's, undo unwanted ones, and clear the halt: the remaining difference becomes"
            " part of the expected positions.",
        ),
        "cash": HaltRule(
            "everything",
            "when the venue lists a booking that explains the whole difference",
            "Compare the venue's cash with its trades, fees and transfers, find what explains the"
            " difference, and clear the halt: later cash is compared with this difference.",
        ),
        "journal": HaltRule(
            "everything",
            "",
            "Check the damaged journal and the disk, compare the venue's orders and positions with"
            " the new journal, and clear the halt.",
        ),
        "daily_loss": HaltRule(
            "openings",
            "when the next New York date starts",
            "Find the cause of the loss; clear the halt to open positions again on the same day.",
        ),
        "drawdown": HaltRule(
            "openings",
            "when the drawdown has fallen to guards.drawdown_resume_fraction of its limit",
            "Find the cause of the loss; clear the halt to open positions again before that.",
        ),
        "paused": HaltRule(
            "openings", "", "`python -m execution.live resume` allows opening orders again."
        ),
        "exited": HaltRule(
            "openings of symbols",
            "",
            "`python -m execution.live resume` allows opening orders in these symbols again.",
        ),
        "watch": HaltRule(
            "openings",
            "at the close of the next session, unless watch.drawdown caused it",
            "Find the cause of the loss; clear the halt to open positions again. Later losses are"
            " then counted from the clearing on.",
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Halt:
    """Journal row of a halt, which stops orders of an account.

    number: number of the halt, increasing.
    kind: kind of the halt, a key of `HALT_RULES`.
    raised_at: start time of the halt by the venue's clock.
    reason: reason of the halt in one line.
    cleared_at: end time of the halt by the venue's clock; None while the halt is active.
    cleared_by: person who ended the halt, or `CLEARED_AUTOMATICALLY` if its cause has ended; empty
        while the halt is active.
    job: empty, because a halt stops all jobs of an account.
    """

    number: Integer
    kind: HaltKind
    raised_at: Instant
    reason: Text
    cleared_at: Instant | None = None
    cleared_by: Text = ""
    job: Text = ""

    def __post_init__(self) -> None:
        if self.kind not in HALT_RULES:
            raise ValueError(f"halt kind {self.kind!r} is not one of {', '.join(HALT_RULES)}")
        if (self.cleared_at is None) != (not self.cleared_by):
            raise ValueError(f"halt {self.kind}: cleared_at and cleared_by must be set together")

    def __str__(self) -> str:
        return f"{self.kind} since {format_utc(self.raised_at)}: {self.reason}"

    @property
    def is_active(self) -> bool:
        return self.cleared_at is None

    @property
    def rule(self) -> HaltRule:
        return HALT_RULES[self.kind]


@dataclass(frozen=True, slots=True)
class HaltChanges:
    """Changes of an account's halts: first some end automatically, then others are raised.

    kinds_to_end: kinds of the halts to end.
    reasons_to_raise: reasons of the halts to raise, by kind.
    """

    kinds_to_end: tuple[HaltKind, ...] = ()
    reasons_to_raise: Mapping[HaltKind, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _HaltCause:
    """Journal row of the cause that a person acknowledges by clearing a halt.

    halt: number of the halt.
    cause: text of the cause.
    acknowledgement_used: 1 once the acknowledgement has been used, else 0.
    """

    halt: Integer
    cause: Text
    acknowledgement_used: Integer = 0


_HALTS = JournalTable(
    "halts",
    Halt,
    "CREATE UNIQUE INDEX IF NOT EXISTS halts_standing ON halts (kind, job)"
    " WHERE cleared_at IS NULL",
    autoincrement=True,
    column_names={"reason": "why"},
)
_CAUSES = JournalTable("halt_causes", _HaltCause)
_ACTIVE_CLAUSE = "WHERE cleared_at IS NULL ORDER BY number"
_LATEST = "WHERE number IN (SELECT max(number) FROM halts GROUP BY kind) ORDER BY number"


class HaltJournal:
    """The active and the ended halts of one account, as recorded in its journal.

    database: the account's journal.
    events: log that records the start and the end of halts.
    """

    def __init__(self, database: Database, events: EventLog) -> None:
        self._database = database
        self._events = events
        _HALTS.create(database)
        _CAUSES.create(database)

    def raise_halt(
        self, kind: HaltKind, reason: str, at: np.datetime64, *, cause: str = ""
    ) -> bool:
        """Raise a halt, and return true if no halt of its kind was active before.

        While a halt of the same kind is active, nothing is recorded.

        reason: reason of the halt; it must not contain secrets.
        cause: text of the cause, such as a discrepancy, that a person acknowledges by clearing the
            halt; empty if clearing acknowledges nothing.
        """
        halt = Halt(0, kind, at, to_one_line(reason))
        with self._database.transaction():
            if any(each.kind == kind for each in self.active()):
                return False
            _HALTS.insert(self._database, halt)
            if cause:
                _CAUSES.insert(self._database, _HaltCause(self.active()[-1].number, cause))
            self._events.append("halted", kind, {"why": halt.reason})
        return True

    def clear(self, kind: HaltKind, by: str, at: np.datetime64) -> Halt | None:
        """End the active halt of a kind, and return it; return None if none is active.

        by: name of the person who clears the halt.
        at: instant by the venue's clock, which also timestamps the equity marks.

        Raises
        ------
        InputError
            if `by` is empty.
        """
        if not by.strip():
            raise InputError(f"halt {kind}: not cleared, no person is named; add --by NAME")
        with self._database.transaction():
            ended = next((each for each in self.active() if each.kind == kind), None)
            if ended is not None:
                person = to_one_line(by)
                _HALTS.upsert(self._database, replace(ended, cleared_at=at, cleared_by=person))
                self._events.append("halt ended", kind, {"by": person})
        return ended

    def acknowledged_cause(self, kind: HaltKind) -> str:
        """Return the cause that a person acknowledged by clearing the last halt of a kind.

        The result is empty if nobody acknowledged a cause, or after `consume_acknowledgement`.
        """
        return self._cleared_cause(kind, is_used=False)

    def used_cause(self, kind: HaltKind) -> str:
        """Return the cause of the last halt of a kind, if its acknowledgement has been used."""
        return self._cleared_cause(kind, is_used=True)

    def _cleared_cause(self, kind: HaltKind, *, is_used: bool) -> str:
        """Return the cause of the last halt of a kind, if a person has cleared it, else "".

        is_used: whether the acknowledgement must have been used; otherwise it must be unused.
        """
        last = self.latest_by_kind().get(kind)
        if last is None or last.is_active or last.cleared_by == CLEARED_AUTOMATICALLY:
            return ""
        condition = "WHERE halt = ? AND acknowledgement_used = ?"
        found = _CAUSES.first_row(self._database, condition, (last.number, int(is_used)))
        return "" if found is None else found.cause

    def active_cause(self, kind: HaltKind) -> tuple[np.datetime64, str] | None:
        """Return the start and the cause of the active halt of a kind.

        Returns None if no such halt is active, or if it has no cause.
        """
        for halt in self.active():
            if halt.kind == kind:
                found = _CAUSES.first_row(self._database, "WHERE halt = ?", (halt.number,))
                return None if found is None else (halt.raised_at, found.cause)
        return None

    def quarantined_symbols(self) -> frozenset[str]:
        """Return the symbols that are not traded because a discrepancy is unresolved."""
        standing = self.active_cause("symbols")
        return frozenset() if standing is None else frozenset(json.loads(standing[1]))

    def exited_symbols(self) -> frozenset[str]:
        """Return the symbols in which a command forbids opening orders."""
        standing = self.active_cause("exited")
        return frozenset() if standing is None else frozenset(json.loads(standing[1]))

    def consume_acknowledgement(self, kind: HaltKind) -> None:
        """Mark the acknowledgements for a kind as used, so that the same cause halts again."""
        cleared = "SELECT number FROM halts WHERE kind = ? AND cleared_at IS NOT NULL"
        unused = f"WHERE NOT acknowledgement_used AND halt IN ({cleared})"
        _CAUSES.update(self._database, unused, (kind,), acknowledgement_used=1)

    def apply_changes(self, changes: HaltChanges, at: np.datetime64) -> None:
        """End halts and raise new ones in one transaction."""
        with self._database.transaction():
            for kind in changes.kinds_to_end:
                self.clear(kind, CLEARED_AUTOMATICALLY, at)
            for kind, why in changes.reasons_to_raise.items():
                self.raise_halt(kind, why, at)

    def active(self) -> tuple[Halt, ...]:
        """Return active halts, oldest first."""
        return tuple(_HALTS.select_rows(self._database, _ACTIVE_CLAUSE))

    def latest_by_kind(self) -> dict[HaltKind, Halt]:
        """Return the last halt of each kind, active or not."""
        found = _HALTS.select_rows(self._database, _LATEST)
        return {halt.kind: halt for halt in found}

    def history(self) -> tuple[Halt, ...]:
        """Return all halts, oldest first."""
        return tuple(_HALTS.select_rows(self._database, "ORDER BY number"))


def read_active_halts(journal: Path) -> list[Halt]:
    """Return the active halts in a journal, oldest first."""
    return _HALTS.read_rows(journal, _ACTIVE_CLAUSE)
