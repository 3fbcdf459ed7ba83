"""Selection of an account's folder: the named account, or the one that is traded now."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

from execution.live.account_lock import (
    JOURNAL_FILE,
    LOCK_FILE,
    is_account_id,
    is_account_locked,
    is_account_traded,
    recorded_journal_path,
)
from foundation.errors import InputError
from foundation.formatting import format_count
from foundation.shell import format_command

EVENT_CONTRACT_ACCOUNT_PREFIX = "kalshi-"  # prefix of the names of accounts of event contracts
TRADE_JOB = "trade"  # job of stocks and crypto
SPREADS_JOB = "spreads"  # job of option spreads
SHADOW_JOB = "shadow"  # job that keeps a simulated account beside the live one


def select_account_folder(root: Path, account: str | None) -> Path:
    """Return the folder of an account.

    Without a name, this is the folder of the only account or, if there are several, of the only
    account that a process trades now. An account whose journal is missing is found too, because its
    folder and its last status page remain.

    root: folder of all accounts.
    account: name of the account; None without a name.

    Raises
    ------
    InputError
        if there is no such account, or more than one that qualifies.
    """
    folders = account_folders(root)
    names = [folder.name for folder in folders]
    if account is not None:
        if account not in names and not is_account_id(account):
            raise InputError(
                f"--account: {account!r} is not a valid account name; use letters, digits, - and _"
            )
        folder = root / account if account in names else find_active_account_folder(root / account)
        if not folder.is_dir():
            raise InputError(
                f"--account: {account!r} not found in {root}; accounts there:"
                f" {', '.join(names) or 'none'}"
            )
        return folder
    if not folders:
        raise InputError(
            f"--folder: {root} contains no account; the first cycle of a loop creates its folder"
        )
    if len(folders) == 1:
        return folders[0]
    traded = find_traded_account_folders(folders)
    several = format_count(len(folders), "account")
    if len(traded) == 1:
        sys.stdout.write(
            f"Selected {traded[0].name}, the only one of {several} in {root} that is traded now.\n"
        )
        return traded[0]
    raise InputError(
        f"{root}: found {several}, {len(traded)} of them traded now; select one with --account:"
        f" {', '.join(names)}"
    )


def account_folders(root: Path) -> list[Path]:
    """Return the folders of the accounts in `root`, in the order of their names."""
    folders = sorted(path for path in root.glob("*") if path.is_dir())
    if len(folders) == 1:
        return folders
    files = (JOURNAL_FILE, LOCK_FILE)
    return [each for each in folders if any(os.path.lexists(each / name) for name in files)]


def find_traded_account_folders(folders: Iterable[Path]) -> list[Path]:
    """Return the folders of the accounts that a process trades now."""
    return [folder for folder in folders if is_account_traded(folder.name, folder)]


def find_active_account_folder(folder: Path) -> Path:
    """Return the folder of the journal with which an account is traded.

    This is `folder` if a process has locked the account there. Otherwise it is the folder of the
    journal that this user last opened for the account or, if none is recorded, `folder`.

    folder: folder of the account, as given on the command line.
    """
    noted = recorded_journal_path(folder.name)
    if noted is None or not noted.parent.is_dir() or is_account_locked(folder.name, folder):
        return folder
    return noted.parent


def find_journal(folder: Path) -> Path:
    path = folder / JOURNAL_FILE
    if not path.is_file():
        raise InputError(f"{path}: journal not found; set --folder to the folder of the accounts")
    return path


def format_clear_command(kind: str, folder: Path) -> str:
    """Return the command with which a person clears a halt, or the refused orders, of an account.

    kind: kind of the halt, or `refused`.
    folder: folder of the account.
    """
    place = folder.absolute()
    return (
        f"{format_command('python -m execution.live')} --folder {shlex.quote(str(place.parent))}"
        f" --account {shlex.quote(place.name)} clear {kind} --by NAME"
    )


def format_account(name: str, *, is_paper: bool) -> str:
    """Return an account's kind and name, such as "paper account PA1"."""
    return f"{'paper' if is_paper else 'live'} account {name}"


def is_event_contract_account(name: str) -> bool:
    return name.startswith(EVENT_CONTRACT_ACCOUNT_PREFIX)
