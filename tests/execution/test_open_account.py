"""An account that a loop opens: what stops it is alerted once, with the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from execution.live.account_lock import KILL_FILE, KillFileExists, find_trading_process
from execution.live.open_account import OpenAccount, open_account
from foundation.clock import SYSTEM_TIME
from foundation.redaction import NULL_REDACTOR

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


def test_trading_process_is_named_while_it_runs(tmp_path: Path) -> None:
    folder = tmp_path / NAME
    with open_account(NAME, tmp_path, NULL_REDACTOR, SYSTEM_TIME):
        assert "has traded the account since 20" in str(find_trading_process(folder))
    assert find_trading_process(folder) is None
