"""One process an account: whoever sends orders to it holds its lock, wherever it was started.

The lock is the user's, not a folder's: two copies of this program in two folders trade one account
one after the other. Beside it stands where the account's orders were last written down, because
those that are open there are open everywhere.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout
from platformdirs import user_state_path

from execution.intents import IntentBook
from foundation.database import Damaged, Database, refuse_spoilt, unfinished_commit
from foundation.errors import InputError
from foundation.files import put_whole
from trainingdata.instants import compact_text, system_clock

log = logging.getLogger(__name__)

JOURNAL = "journal.sqlite"
_ACCOUNT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


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
    folder = user_state_path("kelly-chronos") / "accounts" / account_id
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise InputError(
            f"account {account_id}: another process sends orders to it; end that one first"
        ) from None
    except OSError as error:
        raise InputError(f"{folder}: cannot be locked: {error.strerror or error}") from error
    try:
        yield folder
    finally:
        lock.release()


class AccountJournal(NamedTuple):
    """The journal of an account whose lock is held.

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
    """Hold the lock of an account, and open its journal in `root/<account id>`.

    replace_damaged: whether a journal that is damaged is set aside, and a new one begun.

    Raises
    ------
    InputError
        for an account that another process trades, a journal that cannot be used, and one in
        another folder in which orders are open.
    """
    with account_lock(account_id) as folder:
        path = (root / account_id / JOURNAL).absolute()
        place = folder / "journal"
        _refuse_open_elsewhere(account_id, place, path)
        set_aside = _checked(path, replace_damaged)
        database = Database(path)
        try:
            try:
                put_whole(place, str(path).encode())
            except OSError as error:
                raise InputError(
                    f"{place}: cannot be written: {error.strerror or error}"
                ) from error
            yield AccountJournal(database, path.parent, set_aside)
        finally:
            database.close()


def _checked(path: Path, replace_damaged: bool) -> Path | None:
    """Where a damaged journal was put; none for one that is sound or not there.

    Raises
    ------
    DatabaseFailed
        for a damaged one that is not to be replaced, and one that cannot be read now.
    """
    if not path.exists():
        return None
    try:
        refuse_spoilt(path)
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


def _refuse_open_elsewhere(account_id: str, place: Path, path: Path) -> None:
    try:
        before = Path(place.read_text(encoding="utf-8"))
        kept = before.is_file()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise InputError(f"{place}: cannot be read: {error}") from error
    if not kept:
        raise InputError(
            f"account {account_id}: {before}, in which its orders were written down, is not there."
            f" Bring it back; or, once the venue shows that nothing of it works, delete {place}"
        )
    if before == path:
        return
    database = Database(before)
    try:
        count = len(IntentBook(database).undetermined())
    finally:
        database.close()
    if count:
        raise InputError(
            f"account {account_id}: nobody knows yet what became of {count} of the orders in"
            f" {before}; go on with folder={before.parent.parent}"
        )
