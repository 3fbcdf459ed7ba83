"""What an account writes is readable by its owner alone, also where it was not before."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.e2e.practice import OPENING, ROOT, Start, environment
from tests.support.commands import run_command


def open_to_others(folder: Path) -> list[str]:
    """What a group or anybody may read, write or enter below a folder, with its mode."""
    # A link's own mode opens nothing: the file that it leads to has the rights.
    paths = [path for path in folder.rglob("*") if not path.is_symlink()]
    modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in paths}
    return [f"{path.relative_to(folder)} {mode:o}" for path, mode in modes.items() if mode & 0o077]


def opened(folder: Path) -> None:
    """As a umask of 022 leaves files and folders."""
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.mark.slow
def test_live_cycle_leaves_only_private_files(practice: Start, tmp_path: Path) -> None:
    here = practice("symbols=[SYA,SYB]")
    here.advance(OPENING)
    home = tmp_path / "home"
    home.mkdir()
    command = [
        *(str(ROOT / "trade_stock_e2e.py"), "mode=paper", "symbols=[SYA,SYB]"),
        *(f"broker.url_override={here.url}", "forecaster=ewma", "forecaster.calibrated=false"),
        *("cycles=1", "bar_wait_seconds=0"),
    ]
    for first in (True, False):
        done = run_command(command, cwd=home, env=environment(home))
        assert done.returncode == 0, done.stderr
        account = home / "data" / "live" / here.venue.record.account_id
        assert (account / "journal.sqlite").is_file()
        assert open_to_others(account) == open_to_others(home / "logs") == []
        assert open_to_others(home / "state" / "kelly-chronos" / "accounts") == []
        logs = "".join(path.read_text() for path in (home / "logs").iterdir())
        assert ("accessible to other users" in logs) is not first, "logged once access is removed"
        opened(home)


def test_contracts_account_files_are_private(tmp_path: Path) -> None:
    env = {"PATH": "", "HOME": str(tmp_path), "AUTOSCALING_DATA_DIR": str(tmp_path / "account")}
    for words in (["init"], []):
        done = run_command(["-m", "option_spreads.contracts", *words], cwd=tmp_path, env=env)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "account" / "paper" / "trades.csv").is_file()
        assert open_to_others(tmp_path / "account" / "paper") == []
        opened(tmp_path)
