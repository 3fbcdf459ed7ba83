"""Valid orders of every kind."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from execution.orders.orders import MAX_QTY, Order


def order(side: Any = "buy", qty: Any = 10, name: str = "o-1", **more: Any) -> Order:
    symbol = more.pop("symbol", "NVDA")
    return Order(name, symbol, side, Decimal(str(qty)), "why", **more)


SOUND: list[dict[str, Any]] = [
    {"qty": Decimal("1e-9")},
    {"qty": MAX_QTY - 1},
    {"name": "x" * 128},
    {"name": "a.b_c-D9"},
    {"type": "limit", "limit_price": 1e-9},
    {"type": "limit", "limit_price": 5.0, "extended_hours": True},
    {"type": "stop", "stop_price": 5.0},
    {"type": "stop_limit", "limit_price": 5.0, "stop_price": 5.0},
    {"type": "trailing_stop", "trail_price": 1.0},
    {"type": "trailing_stop", "trail_percent": 1.0},
    *({"tif": force} for force in ("day", "gtc", "opg", "cls")),
]
