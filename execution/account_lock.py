"""One process an account: whoever sends orders to it holds its lock, wherever it was started.

The lock is the user's, not a folder's: two copies of this program in two folders trade one account
one after the other. Beside it stands where the account's orders were last written down, because
those that are open there are open everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_state_path

from execution.intents import IntentBook
from foundation.database import Database
from foundation.errors import InputError
from foundation.files import put_whole

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


@contextmanager
def journal_of_account(account_id: str, root: Path) -> Iterator[Database]:
    """Hold the lock of an account, and open its journal in `root/<account id>`.

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
        database = Database(path)
        try:
            try:
                put_whole(place, str(path).encode())
            except OSError as error:
                raise InputError(
                    f"{place}: cannot be written: {error.strerror or error}"
                ) from error
            yield database
        finally:
            database.close()


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
