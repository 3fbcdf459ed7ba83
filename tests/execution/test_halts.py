"""Halts: what each kind forbids, and that it stands until something ends it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.journal.events import EventLog
from execution.journal.halts import HALT_RULES, HaltChanges, HaltJournal, HaltKind
from foundation.clock import TimeSource
from foundation.database import Database, DatabaseFailed
from foundation.errors import InputError
from tests.support.connections import open_for_test
from tests.support.messages import refused

NOW = np.datetime64("2024-03-05T17:30", "ns")
LATER = NOW + np.timedelta64(1, "h")

kinds = st.sampled_from(tuple(HALT_RULES))
steps = st.lists(st.tuples(st.sampled_from(("raise", "clear")), kinds), max_size=12)


def halts_in(database: Database | None = None) -> HaltJournal:
    place = open_for_test() if database is None else database
    return HaltJournal(place, EventLog(place, clock=TimeSource(now=lambda: NOW)))


@given(steps)
def test_at_most_one_halt_per_kind_is_active(path: list[tuple[str, HaltKind]]) -> None:
    halts = halts_in()
    standing: list[HaltKind] = []
    raised = 0
    for step, kind in path:
        stood = kind in standing
        if step == "raise":
            assert halts.raise_halt(kind, "because", NOW) == (not stood)
            raised += not stood
            standing += [] if stood else [kind]
        else:
            ended = halts.clear(kind, "Ada", LATER)
            assert (ended.kind if ended else None) == (kind if stood else None)
            standing = [each for each in standing if each != kind]
        assert [each.kind for each in halts.active()] == standing
        assert len(halts.history()) == raised


def test_clearing_a_halt_needs_the_persons_name() -> None:
    halts = halts_in()
    halts.raise_halt("positions", "NVDA is 12", NOW)
    with refused(InputError, "positions"):
        halts.clear("positions", " ", LATER)
    assert halts.active()


def test_halt_change_that_cannot_be_written_is_undone() -> None:
    database = open_for_test()
    halts = halts_in(database)
    halts.raise_halt("daily_loss", "yesterday", NOW)
    database.execute(
        "CREATE TRIGGER full BEFORE INSERT ON halts BEGIN SELECT RAISE(ABORT, 'disk error'); END"
    )
    with refused(DatabaseFailed):
        halts.apply_changes(HaltChanges(("daily_loss",), {"drawdown": "peak"}), LATER)
    assert [each.kind for each in halts.active()] == ["daily_loss"]
    with refused(DatabaseFailed):
        halts.raise_halt("positions", "NVDA is 12", NOW)


def test_unknown_halt_kind_is_refused() -> None:
    database = open_for_test()
    halts = halts_in(database)
    flood: Any = "flood"
    known = "positions, symbols, cash"
    with pytest.raises(ValueError, match=f"halt kind 'flood' is not one of {known}"):
        halts.raise_halt(flood, "water", NOW)
    assert halts.history() == ()
    row = (
        "INSERT INTO halts (kind, job, raised_at, why, cleared_by, row_digest)"
        " VALUES ('flood', '', ?, '', '', '')"
    )
    database.execute(row, (str(NOW),))
    with refused(DatabaseFailed, "row 1", "'positions'", "'flood'"):
        halts.active()


def test_cleared_halts_cause_remains_until_acknowledgement_is_used() -> None:
    halts = halts_in()

    def seen() -> tuple[object, str]:
        return halts.active_cause("positions"), halts.acknowledged_cause("positions")

    assert seen() == (None, "")
    halts.raise_halt("positions", "NVDA is 12", NOW, cause="NVDA 2")
    halts.raise_halt("drawdown", "peak", NOW)
    assert seen() == ((NOW, "NVDA 2"), ""), "nobody has cleared it"
    halts.consume_acknowledgement("positions")
    halts.clear("positions", "Ada", LATER)
    assert seen() == (None, "NVDA 2")
    halts.consume_acknowledgement("positions")
    assert seen() == (None, "")
    assert halts.active_cause("drawdown") is None, "it has none"
    halts.clear("drawdown", "Ada", LATER)
    assert halts.acknowledged_cause("drawdown") == "", "its clearing lets nothing be"
    halts.raise_halt("positions", "NVDA is 12", NOW, cause="NVDA 2")
    halts.clear("positions", "Ada", LATER)
    halts.raise_halt("positions", "NVDA is 13", LATER, cause="NVDA 3")
    assert seen() == ((LATER, "NVDA 3"), ""), "a later one stands"
    halts.apply_changes(HaltChanges(("positions",)), LATER)
    assert seen() == (None, ""), "it ended by itself"
