"""Locks that restrict an account to one process and one journal.

The first lock belongs to the user, not to a folder. A file next to the lock names the account's
journal. The user may trade the account only with that journal, because its open orders, halts and
kill file apply to the whole account. The second lock is in the journal's folder. It is needed
because two users have separate first locks but may share a journal.
"""

from __future__ import annotations

import logging
import os
import platform
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout
from platformdirs import user_state_path

from execution.journal.halts import read_active_halts
from execution.journal.order_store import read_intents
from execution.journal.rows import verify_digests
from execution.journal.schema import open_journal_for_reading
from foundation.clock import utc_now
from foundation.database import (
    Database,
    DatabaseDamaged,
    check_integrity,
    query_rows,
    rollback_journal_path,
    translate_damage_errors,
)
from foundation.errors import InputError, to_one_line
from foundation.files import restrict_to_owner, write_atomically
from trainingdata.instants import format_compact_utc, format_utc

log = logging.getLogger(__name__)

JOURNAL_FILE = "journal.sqlite"
STATUS_PAGE_FILE = "status.html"  # status page, which the loop writes
LOCK_FILE = "lock"
PROCESS_FILE = "process"  # describes the process that trades the account; stays if it is killed
KILL_FILE = "KILL"  # name of the kill file in the account's folder
KILL_FILE_FLATTEN_TEXT = "flatten"  # content of a kill file that also closes all positions
_JOURNAL_PATH_FILE = "journal"
_ACCOUNT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class AccountInUse(InputError):
    """Another process has locked the account."""


class KillFileExists(InputError):
    """The account's kill file prevents the start of a loop, until a person removes it.

    A process supervisor does not restart the loop after this exit code.
    """

    exit_code = 3


def is_account_id(name: str) -> bool:
    """Return whether a name is a valid account id: 1 to 64 letters, digits, `-` and `_`.

    Such a name cannot point to another folder.
    """
    return _ACCOUNT_ID.fullmatch(name) is not None


def account_state_folder(account_id: str) -> Path:
    """Return this user's folder of an account, with its lock and a file that names its journal."""
    return user_state_path("kelly-chronos") / "accounts" / account_id


@contextmanager
def account_lock(account_id: str) -> Iterator[Path]:
    """Lock an account for this user during a `with` block, and yield the lock's folder.

    Raises
    ------
    AccountInUse
        if another process has locked the account.
    InputError
        for an invalid id, or a folder that cannot be locked.
    """
    if not is_account_id(account_id):
        raise InputError(
            f"the venue's account id {account_id!r} is not valid; expected 1 to 64 letters, digits,"
            " - and _"
        )
    folder = account_state_folder(account_id)
    with folder_lock(account_id, folder):
        yield folder


@contextmanager
def folder_lock(account_id: str, folder: Path) -> Iterator[None]:
    """Lock an account in a folder during a `with` block; the folder is created if absent.

    Raises
    ------
    AccountInUse
        if another process has locked the account in this folder.
    InputError
        for a folder that cannot be locked.
    """
    lock = FileLock(folder / LOCK_FILE, timeout=0)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise AccountInUse(
            f"account {account_id}: another process trades this account; stop it first"
        ) from None
    except OSError as error:
        raise InputError(
            f"{folder}: cannot lock the account: {error.strerror or error}; make it a folder that"
            " this user can write to, or set another folder"
        ) from error
    try:
        yield
    finally:
        lock.release()


def is_account_traded(account_id: str, folder: Path) -> bool:
    """Return whether a process, such as a trading loop, has locked an account.

    folder: folder of the account's journal.
    """
    return is_account_locked(account_id, account_state_folder(account_id)) or is_account_locked(
        account_id, folder
    )


def is_account_locked(account_id: str, folder: Path) -> bool:
    """Return whether a process has locked an account in a folder."""
    # An attempt to lock would create the lock file.
    if not os.path.lexists(folder / LOCK_FILE):
        return False
    try:
        with folder_lock(account_id, folder):
            return False
    except AccountInUse:
        return True


def find_trading_process(folder: Path) -> str | None:
    """Describe the process that trades an account now; None if no process has locked the account.

    folder: folder of the account.
    """
    if not is_account_traded(folder.name, folder):
        return None
    return _read_process(folder) or "a process"


def find_vanished_process(folder: Path) -> str | None:
    """Describe the process that left its file behind and holds no lock; None if there is none.

    The system releases the lock of a killed process, so a reused process id does not matter.

    folder: folder of the account.
    """
    return None if is_account_traded(folder.name, folder) else _read_process(folder)


def ran_on_this_machine(process: str) -> bool:
    """Return whether a described process ran on a machine with this machine's host name."""
    return f" on {platform.node()} since " in process


def _read_process(folder: Path) -> str | None:
    try:
        text = (folder / PROCESS_FILE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return to_one_line(text) or None


class LockedJournal(NamedTuple):
    """Open journal of an account that this process has locked.

    database: the open journal.
    folder: folder of the journal file.
    damaged_copy: path to which a damaged journal was moved; None without one.
    """

    database: Database
    folder: Path
    damaged_copy: Path | None


@contextmanager
def open_journal(
    account_id: str, root: Path, *, replace_damaged: bool = False, trades: bool = True
) -> Iterator[LockedJournal]:
    """Lock an account, and open its journal in `root/<account id>`, during a `with` block.

    replace_damaged: true to rename a damaged journal, and start a new one.
    trades: true to record this process as the trading process until the block ends.
    """
    with account_lock(account_id) as folder:
        path = (root / account_id / JOURNAL_FILE).absolute()
        refuse_misplaced_journal(account_id, path)
        with folder_lock(account_id, path.parent):
            for place in (folder, path.parent):
                restrict_to_owner(place)
            damaged_copy = _check_or_move_journal(
                path, replace_damaged, known=recorded_journal_path(account_id) == path
            )
            with closing(Database(path)) as database:
                _write_note(folder / _JOURNAL_PATH_FILE, str(path))
                with _record_process(path.with_name(PROCESS_FILE)) if trades else nullcontext():
                    yield LockedJournal(database, path.parent, damaged_copy)


@contextmanager
def _record_process(path: Path) -> Iterator[None]:
    """Write the description of this process to a file that exists during a `with` block."""
    started_at = format_utc(utc_now())
    _write_note(path, f"process {os.getpid()} on {platform.node()} since {started_at}")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _write_note(path: Path, text: str) -> None:
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise InputError(
            f"{path}: cannot write: {error.strerror or error}; let this user write there"
        ) from error


def _check_or_move_journal(path: Path, replace_damaged: bool, *, known: bool) -> Path | None:
    """Check a journal; if it is damaged, raise an error or, if allowed, move it away.

    Returns the path to which a damaged journal was moved; None if the journal is intact or absent.

    replace_damaged: true to move a damaged journal away instead of raising `DatabaseDamaged`.
    known: true if this journal was opened for the account before, so that it cannot be empty.
    """
    if not path.exists():
        return None
    asides = f"{path.stem}-damaged-"
    try:
        if known:
            refuse_empty_journal(path)
        refuse_unusable_journal(path)
    except DatabaseDamaged as error:
        if not replace_damaged:
            raise
        aside = path.with_name(f"{asides}{format_compact_utc(utc_now())}{path.suffix}")
        log.error("%s; moved to %s", error, aside)
        path.rename(aside)
        # SQLite's rollback journal belongs to the damaged file.
        rest = rollback_journal_path(path)
        if rest.exists():
            rest.rename(rollback_journal_path(aside))
        return aside
    if query_rows(path, "SELECT 1 FROM sqlite_master LIMIT 1"):
        return None
    # A process was killed after it moved a damaged journal away, and before it began this one.
    return max(path.parent.glob(f"{asides}*{path.suffix}"), default=None)


def refuse_empty_journal(path: Path) -> None:
    """Raise `DatabaseDamaged` for an empty file, because a journal always has content."""
    if path.stat().st_size == 0:
        raise DatabaseDamaged(f"{path}: the journal is damaged: the file is empty")


def refuse_unusable_journal(path: Path) -> None:
    """Raise an error for a journal that is damaged, or has another schema.

    Raises
    ------
    DatabaseDamaged
        if SQLite cannot read it, a row has changed since it was written, or an order or an active
        halt cannot be decoded.
    InputError
        for a journal of another schema version.
    """
    check_integrity(path)
    with translate_damage_errors(), open_journal_for_reading(path) as database:
        verify_digests(path)
        if database.query("SELECT 1 FROM sqlite_master WHERE name = 'intents'"):
            read_intents(database)
        read_active_halts(path)


def may_exist(path: Path) -> bool:
    """Return whether a file exists; a file that cannot be checked counts as existing."""
    try:
        # A broken link counts as an existing file.
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def recorded_journal_path(account_id: str) -> Path | None:
    """Return the path of the journal that this user last opened for an account; None if none.

    Raises
    ------
    InputError
        if the file that records the path cannot be read.
    """
    note = account_state_folder(account_id) / _JOURNAL_PATH_FILE
    try:
        return Path(note.read_text(encoding="utf-8")) if note.exists() else None
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot read where the journal is: {error}; let this user read it"
        ) from error


def refuse_misplaced_journal(account_id: str, path: Path) -> None:
    """Raise `InputError` if the account's recorded journal is missing, or is not `path`."""
    known = recorded_journal_path(account_id)
    if known is not None and not (
        os.path.isfile(known) and path.parent.resolve() == known.parent.resolve()
    ):
        note = account_state_folder(account_id) / _JOURNAL_PATH_FILE
        raise InputError(
            f"account {account_id}: its journal is {known}; restore it there and use"
            f" folder={known.parent.parent}, or, once the venue has no open orders of it, delete"
            f" {note}"
        )
