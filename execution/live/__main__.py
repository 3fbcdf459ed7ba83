"""Status and control of a live account, while its loop runs or is down.

    python -m execution.live status
    python -m execution.live clear positions --by NAME
    python -m execution.live clear refused --by NAME
    python -m execution.live kill [--flatten]
    python -m execution.live metrics
    python -m execution.live pause | resume | reduce FRACTION | exit SYMBOL | flatten

`status` exits with code 1 if a cycle is late (not finished by the deadline that its loop recorded),
and while the venue refuses orders. The default account is the only one in `data/live`. If there are
several, it is the one that a process trades now; without such a one `status` lists all accounts.
`--account ID` and `--folder FOLDER` select another account; the shipped systemd unit has
`--folder /var/lib/kelly-chronos/data/live`. Both flags may be placed before or after the command.

`metrics` prints the account's metrics in Prometheus' format.

The last line are commands to the running loop, each executed once and answered with what was done
(exit code 0) and what was not (2). `pause` forbids opening orders until `resume`. `reduce` keeps a
fraction of each position, `exit` closes one position, `flatten` closes all; the loop goes on, and
opens none of them before `resume`. Without a loop, `pause` and `resume` act on the journal.

--by NAME            person who has checked the halt, or the refused orders, that are cleared; of a
                     command, its sender
--flatten            cancel open orders and close all positions too
--id ID              id of a command: repeated with the same id, it is not executed again
"""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("execution.live")

import sys
from argparse import SUPPRESS, Namespace
from collections.abc import Sequence
from contextlib import closing, nullcontext, redirect_stdout
from pathlib import Path
from typing import get_args

from execution.journal.commands import VERBS
from execution.journal.events import EventLog
from execution.journal.halts import HaltJournal, HaltKind
from execution.journal.refusals import ORDER_REFUSED_ALERT, RefusalJournal
from execution.live.account_lock import (
    KILL_FILE,
    KILL_FILE_FLATTEN_TEXT,
    is_account_traded,
    refuse_empty_journal,
    refuse_unusable_journal,
)
from execution.live.accounts import (
    account_folders,
    find_active_account_folder,
    find_journal,
    find_traded_account_folders,
    is_event_contract_account,
    select_account_folder,
)
from execution.live.command_client import LastVenueClock, send_command
from execution.live.metrics import read_metrics
from execution.live.status import list_accounts, report_status
from foundation.cli import FlagParser, Result, write_to_stdout
from foundation.clock import utc_now
from foundation.database import Database
from foundation.errors import InputError
from foundation.files import write_atomically
from foundation.formatting import format_count

ARGUMENT_NAMES = {"reduce": "FRACTION", "exit": "SYMBOL"}  # arguments of commands to the loop


def clear_halt(path: Path, kind: HaltKind, by: str) -> Result:
    """Clear the active halt of one kind after a person has checked it.

    The clearing is recorded at the venue's last known time. This machine's clock may differ: by its
    time, earlier events could seem to follow the clearing.

    path: path of the account's journal.
    by: name of the person who has checked the halt.

    Raises
    ------
    InputError
        if no such halt is active.
    """
    with _open_for_writing(path) as database:
        halts = HaltJournal(database, EventLog(database))
        # The loop may mark the account at the same time.
        with database.transaction():
            standing = halts.active()
            if all(halt.kind != kind for halt in standing):
                others = ", ".join(halt.kind for halt in standing)
                what = f"clear one of the active halts: {others}" if others else "no halt is active"
                raise InputError(f"{kind}: not cleared, this halt is not active; {what}")
            ended = halts.clear(kind, by, LastVenueClock(database).now())
    return Result(closing_lines=[f"cleared: {ended}"])


def clear_refusals(path: Path, by: str) -> Result:
    """Clear the causes of refused orders after a person has checked them.

    path: path of the account's journal.
    by: name of the person who has checked the causes.

    Raises
    ------
    InputError
        if the venue refuses no orders.
    """
    with _open_for_writing(path) as database:
        ended = RefusalJournal(database, EventLog(database)).clear_all_causes(by)
    if not ended:
        raise InputError(
            f"{ORDER_REFUSED_ALERT}: nothing to clear, the venue refuses no orders now"
        )
    return Result(closing_lines=[f"cleared: {format_count(ended, 'cause')} of refused orders"])


def _open_for_writing(path: Path) -> closing[Database]:
    """Open a journal for writing, during a `with` block, after checking that it is usable."""
    refuse_empty_journal(path)
    refuse_unusable_journal(path)
    return closing(Database(path))


def write_kill_file(folder: Path, *, flatten: bool) -> Result:
    """Write a kill file, so that the loop cancels open orders and stops.

    If the account was last traded from another folder, the file is written to both folders, because
    another user may trade the account from `folder`.

    folder: folder of the account.
    flatten: true to close all positions too.

    Raises
    ------
    InputError
        if the file cannot be written, or `flatten` is true and no loop will close the positions.
    """
    folder = folder.absolute()
    folders = [
        each
        for each in dict.fromkeys((find_active_account_folder(folder), folder))
        if each.is_dir()
    ]
    try:
        # The lock is checked first, because a loop that sees the file may end at once.
        traded = any(is_account_traded(each.name, each) for each in folders)
    finally:
        files = [
            _write_kill_file(each, KILL_FILE_FLATTEN_TEXT if flatten else "stop")
            for each in folders
        ]
    there = f"kill file written: {' and '.join(map(str, files))}"
    if traded and flatten and is_event_contract_account(folder.name):
        raise InputError(
            f"{there}; the loop stops but closes no event contracts; close them at the venue"
        )
    if traded:
        return Result(closing_lines=[f"{there}; the loop stops. Remove the file to trade again."])
    text = (
        f"{there}; no loop is running, so no order was cancelled and no position closed; no loop"
        " starts until you remove the file"
    )
    if flatten:
        raise InputError(f"{text}; close open positions at the venue")
    return Result(closing_lines=[f"{text}."])


def _write_kill_file(folder: Path, content: str) -> Path:
    file = folder / KILL_FILE
    try:
        write_atomically(file, content.encode())
        # The loop may run as another user, who has to read whether positions are closed.
        file.chmod(0o644)
    except OSError as error:
        raise InputError(
            f"{file}: cannot write the kill file: {error.strerror or error}; stop the loop with"
            " SIGTERM, or free disk space"
        ) from error
    return file


def _parse_command(arguments: list[str]) -> Namespace:
    parser = FlagParser()
    parser.add_argument("--folder", type=Path, default=Path("data/live"))
    parser.add_argument("--account")
    # Without a flag after the command, the one before it applies.
    named = FlagParser(argument_default=SUPPRESS)
    named.add_argument("--folder", type=Path)
    named.add_argument("--account")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("status", parents=[named])
    commands.add_parser("metrics", parents=[named])
    clearing = commands.add_parser("clear", parents=[named])
    clearing.add_argument(
        "kind",
        type=str.lower,
        choices=[*get_args(HaltKind), ORDER_REFUSED_ALERT, KILL_FILE.lower()],
    )
    clearing.add_argument("--by", default="")
    for verb in VERBS:
        command = commands.add_parser(verb, parents=[named])
        if verb in ARGUMENT_NAMES:
            command.add_argument("argument", metavar=ARGUMENT_NAMES[verb])
        command.add_argument("--by", default="")
        command.add_argument("--id", default="")
    killing = commands.add_parser("kill", parents=[named])
    killing.add_argument("--flatten", action="store_true")
    return parser.parse_args(arguments)


def parse_arguments(words: Sequence[str]) -> tuple[Namespace, None]:
    return _parse_command(list(words)), None


def run(settings: Namespace) -> Result:
    if settings.command == "status" and settings.account is None:
        folders = account_folders(settings.folder)
        if len(folders) > 1 and len(find_traded_account_folders(folders)) != 1:
            return list_accounts(folders, utc_now())
    # A line about the selected account would make the metrics unreadable.
    with redirect_stdout(sys.stderr) if settings.command == "metrics" else nullcontext():
        folder = select_account_folder(settings.folder, settings.account)
    if settings.command == "clear" and settings.kind == KILL_FILE.lower():
        kill_file = find_active_account_folder(folder.absolute()) / KILL_FILE
        raise InputError(
            f"{KILL_FILE} is a file, not a halt; remove the file {kill_file}, then start the loop"
        )
    if settings.command == "metrics":
        write_to_stdout(read_metrics(find_journal(folder)))
        return Result()
    if settings.command in VERBS:
        argument = getattr(settings, "argument", "")
        return send_command(folder, settings.command, argument, settings.by, settings.id)
    if settings.command == "kill":
        return write_kill_file(folder, flatten=settings.flatten)
    if settings.command == "clear":
        traded = find_active_account_folder(folder.absolute())
        journal = find_journal(traded)
        if settings.kind == ORDER_REFUSED_ALERT:
            result = clear_refusals(journal, settings.by)
        else:
            result = clear_halt(journal, settings.kind, settings.by)
        if traded != folder.absolute():
            where = f"cleared in {traded}, from which the account is traded; {folder} is unchanged"
            return Result(closing_lines=[*result.closing_lines, where])
        return result
    return report_status(find_journal(folder), utc_now())
