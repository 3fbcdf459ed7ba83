"""Daily summary of an account: a notice after the close of each session."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np

from execution.journal.evidence import describe_evidence
from execution.journal.marks import format_event_exposure_line, format_exposure_line
from execution.live.account_lock import STATUS_PAGE_FILE
from execution.live.accounts import TRADE_JOB, is_event_contract_account
from execution.live.activity import event_number_at, format_order_counts
from execution.live.open_account import OpenAccount
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


class DailySummary:
    """Sender of an account's daily summary, at most once a session, also after a restart.

    The session is recorded before the notice is queued. After a crash between the two it has no
    summary; none is sent twice. A loop that starts after a close sends the latest missed summary.
    """

    def __init__(self, account: OpenAccount) -> None:
        self._account = account
        self._handled: np.datetime64 | None = None  # session whose summary needs no further check

    def send_if_due(self) -> None:
        """Send the summary of the latest session if it has ended and has no summary yet.

        An error is logged and not raised, so that it does not stop the loop.
        """
        if not self._account.notices.settings.summary:
            return
        try:
            date, due = last_ended_session(self._account.now())
            if date != self._handled:
                self._send_if_due(date, due)
        except Exception as error:
            log.error("cannot send the daily summary", exc_info=error)

    def _send_if_due(self, date: np.datetime64, due: np.datetime64) -> None:
        database = self._account.database
        [(first_mark,)] = database.query("SELECT min(at) FROM marks")
        if first_mark is None:
            return
        self._handled = date
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
    """Yield the lines of a summary, which the status page details; nothing without an equity mark.

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
        f" profit {format_usd(profit, sign=True)}{change} since {format_utc(first.at)},"
        f" net deposits {format_usd(flows, sign=True)},"
        f" drawdown {format_percent(last.index_point.drawdown)}"
    )
    contracts = is_event_contract_account(account.name)
    yield format_event_exposure_line(last) if contracts else format_exposure_line(last)
    event = event_number_at(account.database, since)
    yield f"orders: {', '.join(format_order_counts(account.book, event))}"
    yield from filter(None, [describe_evidence(account.database, TRADE_JOB)])
    causes = [*account.halts.active(), *account.refusals.active()]
    yield f"halts and refused orders: {'; '.join(map(str, causes)) or 'none'}"
    yield f"details: {account.kill_file.with_name(STATUS_PAGE_FILE).absolute().as_uri()}"
