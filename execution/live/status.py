"""Report of a live account's state from its journal, while its loop runs or is down."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from execution.journal.cycles import latest_cycles, read_next_cycle
from execution.journal.events import AlertJournal, EventLog
from execution.journal.evidence import describe_evidence
from execution.journal.halts import HaltJournal
from execution.journal.marks import (
    EquityMarkJournal,
    format_event_exposure_line,
    format_exposure_line,
)
from execution.journal.order_store import PENDING_STATES, OrderStore
from execution.journal.orders import encode_order
from execution.journal.refusals import ORDER_REFUSED_ALERT, Refusal, read_active_refusals
from execution.journal.schema import open_journal_for_reading
from execution.live.account_lock import (
    JOURNAL_FILE,
    KILL_FILE,
    find_trading_process,
    find_vanished_process,
    may_exist,
    ran_on_this_machine,
    refuse_empty_journal,
)
from execution.live.accounts import (
    SPREADS_JOB,
    TRADE_JOB,
    format_clear_command,
    is_event_contract_account,
)
from foundation.cli import Result
from foundation.database import Database
from foundation.errors import InputError
from foundation.formatting import format_count, format_usd
from foundation.notices import alert_heading
from foundation.redaction import NULL_REDACTOR
from trainingdata.instants import format_utc

MAX_CYCLES_SHOWN = 5
MAX_ALERTS_SHOWN = 3
TROUBLE_EXIT_CODE = 1  # the loop was killed, a cycle is late, or the venue refuses orders
UNREADABLE_EXIT_CODE = InputError.exit_code  # exit code if a journal cannot be read


def _process_line(process: str | None, vanished: str | None) -> str:
    if process is not None:
        return f"{process} trades the account"
    if vanished is None:
        return "no process trades the account"
    if ran_on_this_machine(vanished):
        return (
            f"the account was traded by {vanished}, which was killed or has crashed: no loop runs,"
            " orders and stops at the venue stay; start the loop again"
        )
    return f"no process of this machine trades the account; it was traded by {vanished}"


def report_status(path: Path, now: np.datetime64) -> Result:
    """Report the state of an account from its journal.

    The journal's integrity is not checked, because a long read would delay the loop's commits.

    path: path of the account's journal.
    now: present time by this machine's clock.
    """
    refuse_empty_journal(path)
    process, vanished = find_trading_process(path.parent), find_vanished_process(path.parent)
    with open_journal_for_reading(path) as database:
        refusals = read_active_refusals(database)
        lines = [
            _process_line(process, vanished),
            *_account_lines(path, database),
            *_refusal_lines(path.parent, refusals),
            *_order_lines(database),
            *_cycle_lines(database, is_running=process is not None),
            *_alert_lines(database),
        ]
        document = _build_status_document(path, database, process)
    expected = read_next_cycle(path)
    late = expected is not None and expected.is_overdue(now)
    if expected is None:
        lines.append("no cycle is scheduled")
    else:
        until = f"overdue after {format_utc(expected.overdue_at)} by this machine's clock"
        was = f"late: {expected}, {until}; now {format_utc(now)}"
        lines.append(was if late else f"next: {expected}, {until}")
    document |= {
        "vanished_process": vanished,
        "next_cycle": expected and asdict(expected),
        "late": late,
    }
    refused = any(not each.is_venue_pause for each in refusals)
    killed = vanished is not None and ran_on_this_machine(vanished)
    return Result(
        closing_lines=lines,
        exit_code=TROUBLE_EXIT_CODE if late or refused or killed else 0,
        json_document=document,
    )


def list_accounts(folders: Sequence[Path], now: np.datetime64) -> Result:
    """Report the state of several accounts, one line each.

    The exit code is the highest of those that `status` has for the accounts.

    now: present time by this machine's clock.
    """
    accounts = [_summarise_account(folder, now) for folder in folders]
    lines = [f"{account['account']}: {account['state']}" for account in accounts]
    return Result(
        closing_lines=[*lines, "select one with --account for its full status"],
        exit_code=max(account["exit_code"] for account in accounts),
        json_document={"accounts": accounts},
    )


def _summarise_account(folder: Path, now: np.datetime64) -> dict[str, Any]:
    """Return the name of an account, its state in one line, and the exit code of its `status`.

    folder: folder of the account.
    """
    try:
        status = report_status(folder / JOURNAL_FILE, now)
    except (InputError, OSError) as error:
        process = find_trading_process(folder)
        line = _process_line(process, find_vanished_process(folder))
        kill = ", the kill file exists" if may_exist(folder / KILL_FILE) else ""
        return {
            "account": folder.name,
            "traded": process is not None,
            "state": f"{line}{kill}, journal cannot be read: {error}",
            "exit_code": UNREADABLE_EXIT_CODE,
        }
    found = status.json_document or {}
    halts = ", ".join(halt["kind"] for halt in found["halts"])
    parts = [
        status.closing_lines[0],
        "the kill file exists" if found["kill_file"] else "",
        f"equity {format_usd(found['mark']['equity'])}" if found["mark"] else "no equity mark",
        f"halted: {halts}" if halts else "no halt",
        f"{format_count(len(found['refusals']), 'cause')} of refused orders"
        if found["refusals"]
        else "",
        status.closing_lines[-1] if found["late"] else "",
    ]
    return {
        "account": folder.name,
        "traded": found["process"] is not None,
        "state": ", ".join(filter(None, parts)),
        "exit_code": status.exit_code,
    }


def _build_status_document(path: Path, database: Database, process: str | None) -> dict[str, Any]:
    """Return the state of an account for JSON: money in USD, instants in UTC."""
    mark = EquityMarkJournal(database).last_mark()
    halts = HaltJournal(database, EventLog(database)).active()
    waiting = OrderStore(database).intents_in_states(PENDING_STATES)
    notices = AlertJournal(database, NULL_REDACTOR).latest(MAX_ALERTS_SHOWN)
    return {
        "account": path.parent.name,
        "process": process,
        "mark": mark and asdict(mark),
        "halts": [
            {**asdict(halt), "forbids": halt.rule.forbidden_scope, "remedy": halt.rule.remedy}
            for halt in halts
        ],
        "kill_file": may_exist(path.parent / KILL_FILE),
        "forecast": describe_evidence(database, TRADE_JOB) or None,
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
    """Yield lines on equity, exposure, what the forecast has earned, halts and the kill file."""
    mark = EquityMarkJournal(database).last_mark()
    if mark is None:
        yield "no cycle has run yet"
    else:
        yield f"{format_utc(mark.at)}: equity ${mark.equity:,.2f}, cash ${mark.cash:,.2f}"
        contracts = is_event_contract_account(path.parent.name)
        yield format_event_exposure_line(mark) if contracts else format_exposure_line(mark)
    if evidence := describe_evidence(database, TRADE_JOB):
        yield evidence
    for halt in HaltJournal(database, EventLog(database)).active():
        command = format_clear_command(halt.kind, path.parent)
        yield f"halted: {halt}. {halt.rule.remedy} Clear with: {command}"
    if may_exist(kill_file := path.parent / KILL_FILE):
        yield f"the kill file {kill_file} exists: no orders are sent until you remove it"


def _refusal_lines(folder: Path, refusals: Sequence[Refusal]) -> Iterator[str]:
    """Yield lines with the causes of refused orders.

    folder: folder of the account.
    """
    for refusal in refusals:
        command = format_clear_command(ORDER_REFUSED_ALERT, folder)
        remedy = "" if refusal.is_venue_pause else f". Clear with: {command}"
        yield f"{refusal}{remedy}"


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


def _cycle_lines(database: Database, *, is_running: bool) -> Iterator[str]:
    """Yield lines with the results of the latest cycles.

    is_running: true if a process trades the account, so that the last cycle may be in progress.
    """
    book = OrderStore(database)
    rows = latest_cycles(database, MAX_CYCLES_SHOWN)
    for row in reversed(rows):
        what = row.failure or row.idle_reason
        if row.decision_id:
            what = what or f"{row.decision_id}, {format_count(row.fill_count, 'fill')}"
            if unsent := book.unsent_reasons(row.decision_id):
                what += (
                    f", {format_count(len(unsent), 'order')} NOT sent:"
                    f" {next(iter(unsent.values()))}"
                )
        elif row.ended_at is None:
            what = "in progress" if is_running and row is rows[0] else "interrupted"
        what = what or "no decision"
        yield f"{format_utc(row.began_at)} {row.job}: {what}"


def _alert_lines(database: Database) -> Iterator[str]:
    for notice in reversed(AlertJournal(database, NULL_REDACTOR).latest(MAX_ALERTS_SHOWN)):
        yield f"{format_utc(notice.at)} {alert_heading(notice.kind)}: {notice.text}"
