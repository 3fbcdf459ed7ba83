"""Halts: what each kind forbids, and that it stands until something ends it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.journal.events import EventLog
from execution.journal.halts import HALT_RULES, ITSELF, Halt, HaltChanges, HaltKind, Halts
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
        assert [each.kind for each in halts.active()] == standing
        assert len(halts.history()) == raised


def test_a_halt_outlives_the_process_that_raised_it(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    why = "NVDA is 12, and should be 10"
    with closing(Database(path)) as database:
        halts_in(database).raise_halt("positions", why, NOW)
    with closing(Database(path)) as database:
        assert halts_in(database).active() == (Halt(1, "positions", NOW, why),)
        halts_in(database).clear("positions", "Ada", LATER)
    with closing(Database(path)) as database:
        assert halts_in(database).active() == ()
        (halt,) = halts_in(database).history()
        assert (halt.cleared_by, halt.cleared_at) == ("Ada", LATER)


def test_raising_twice_writes_once_and_keeps_the_first_reason() -> None:
    database = Database()
    halts = halts_in(database)
    halts.raise_halt("drawdown", "first\n of them", NOW)
    halts.raise_halt("drawdown", "second", LATER)
    (halt,) = halts.active()
    assert (halt.why, halt.raised_at, halt.number) == ("first of them", NOW, 1)
    assert str(halt) == "drawdown since 2024-03-05T17:30Z: first of them"
    for _ in range(2):
        halts.clear("drawdown", "Ada", LATER)
    found = [(each.kind, each.subject) for each in EventLog(database).events()]
    assert found == [("halted", "drawdown"), ("halt ended", "drawdown")]


def test_somebody_clears_a_halt() -> None:
    halts = halts_in()
    halts.raise_halt("positions", "NVDA is 12", NOW)
    with pytest.raises(InputError, match="halt positions: a halt is cleared by somebody"):
        halts.clear("positions", " ", LATER)
    assert halts.active()


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
    assert [each.kind for each in halts.active()] == ["daily_loss"]
    with pytest.raises(DatabaseFailed, match="disk"):
        halts.raise_halt("positions", "NVDA is 12", NOW)


def test_a_kind_that_this_program_does_not_know_is_not_raised_and_no_small_matter() -> None:
    database = Database()
    halts = halts_in(database)
    flood: Any = "flood"
    with pytest.raises(ValueError, match="halt 'flood' is none of positions, symbols, cash"):
        halts.raise_halt(flood, "water", NOW)
    assert halts.history() == ()
    row = (
        "INSERT INTO halts (kind, job, raised_at, why, cleared_by) VALUES ('flood', '', ?, '', '')"
    )
    database.execute(row, (str(NOW),))
    with pytest.raises(DatabaseFailed, match=r"halts, row 1: kind: .*'positions'.*: 'flood'"):
        halts.active()


@pytest.mark.parametrize("ended", [{"cleared_at": LATER}, {"cleared_by": "Ada"}])
def test_who_cleared_a_halt_and_when_go_together(ended: Any) -> None:
    with pytest.raises(ValueError, match="are there together"):
        Halt(1, "positions", NOW, "", **ended)


def test_every_kind_says_what_it_forbids_and_what_to_do() -> None:
    forbidding = {kind for kind, rule in HALT_RULES.items() if rule.forbids == "everything"}
    assert forbidding == {"positions", "cash", "journal"}
    ending = {kind for kind, rule in HALT_RULES.items() if rule.ends}
    assert ending == {"daily_loss", "drawdown", "positions", "symbols", "cash"}
    for rule in HALT_RULES.values():
        assert rule.remedy.endswith(".")
        assert len(rule.remedy) <= 200


def test_the_cause_of_a_halt_counts_while_it_stands_and_once_cleared_until_it_is_used() -> None:
    halts = halts_in()

    def seen() -> tuple[object, str]:
        return halts.active_cause("positions"), halts.cleared_cause("positions")

    assert seen() == (None, "")
    halts.raise_halt("positions", "NVDA is 12", NOW, cause="NVDA 2")
    halts.raise_halt("drawdown", "peak", NOW)
    assert seen() == ((NOW, "NVDA 2"), ""), "nobody has cleared it"
    halts.use_clearing("positions")
    halts.clear("positions", "Ada", LATER)
    assert seen() == (None, "NVDA 2")
    halts.use_clearing("positions")
    assert seen() == (None, "")
    assert halts.active_cause("drawdown") is None, "it has none"
    halts.clear("drawdown", "Ada", LATER)
    assert halts.cleared_cause("drawdown") == "", "its clearing lets nothing be"
    halts.raise_halt("positions", "NVDA is 12", NOW, cause="NVDA 2")
    halts.clear("positions", "Ada", LATER)
    halts.raise_halt("positions", "NVDA is 13", LATER, cause="NVDA 3")
    assert seen() == ((LATER, "NVDA 3"), ""), "a later one stands"
    halts.apply(HaltChanges(("positions",)), LATER)
    assert seen() == (None, ""), "it ended by itself"


def test_symbols_of_a_standing_halt_are_set_aside() -> None:
    halts = halts_in()
    halts.raise_halt("symbols", "two are odd", NOW, cause='{"NVDA": "2", "BTCUSD": "-1"}')
    assert halts.set_aside() == {"NVDA", "BTCUSD"}
    halts.clear("symbols", "Ada", LATER)
    assert halts.set_aside() == frozenset()
