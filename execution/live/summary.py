"""Daily summary of an account: a notice after the close of each session."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np

from execution.journal.evidence import describe_evidence
from execution.journal.marks import format_event_exposure_line, format_exposure_line
from execution.live.accounts import SPREADS_JOB, TRADE_JOB, is_event_contract_account
from execution.live.activity import event_number_at, fill_drift_usd, format_order_counts
from execution.live.open_account import OpenAccount
from execution.live.shadow_record import read_shadow_days
from foundation.formatting import format_percent, format_usd
from foundation.notices import DAILY_SUMMARY
from trainingdata.instants import format_utc
from trainingdata.sessions import exchange_calendar

log = logging.getLogger(__name__)

SUMMARY_EVENT = "summary"  # journal event of a sent summary; its subject is the session's date
SUMMARY_DELAY = np.timedelta64(15, "m")  # after the close, so that its cycle has ended
_LAST_SUMMARY_SQL = (
    f"SELECT subject, at FROM events WHERE kind = '{SUMMARY_EVENT}' ORDER BY number DESC LIMIT 1"
)


def last_ended_session(now: np.datetime64) -> tuple[np.datetime64, np.datetime64]:
    """Return the date of the latest session with a due summary, and the instant it became due.

    now: present time by the venue's clock.
    """
    calendar = exchange_calendar()
    number = int(np.searchsorted(calendar.closes, now - SUMMARY_DELAY, side="right")) - 1
    return calendar.dates[number], calendar.closes[number] + SUMMARY_DELAY


def next_summary_time(now: np.datetime64) -> np.datetime64:
    """Return the instant after `now` at which the next summary becomes due."""
    closes = exchange_calendar().closes
    number = int(np.searchsorted(closes, now - SUMMARY_DELAY, side="right"))
    return np.datetime64(closes[number]) + SUMMARY_DELAY


class DailySummary:
    """Sender of an account's daily summary, at most once a session, also after a restart.

    The session is recorded before the notice is queued. After a crash between the two it has no
    summary; none is sent twice. A loop that starts after a close sends the latest missed summary.
    """

    def __init__(self, account: OpenAccount) -> None:
        self._account = account
        self._rests_until: np.datetime64 | None = None  # before it no summary becomes due

    def send_if_due(self) -> None:
        """Send the summary of the latest session if it has ended and has no summary yet.

        An error is logged and not raised, so that it does not stop the loop.
        """
        account = self._account
        if not account.notices.settings.summary:
            return
        try:
            now = account.now()
            if self._rests_until is None or now >= self._rests_until:
                self._send_if_due(now)
        except Exception as error:
            log.error("cannot send the daily summary", exc_info=error)

    def _send_if_due(self, now: np.datetime64) -> None:
        database = self._account.database
        [(first_mark,)] = database.query("SELECT min(at) FROM marks")
        if first_mark is None:
            return
        self._rests_until = next_summary_time(now)
        date, due = last_ended_session(now)
        first_mark = np.datetime64(first_mark, "ns")
        last = database.query(_LAST_SUMMARY_SQL)
        if due <= first_mark or (last and last[0][0] >= str(date)):
            return
        since = np.datetime64(last[0][1], "ns") if last else first_mark
        text = "\n".join(summarize(self._account, since, date))
        self._account.events.append(SUMMARY_EVENT, str(date))
        self._account.notices.send_unrecorded(DAILY_SUMMARY, text)
        log.info("sent the daily summary of %s", date)


def summarize(account: OpenAccount, since: np.datetime64, date: np.datetime64) -> Iterator[str]:
    """Yield the lines of a summary; nothing without an equity mark.

    since: instant of the previous summary, or of the first mark.
    date: New York date of the session.
    """
    marks = account.marks
    first, last = marks.index_point_before(since + np.timedelta64(1, "ns")), marks.last_mark()
    if first is None or last is None:
        return
    flows, start = marks.net_deposits_between(first.at, last.at), float(first.equity)
    profit = last.equity - start - flows
    change = f" ({format_percent(profit / start, sign=True)})" if start > 0 else ""
    yield (
        f"Session {date}: equity {format_usd(last.equity)},"
        f" profit {format_usd(profit, sign=True)}{change} since {format_utc(first.at)}"
    )
    if flows:
        yield f"deposits less withdrawals: {format_usd(flows, sign=True)}"
    yield f"drawdown: {format_percent(last.index_point.drawdown)}"
    contracts = is_event_contract_account(account.name)
    yield format_event_exposure_line(last) if contracts else format_exposure_line(last)
    event = event_number_at(account.database, since)
    yield f"orders: {', '.join(format_order_counts(account.book, event))}"
    if not contracts:
        drift = fill_drift_usd(account.database, account.book, event)
        yield f"drift: fills cost {format_usd(drift, sign=True)} beyond their decisions' prices"
    yield from filter(None, [describe_evidence(account.database, TRADE_JOB)])
    yield from _shadow_line(account)
    for spread in account.events.last_reported_positions(SPREADS_JOB):
        yield f"open spread: {spread}"
    for halt in account.halts.history():
        if halt.is_active:
            yield f"halted: {halt}"
        elif halt.cleared_at is not None and halt.cleared_at >= since:
            yield f"halt ended by {halt.cleared_by}: {halt}"
    for refusal in account.refusals.active():
        yield str(refusal)
    for command in account.commands.received_since(since):
        yield f"command: {command}: {command.state}"


def _shadow_line(account: OpenAccount) -> Iterator[str]:
    """Yield a line on the shadow account's last measured day; nothing without one."""
    path = account.database.path
    days = [] if path is None else read_shadow_days(path.parent)
    if days:
        last = days[-1]
        live, shadow = (
            format_usd(float(usd), sign=True) for usd in (last.live_profit, last.shadow_profit)
        )
        yield (
            f"shadow account until {last.until}: profit {live} live, {shadow} simulated;"
            f" difference by cause: {last.causes}"
        )
