"""Orders as Kalshi's API is sent them, and an account as it answers, written anew for tests."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

from event_contracts.trading.orders import LimitOrder, MarketView, Quote, RestingOrder
from tests.event_contracts.practice import KalshiPractice

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


def view_of(practice: KalshiPractice, ticker: str) -> MarketView:
    """The account in front of a market, from what the server answers and nothing else."""
    balance = practice.ask("GET", "/portfolio/balance").json()
    positions = practice.ask("GET", "/portfolio/positions", ticker=ticker).json()
    orders = practice.ask("GET", "/portfolio/orders", status="resting").json()["orders"]
    market = practice.ask("GET", f"/markets/{ticker}").json()["market"]
    held = sum((D(row["position_fp"]) for row in positions["market_positions"]), D(0))
    return MarketView(
        ticker,
        D(balance["balance_dollars"]),
        max(held, D(0)),
        max(-held, D(0)),
        tuple(_resting(row) for row in reversed(orders)),
        Quote(D(market["yes_bid_dollars"]), D(market["yes_ask_dollars"])),
    )


def _resting(row: dict[str, Any]) -> RestingOrder:
    side: Literal["YES", "NO"] = "YES" if row["side"] == "yes" else "NO"
    action: Literal["BUY", "SELL"] = "BUY" if row["action"] == "buy" else "SELL"
    price = D(row[f"{row['side']}_price_dollars"])
    count = D(row["initial_count_fp"])
    order = LimitOrder(row["client_order_id"], row["ticker"], action, side, price, count)
    return RestingOrder(row["order_id"], order, D(row["remaining_count_fp"]))
