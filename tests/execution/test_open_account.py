"""An account that a loop opens: what stops it is alerted once, with the way out."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from execution.live.account_lock import (
    JOURNAL_FILE,
    KILL_FILE,
    PROCESS_FILE,
    KillFileExists,
    find_trading_process,
)
from execution.live.command_client import send_command
from execution.live.open_account import OpenAccount, open_account
from execution.live.status import list_accounts, report_status
from foundation.cli import Result
from foundation.clock import SYSTEM_TIME, utc_now
from foundation.redaction import NULL_REDACTOR

ROOT = Path(__file__).parents[2]
NAME = "paper-1"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def stops(account: OpenAccount) -> list[str]:
    rows = account.database.query("SELECT text FROM notices WHERE kind = 'stopped'")
    return [text for (text,) in rows]


def refuse_start(root: Path) -> KillFileExists:
    """The error of a start while the kill file exists."""
    (root / NAME / KILL_FILE).touch()
    with (
        pytest.raises(KillFileExists) as caught,
        open_account(NAME, root, NULL_REDACTOR, SYSTEM_TIME, unattended=True),
    ):
        pass
    (root / NAME / KILL_FILE).unlink()
    return caught.value


def test_stop_by_kill_file_is_alerted_once(tmp_path: Path) -> None:
    """Also across restarts, until a step has succeeded; the exit code is its own."""
    with open_account(NAME, tmp_path, NULL_REDACTOR, SYSTEM_TIME, unattended=True) as account:
        account.report_stop("the kill file exists", "the loop is stopping: the kill file exists")
        account.report_stop("another", "it follows from the first")
    for _ in range(3):
        assert refuse_start(tmp_path).exit_code == 3
    with open_account(NAME, tmp_path, NULL_REDACTOR, SYSTEM_TIME, unattended=True) as account:
        assert stops(account) == ["the loop is stopping: the kill file exists"]
        account.end_stop_report()
    refuse_start(tmp_path)
    with open_account(NAME, tmp_path, NULL_REDACTOR, SYSTEM_TIME) as account:
        assert len(stops(account)) == 2


def test_another_cause_of_a_stop_is_alerted(tmp_path: Path) -> None:
    for cause in ("no space", "no space", "no network"):
        with (
            pytest.raises(ValueError, match=cause),
            open_account(NAME, tmp_path, NULL_REDACTOR, SYSTEM_TIME, unattended=True),
        ):
            raise ValueError(cause)
    with open_account(NAME, tmp_path, NULL_REDACTOR, SYSTEM_TIME) as account:
        assert stops(account) == [
            "the loop has stopped: no space",
            "the loop has stopped: no network",
        ]


def test_halt_alert_names_the_command_that_clears_it(tmp_path: Path) -> None:
    with open_account(NAME, tmp_path, NULL_REDACTOR, SYSTEM_TIME) as account:
        account.raise_halt("cash", "12 USD are missing")
        [(text,)] = account.database.query("SELECT text FROM notices")
    command = f"-m execution.live --folder {tmp_path} --account {NAME} clear cash --by NAME"
    assert text.startswith("halted: 12 USD are missing. ")
    assert text.endswith(f"Clear with: .venv/bin/python {command}")


LOOP = """
import sys
from pathlib import Path
from execution.live.open_account import open_account
from foundation.clock import SYSTEM_TIME
from foundation.redaction import NULL_REDACTOR

with open_account(sys.argv[1], Path(sys.argv[2]), NULL_REDACTOR, SYSTEM_TIME):
    print("trades", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def killed(tmp_path: Path) -> int:
    """Kill a process that trades the account, and return its id."""
    command = [sys.executable, "-c", LOOP, NAME, str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=ROOT) as loop:
        assert loop.stdout is not None
        assert loop.stdout.readline() == b"trades\n"
        assert status_of(tmp_path).exit_code == 0
        loop.kill()
    return loop.pid


def status_of(root: Path) -> Result:
    return report_status(root / NAME / JOURNAL_FILE, utc_now())


def rewritten(root: Path, text: str) -> Result:
    """Return the status if the killed process had described itself otherwise."""
    (root / NAME / PROCESS_FILE).write_text(text)
    return status_of(root)


def test_status_reports_a_killed_loop_until_the_next(tmp_path: Path, killed: int) -> None:
    status = status_of(tmp_path)
    assert status.exit_code == 1
    for words in (
        f"process {killed} on {platform.node()} since",
        "killed or has crashed",
        "start the loop",
    ):
        assert words in status.closing_lines[0]
    [account] = list_accounts([tmp_path / NAME], utc_now()).json_document["accounts"]
    assert (account["exit_code"], account["traded"]) == (1, False)
    assert send_command(tmp_path / NAME, "pause", by="Ada").exit_code == 0
    assert f"process {killed} on" in status_of(tmp_path).closing_lines[0], "no loop took it"
    with open_account(NAME, tmp_path, NULL_REDACTOR, SYSTEM_TIME):
        assert status_of(tmp_path).exit_code == 0
    assert status_of(tmp_path).exit_code == 0
    assert status_of(tmp_path).closing_lines[0] == "no process trades the account"


def test_killed_processes_of_other_machines_are_not_reported(tmp_path: Path, killed: int) -> None:
    """The id of a killed process may belong to any process now."""
    since = "since 2026-01-02T15:30Z"
    assert rewritten(tmp_path, f"process {os.getpid()} on {platform.node()} {since}").exit_code == 1
    elsewhere = rewritten(tmp_path, f"process {killed} on elsewhere {since}")
    assert elsewhere.exit_code == 0
    assert "no process of this machine" in elsewhere.closing_lines[0]
    assert "on elsewhere" in elsewhere.closing_lines[0]
    assert rewritten(tmp_path, "").closing_lines[0] == "no process trades the account"


def test_trading_process_is_named_while_it_runs(tmp_path: Path) -> None:
    folder = tmp_path / NAME
    with open_account(NAME, tmp_path, NULL_REDACTOR, SYSTEM_TIME):
        assert f"process {os.getpid()} on" in str(find_trading_process(folder))
    assert find_trading_process(folder) is None
