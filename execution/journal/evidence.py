"""What a job's forecast has earned, recorded with each decision that judges it.

The state is JSON that `execution.decision.earned.EvidenceState` reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Json

from execution.journal.rows import Float, Instant, Integer, JournalTable, Text
from execution.journal.schema import open_journal_for_reading
from foundation.database import Database
from foundation.formatting import format_earned
from trainingdata.instants import new_york_date

if TYPE_CHECKING:
    # Readers of a journal need no compiled code.
    from execution.decision.earned import EvidenceState


@dataclass(frozen=True, slots=True)
class EvidenceRow:
    """Journal row of the evidence for a forecast before a decision.

    job: name of the job that decided.
    at: instant of the decision's bars.
    e_value: evidence against the claim that the forecast adds no return.
    lower_bound: lower bound of the mean scaled return that it adds from decision to decision; None
        if there is none yet.
    earned: fraction of its positions that the forecast has earned.
    error_share: error probability of the bound; 1 / error_share is the e-value that earns.
    breach_count: number of decisions after which more was lost than the bets allow for.
    state: virtual accounts and their bets after the decision, JSON.
    """

    job: Text
    at: Instant
    e_value: Float
    lower_bound: Json[float | None]
    earned: Float
    error_share: Float
    breach_count: Integer
    state: Text


EVIDENCE_TABLE = JournalTable("evidence", EvidenceRow, key="job, at")


def record_evidence(database: Database, job: str, state: EvidenceState) -> None:
    """Record the evidence of a decision; a second decision at its instant leaves the first row."""
    *_, e_value, bound, earned = state.figures
    found = bound if np.isfinite(bound) else None
    row = EvidenceRow(
        *(job, state.at, e_value, found, earned, state.error_share),
        breach_count=state.bets.breach_count,
        state=state.to_json(),
    )
    EVIDENCE_TABLE.insert(database, row, conflict_clause="ON CONFLICT DO NOTHING")


def read_last_evidence(database: Database, job: str) -> EvidenceRow | None:
    """Return the evidence at a job's last decision that judged its forecast; None without one."""
    found = _read_evidence(database, job, "DESC LIMIT 1")
    return found[0] if found else None


def describe_evidence(database: Database, job: str) -> str:
    """Return what a job's forecast has earned, in two sentences; "" if it is not judged."""
    last = read_last_evidence(database, job)
    if last is None:
        return ""
    [first] = _read_evidence(database, job, "LIMIT 1")
    since = str(new_york_date(np.array([first.at]))[0])
    return format_earned(since, last.earned, last.e_value, last.error_share, last.breach_count)


def read_evidence_state(journal: Path, job: str) -> str | None:
    """Return the state after a job's last judged decision, JSON; None without a journal or one."""
    if not journal.is_file():
        return None
    with open_journal_for_reading(journal) as database:
        evidence = read_last_evidence(database, job)
    return None if evidence is None else evidence.state


def read_earned_fractions(database: Database, job: str) -> dict[np.datetime64, float]:
    """Return the fraction that a job's forecast had earned, by instant of the decision."""
    return {row.at: row.earned for row in _read_evidence(database, job)}


def _read_evidence(database: Database, job: str, order: str = "") -> list[EvidenceRow]:
    if not database.query("SELECT 1 FROM sqlite_master WHERE name = 'evidence'"):
        return []  # a process may have ended before it created the table
    return EVIDENCE_TABLE.select_rows(database, f"WHERE job = ? ORDER BY at {order}", (job,))
