"""Hostile text where a user or a venue may put it, met by commands as a user starts them."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from execution.account_lock import JOURNAL
from execution.journal.decisions import Journal
from execution.journal.events import EventLog
from execution.journal.halts import Halts
from execution.journal.order_store import OrderStore
from foundation.database import Database
from tests.commands import run_command
from tests.e2e.practice import KEYS
from tests.e2e.refused import answer_of, refusal_of
from tests.e2e.test_attacks_on_outputs import RUN

MOVES = "\x1b[2J\x07\u202e"
CONTROLS = set("\x1b\x07\u202e")


@pytest.mark.slow
def test_names_with_marks_of_markup_are_written_and_said_as_they_are(tmp_path: Path) -> None:
    for output in ("out[/nope]", "o[draft]"):
        done = run_command((*RUN, f"output='{output}'"), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / output / "summary.json").is_file()
        assert output in "".join(done.stdout.split())
    runs = ("out[/nope]", "o[draft]")
    done = run_command(("-m", "marketsimulator.compare", *runs), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "nope]" in done.stdout


def test_status_shows_what_a_venue_wrote_and_nothing_of_it_moves_the_screen(tmp_path: Path) -> None:
    path = tmp_path / "live" / "account" / JOURNAL
    with closing(Database(path)) as database:
        events = EventLog(database)
        Journal(database, events, OrderStore(database, events), "trade")
        halts = Halts(database, events)
        why = f"the venue says [/x] [bold]no[/bold] {MOVES}"
        halts.raise_halt("positions", why, np.datetime64("2024-02-20T15:30", "ns"))
    _, printed, said = answer_of("execution.live", "status", "--folder", "live", cwd=tmp_path)
    assert "Traceback" not in said
    assert "[/x] [bold]no[/bold] \\x1b[2J\\x07\\u202e" in printed
    assert not CONTROLS & set(printed + said)


def test_a_key_with_a_control_character_is_refused_by_its_name_and_shown_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APCA_API_KEY_ID", KEYS.key)
    monkeypatch.setenv("APCA_API_SECRET_KEY", "SECRETSECRET\x1bTAILTAIL")
    words = ("mode=paper", "broker.url_override=http://127.0.0.1", "forecaster=ewma", "cycles=1")
    line = refusal_of("trade_stock_e2e", *words, cwd=tmp_path)
    assert "APCA_API_SECRET_KEY" in line
    logs = "".join(path.read_text() for path in tmp_path.rglob("*.log"))
    for part in ("SECRETSECRET", "TAILTAIL"):
        assert part not in line + logs


@pytest.mark.parametrize("place", ["column", "file", "folder"])
def test_names_of_columns_files_and_folders_move_no_screen(tmp_path: Path, place: str) -> None:
    folder = tmp_path / (f"bars{MOVES}" if place == "folder" else "bars")
    folder.mkdir()
    head = f"timestamp,op{MOVES}en,high" if place == "column" else "timestamp,high"
    name = f"SY{MOVES}A.csv" if place == "file" else "SYA.csv"
    (folder / name).write_text(f"{head}\n2024-02-20T14:30:00Z,1,1\n")
    words = (f"data.dir=['{folder}']", "trials=null", "forecaster=ewma", "output=out")
    line = refusal_of("marketsimulator.backtest", *words, cwd=tmp_path)
    assert not CONTROLS & set(line)
