"""The balance file of an account: what is written in it, and what it may not say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

from option_spreads.autoscaler.trades import Row, dollars, is_trade, total_of

RECENT = 50  # trades that the balance file shows


def balance_text(balance: Decimal, rows: Sequence[Row]) -> str:
    """The text of a balance file.

    balance: USD.
    rows: of trades.csv.
    """
    closed = [row for row in rows if is_trade(row)]
    latest = closed[-RECENT:]
    recent = [{"trade_id": row["Trade_ID"], "pnl": float(total_of(row))} for row in latest]
    content = {
        "balance": float(balance),
        "last_updated": datetime.now(UTC).isoformat(timespec="seconds"),
        "trades": recent,
        "total_trades": len(closed),
    }
    return json.dumps(content, indent=1)


def balance_of(content: bytes) -> tuple[Decimal, int]:
    """Balance, USD, and number of trades in the content of a balance file.

    Raises
    ------
    ValueError
        for anything else.
    """
    try:
        # A float would round the balance, and every trade that is booked would add to the error.
        summary = json.loads(content.decode("utf-8-sig"), parse_float=Decimal)
        balance = summary["balance"]
        total = summary["total_trades"]
        # JSON's `true` is a bool, which Python counts among the integers, and `NaN` is a float.
        is_number = isinstance(balance, (int, Decimal)) and not isinstance(balance, bool)
        if not is_number:
            raise ValueError(f"balance is {str(balance)[:50]!r}, not a number")
        amount = dollars(str(balance), "balance")
        if isinstance(total, bool) or not isinstance(total, int) or total < 0:
            raise ValueError(f"total_trades is {total!r}, not a number of trades")
        return amount, total
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"no account balance in it ({type(error).__name__}: {error})") from None
