"""What an account is worth, written down whenever it is read for a job."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from execution.journal.decisions import Journal
from execution.journal.linked_returns import Point
from execution.journal.marks import EquitySnapshot, exposure_line
from execution.live.account import LiveAccount
from execution.live.night import is_stock
from execution.orders import Account
from sizing.limits import Limits
from trainingdata.instants import new_york_date, utc_text
from trainingdata.sessions import session_of

log = logging.getLogger("live")

READINGS = 3  # of an account while something is paid in or out


def read_and_mark(
    live: LiveAccount, read: Callable[[], Account], journal: Journal, limits: Limits
) -> Account:
    """The account, and what was paid in and out by then, written down as what it is worth.

    What was paid in between the two would count as profit, what was taken out as a loss. What the
    account has lost may halt it.

    read: reads the account.
    """
    for _ in range(READINGS):
        before = live.flows()
        account = read()
        live.read_activities()
        if live.flows() == before:
            break
    write_down(live, account, journal, limits)
    return account


def write_down(live: LiveAccount, account: Account, journal: Journal, limits: Limits) -> None:
    """Mark an account as it was read, in the words that operators search for."""
    mark = mark_of(account, limits, live.flows() - journal.flows_before(account.as_of))
    point = live.mark(journal, mark)
    log.info("%s %s", utc_text(mark.at), exposure_line(mark))
    log.info("%s %s", utc_text(mark.at), profit_line(point))


def mark_of(account: Account, limits: Limits, flows: float) -> EquitySnapshot:
    """The mark of an account as it was read.

    flows: USD paid in less taken out since the mark before.
    """
    values = {s: float(q) * account.prices[s] for s, q in account.positions.items() if q}
    stock = sum(abs(value) for symbol, value in values.items() if is_stock(symbol))
    coin = sum(abs(value) for symbol, value in values.items() if not is_stock(symbol))
    session = session_of(new_york_date(np.array([account.as_of]))[0])
    night = session is None or not session.opens <= account.as_of < session.closes
    granted = limits.with_account_leverage(account.leverage)
    return EquitySnapshot(
        at=account.as_of,
        equity=account.equity,
        cash=account.cash,
        gross_stock=stock,
        gross_crypto=coin,
        stock_ceiling=granted.stock_ceiling(overnight=night, equity=account.equity),
        flows=flows,
        positions=values,
    )


def profit_line(point: Point) -> str:
    """What was earned on the New York date of the last mark; deposits are no profit."""
    # A loss of less than is shown is no loss of nothing.
    earned = round(-float(point.daily_loss), 4) + 0.0
    return f"PnL: {earned:+.2%} today, equity {point.equity:,.2f} USD"
