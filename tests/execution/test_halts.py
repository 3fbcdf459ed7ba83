"""Halts: what each kind forbids, and that it stands until something ends it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.journal.events import EventLog
from execution.journal.halts import (
    HALT_RULES,
    ITSELF,
    Halt,
    HaltChanges,
    HaltKind,
    Halts,
)
from foundation.database import Database, DatabaseFailed
from foundation.errors import InputError

NOW = np.datetime64("2024-03-05T17:30", "ns")
LATER = NOW + np.timedelta64(1, "h")

kinds = st.sampled_from(tuple(HALT_RULES))
steps = st.lists(st.tuples(st.sampled_from(("raise", "clear")), kinds), max_size=12)


def halts_in(database: Database | None = None) -> Halts:
    place = Database() if database is None else database
    return Halts(place, EventLog(place, clock=lambda: NOW))


@given(steps)
def test_one_of_a_kind_stands_at_most_and_nothing_is_forgotten(
    path: list[tuple[str, HaltKind]],
) -> None:
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
        assert [each.kind for each in halts.standing()] == standing
        assert len(halts.history()) == raised


def test_a_halt_outlives_the_process_that_raised_it(tmp_path: Path) -> None:
    database = Database(tmp_path / "journal")
    halts_in(database).raise_halt("positions", "NVDA is 12, and should be 10", NOW)
    database.close()
    again = Database(tmp_path / "journal")
    assert halts_in(again).standing() == (
        Halt(1, "positions", NOW, "NVDA is 12, and should be 10"),
    )
    halts_in(again).clear("positions", "Ada", LATER)
    again.close()
    third = Database(tmp_path / "journal")
    assert halts_in(third).standing() == ()
    assert [(each.cleared_by, each.cleared_at) for each in halts_in(third).history()] == [
        ("Ada", LATER)
    ]
    third.close()


def test_raising_twice_writes_once_and_keeps_the_first_reason() -> None:
    database = Database()
    halts = halts_in(database)
    assert halts.raise_halt("drawdown", "first\n of them", NOW)
    assert not halts.raise_halt("drawdown", "second", LATER)
    (halt,) = halts.standing()
    assert (halt.why, halt.raised_at, halt.number) == ("first of them", NOW, 1)
    assert halt.stands
    assert str(halt) == "drawdown since 2024-03-05T17:30Z: first of them"
    log = EventLog(database)
    assert [(each.kind, each.subject) for each in log.events()] == [("halted", "drawdown")]
    halts.clear("drawdown", "Ada", LATER)
    halts.clear("drawdown", "Ada", LATER)
    assert [each.kind for each in log.events()] == ["halted", "halt ended"]
    assert [each.stands for each in halts.history()] == [False]


def test_somebody_clears_a_halt() -> None:
    halts = halts_in()
    halts.raise_halt("positions", "NVDA is 12", NOW)
    with pytest.raises(InputError, match="halt positions: a halt is cleared by somebody"):
        halts.clear("positions", " ", LATER)
    assert halts.standing()


def test_changes_end_before_they_raise() -> None:
    halts = halts_in()
    halts.raise_halt("daily_loss", "yesterday", NOW)
    halts.apply(HaltChanges(("daily_loss",), {"daily_loss": "today", "drawdown": "peak"}), LATER)
    assert [(each.kind, each.why, each.cleared_by) for each in halts.history()] == [
        ("daily_loss", "yesterday", ITSELF),
        ("daily_loss", "today", ""),
        ("drawdown", "peak", ""),
    ]


def test_changes_that_cannot_be_written_change_nothing() -> None:
    database = Database()
    halts = halts_in(database)
    halts.raise_halt("daily_loss", "yesterday", NOW)
    database.execute(
        "CREATE TRIGGER full BEFORE INSERT ON halts BEGIN SELECT RAISE(ABORT, 'disk'); END"
    )
    with pytest.raises(DatabaseFailed, match="disk"):
        halts.apply(HaltChanges(("daily_loss",), {"drawdown": "peak"}), LATER)
    assert [each.kind for each in halts.standing()] == ["daily_loss"]
    with pytest.raises(DatabaseFailed, match="disk"):
        halts.raise_halt("positions", "NVDA is 12", NOW)


def test_a_kind_that_nothing_is_known_of_is_not_raised() -> None:
    halts = halts_in()
    flood: Any = "flood"
    with pytest.raises(ValueError, match="halt 'flood' is none of positions, symbols, cash"):
        halts.raise_halt(flood, "water", NOW)
    assert halts.history() == ()


def test_a_halt_that_this_program_does_not_know_is_no_small_matter() -> None:
    database = Database()
    halts = halts_in(database)
    database.execute(
        "INSERT INTO halts (kind, job, raised_at, why, cleared_by) VALUES ('flood', '', ?, '', '')",
        (str(NOW),),
    )
    with pytest.raises(DatabaseFailed, match=r"halts, row 1: kind: .*'positions'.*: 'flood'"):
        halts.standing()


def test_who_cleared_a_halt_and_when_go_together() -> None:
    with pytest.raises(ValueError, match="are there together"):
        Halt(1, "positions", NOW, "", cleared_at=LATER)
    with pytest.raises(ValueError, match="are there together"):
        Halt(1, "positions", NOW, "", cleared_by="Ada")


def test_every_kind_says_what_it_forbids_and_what_to_do() -> None:
    forbidding = {kind for kind, rule in HALT_RULES.items() if rule.forbids == "everything"}
    assert forbidding == {"positions", "cash", "journal"}
    ending = {kind for kind, rule in HALT_RULES.items() if rule.ends}
    assert ending == {"daily_loss", "drawdown", "positions", "symbols", "cash"}
    for rule in HALT_RULES.values():
        assert rule.remedy.endswith(".")
        assert len(rule.remedy) <= 200


def test_what_a_person_has_cleared_counts_until_it_is_used() -> None:
    halts = halts_in()
    assert halts.cleared_cause("positions") == ""
    halts.raise_halt("positions", "NVDA is 12", NOW, cause="NVDA 2")
    halts.raise_halt("drawdown", "peak", NOW)
    assert halts.cleared_cause("positions") == "", "nobody has cleared it"
    halts.use_clearing("positions")
    halts.clear("positions", "Ada", LATER)
    assert halts.cleared_cause("positions") == "NVDA 2"
    halts.use_clearing("positions")
    assert halts.cleared_cause("positions") == ""
    halts.clear("drawdown", "Ada", LATER)
    assert halts.cleared_cause("drawdown") == "", "its clearing lets nothing be"


def test_while_a_halt_stands_its_cause_and_since_when_are_known() -> None:
    halts = halts_in()
    halts.raise_halt("positions", "NVDA is 12", NOW, cause="NVDA 2")
    halts.raise_halt("drawdown", "peak", NOW)
    assert halts.standing_cause("positions") == (NOW, "NVDA 2")
    assert halts.standing_cause("drawdown") is None, "it has none"
    halts.clear("positions", "Ada", LATER)
    assert halts.standing_cause("positions") is None
    halts.raise_halt("positions", "NVDA is 13", LATER, cause="NVDA 3")
    assert halts.standing_cause("positions") == (LATER, "NVDA 3")


def test_symbols_of_a_standing_halt_are_set_aside() -> None:
    halts = halts_in()
    assert halts.set_aside() == frozenset()
    halts.raise_halt("symbols", "two are odd", NOW, cause='{"NVDA": "2", "BTCUSD": "-1"}')
    assert halts.set_aside() == {"NVDA", "BTCUSD"}
    halts.clear("symbols", "Ada", LATER)
    assert halts.set_aside() == frozenset()


def test_a_later_halt_and_one_that_ended_by_itself_leave_no_cleared_cause() -> None:
    halts = halts_in()
    halts.raise_halt("positions", "NVDA is 12", NOW, cause="NVDA 2")
    halts.clear("positions", "Ada", LATER)
    halts.raise_halt("positions", "NVDA is 13", NOW, cause="NVDA 3")
    assert halts.cleared_cause("positions") == ""
    halts.apply(HaltChanges(("positions",)), LATER)
    assert halts.cleared_cause("positions") == ""
