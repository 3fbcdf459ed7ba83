"""Sender of commands to the loop of an account, which waits for their answers.

While no loop runs, it answers commands itself, under the lock of the account: halts are raised and
ended, and commands that need orders are refused.
"""

from __future__ import annotations

import getpass
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from execution.journal.events import EventLog
from execution.journal.halts import HaltJournal
from execution.journal.marks import EquityMarkJournal
from execution.journal.rows import format_instant
from execution.live.account_lock import AccountInUse, is_account_traded, open_journal
from execution.live.accounts import find_active_account_folder, find_journal
from execution.live.commands import (
    COMMANDS_FOLDER,
    CommandDesk,
    parse_command,
    read_answer,
    write_command,
)
from foundation.cli import Result
from foundation.clock import SYSTEM_TIME, TimeSource
from foundation.database import Database
from foundation.errors import InputError
from trainingdata.instants import format_compact_utc

ANSWER_WAIT_SECONDS = 300.0  # a loop takes commands between two steps, and a step may take minutes
POLL_SECONDS = 0.1
LOCK_CHECK_SECONDS = 3.0  # seconds between two checks whether a loop runs
NOT_DONE_EXIT_CODE = 2


def send_command(
    folder: Path,
    verb: str,
    argument: str = "",
    by: str = "",
    command_id: str = "",
    time: TimeSource = SYSTEM_TIME,
) -> Result:
    """Send a command to the loop of an account, and return its answer.

    The exit code is 2 unless everything was done.

    folder: folder of the account.
    by: name of the sender; empty: the user's name.
    command_id: id of the command; empty: a new one. A command with a known id is not executed
        again: its answer is returned.

    Raises
    ------
    InputError
        for an invalid command, and if there is no answer in time.
    """
    folder = find_active_account_folder(folder.absolute())
    find_journal(folder)
    now = time.now()
    name = command_id or f"{format_compact_utc(now)}-{verb}-{secrets.token_hex(3)}"
    values = {
        "verb": verb,
        "argument": argument,
        "by": by or getpass.getuser(),
        "written_at": format_instant(now),
    }
    text = _describe(asdict(parse_command(name, values, now)))
    answer = read_answer(folder, name)
    if answer is None:
        try:
            path = write_command(folder, name, values)
        except OSError as error:
            raise InputError(f"{text}: not sent: cannot write the command: {error}") from error
        answer = _await_answer(folder, path, time)
    if _describe(answer) not in ("", text):
        raise InputError(
            f"{text}: not executed: {name} is the id of an earlier command, {_describe(answer)!r}"
            f" ({answer['state']}); choose another --id"
        )
    return Result(
        closing_lines=[f"{text}: {answer['state']}: {answer['answer']}"],
        exit_code=0 if answer["state"] == "done" else NOT_DONE_EXIT_CODE,
        json_document=answer,
    )


def _describe(command: Mapping[str, Any]) -> str:
    """Return the verb and the argument of a command; empty for the answer to an unreadable one."""
    return f"{command.get('verb', '')} {command.get('argument', '')}".strip()


def _await_answer(folder: Path, path: Path, time: TimeSource) -> dict[str, str]:
    """Wait for the answer of the loop; answer the command here if no loop runs.

    path: path of the command's file.
    """
    end = time.monotonic() + ANSWER_WAIT_SECONDS
    check_at = time.monotonic()
    while (answer := read_answer(folder, path.stem)) is None:
        now = time.monotonic()
        if now >= end:
            raise InputError(
                f"{path}: no answer within {ANSWER_WAIT_SECONDS:.0f} s; the loop takes the command"
                f" when its step ends, and answers in {folder / COMMANDS_FOLDER}. After an hour the"
                " command is not executed; delete the file to withdraw it before"
            )
        if now >= check_at:
            check_at = now + LOCK_CHECK_SECONDS
            if not is_account_traded(folder.name, folder):
                _answer_without_loop(folder, path)
                continue
        time.wait(POLL_SECONDS)
    return answer


def _answer_without_loop(folder: Path, path: Path) -> None:
    """Answer a command while no loop runs; do nothing if a loop has just started.

    Raises
    ------
    InputError
        for a command that a loop has received and not completed before it ended.
    """
    try:
        with open_journal(folder.name, folder.parent, trades=False) as (database, *_):
            events = EventLog(database)
            halts = HaltJournal(database, events)
            desk = CommandDesk(folder, database, events, halts, (), LastVenueClock(database))
            desk.take_file(path)
            command = desk.journal.get(path.stem)
    except AccountInUse:
        return
    if command is not None and command.is_unanswered:
        raise InputError(
            f"{path.stem}: a loop has received the command and ended before it was done; start the"
            f" loop within an hour to complete it, and repeat the command with --id {path.stem} to"
            " read its answer"
        )


@dataclass(frozen=True, slots=True)
class LastVenueClock:
    """Clock that returns the last time of the venue that a journal records.

    This machine's clock may differ from the venue's, by which the loop compares instants.
    """

    database: Database

    def now(self) -> np.datetime64:
        halts = HaltJournal(self.database, EventLog(self.database)).active()
        mark = EquityMarkJournal(self.database).last_mark()
        known = [halt.raised_at for halt in halts] + ([] if mark is None else [mark.at])
        return max(known, default=SYSTEM_TIME.now())
