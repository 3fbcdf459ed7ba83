"""One process an account, and one place of its journal, wherever this program is started.

The lock is the user's, not a folder's. Beside it stands where the account's journal is: the account
is traded from there alone, because what is open, halted or stopped there is so everywhere. A second
lock lies beside the journal: two users have no lock in common, and may have a journal.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout
from platformdirs import user_state_path

from execution.journal.halts import read_active_halts
from execution.journal.order_store import intents_of
from execution.journal.rows import refuse_changed
from execution.journal.schema import open_current_schema
from foundation.clock import utc_now
from foundation.database import (
    Database,
    DatabaseDamaged,
    check_integrity,
    query_rows,
    raise_damaged,
    rollback_journal,
)
from foundation.errors import InputError
from foundation.files import make_private, write_atomically
from trainingdata.instants import compact_text

log = logging.getLogger(__name__)

JOURNAL_FILE = "journal.sqlite"
PAGE_FILE = "status.html"  # its page, which the loop writes
LOCK_FILE = "lock"
KILL_FILE = "KILL"  # its name in the account's folder
FLATTEN = "flatten"  # in it, it closes everything too
_JOURNAL_NOTE = "journal"
_ACCOUNT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class AccountInUse(InputError):
    """Another process holds a lock of the account."""


def is_account_id(name: str) -> bool:
    """Whether an account may be called so: what leads to another folder is no name of one."""
    return _ACCOUNT_ID.fullmatch(name) is not None


def state_folder(account_id: str) -> Path:
    """Where the lock of an account lies, and the note that names its last journal."""
    return user_state_path("kelly-chronos") / "accounts" / account_id


@contextmanager
def account_lock(account_id: str) -> Iterator[Path]:
    """Hold the user's lock of an account; yields the folder that it lies in."""
    if not is_account_id(account_id):
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
    """
    lock = FileLock(folder / LOCK_FILE, timeout=0)
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
    """Whether a process holds a lock of an account; folder: of its journal."""
    return is_locked(account_id, state_folder(account_id)) or is_locked(account_id, folder)


def is_locked(account_id: str, folder: Path) -> bool:
    """Whether a process holds the lock of an account that lies in a folder."""
    # Where nobody has held it yet, trying it would leave it behind.
    if not os.path.lexists(folder / LOCK_FILE):
        return False
    try:
        with folder_lock(account_id, folder):
            return False
    except AccountInUse:
        return True


class LockedJournal(NamedTuple):
    """The journal of an account whose locks are held.

    database: its file.
    folder: in which it lies.
    damaged_copy: where a damaged one before it was put; none where none was.
    """

    database: Database
    folder: Path
    damaged_copy: Path | None


@contextmanager
def open_journal(
    account_id: str, root: Path, *, replace_damaged: bool = False
) -> Iterator[LockedJournal]:
    """Hold the locks of an account, and open its journal in `root/<account id>`.

    replace_damaged: whether a journal that is damaged is set aside, and a new one begun.
    """
    with account_lock(account_id) as folder:
        path = (root / account_id / JOURNAL_FILE).absolute()
        refuse_misplaced_journal(account_id, path)
        with folder_lock(account_id, path.parent):
            for place in (folder, path.parent):
                make_private(place)
            damaged_copy = _checked(
                path, replace_damaged, known=recorded_journal(account_id) == path
            )
            with closing(Database(path)) as database:
                try:
                    write_atomically(folder / _JOURNAL_NOTE, str(path).encode())
                except OSError as error:
                    raise InputError(
                        f"{folder / _JOURNAL_NOTE}: cannot be written: {error.strerror or error}"
                    ) from error
                yield LockedJournal(database, path.parent, damaged_copy)


def _checked(path: Path, replace_damaged: bool, *, known: bool) -> Path | None:
    """Where a damaged journal was put; none for one that is sound or not there.

    known: whether the account's orders were written down there before.
    """
    if not path.exists():
        return None
    asides = f"{path.stem}-damaged-"
    try:
        if known:
            refuse_empty_journal(path)
        refuse_unusable(path)
    except DatabaseDamaged as error:
        if not replace_damaged:
            raise
        aside = path.with_name(f"{asides}{compact_text(utc_now())}{path.suffix}")
        log.error("%s; it is kept as %s", error, aside)
        path.rename(aside)
        # What SQLite had begun to write belongs to the damaged file.
        rest = rollback_journal(path)
        if rest.exists():
            rest.rename(rollback_journal(aside))
        return aside
    if query_rows(path, "SELECT 1 FROM sqlite_master LIMIT 1"):
        return None
    # A process that had put one aside was killed before it began this one.
    return max(path.parent.glob(f"{asides}*{path.suffix}"), default=None)


def refuse_empty_journal(path: Path) -> None:
    """Refuse a journal in which nothing is: from its first moment on one is never empty."""
    if path.stat().st_size == 0:
        raise DatabaseDamaged(f"{path}: the journal is damaged: nothing is left in it")


def refuse_unusable(path: Path) -> None:
    """Refuse a journal that is damaged, or of another schema.

    Raises
    ------
    Damaged
        for what SQLite cannot read, for a row that is not as it was written, and an order or a
        standing halt that makes no sense.
    """
    check_integrity(path)
    with raise_damaged(), open_current_schema(path) as database:
        refuse_changed(path)
        if database.rows("SELECT 1 FROM sqlite_master WHERE name = 'intents'"):
            intents_of(database)
        read_active_halts(path)


def may_exist(path: Path) -> bool:
    """Whether a file is there; one that cannot be looked at counts as there."""
    try:
        # A link that leads nowhere is a file that somebody made.
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def recorded_journal(account_id: str) -> Path | None:
    """Where this user last wrote an account's orders down; none where nobody did."""
    note = state_folder(account_id) / _JOURNAL_NOTE
    try:
        return Path(note.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{note}: cannot be read: {error}") from error


def refuse_misplaced_journal(account_id: str, path: Path) -> None:
    """Refuse a journal in another place than the account's, and one that is gone from there."""
    known = recorded_journal(account_id)
    if known is None:
        return
    try:
        kept = known.is_file()
        if kept and (known == path or (path.exists() and known.samefile(path))):
            return
    except OSError as error:
        raise InputError(f"{known}: cannot be looked at: {error.strerror or error}") from error
    note = state_folder(account_id) / _JOURNAL_NOTE
    if not kept:
        raise InputError(
            f"account {account_id}: {known}, in which its orders were written down, is not there."
            f" Bring it back; or, once the venue shows that nothing of it works, delete {note}"
        )
    raise InputError(
        f"account {account_id}: its journal is {known}: go on with folder={known.parent.parent};"
        f" or, while nothing trades it, move {known.parent} to {path.parent} and delete {note}"
    )
