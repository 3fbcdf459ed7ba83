"""The tools of the fault tests: a run is watched and ends where it is to, and the wire holds what
it is to.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from foundation.database import rows_of
from tests.e2e import fault_runs
from tests.e2e.fault_proxy import FaultProxy
from tests.e2e.fault_runs import FaultRun, Limits, Place, leaking_files
from tests.e2e.practice import KEYS


@pytest.fixture
def place(tmp_path: Path) -> Place:
    wire = FaultProxy("http://127.0.0.1:9", random.Random(0))
    return Place(tmp_path, wire, Counter(), random.Random(0))


def program(place: Place, text: str, limits: Limits | None = None) -> FaultRun:
    """A process of a program."""
    path = place.folder / "program.py"
    path.write_text(text)
    return FaultRun(place, [str(path)], limits or Limits())


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("text", "counted", "patience", "most"),
    [
        ("raise KeyError('spread')", {"crashes"}, 60.0, 60.0),
        ("import os; os._exit(7)", {"crashes"}, 60.0, 60.0),
        (f"import sys; sys.stderr.write('{KEYS.key}')", {"leaks"}, 60.0, 60.0),
        ("import threading; threading.Event().wait(60)", {"hangs"}, 0.5, 60.0),
        ("while True: print('busy')", {"hangs"}, 60.0, 0.5),
    ],
)
def test_whatever_must_never_be_of_a_run_is_counted(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    counted: set[str],
    patience: float,
    most: float,
) -> None:
    # The libraries' imports are silent, too.
    monkeypatch.setattr(fault_runs, "PATIENCE", patience + 3.0)
    one = program(place, text)
    one.until(lambda: False, most + 3.0)
    monkeypatch.setattr(fault_runs, "PATIENCE", 60.0)
    one.end()
    assert {"crashes", "leaks", "hangs"} & set(+place.counts) == counted


def test_a_secret_in_any_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "a.log").write_text(f"key {KEYS.secret}")
    (tmp_path / "state.sqlite").write_bytes(b"\0\1" + KEYS.key.encode())
    (tmp_path / "clean").write_text("nothing")
    assert [path.name for path in leaking_files(tmp_path)] == ["a.log", "state.sqlite"]


COMMITS = """
from pathlib import Path
from foundation.database import Database
database = Database(Path("journal.sqlite"))
database.create("CREATE TABLE rows (number INTEGER)")
for number in range(300):
    database.execute("INSERT INTO rows VALUES (?)", (number,))
"""


@pytest.mark.first_example
@pytest.mark.parametrize(("after", "rows"), [(False, 2), (True, 3)])
def test_a_kill_lands_before_or_after_the_chosen_commit(
    place: Place, *, after: bool, rows: int
) -> None:
    one = program(place, COMMITS)
    # The first commit is the table's, so the fourth is the third row's.
    one.control.arm(4, after=after)
    one.until(lambda: False)
    assert one.end() == -9
    assert rows_of(place.folder / "journal.sqlite", "SELECT count(*) FROM rows") == [(rows,)]
