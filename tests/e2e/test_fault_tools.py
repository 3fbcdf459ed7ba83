"""The tools of the fault tests: a run is watched and ends where it is to, and the wire holds what
it is to.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests

from foundation.database import rows_of
from tests.e2e import fault_runs
from tests.e2e.fault_child import Control
from tests.e2e.fault_proxy import FaultProxy, Trap, When, faulty_wire, shifted
from tests.e2e.fault_runs import FaultRun, Limits, Place, leaking_files
from tests.e2e.practice import KEYS, Practice, Start

FIRST = "2024-02-20T15:30Z"


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


def test_a_control_counts_commits_and_tells_its_clock(tmp_path: Path) -> None:
    control = Control(tmp_path / "control")
    control.ahead = 1800
    for _ in range(3):
        control.committing(after=False)
        control.committing(after=True)
    assert (Control(tmp_path / "control").commits, control.ahead) == (3, 1800)


@pytest.fixture
def wire(practice: Start) -> Iterator[tuple[Practice, FaultProxy]]:
    here = practice("symbols=[SYA]")
    here.advance(FIRST)
    with faulty_wire(here.url, 0) as proxy:
        yield here, proxy


ORDER = {"symbol": "SYA", "side": "buy", "qty": "1", "type": "market", "time_in_force": "day"}
HEADERS = {"APCA-API-KEY-ID": "K", "APCA-API-SECRET-KEY": "S"}


def send(proxy: FaultProxy, name: str) -> int:
    """Send an order, and the status of its answer; 0 where none came."""
    try:
        answer = requests.post(
            f"{proxy.url}/v2/orders",
            json={**ORDER, "client_order_id": name},
            headers=HEADERS,
            timeout=10,
        )
    except requests.ConnectionError:
        return 0
    return answer.status_code


@pytest.mark.parametrize(
    ("when", "status", "at_once", "landed"),
    [
        ("before", 0, False, False),
        ("flying", 0, False, True),
        ("after", 0, True, True),
        ("pass", 200, True, True),
    ],
)
def test_a_trap_holds_the_chosen_request_while_something_is_done(
    wire: tuple[Practice, FaultProxy], when: When, status: int, *, at_once: bool, landed: bool
) -> None:
    here, proxy = wire
    seen: list[bool] = []
    proxy.trap = Trap(
        lambda: seen.append("o-2" in here.venue.tickets), "POST", "/v2/orders", 2, when
    )
    assert send(proxy, "o-1") == 200
    assert send(proxy, "o-2") == status
    assert proxy.trap.sprung.wait(5)
    assert seen == [when == "after"]
    assert ("o-2" in here.venue.tickets) == at_once
    proxy.land()
    assert ("o-2" in here.venue.tickets) == landed
    assert send(proxy, "o-3") == 200


def test_the_clock_is_shown_ahead(wire: tuple[Practice, FaultProxy]) -> None:
    here, proxy = wire
    proxy.ahead = -3600
    shown = requests.get(f"{proxy.url}/v2/clock", headers=HEADERS, timeout=10).json()["timestamp"]
    at = np.datetime64(shown.replace("+00:00", ""), "ns")
    assert at == here.venue.now - np.timedelta64(1, "h")
    answer = json.dumps({"timestamp": "2024-02-20T23:30:00+00:00", "is_open": False}).encode()
    assert json.loads(shifted(answer, 3600))["timestamp"].startswith("2024-02-21T00:30")
