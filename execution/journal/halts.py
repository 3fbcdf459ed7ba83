"""Halts: what stops an account's orders until its cause has gone or a person says so.

They are rows of the account's journal, so a restart ends none of them.
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
from foundation.errors import InputError, one_line
from trainingdata.instants import utc_text

HaltKind = Literal["positions", "symbols", "cash", "journal", "daily_loss", "drawdown"]
HaltScope = Literal["everything", "openings", "symbols"]

AUTO = "itself"  # in the place of who ended a halt, where its cause has gone


@dataclass(frozen=True, slots=True)
class HaltRule:
    """What a kind of halt means.

    forbids: which orders are not sent: all of them, all but those that reduce a position, or those
        in the symbols that its cause names. What was sold in options is bought back beside
        halts of positions and of cash.
    auto_end: when it ends by itself; empty where only a person ends it.
    remedy: a sentence that says what the operator has to do.
    """

    forbids: HaltScope
    auto_end: str
    remedy: str


HALT_RULES: Mapping[HaltKind, HaltRule] = MappingProxyType(
    {
        "positions": HaltRule(
            "everything",
            "when the venue has settled all of it",
            "Compare the venue's positions and orders with the journal's, undo what is not wanted,"
            " and clear the halt: the opening balance is what is there then.",
        ),
        "symbols": HaltRule(
            "symbols",
            "when the venue has settled all of it",
            "Nothing is ordered in these symbols. Compare the venue's positions and orders with the"
            " journal's, undo what is not wanted, and clear the halt: the opening balance is"
            " what is there then.",
        ),
        "cash": HaltRule(
            "everything",
            "when the venue lists the booking that is the whole difference",
            "Compare the venue's cash with its trades, fees and transfers, find what explains the"
            " difference, and clear the halt.",
        ),
        "journal": HaltRule(
            "everything",
            "",
            "Look at the journal that was set aside and at the disk, compare the venue's orders and"
            " positions with the new journal, and clear the halt.",
        ),
        "daily_loss": HaltRule(
            "openings",
            "when the next New York date begins",
            "Find out what lost the money; clear the halt to open positions again on the same day.",
        ),
        "drawdown": HaltRule(
            "openings",
            "when the loss from the peak has come back to guards.resume of its limit",
            "Find out what lost the money; clear the halt to open positions again before that.",
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Halt:
    """A reason for which orders are not sent.

    number: of the halt, increasing.
    kind: a key of `HALT_RULES`.
    raised_at: instant by the venue's clock.
    why: it was raised, in one line.
    cleared_at: instant by the venue's clock at which it ended; none while it stands.
    cleared_by: who ended it, `AUTO` where its cause has gone; empty while it stands.
    job: empty, as a halt stops all jobs of an account.
    """

    number: Integer
    kind: HaltKind
    raised_at: Instant
    why: Text
    cleared_at: Instant | None = None
    cleared_by: Text = ""
    job: Text = ""

    def __post_init__(self) -> None:
        if self.kind not in HALT_RULES:
            raise ValueError(f"halt {self.kind!r} is none of {', '.join(HALT_RULES)}")
        if (self.cleared_at is None) != (not self.cleared_by):
            raise ValueError(f"halt {self.kind}: cleared_at and cleared_by are there together")

    def __str__(self) -> str:
        return f"{self.kind} since {utc_text(self.raised_at)}: {self.why}"

    @property
    def is_active(self) -> bool:
        return self.cleared_at is None

    @property
    def rule(self) -> HaltRule:
        return HALT_RULES[self.kind]


@dataclass(frozen=True, slots=True)
class HaltChanges:
    """Halts that are to end by themselves, and halts that are to be raised after that.

    ended: kinds.
    raised: why, by kind.
    """

    ended: tuple[HaltKind, ...] = ()
    raised: Mapping[HaltKind, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Cause:
    """What a person who clears a halt lets be; used: whether it has come again since."""

    halt: Integer
    cause: Text
    acknowledgement_used: Integer = 0


_HALTS = JournalTable(
    "halts",
    Halt,
    "CREATE UNIQUE INDEX IF NOT EXISTS halts_standing ON halts (kind, job)"
    " WHERE cleared_at IS NULL",
    autoincrement=True,
)
_CAUSES = JournalTable("halt_causes", _Cause)
_STANDING = "WHERE cleared_at IS NULL ORDER BY number"
_LATEST = "WHERE number IN (SELECT max(number) FROM halts GROUP BY kind) ORDER BY number"


class Halts:
    """The halts of one account.

    database: the account's journal.
    events: in which it is written when a halt begins and ends.
    """

    def __init__(self, database: Database, events: EventLog) -> None:
        self._database = database
        self._events = events
        _HALTS.create(database)
        _CAUSES.create(database)

    def raise_halt(self, kind: HaltKind, why: str, at: np.datetime64, *, cause: str = "") -> bool:
        """Raise a halt, and return whether none of its kind stood before.

        While one of its kind stands nothing new is written.

        why: without secrets.
        cause: what a person who clears the halt lets be; empty where a clearing lets nothing be.
        """
        halt = Halt(0, kind, at, one_line(why))
        with self._database.transaction():
            if any(each.kind == kind for each in self.active()):
                return False
            _HALTS.insert(self._database, halt)
            if cause:
                _CAUSES.insert(self._database, _Cause(self.active()[-1].number, cause))
            self._events.append("halted", kind, {"why": halt.why})
        return True

    def clear(self, kind: HaltKind, by: str, at: np.datetime64) -> Halt | None:
        """End the halt of a kind, and return it where one stood.

        by: who says so.
        at: by the venue's clock, like everything that a loss is judged by.
        """
        if not by.strip():
            raise InputError(f"halt {kind}: a halt is cleared by somebody; say by whom")
        with self._database.transaction():
            ended = next((each for each in self.active() if each.kind == kind), None)
            if ended is not None:
                person = one_line(by)
                _HALTS.put(self._database, replace(ended, cleared_at=at, cleared_by=person))
                self._events.append("halt ended", kind, {"by": person})
        return ended

    def acknowledged_cause(self, kind: HaltKind) -> str:
        """The cause of the last halt of a kind, where a person has cleared it; empty otherwise.

        It is empty too once `consume_acknowledgement` was called.
        """
        last = self.latest().get(kind)
        if last is None or last.is_active or last.cleared_by == AUTO:
            return ""
        found = _CAUSES.last(
            self._database, "WHERE halt = ? AND NOT acknowledgement_used", (last.number,)
        )
        return "" if found is None else found.cause

    def active_cause(self, kind: HaltKind) -> tuple[np.datetime64, str] | None:
        """When the halt of a kind that stands was raised, and its cause; none where none stands."""
        for halt in self.active():
            if halt.kind == kind:
                found = _CAUSES.last(self._database, "WHERE halt = ?", (halt.number,))
                return None if found is None else (halt.raised_at, found.cause)
        return None

    def quarantined(self) -> frozenset[str]:
        """Return quarantined symbols: no orders until a person or the venue has settled them."""
        standing = self.active_cause("symbols")
        return frozenset() if standing is None else frozenset(json.loads(standing[1]))

    def consume_acknowledgement(self, kind: HaltKind) -> None:
        """Let what a person has cleared count no more: the same cause halts again."""
        cleared = "SELECT number FROM halts WHERE kind = ? AND cleared_at IS NOT NULL"
        unused = f"WHERE NOT acknowledgement_used AND halt IN ({cleared})"
        _CAUSES.change(self._database, unused, (kind,), acknowledgement_used=1)

    def apply(self, changes: HaltChanges, at: np.datetime64) -> None:
        """Change halts, all or none."""
        with self._database.transaction():
            for kind in changes.ended:
                self.clear(kind, AUTO, at)
            for kind, why in changes.raised.items():
                self.raise_halt(kind, why, at)

    def active(self) -> tuple[Halt, ...]:
        """Those that stand, oldest first."""
        return tuple(_HALTS.rows(self._database, _STANDING))

    def latest(self) -> dict[HaltKind, Halt]:
        """The last halt of each kind, whether it stands or not."""
        found = _HALTS.rows(self._database, _LATEST)
        return {halt.kind: halt for halt in found}

    def history(self) -> tuple[Halt, ...]:
        """Every halt that ever was, oldest first."""
        return tuple(_HALTS.rows(self._database, "ORDER BY number"))


def read_active_halts(journal: Path) -> list[Halt]:
    """Those that stand in a journal, oldest first."""
    return _HALTS.read_rows(journal, _STANDING)
