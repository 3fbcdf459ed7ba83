"""Whether trades are listed at the prices that their orders filled at."""

from __future__ import annotations

from collections.abc import Iterable

from execution.alpaca.activities import FILL, Activity
from execution.journal.intents import IntentBook
from execution.live.differences import plain

TWICE = 2  # times the mean price of its order, or half of it, beyond which a trade's price is odd


def odd_prices(activities: Iterable[Activity], book: IntentBook) -> str:
    """Trades of ours at another price than their order's, in a line; empty for none.

    Raises
    ------
    DatabaseFailed
        for a journal that cannot be read.
    """
    trades = [each for each in activities if each.kind == FILL]
    marks = ", ".join("?" * len(trades))
    orders = book.select(f"venue_id IN ({marks})", tuple(each.order_id for each in trades))
    means = {each.progress.venue_id: each.progress.filled_price for each in orders}
    odd = []
    for trade in trades:
        mean = means.get(trade.order_id)
        if mean and trade.price and not mean / TWICE <= trade.price <= mean * TWICE:
            odd.append(
                f"activity {trade.id}: {trade.symbol} at {plain(trade.price)}, and its order"
                f" filled at {plain(mean)}"
            )
    return "; ".join(odd)
