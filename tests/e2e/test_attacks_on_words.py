"""Hostile text where a user or a venue may put it, met by commands as a user starts them."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from execution.journal.decisions import DecisionJournal
from execution.journal.events import EventLog
from execution.journal.halts import HaltJournal
from execution.journal.order_store import OrderStore
from execution.live.account_lock import JOURNAL_FILE
from foundation.database import Database
from tests.e2e.refused import answer_of, refusal_of
from tests.support.short_backtest import BACKTEST, RUN

MOVES = "\x1b[2J\x07\u202e"
CONTROLS = set("\x1b\x07\u202e")


@pytest.mark.slow
def test_markup_in_names_is_printed_literally(tmp_path: Path) -> None:
    output = "o[draft]out[/nope]"
    code, printed, said = answer_of(BACKTEST, *RUN, f"output='{output}'", cwd=tmp_path)
    assert code == 0, said
    assert (tmp_path / output / "summary.json").is_file()
    assert output in "".join(printed.split())
    shutil.copytree(tmp_path / output, tmp_path / "a[/nope]")
    code, printed, said = answer_of("marketsimulator.compare", output, "a[/nope]", cwd=tmp_path)
    assert code == 0, said
    assert "nope]" in printed


def test_status_escapes_control_characters_from_the_venue(tmp_path: Path) -> None:
    path = tmp_path / "live" / "account" / JOURNAL_FILE
    with closing(Database(path)) as database:
        events = EventLog(database)
        DecisionJournal(database, events, OrderStore(database, events), "trade")
        halts = HaltJournal(database, events)
        why = f"the venue says [/x] [bold]no[/bold] {MOVES}"
        halts.raise_halt("positions", why, np.datetime64("2024-02-20T15:30", "ns"))
    _, printed, said = answer_of("execution.live", "status", "--folder", "live", cwd=tmp_path)
    assert "Traceback" not in said
    assert "[/x] [bold]no[/bold] \\x1b[2J\\x07\\u202e" in printed
    assert not CONTROLS & set(printed + said)


def test_control_characters_in_file_names_are_escaped(tmp_path: Path) -> None:
    folder = tmp_path / f"bars{MOVES}"
    folder.mkdir()
    path = folder / f"SY{MOVES}A.csv"
    path.write_text(f"timestamp,op{MOVES}en,high\n2024-02-20T14:30:00Z,1,1\n")
    words = (f"data.dir=['{folder}']", "trials=null", "forecaster=ewma", "output=out")
    line = refusal_of(BACKTEST, *words, cwd=tmp_path)
    assert line.count("\\x1b") == 3
    assert not CONTROLS & set(line)
