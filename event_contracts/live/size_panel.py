"""The section of an account's page that shows the sizes of its orders of event contracts.

The journal says how much of an order has filled, not in which order fills came, nor what settlement
paid. An order counts as filled when it was sent. Where the price of its fills is not written down,
it is the one that it asked for, with the fee of a taker: profits are at least what is shown, but
for cents of rounding.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import groupby

import numpy as np

from event_contracts.trading.fees import FeeRules
from event_contracts.trading.orders import Fill
from event_contracts.trading.position_sizes import Episode, SentOrder
from event_contracts.trading.size_section import SIZE_MACRO, SIZE_STYLE, size_view
from event_contracts.trading.venue_orders import order_of
from execution.journal.intents import TAKEN, Intent, IntentBook
from execution.live.page import Section
from foundation.page import render_page

MARKETS_SHOWN = 50

_TAKEN = f"state IN ({', '.join(repr(state) for state in TAKEN)})"
_MARKET = "symbol"
_LATEST = (
    f"{_TAKEN} AND {_MARKET} IN (SELECT {_MARKET} FROM intents WHERE {_TAKEN}"
    f" GROUP BY {_MARKET} ORDER BY max(rowid) DESC LIMIT {MARKETS_SHOWN})"
)
_BODY = (
    """{% from "charts" import drawn %}{% from "sheet" import box %}"""
    + SIZE_MACRO
    + """
<p class="muted">Orders that were taken in the latest markets, {{ markets }} of them. Profits are
of contracts that a trade has closed, at least: at prices and fees no better than those of a taker;
what settlement paid is no part of the journal.</p>
{% if unclear %}<p class="remark">The order of fills is not known, and nothing is said of what
they earned, in {{ unclear }}.</p>{% endif %}
{% call box("Sizes of event contracts") %}{{ sized(sizes) }}{% endcall %}
"""
)


def sizes_section(book: IntentBook) -> Section:
    """Sizes of the latest markets' orders."""
    return Section("Sizes of event contracts", partial(_body, book), SIZE_STYLE)


def _body(book: IntentBook) -> str:
    episodes, unclear = episodes_of(book.select(_LATEST))
    sizes = size_view(episodes, "seconds")
    if sizes is None:
        return ""
    return render_page(_BODY, sizes=sizes, markets=len(episodes), unclear=", ".join(unclear))


def episodes_of(intents: Iterable[Intent]) -> tuple[list[Episode], list[str]]:
    """One episode of each market, and the markets whose fills contradict one another.

    An episode of those has its orders and no fills.
    """
    episodes = []
    unclear = []
    by_market = groupby(sorted(intents, key=_market), key=_market)
    for market, sent in by_market:
        orders = []
        fills = []
        for intent in sent:
            order = order_of(intent)
            at = float(intent.sent_at.astype("datetime64[ms]").astype(np.int64)) / 1000
            orders.append(SentOrder(intent.client_order_id, int(order.count), at))
            filled, price = intent.progress.filled, intent.progress.filled_price
            if filled > 0:
                fill = Fill(
                    order_id=intent.client_order_id,
                    market=market,
                    action=order.action,
                    side=order.side,
                    price=order.price if price is None else price,
                    count=filled,
                    maker=False,
                )
                fills.append((fill, FeeRules().fee(fill.price, fill.count, maker=False)))
        try:
            episodes.append(Episode(tuple(orders), tuple(fills)))
        except ValueError:
            episodes.append(Episode(tuple(orders), ()))
            unclear.append(market)
    return episodes, unclear


def _market(intent: Intent) -> str:
    return order_of(intent).market
