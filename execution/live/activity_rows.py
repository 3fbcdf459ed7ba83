"""Rows of the journal that say what happened to an account, and the order they are written in."""

from __future__ import annotations

from execution.alpaca.activities import FILL, OPTION_ENDINGS, Activity
from execution.live.differences import plain
from execution.live.grounds import stamp


def turn(activity: Activity) -> int:
    """Which activities are written first: trades, then the ends of the options that they traded."""
    if activity.kind == FILL:
        return 0
    return 1 if activity.kind in OPTION_ENDINGS else 2


def stated_by(activity: Activity) -> tuple[str, dict[str, str | None]]:
    """The table that an activity goes to, and what the venue says of it, as text by column."""
    if activity.kind == FILL:
        return "fills", {
            "order_id": activity.order_id,
            "symbol": activity.symbol,
            "qty": plain(activity.quantity),
            "price": None if activity.price is None else plain(activity.price),
            "at": stamp(activity.at),
        }
    return "activities", {
        "kind": activity.kind,
        "at": stamp(activity.at),
        "symbol": activity.symbol,
        "qty": plain(activity.quantity),
        "amount": plain(activity.amount),
    }
