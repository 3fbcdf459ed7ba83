"""What an operator types: where it stands, a halt cleared, a loop stopped; bad words are a line."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from execution.journal.cycles import NextCycleJournal
from execution.journal.events import EventLog
from execution.journal.halts import HaltJournal
from execution.live.account_lock import JOURNAL_FILE, folder_lock, open_journal
from execution.live.accounts import select_account_folder
from execution.live.cycle_report import print_cycle_briefly
from execution.live.modes import run_dry_cycle
from execution.live.settings import LiveSettings
from foundation.clock import TimeSource
from foundation.compose import compose_config
from foundation.database import Database, query_rows
from tests.e2e.practice import OPENING, Practice, practising
from tests.e2e.refused import answer_of
from tests.support.desks import Desk
from tests.support.messages import check_message

NOW = np.datetime64("2024-02-20T15:30", "ns")


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An account with a cycle behind it, and a halt that stands."""
    with practising() as start:
        here = start("symbols=[SYA,SYB]")
        here.advance(OPENING)
        folder = tmp_path_factory.mktemp("live") / here.venue.record.account_id
        desk = Desk.at(here, folder)
        desk.job.step()
        desk.live.halts.raise_halt("drawdown", "30 % from the peak", NOW)
    return folder


@pytest.fixture
def folder(passed: Path, tmp_path: Path) -> Path:
    """That account, for a test alone."""
    return shutil.copytree(passed, tmp_path / "data" / "live" / passed.name)


def asked(tmp_path: Path, *words: str) -> tuple[int, str]:
    code, printed, said = answer_of("execution.live", *words, cwd=tmp_path)
    return code, printed + said


def test_status_shows_equity_exposure_halts_and_orders(folder: Path, tmp_path: Path) -> None:
    code, text = asked(tmp_path, "status")
    assert code == 0, text
    assert "2024-02-20T15:30Z: equity $" in text
    assert "exposure: stocks" in text
    assert "halted: drawdown since 2024-02-20T15:30Z: 30 % from the peak. Find the" in text
    assert "no open orders" in text
    assert "trade: trade-20240220T153000Z, 2 fills" in text


def test_status_json_output_is_one_document(folder: Path, tmp_path: Path) -> None:
    code, printed, said = answer_of("execution.live", "status", "--json", cwd=tmp_path)
    status = json.loads(printed)
    assert (code, said) == (0, "")
    assert [*status] == [
        *("account", "process", "mark", "halts", "kill_file", "forecast", "refusals", "orders"),
        *("open_spreads", "cycles", "alerts", "vanished_process", "next_cycle", "late"),
    ]
    assert status["account"] == folder.name
    assert status["mark"]["at"] == "2024-02-20T15:30:00Z"
    assert [(each["kind"], each["forbids"]) for each in status["halts"]] == [
        ("drawdown", "openings")
    ]
    assert status["cycles"][0]["fill_count"] == 2
    assert (status["orders"], status["kill_file"], status["late"]) == ([], False, False)
    code, printed, said = answer_of("execution.live", "kill", "--json", cwd=tmp_path)
    assert (code, printed) == (2, "")
    check_message(said.rstrip(), "--json", "status")
    assert not (folder / "KILL").exists()


@pytest.mark.parametrize("name", ["", ".", "..", "/", "a/b", "../live", "a\0b", "x" * 300])
def test_invalid_account_name_is_refused_by_every_command(
    folder: Path, tmp_path: Path, name: str
) -> None:
    (folder.parent / "a" / "b").mkdir(parents=True)
    for command in ("status", "kill"):
        code, text = asked(tmp_path, command, "--account", name)
        assert (code, text.count("\n")) == (2, 1), text
        assert f"--account: {name!r} is not a valid account name" in text
    assert not list(tmp_path.rglob("KILL"))
    assert select_account_folder(folder.parent, folder.name) == folder


def test_halt_is_cleared_by_name_and_only_once(folder: Path, tmp_path: Path) -> None:
    code, text = asked(tmp_path, "clear", "drawdown", "--by", "Ada")
    assert (code, text) == (0, "cleared: drawdown since 2024-02-20T15:30Z: 30 % from the peak\n")
    said = query_rows(folder / JOURNAL_FILE, "SELECT cleared_by FROM halts")
    assert said == [("Ada",)]
    code, text = asked(tmp_path, "clear", "drawdown", "--by", "Ada")
    assert code == 2
    assert text == "error: drawdown: not cleared, this halt is not active; no halt is active\n"


@pytest.mark.parametrize(("words", "says"), [([], "stop"), (["--flatten"], "flatten")])
def test_kill_command_writes_the_chosen_action_to_file(
    folder: Path, tmp_path: Path, words: list[str], says: str
) -> None:
    with folder_lock(folder.name, folder):
        code, text = asked(tmp_path, "kill", *words)
    assert (code, text) == (
        0,
        f"kill file written: {folder / 'KILL'}; the loop stops. Remove the file to trade again.\n",
    )
    assert (folder / "KILL").read_text() == says
    assert (folder / "KILL").stat().st_mode & 0o044 == 0o044, "the loop's user has to read it"
    assert "KILL exists: no orders are sent" in " ".join(asked(tmp_path, "status")[1].split())


CLEAR = ("clear", "drawdown", "--by", "Ada")


@pytest.mark.parametrize("words", [("kill",), CLEAR])
@pytest.mark.parametrize("traded", [0, 2])
def test_ambiguous_account_must_be_named(
    folder: Path, tmp_path: Path, words: tuple[str, ...], traded: int
) -> None:
    second = shutil.copytree(folder, folder.parent / "second")
    with ExitStack() as locks:
        for each in (folder, second)[:traded]:
            locks.enter_context(folder_lock(each.name, each))
        code, text = asked(tmp_path, *words)
    assert (code, text.count("\n")) == (2, 1), text
    assert f"found 2 accounts, {traded} of them traded now; select one with" in text
    assert all(name in text for name in (folder.name, "second"))
    assert not list(folder.parent.glob("*/KILL"))
    assert asked(tmp_path, "--account", folder.name, *words)[0] == 0


@pytest.mark.parametrize("traded", [0, 2])
def test_status_lists_several_accounts(folder: Path, tmp_path: Path, traded: int) -> None:
    second = shutil.copytree(folder, folder.parent / "second")
    (second / "KILL").touch()
    with ExitStack() as locks:
        for each in (folder, second)[:traded]:
            locks.enter_context(folder_lock(each.name, each))
        code, text = asked(tmp_path, "status")
    process = "a process trades the account" if traded else "no process trades the account"
    first, other, hint = sorted(text.splitlines(), key=lambda line: line.startswith("select"))
    lines = {line.partition(":")[0]: line for line in (first, other)}
    assert (code, hint) == (0, "select one with --account for its full status")
    assert lines[folder.name].startswith(f"{folder.name}: {process}, equity $")
    assert lines[folder.name].endswith(", halted: drawdown")
    assert lines["second"].startswith(f"second: {process}, the kill file exists, equity $")


def test_status_of_several_accounts_has_the_worst_code(folder: Path, tmp_path: Path) -> None:
    """A monitor sees that the only traded account of several has died."""
    second = shutil.copytree(folder, folder.parent / "second")
    with closing(Database(second / JOURNAL_FILE)) as database:
        journal = NextCycleJournal(database, 60.0, TimeSource(now=lambda: NOW))
        journal.record_next_cycle("trade", NOW, NOW)

    def codes() -> list[int]:
        accounts = folder.name, "second"
        return [asked(tmp_path, "--account", name, "status")[0] for name in accounts]

    code, text = asked(tmp_path, "status")
    assert (code, codes()) == (1, [0, 1])
    assert "late: " in text
    (folder / JOURNAL_FILE).write_text("damaged")
    code, text = asked(tmp_path, "status")
    assert (code, codes()) == (2, [2, 1])
    assert f"{folder.name}: no process trades the account, journal cannot be read: " in text


def test_clearing_kill_names_the_file_to_remove(folder: Path, tmp_path: Path) -> None:
    (folder / "KILL").touch()
    code, text = asked(tmp_path, "clear", "KILL")
    assert code == 2
    assert f"remove the file {folder / 'KILL'}, then start the loop" in text
    assert (folder / "KILL").exists()


def test_the_only_account_being_traded_is_the_default(folder: Path, tmp_path: Path) -> None:
    second = shutil.copytree(folder, folder.parent / "second")
    said = "Selected {}, the only one of 2 accounts in data/live that is traded now.\n"
    with folder_lock(folder.name, folder):
        code, text = asked(tmp_path, *CLEAR)
        assert (code, text.startswith(f"{said.format(folder.name)}cleared: drawdown")) == (0, True)
    with folder_lock(second.name, second):
        (second / JOURNAL_FILE).unlink()
        code, text = asked(tmp_path, "kill")
    assert code == 0, text
    assert [path.parent for path in folder.parent.glob("*/KILL")] == [second], "without a journal"


def test_command_that_cannot_be_written_is_one_line(folder: Path, tmp_path: Path) -> None:
    (folder / "commands").symlink_to("missing")
    code, text = asked(tmp_path, "pause", "--by", "Ada")
    assert code == 2
    assert "error: pause: not sent: cannot write the command: " in text


def test_kill_without_a_running_loop_reports_nothing_closed(folder: Path, tmp_path: Path) -> None:
    (folder / JOURNAL_FILE).unlink()
    said = "no order was cancelled and no position closed; no loop starts until you"
    code, text = asked(tmp_path, "kill")
    assert code == 0
    assert f"{said} remove the file.\n" in text
    code, text = asked(tmp_path, "kill", "--flatten")
    assert code == 2
    (line,) = text.splitlines()
    assert line.endswith(f"{said} remove the file; close open positions at the venue")
    assert (folder / "KILL").read_text() == "flatten"


def test_kill_file_goes_to_the_accounts_trading_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "data" / "live" / "moved").mkdir(parents=True)
    (here / "data" / "live" / "moved" / JOURNAL_FILE).touch()
    with open_journal("moved", there / "data" / "live") as journal:
        kill_file = journal.folder / "KILL"
        code, text = asked(here, "kill", "--account", "moved")
        named = f"kill file written: {kill_file} and {here}/data/live/moved/KILL"
        assert (code, text) == (0, f"{named}; the loop stops. Remove the file to trade again.\n")
        assert kill_file.is_file()
        kill_file.unlink()
        code, text = asked(tmp_path, "kill", "--account", "moved")
        assert code == 0, text
        assert text.startswith(f"kill file written: {kill_file}; the loop stops")


def test_kill_in_named_folder_stops_another_users_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "mine"))
    with open_journal("shared", there / "data" / "live"):
        pass
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "theirs"))
    with open_journal("shared", here / "data" / "live") as journal:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "mine"))
        code, text = asked(here, "kill", "--account", "shared")
        assert (code, "the loop stops" in text) == (0, True), text
        assert (journal.folder / "KILL").is_file()


def test_halt_is_cleared_only_in_the_trading_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    here, there = tmp_path / "here", tmp_path / "there"
    with open_journal("moved", there / "data" / "live") as journal:
        halts = HaltJournal(journal.database, EventLog(journal.database))
        halts.raise_halt("cash", "12 USD are missing", np.datetime64("2024-02-20", "ns"))
    shutil.copytree(there, here)
    code, text = asked(here, "clear", "cash", "--by", "Ada", "--account", "moved")
    assert code == 0, text
    assert f"in {there / 'data' / 'live' / 'moved'}, from which the account is traded" in text
    query = "SELECT cleared_by FROM halts"
    assert query_rows(there / "data" / "live" / "moved" / JOURNAL_FILE, query) == [("Ada",)]
    assert query_rows(here / "data" / "live" / "moved" / JOURNAL_FILE, query) == [("",)]


def test_cleared_loss_halt_recurs_only_after_larger_loss(here: Practice, tmp_path: Path) -> None:
    """An acknowledged loss does not halt again at once; a larger one does."""
    folder = tmp_path / "data" / "live" / here.venue.record.account_id
    desk = Desk.at(here, folder, "guards.daily_loss=0.02", "guards.drawdown=0.02")
    desk.job.step()
    first = desk.broker.account()

    def worth(share: float, minutes: int) -> set[str]:
        """The halts that stand once so much of the first equity is left."""
        at = first.as_of + np.timedelta64(minutes, "m")
        lost = (1 - share) * first.equity
        desk.mark(replace(first, cash=first.cash - lost, as_of=at))
        return {halt.kind for halt in desk.live.halts.active()}

    losses = {"daily_loss", "drawdown"}
    assert worth(0.97, 1) == losses
    for kind in sorted(losses):
        code, text = asked(tmp_path, "clear", kind, "--by", "Ada")
        assert code == 0, text
    cleared = query_rows(folder / JOURNAL_FILE, "SELECT DISTINCT cleared_at FROM halts")
    assert cleared == [(str(first.as_of + np.timedelta64(1, "m")),)]
    assert worth(0.97, 2) == set(), "a person has seen that"
    assert worth(0.96, 3) == losses
    told = desk.database.query("SELECT kind FROM notices ORDER BY kind")
    assert told == [(f"halt {kind}",) for kind in sorted([*losses, *losses])]


def test_cycle_without_orders_prints_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("symbols=[SYA]", "forecaster=ewma", "forecaster.calibrated=false")
    span = ("data.start=2024-01-02", "end=2024-02-21T19:30Z")
    cycle = run_dry_cycle(LiveSettings.from_config(compose_config("live", [*words, *span])), {})
    assert cycle.decision is not None
    assert cycle.decision.orders
    print_cycle_briefly(cycle)
    assert len(capsys.readouterr().out.splitlines()) > 3
    print_cycle_briefly(replace(cycle, decision=replace(cycle.decision, orders=())))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("2024-02-21T19:30Z: equity $100,000.00, no order in SYA")
