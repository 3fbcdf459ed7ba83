"""One process an account: whoever sends orders to it holds its lock, wherever it was started.

The lock is the user's, not a folder's: two copies of this program in two folders trade one account
one after the other. Beside it stands where the account's orders were last written down, because
those that are open there are open everywhere, and what stops them there stops them everywhere. A
second lock lies beside the journal: two users have no lock in common, and may have a journal.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout
from platformdirs import user_state_path

from execution.journal.halts import standing_halts
from execution.journal.intents import refuse_earlier, undetermined_count
from execution.journal.passes import unfinished_count
from foundation.clock import system_clock
from foundation.database import Damaged, Database, refuse_spoilt, unfinished_commit
from foundation.errors import InputError
from foundation.files import put_whole
from foundation.private import keep_private
from trainingdata.instants import compact_text

log = logging.getLogger(__name__)

JOURNAL = "journal.sqlite"
LOCK = "lock"
KILL_FILE = "KILL"  # its name in the account's folder
FLATTEN = "flatten"  # in it, it closes everything too
_NOTE = "journal"
_ACCOUNT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class AccountInUse(InputError):
    """Another process holds a lock of the account."""


def state_folder(account_id: str) -> Path:
    """Where the lock of an account lies, and the note that names its last journal."""
    return user_state_path("kelly-chronos") / "accounts" / account_id


@contextmanager
def account_lock(account_id: str) -> Iterator[Path]:
    """Hold the lock of an account, beside which the folder that this yields lies.

    Raises
    ------
    InputError
        for an account that another process trades, and for an id that is none.
    """
    if not _ACCOUNT_ID.fullmatch(account_id):
        raise InputError(f"the venue's account has the id {account_id!r}, which is none")
    folder = state_folder(account_id)
    with folder_lock(account_id, folder):
        yield folder


@contextmanager
def folder_lock(account_id: str, folder: Path) -> Iterator[None]:
    """Hold the lock of an account that lies in a folder, which is made where there is none.

    Raises
    ------
    AccountInUse
        for one that another process holds.
    InputError
        for one that cannot be held.
    """
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise AccountInUse(
            f"account {account_id}: another process sends orders to it; end that one first"
        ) from None
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be locked: {error.strerror or error}; let this user write there, or"
            " name another folder"
        ) from error
    try:
        yield
    finally:
        lock.release()


def is_traded(account_id: str, folder: Path) -> bool:
    """Whether a process holds a lock of an account; folder: of its journal.

    Raises
    ------
    InputError
        for a lock that this user cannot try.
    """
    for place in (state_folder(account_id), folder):
        # Where nobody has held it yet, trying it would leave it behind.
        if not os.path.lexists(place / LOCK):
            continue
        try:
            with folder_lock(account_id, place):
                pass
        except AccountInUse:
            return True
    return False


class AccountJournal(NamedTuple):
    """The journal of an account whose locks are held.

    database: its file.
    folder: in which it lies.
    set_aside: where a damaged one before it was put; none where none was.
    """

    database: Database
    folder: Path
    set_aside: Path | None


@contextmanager
def journal_of_account(
    account_id: str, root: Path, *, replace_damaged: bool = False
) -> Iterator[AccountJournal]:
    """Hold the locks of an account, and open its journal in `root/<account id>`.

    replace_damaged: whether a journal that is damaged is set aside, and a new one begun.

    Raises
    ------
    InputError
        for an account that another process trades, a journal that cannot be used, and one in
        another folder that is not done with.
    """
    with account_lock(account_id) as folder:
        path = (root / account_id / JOURNAL).absolute()
        refuse_other_journal(account_id, path)
        with folder_lock(account_id, path.parent):
            for place in (folder, path.parent):
                keep_private(place)
            known = noted_journal(account_id) == path
            set_aside = _checked(path, replace_damaged, known)
            database = Database(path)
            try:
                _note_journal(folder / _NOTE, path)
                yield AccountJournal(database, path.parent, set_aside)
            finally:
                database.close()


def _note_journal(note: Path, path: Path) -> None:
    try:
        put_whole(note, str(path).encode())
    except OSError as error:
        raise InputError(f"{note}: cannot be written: {error.strerror or error}") from error


def _checked(path: Path, replace_damaged: bool, known: bool) -> Path | None:
    """Where a damaged journal was put; none for one that is sound or not there.

    known: whether the account's orders were written down there before.

    Raises
    ------
    DatabaseFailed
        for a damaged one that is not to be replaced, and one that cannot be read now.
    InputError
        for one of a version that is not taken over.
    """
    if not path.exists():
        return None
    try:
        if known:
            refuse_emptied(path)
        refuse_unusable(path)
    except Damaged as error:
        if not replace_damaged:
            raise
        stamp = compact_text(system_clock())
        aside = path.with_name(f"{path.stem}-damaged-{stamp}{path.suffix}")
        log.error("%s; it is kept as %s", error, aside)
        path.rename(aside)
        # What SQLite had begun to write belongs to the damaged file.
        rest = unfinished_commit(path)
        if rest.exists():
            rest.rename(unfinished_commit(aside))
        return aside
    return None


def refuse_emptied(path: Path) -> None:
    """Refuse a journal in which nothing is: from its first moment on one is never empty.

    Raises
    ------
    Damaged
        for such a file, which stays as it is.
    """
    if path.stat().st_size == 0:
        raise Damaged(f"{path}: the journal is damaged: nothing is left in it")


def refuse_unusable(path: Path) -> None:
    """Refuse a journal that is damaged, or of a version that is not taken over.

    Raises
    ------
    Damaged
        for what SQLite cannot read.
    DatabaseFailed
        for a file that cannot be read now.
    InputError
        for one of an early version.
    """
    refuse_spoilt(path)
    refuse_earlier(path)


def is_there(path: Path) -> bool:
    """Whether a file is there; one that cannot be looked at counts as there."""
    try:
        # A link that leads nowhere is a file that somebody made.
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def noted_journal(account_id: str) -> Path | None:
    """Where this user last wrote an account's orders down; none where nobody did.

    Raises
    ------
    InputError
        for a note that cannot be read.
    """
    note = state_folder(account_id) / _NOTE
    try:
        return Path(note.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{note}: cannot be read: {error}") from error


def refuse_other_journal(account_id: str, path: Path) -> None:
    """Refuse a journal while the account's last one, in another folder, is not done with.

    Raises
    ------
    InputError
        saying what is left there, or that it is gone.
    """
    before = noted_journal(account_id)
    if before is None:
        return
    try:
        kept = before.is_file()
        same = before == path or (kept and path.exists() and before.samefile(path))
    except OSError as error:
        raise InputError(f"{before}: cannot be looked at: {error.strerror or error}") from error
    if not kept:
        raise InputError(
            f"account {account_id}: {before}, in which its orders were written down, is not there."
            " Bring it back; or, once the venue shows that nothing of it works, delete"
            f" {state_folder(account_id) / _NOTE}"
        )
    if same:
        return
    if left := _left_in(before):
        root = before.parent.parent
        raise InputError(
            f"account {account_id}: {'; '.join(left)}; go on with folder={root}, where"
            f" `python -m execution.live --folder {root} --account {account_id} status` says what"
            " to do"
        )


def _left_in(journal: Path) -> list[str]:
    """What an account's folder is not done with, a sentence each."""
    left = []
    kill_file = journal.parent / KILL_FILE
    if os.path.lexists(kill_file):
        left.append(f"{kill_file} stops everything")
    if kinds := standing_halts(journal):
        left.append(f"the halts {', '.join(kinds)} stand in {journal}")
    if count := undetermined_count(journal):
        left.append(f"nobody knows yet what became of {count} of the orders in {journal}")
    if count := unfinished_count(journal):
        left.append(f"{count} of the decisions in {journal} are not sent whole")
    return left
