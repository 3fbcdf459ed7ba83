"""Status and control of a live account, while its loop runs or is down.

    python -m execution.live status
    python -m execution.live clear positions --by NAME
    python -m execution.live clear refused --by NAME
    python -m execution.live kill [--flatten]

`report_status` exits with code 1 if a cycle is late (not finished by the deadline that its loop
recorded), and while the venue refuses orders. The default account is the only one in `data/live`.
If there are several, it is the one that a process trades now. `--account ID` and `--folder FOLDER`
select another account. Both flags may be placed before or after the command.

--by NAME            person who has checked the halt, or the refused orders, that are cleared
--flatten            cancel open orders and close all positions too
"""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("execution.live")

from argparse import SUPPRESS, Namespace
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np

from execution.journal.cycles import latest_cycles, read_next_cycle
from execution.journal.events import AlertJournal, EventLog
from execution.journal.halts import Halt, HaltJournal, HaltKind
from execution.journal.marks import (
    EquityMark,
    EquityMarkJournal,
    format_event_exposure_line,
    format_exposure_line,
)
from execution.journal.order_store import PENDING_STATES, OrderStore
from execution.journal.orders import encode_order
from execution.journal.refusals import ORDER_REFUSED_ALERT, RefusalJournal, read_active_refusals
from execution.journal.schema import open_journal_for_reading
from execution.live.account_lock import (
    KILL_FILE,
    KILL_FILE_FLATTEN_TEXT,
    is_account_traded,
    may_exist,
    refuse_empty_journal,
    refuse_unusable_journal,
)
from execution.live.accounts import (
    SPREADS_JOB,
    find_active_account_folder,
    find_journal,
    is_event_contract_account,
    select_account_folder,
)
from foundation.cli import FlagParser, Result
from foundation.clock import utc_now
from foundation.database import Database
from foundation.errors import InputError
from foundation.files import write_atomically
from foundation.formatting import format_count
from foundation.notifier import alert_heading
from foundation.redaction import NULL_REDACTOR
from trainingdata.instants import format_utc

MAX_CYCLES_SHOWN = 5
MAX_ALERTS_SHOWN = 3
TROUBLE_EXIT_CODE = (
    1  # exit code of `report_status` if the next cycle is late, or orders are refused
)


def report_status(path: Path, now: np.datetime64) -> Result:
    """Report the state of an account from its journal.

    The exit code is `TROUBLE_EXIT_CODE` if the next cycle is late, or if the venue refuses orders.
    The journal's integrity is not checked, because a long read would delay the loop's commits.

    path: path of the account's journal.
    now: present time by this machine's clock.
    """
    refuse_empty_journal(path)
    with open_journal_for_reading(path) as database:
        refusals = read_active_refusals(database)
        lines = [
            *_account_lines(path, database),
            *(f"{each.line_prefix}: {each}" for each in refusals),
            *_order_lines(database),
            *_cycle_lines(database),
            *_alert_lines(database),
        ]
        document = _build_status_document(path, database)
    expected = read_next_cycle(path)
    refused = any(not each.is_venue_pause for each in refusals)
    late = expected is not None and expected.is_overdue(now)
    if expected is None:
        lines.append("no cycle is scheduled")
    else:
        until = f"overdue after {format_utc(expected.overdue_at)} by this machine's clock"
        was = f"late: {expected}, {until}; now {format_utc(now)}"
        lines.append(was if late else f"next: {expected}, {until}")
    document |= {"next_cycle": expected and asdict(expected), "late": late}
    return Result(
        closing_lines=lines,
        exit_code=TROUBLE_EXIT_CODE if late or refused else 0,
        json_document=document,
    )


def _build_status_document(path: Path, database: Database) -> dict[str, Any]:
    """Return the state of an account for JSON: money in USD, instants in UTC."""
    mark = EquityMarkJournal(database).last_mark()
    halts = HaltJournal(database, EventLog(database)).active()
    waiting = OrderStore(database).intents_in_states(PENDING_STATES)
    notices = AlertJournal(database, NULL_REDACTOR).latest(MAX_ALERTS_SHOWN)
    return {
        "account": path.parent.name,
        "mark": mark and asdict(mark),
        "halts": [
            {**asdict(halt), "forbids": halt.rule.forbidden_scope, "remedy": halt.rule.remedy}
            for halt in halts
        ],
        "kill_file": may_exist(path.parent / KILL_FILE),
        "refusals": [asdict(each) for each in read_active_refusals(database)],
        "orders": [
            {
                "client_order_id": each.client_order_id,
                "state": each.state,
                **encode_order(each.order),
                "filled": each.progress.filled,
                "reason": str(each.order.reason),
            }
            for each in waiting
        ],
        "open_spreads": list(EventLog(database).last_reported_positions(SPREADS_JOB)),
        "cycles": [asdict(row) for row in reversed(latest_cycles(database, MAX_CYCLES_SHOWN))],
        "alerts": [asdict(notice) for notice in reversed(notices)],
    }


def _account_lines(path: Path, database: Database) -> Iterator[str]:
    """Yield lines with the account's equity, exposure and halts, and a line about the kill file."""
    mark = EquityMarkJournal(database).last_mark()
    if mark is None:
        yield "no cycle has run yet"
    else:
        yield f"{format_utc(mark.at)}: equity ${mark.equity:,.2f}, cash ${mark.cash:,.2f}"
        contracts = is_event_contract_account(path.parent.name)
        yield format_event_exposure_line(mark) if contracts else format_exposure_line(mark)
    for halt in HaltJournal(database, EventLog(database)).active():
        yield f"halted: {halt}. {halt.rule.remedy}"
    if may_exist(kill_file := path.parent / KILL_FILE):
        yield f"the kill file {kill_file} exists: no orders are sent until you remove it"


def _order_lines(database: Database) -> Iterator[str]:
    waiting = OrderStore(database).intents_in_states(PENDING_STATES)
    if not waiting:
        yield "no open orders"
    for intent in waiting:
        words = encode_order(intent.order)
        asked = f"{words.get('side', '')} {words['qty']}".strip()
        filled = f"{intent.progress.filled:f} filled"
        yield f"{intent.state}: {intent.client_order_id}, {asked}, {filled}: {intent.order.reason}"
    for line in EventLog(database).last_reported_positions(SPREADS_JOB):
        yield f"open position: {line}"


def _cycle_lines(database: Database) -> Iterator[str]:
    """Yield lines with the results of the latest cycles."""
    book = OrderStore(database)
    for row in reversed(latest_cycles(database, MAX_CYCLES_SHOWN)):
        what = row.failure or row.idle_reason
        if row.decision_id:
            what = what or f"{row.decision_id}, {format_count(row.fill_count, 'fill')}"
            if unsent := book.unsent_reasons(row.decision_id):
                what += (
                    f", {format_count(len(unsent), 'order')} NOT sent:"
                    f" {next(iter(unsent.values()))}"
                )
        elif not what:
            over = row.ended_at is not None
            what = "no decision" if over else "no decision yet: in progress, or killed"
        yield f"{format_utc(row.began_at)} {row.job}: {what}"


def _alert_lines(database: Database) -> Iterator[str]:
    for notice in reversed(AlertJournal(database, NULL_REDACTOR).latest(MAX_ALERTS_SHOWN)):
        yield f"{format_utc(notice.at)} {alert_heading(notice.kind)}: {notice.text}"


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
            ended = halts.clear(
                kind, by, _last_venue_time(standing, EquityMarkJournal(database).last_mark())
            )
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


@contextmanager
def _open_for_writing(path: Path) -> Iterator[Database]:
    """Open a journal for writing, during a `with` block, after checking that it is usable."""
    refuse_empty_journal(path)
    refuse_unusable_journal(path)
    with closing(Database(path)) as database:
        yield database


def _last_venue_time(halts: Sequence[Halt], mark: EquityMark | None) -> np.datetime64:
    """Return the venue's last known time: the latest in the halts and in the last equity mark.

    halts: at least one halt.
    mark: last equity mark; None without one.
    """
    instants = [halt.raised_at for halt in halts]
    return max(instants if mark is None else [*instants, mark.at])


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
    clearing = commands.add_parser("clear", parents=[named])
    clearing.add_argument(
        "kind", type=str.lower, choices=[*get_args(HaltKind), ORDER_REFUSED_ALERT]
    )
    clearing.add_argument("--by", required=True)
    killing = commands.add_parser("kill", parents=[named])
    killing.add_argument("--flatten", action="store_true")
    return parser.parse_args(arguments)


def parse_arguments(words: Sequence[str]) -> tuple[Namespace, None]:
    return _parse_command(list(words)), None


def run(settings: Namespace) -> Result:
    folder = select_account_folder(settings.folder, settings.account)
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
