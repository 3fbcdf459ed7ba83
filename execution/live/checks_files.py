"""What this machine's disk, SQLite, a checkpoint, an account's journal and its lock say.

Nothing is written but a probe, in a folder that is removed with all that is in it.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from execution.account_lock import (
    JOURNAL,
    KILL_FILE,
    LOCK,
    account_lock,
    folder_lock,
    is_there,
    refuse_other_journal,
    refuse_unusable,
    standing_halts,
    state_folder,
    undetermined_count,
)
from execution.journal.halts import HALT_RULES
from execution.live.checks import Finding
from forecasting.chronos2.checkpoint import SHIPPED, checkpoint
from foundation.database import Database, DatabaseFailed, Row, rows_of
from foundation.errors import InputError, in_one_line

GIGABYTE = 2**30
FULL = 100_000_000  # bytes below which nothing may be started
PROBE = ".doctor-"


@dataclass(frozen=True, slots=True)
class JournalState:
    """What can be read of an account's journal.

    path: of its file, whether it is there or not.
    begun: whether it is there.
    in_use: whether another process may be writing it.
    undetermined: how many orders there are of which nobody knows what became.
    halts: kinds that stand.
    killed: whether the kill file lies beside it.
    """

    path: Path
    begun: bool = False
    in_use: bool = False
    undetermined: int = 0
    halts: tuple[str, ...] = ()
    killed: bool = False


def disk_finding(free: Mapping[str, int]) -> Finding:
    """Whether there is room; free: bytes, by what is written there."""
    found = ", ".join(f"{size / GIGABYTE:,.1f} GiB for {name}" for name, size in free.items())
    least = min(free.values())
    if least < FULL:
        return Finding(
            "failure", "disk", f"{found}; make room: orders are written down before they are sent"
        )
    if least < GIGABYTE:
        return Finding("warning", "disk", f"{found}; make room before it is full")
    return Finding("ok", "disk", found)


def free_space(folders: Mapping[str, Path]) -> dict[str, int]:
    """Bytes that may be written in folders, or where they would be made; by the same names.

    Raises
    ------
    InputError
        for a folder that cannot be looked at.
    """
    free = {}
    for name, folder in folders.items():
        place = nearest_folder(folder)
        try:
            free[name] = shutil.disk_usage(place).free
        except OSError as error:
            raise InputError(f"{place}: cannot be read: {error.strerror or error}") from error
    return free


def nearest_folder(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there.

    Raises
    ------
    InputError
        where a file is in the way, or it cannot be looked at.
    """
    absolute = folder.expanduser().absolute()
    nearest = next(path for path in (absolute, *absolute.parents) if _exists(path))
    if not nearest.is_dir():
        raise InputError(f"{nearest}: it is a file, and a folder is needed there; move it away")
    return nearest


def _exists(path: Path) -> bool:
    """Whether something is there.

    Raises
    ------
    InputError
        where this user may not look.
    """
    try:
        return path.exists()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be looked at: {error.strerror or error}; look as the user that the"
            " loop runs as"
        ) from error


def sqlite_finding(folder: Path) -> Finding:
    """Whether a journal can be kept in a folder, tried with a probe that is removed.

    Raises
    ------
    InputError
        for a folder that cannot be written.
    """
    place = nearest_folder(folder)
    try:
        with TemporaryDirectory(prefix=PROBE, dir=place) as scratch:
            kept = _kept(Path(scratch) / "probe.sqlite")
    except OSError as error:
        raise InputError(
            f"{place}: cannot be written: {error.strerror or error}; let this user write there, or"
            " name another folder"
        ) from error
    version = f"SQLite {sqlite3.sqlite_version}"
    if kept != [("delete", 3, 7)]:
        return Finding(
            "failure",
            "sqlite",
            f"{version} does not keep a rollback journal with synchronous=EXTRA in {place}; name"
            " a folder on a local disk",
        )
    return Finding(
        "ok", "sqlite", f"{version}, a rollback journal with synchronous=EXTRA works in {place}"
    )


def _kept(path: Path) -> list[Row]:
    """The journal's mode, how it is synchronised, and a number that was written."""
    database = Database(path)
    try:
        database.create("CREATE TABLE probe (number INTEGER)")
        database.execute("INSERT INTO probe VALUES (7)")
        ((mode,),) = database.rows("PRAGMA journal_mode")
        ((synchronous,),) = database.rows("PRAGMA synchronous")
    finally:
        database.close()
    return [(mode, synchronous, number) for (number,) in rows_of(path, "SELECT number FROM probe")]


def checked_weights(model: str | None) -> None:
    """Refuse a checkpoint of Chronos-2 whose weights are not whole; none are loaded.

    model: a folder or a hub id; none is the shipped one.

    Raises
    ------
    InputError
        naming the file and what is wrong with it.
    """
    from safetensors import SafetensorError, safe_open

    folder = checkpoint(str(SHIPPED) if model is None else model).folder
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="numpy"):
                pass
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"{path}: these weights cannot be read: {error}; bring the checkpoint back whole,"
                " or name another: forecaster.model=FOLDER"
            ) from error


def process_finding(account: str, root: Path) -> Finding:
    """Whether another process trades the account, which it could not then be traded beside.

    root: the folder of the accounts' folders.

    Raises
    ------
    InputError
        where another process does, or nobody could hold the lock.
    """
    folder = state_folder(account)
    # Where nobody has held it yet, taking it would leave its folder behind.
    if _exists(folder / LOCK):
        with account_lock(account):
            pass
    else:
        nearest = nearest_folder(folder)
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise InputError(
                f"{nearest}: cannot be written, and the account's lock would lie there; let this"
                " user write there, or set XDG_STATE_HOME"
            )
    if _exists(root / account / LOCK):
        with folder_lock(account, root / account):
            pass
    return Finding("ok", "process", "no other process sends orders to the account")


def journal_state(account: str, root: Path, *, in_use: bool) -> JournalState:
    """What can be read of an account's journal in `root/<account id>`.

    A process that was killed within a commit leaves one that is taken back when it is next
    written: a copy is then read, in which that is done.

    in_use: whether another process may be writing it. It is not read through then: a long reading
        would hold up its commits.

    Raises
    ------
    InputError
        for a journal that is damaged, too early or cannot be read, for one that is not where the
        account's orders were last written down, and for another one that is not done with.
    """
    path = (root / account / JOURNAL).absolute()
    refuse_other_journal(account, path)
    begun = _exists(path)
    killed = is_there(path.with_name(KILL_FILE))
    if not begun:
        return JournalState(path, killed=killed)
    try:
        with _readable(path, in_use=in_use) as copy:
            if not in_use:
                refuse_unusable(copy)
            return JournalState(
                path, True, in_use, undetermined_count(copy), standing_halts(copy), killed
            )
    except DatabaseFailed as error:
        raise InputError(
            f"{error}; bring its backup back, as without one the loop sets it aside and halts"
        ) from error


@contextmanager
def _readable(path: Path, *, in_use: bool) -> Iterator[Path]:
    """A journal as a file that can be read without writing it."""
    unfinished = path.with_name(f"{path.name}-journal")
    # Whoever writes it finishes its own commits.
    if in_use or not unfinished.exists():
        yield path
        return
    try:
        with TemporaryDirectory(prefix=PROBE, dir=path.parent) as scratch:
            copy = Path(scratch) / path.name
            for file in (path, unfinished):
                shutil.copyfile(file, copy.with_name(file.name))
            # SQLite takes back what was not committed when it first reads a file it may write.
            Database(copy).close()
            yield copy
    except OSError as error:
        raise InputError(f"{path}: cannot be copied: {error.strerror or error}") from error


def journal_finding(state: JournalState) -> Finding:
    """Whether what was written down is whole, and whether the fate of every order is known."""
    if not state.begun:
        return Finding("ok", "journal", f"none yet; the first run begins {state.path}")
    found = f"{state.path} is whole"
    if state.in_use:
        found = f"{state.path} is not read through, as another process may be writing it"
    if state.undetermined:
        return Finding(
            "warning",
            "journal",
            f"{found}; nobody knows what became of {state.undetermined} of its orders, the next"
            " start looks for them first",
        )
    return Finding("ok", "journal", f"{found}, and the fate of every order is known")


def halts_finding(state: JournalState) -> Finding:
    """Whether something stops orders until a person says otherwise."""
    stopped = state.killed
    told = []
    if state.killed:
        told.append(f"{state.path.with_name(KILL_FILE)} stops everything: remove it.")
    for kind in state.halts:
        rule = next((rule for name, rule in HALT_RULES.items() if name == kind), None)
        stopped |= rule is None or rule.forbids == "everything"
        told.append(f"{kind}: {'no halt of this kind is known' if rule is None else rule.remedy}")
    if not told:
        return Finding("ok", "halts", "none stands")
    return Finding("failure" if stopped else "warning", "halts", in_one_line(" ".join(told)))
