"""Which account of a folder a command means: the one that is named, else the one that is traded."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from execution.account_lock import JOURNAL, LOCK, is_traded, noted_journal
from execution.journal.passes import last_pass_in
from execution.journal.replay import is_replayed
from foundation.clock import system_clock
from foundation.counts import counted
from foundation.database import DatabaseFailed
from foundation.errors import InputError, nearest_or_all
from trainingdata.instants import utc_text

CONTRACTS = "kalshi-"  # what the names of accounts of event contracts begin with
PORT = 8788  # of an account's page, on this machine
TRADE = "trade"  # the job of stocks and coins
SPREADS = "spreads"  # the job that sells them
SIMULATED_OFFSET = 86_400.0  # seconds from which on a clock is a practice server's own
_AHEAD = np.timedelta64(round(SIMULATED_OFFSET), "s")


@dataclass(frozen=True, slots=True)
class AccountState:
    """What can be said of an account without its venue.

    name: of the account.
    traded: whether a process holds its lock; none where this user cannot try it.
    practice: whether its journal says that it is a practice server's; false where that is not said.
    last_pass: instant by the venue's clock at which its last pass began; none without a pass.
    readable: whether its journal could be read.
    """

    name: str
    traded: bool | None
    practice: bool
    last_pass: np.datetime64 | None
    readable: bool = True

    def __str__(self) -> str:
        running = {True: "running", False: "not running", None: "nobody can say whether it runs"}
        said = [running[self.traded]]
        if self.practice:
            said.append("practice account")
        if not self.readable:
            said.append("its journal cannot be read")
        elif self.last_pass is None:
            said.append("no pass yet")
        else:
            said.append(f"last pass at {utc_text(self.last_pass)}")
        return f"{self.name}: {', '.join(said)}"


def account_state(folder: Path) -> AccountState:
    """What can be said of the account whose journal is in a folder; nothing is written."""
    traded: bool | None
    try:
        traded = is_traded(folder.name, folder)
    except InputError:
        traded = None
    try:
        last = last_pass_in(folder / JOURNAL)
        replayed = is_replayed(folder / JOURNAL)
    except DatabaseFailed:
        return AccountState(folder.name, traded, False, None, readable=False)
    # Only a practice server's clock comes before ours, and only a practice server is replayed.
    ahead = last is not None and bool(last > system_clock() + _AHEAD)
    return AccountState(folder.name, traded, ahead or replayed, last)


def journal_path(
    root: Path, account: str | None, words: Sequence[str], *, looks: bool = False
) -> Path:
    """The journal of an account, of the only one that there is, or of the only one that is traded.

    words: of the command line, which a refusal repeats for each account.
    looks: whether the command changes nothing: of several it then means the one of the last pass.

    Raises
    ------
    InputError
        for none, and for several of which none is named.
    """
    found = sorted(root.glob(f"*/{JOURNAL}"))
    names = [path.parent.name for path in found]
    if account is not None:
        path = root / account / JOURNAL
        if not path.is_file():
            hint = nearest_or_all(account, names) if names else ""
            raise InputError(
                f"{path}: there is no journal; `--folder` says where accounts are{hint}"
            )
        return path
    if not root.is_dir():
        what = "it is a file" if root.exists() else "there is no such folder"
        raise InputError(f"--folder: {root}: {what}; a loop keeps its accounts in its folder=…")
    if not found:
        raise InputError(
            f"{root}: no account has a journal there; a loop's first pass begins it, and --folder"
            " names another folder"
        )
    if len(found) == 1:
        return found[0]
    folders = [path.parent for path in found]
    chosen = _latest_folder(root, folders) if looks else _traded_folder(root, folders, words)
    return chosen / JOURNAL


def watched_journal(root: Path, account: str | None, words: Sequence[str]) -> Path:
    """Where the journal of an account is or would be, for whoever only looks or stops it.

    An account whose journal is gone still has its folder, and the page that was last written.

    words: as for `journal_path`.

    Raises
    ------
    InputError
        for no account, and for several of which none is named.
    """
    if account is not None:
        folder = root / account
        return folder / JOURNAL if folder.is_dir() else journal_path(root, account, words)
    folders = sorted(path for path in root.glob("*") if path.is_dir())
    if len(folders) > 1:
        folders = [folder for folder in folders if _was_traded(folder)]
    if len(folders) > 1:
        return _traded_folder(root, folders, words) / JOURNAL
    return folders[0] / JOURNAL if folders else journal_path(root, account, words)


def _was_traded(folder: Path) -> bool:
    return any(os.path.lexists(folder / name) for name in (JOURNAL, LOCK))


def _latest_folder(root: Path, folders: Sequence[Path]) -> Path:
    """The folder of the account that made the last pass; the others are listed in a line.

    One that is traded now comes before one that is not, and a real venue's before a practice
    server's, whose clock shows any time. Where none has made a pass, nobody can choose.

    Raises
    ------
    InputError
        where none has.
    """
    states = {folder: account_state(folder) for folder in folders}
    passes = {
        folder: (state.traded is True, not state.practice, state.last_pass)
        for folder, state in states.items()
        if state.last_pass is not None
    }
    if not passes:
        raise InputError(
            f"{root}: it holds {counted(len(states), 'account')}, of which none has made a pass;"
            f" name one with --account: {', '.join(folder.name for folder in folders)}"
        )
    latest = max(passes, key=lambda folder: passes[folder])
    others = "; ".join(str(state) for folder, state in states.items() if folder != latest)
    sys.stdout.write(
        f"Of {counted(len(states), 'account')} in {root} it is {latest.name}, which made the last"
        f" pass. The others, for --account: {others}.\n"
    )
    return latest


def _traded_folder(root: Path, folders: Sequence[Path], words: Sequence[str]) -> Path:
    """The folder of the account that is traded, said in a line; else each account, in a line.

    Raises
    ------
    InputError
        unless it is one.
    """
    states = [account_state(folder) for folder in folders]
    traded = [folder for folder, state in zip(folders, states, strict=True) if state.traded]
    if len(traded) == 1 and all(state.traded is not None for state in states):
        sys.stdout.write(
            f"Of {counted(len(states), 'account')} in {root} it is {traded[0].name}, the one that"
            " is traded now.\n"
        )
        return traded[0]
    for state in states:
        line = shlex.join(["python", "-m", "execution.live", *words, "--account", state.name])
        sys.stdout.write(f"{state}; `{line}`\n")
    count = {0: "none is", 1: "1 is"}.get(len(traded), f"{len(traded)} are")
    raise InputError(
        f"{root}: it holds {counted(len(states), 'account')}, of which {count} traded now; name"
        " one with --account"
    )


def folders_to_kill(root: Path, account: str | None, words: Sequence[str]) -> tuple[Path, ...]:
    """Where an account's kill file belongs, first where its orders were last written down.

    The account may be traded from another folder than the one that is named.

    words: as for `journal_path`.

    Raises
    ------
    InputError
        for no account, and for several of which none is named.
    """
    noted = None if account is None else noted_journal(account)
    if account is not None and noted is not None and not (root / account).is_dir():
        return (noted.parent,)
    folder = watched_journal(root, account, words).parent.absolute()
    noted = noted_journal(folder.name)
    if noted is None or not noted.parent.is_dir() or noted.parent.samefile(folder):
        return (folder,)
    return noted.parent, folder


def holds_contracts(name: str) -> bool:
    """Whether an account of this name is one of event contracts."""
    return name.startswith(CONTRACTS)
