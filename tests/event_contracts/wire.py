"""Orders as Kalshi's API is sent them, and an account as it answers, written anew for tests."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

from event_contracts.trading.orders import LimitOrder

D = Decimal
CREATE = "/portfolio/events/orders"


def body_of(order: LimitOrder, **more: Any) -> dict[str, Any]:
    """Buying NO at p is an ask at 1 - p, selling NO a bid at 1 - p; sales only reduce."""
    bid = (order.action == "BUY") == (order.side == "YES")
    price = order.price if order.side == "YES" else 1 - order.price
    return {
        "ticker": order.market,
        "client_order_id": order.client_order_id,
        "side": "bid" if bid else "ask",
        "price": f"{price:.4f}",
        "count": f"{order.count:.2f}",
        "time_in_force": "good_till_canceled",
        "self_trade_prevention_type": "taker_at_cross",
        **({"reduce_only": True} if order.action == "SELL" else {}),
        **more,
    }


def buying(
    name: str,
    market: str = "RAIN",
    price: str = "0.50",
    count: int = 10,
    side: Literal["YES", "NO"] = "YES",
) -> LimitOrder:
    return LimitOrder(name, market, "BUY", side, D(price), D(count))
