"""What an account is worth, as it is written down and said."""

from __future__ import annotations

import numpy as np

from execution.journal.linked_returns import Point
from execution.journal.marks import EquitySnapshot
from execution.orders import Account
from sizing.limits import Limits
from trainingdata.instants import new_york_date
from trainingdata.instruments import is_stock
from trainingdata.sessions import session_of


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
