"""The dashboard's section of event contracts: sizes of the orders that were sent, from the intents.

The journal says how much of an order has filled, not in which order fills came, nor what settlement
paid. An order counts as filled when it was sent. Where the price of its fills is not written down,
it is the one that it asked for, with the fee of a taker: profits are at least what is shown, but
for cents of rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from event_contracts.trading.fees import FeeRules, charge
from event_contracts.trading.orders import Fill
from event_contracts.trading.position_sizes import Episode, SentOrder
from event_contracts.trading.size_section import SIZE_MACRO, SIZE_STYLE, size_view
from event_contracts.trading.venue_orders import order_of
from execution.journal.intents import Intent
from execution.live.dashboard_reading import JournalReader, SentIntent
from execution.live.dashboard_views import Section, View, Watched

MARKETS_SHOWN = 50

_BODY = """
{% if sizes.trouble or sizes.view %}
<section class="wide" aria-labelledby="sizes"><h2 id="sizes">Sizes of event contracts</h2>
{% if sizes.trouble %}{{ trouble(sizes) }}{% else %}{% set s = sizes.view %}
<p class="muted">Orders that were taken in the latest markets, {{ s.markets }} of them. Profits are
of contracts that a trade has closed, at least: at prices and fees no better than those of a taker;
what settlement paid is no part of the journal.</p>
{% if s.unclear %}<p class="remark">The order of fills is not known, and nothing is said of what
they earned, in {{ s.unclear }}.</p>{% endif %}
{% call box("Sizes of event contracts") %}{{ sized(s.sizes) }}{% endcall %}{% endif %}</section>
{% endif %}
"""


def sizes_view(reader: JournalReader, watched: Watched) -> View | None:
    """Sizes of the latest markets' orders; none where no order of event contracts was sent."""
    del watched
    by_market: dict[str, list[SentIntent]] = {}
    for row in reader.sent_contracts(MARKETS_SHOWN):
        by_market.setdefault(str(row.request["ticker"]), []).append(row)
    episodes, unclear = episodes_of(by_market)
    view = size_view(episodes, "seconds")
    if view is None:
        return None
    return {"sizes": view, "markets": len(by_market), "unclear": ", ".join(unclear)}


def episodes_of(
    by_market: Mapping[str, Iterable[SentIntent]],
) -> tuple[list[Episode], list[str]]:
    """One episode of each market, and the markets whose fills contradict one another.

    An episode of those has its orders and no fills.
    """
    episodes = []
    unclear = []
    for market, rows in by_market.items():
        orders = []
        fills = []
        for row in rows:
            intent = Intent(row.client_order_id, row.request, row.sent_at)
            order = order_of(intent)
            at = float(row.sent_at.astype("datetime64[ms]").astype(np.int64)) / 1000
            orders.append(SentOrder(intent.client_order_id, int(order.count), at))
            if row.filled > 0:
                price = order.price if row.filled_price is None else row.filled_price
                fill = Fill(
                    order_id=intent.client_order_id,
                    market=market,
                    action=order.action,
                    side=order.side,
                    price=price,
                    count=row.filled,
                    maker=False,
                )
                fills.append((fill, charge(fill, FeeRules()).net_fee))
        try:
            episodes.append(Episode(tuple(orders), tuple(fills)))
        except ValueError:
            episodes.append(Episode(tuple(orders), ()))
            unclear.append(market)
    return episodes, unclear


SECTION = Section(sizes_view, _BODY, SIZE_MACRO, SIZE_STYLE)
