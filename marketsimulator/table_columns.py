"""Columns of a run's tables, which are files of its results folder."""

from __future__ import annotations

INSTANT_COLUMNS = ("at", "until", "booked_at")
TEXT_COLUMNS = {
    "symbol",
    "client_order_id",
    "binding",
    "side",
    "type",
    "tif",
    "reason",
    "kind",
    "strategy_reason",
}
EQUITY_COLUMNS = (
    *("at", "cash", "equity", "gross_stock", "gross_crypto"),
    *("interest", "fees", "other"),
)
FILL_COLUMNS = ("at", "symbol", "qty", "price", "fee", "client_order_id", "booked_at")
ORDER_COLUMNS = ("at", "client_order_id", "symbol", "side", "qty", "type", "tif", "reason")
BOOKING_COLUMNS = ("at", "symbol", "kind", "usd")
