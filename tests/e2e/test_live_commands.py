"""What an operator types: where it stands, a halt cleared, a loop stopped; bad words are a line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from execution.account_lock import JOURNAL
from execution.events import EventLog
from execution.live.halts import Halts
from foundation.database import Database, rows_of
from tests.commands import run_command
from tests.e2e.practice import OPENING, Start
from tests.e2e.test_live_account import Desk

NOW = np.datetime64("2024-02-20T15:30", "ns")


@pytest.fixture
def folder(practice: Start, tmp_path: Path) -> Path:
    """An account with a pass behind it, and a halt that stands."""
    here = practice("symbols=[SYA,SYB]")
    here.advance(OPENING)
    folder = tmp_path / "data" / "live" / here.venue.record.account_id
    database = Database(folder / JOURNAL)
    Desk.at(here, database, folder).job.step()
    Halts(database, EventLog(database)).raise_halt("drawdown", "30 % from the peak", NOW)
    database.close()
    return folder


def asked(tmp_path: Path, *words: str) -> tuple[int, str]:
    done = run_command(["-m", "execution.live", *words], cwd=tmp_path)
    return done.returncode, done.stdout + done.stderr


def test_the_status_says_what_is_held_what_waits_and_what_stands(
    folder: Path, tmp_path: Path
) -> None:
    code, text = asked(tmp_path, "status")
    assert code == 0, text
    assert "2024-02-20T15:30Z: equity $" in text
    assert "exposure: stocks" in text
    assert "halted: drawdown since 2024-02-20T15:30Z: 30 % from the peak. Find out" in text
    assert "no order waits" in text
    assert "trade: trade-20240220T153000Z, 2 fills" in text


def test_a_halt_is_cleared_by_somebody_and_once(folder: Path, tmp_path: Path) -> None:
    code, text = asked(tmp_path, "clear", "drawdown", "--by", "Ada")
    assert (code, text) == (
        0,
        "cleared: drawdown since 2024-02-20T15:30Z: 30 % from the peak\n",
    )
    said = rows_of(folder / JOURNAL, "SELECT cleared_by FROM halts")
    assert said == [("Ada",)]
    code, text = asked(tmp_path, "clear", "drawdown", "--by", "Ada")
    assert code == 2
    assert text.startswith("error: drawdown: no such halt stands")


@pytest.mark.parametrize(("words", "says"), [([], "stop"), (["--flatten"], "flatten")])
def test_kill_leaves_a_file_that_says_what_to_do(
    folder: Path, tmp_path: Path, words: list[str], says: str
) -> None:
    code, text = asked(tmp_path, "kill", *words)
    assert code == 0
    assert "the loop stops. Remove it to trade again." in text
    assert (folder / "KILL").read_text() == says
    assert "KILL is there: nothing is sent" in " ".join(asked(tmp_path, "status")[1].split())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--account", "other", "status"], "there is no journal; `--folder` says where"),
        (["--folder", "nowhere", "status"], "of accounts there are none; name one"),
        (["clear", "weather", "--by", "Ada"], "invalid choice: 'weather'"),
        (["clear", "drawdown"], "--by"),
        (["clear", "drawdown", "--by", "  "], "say by whom"),
        ([], "command"),
    ],
)
def test_words_that_cannot_be_are_one_line(
    folder: Path, tmp_path: Path, words: list[str], says: str
) -> None:
    code, text = asked(tmp_path, *words)
    assert code == 2
    assert says in text.splitlines()[-1]
    assert "Traceback" not in text


def test_of_several_accounts_one_is_named(folder: Path, tmp_path: Path) -> None:
    Database(folder.parent / "second" / JOURNAL).create("CREATE TABLE x (y)")
    code, text = asked(tmp_path, "status")
    assert code == 2
    assert "name one with --account" in text
    assert asked(tmp_path, "--account", folder.name, "status")[0] == 0
