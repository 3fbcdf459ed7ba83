"""Required fields of Kalshi's answers in our own words: by name, each with its kind of value.

Kinds: `text`, `usd` (fixed-point dollars), `count` (fixed-point contracts), `whole`, `number`,
`flag`, `at` (an instant with a zone), `levels` (prices and counts), `any` (null, too), a tuple of
allowed words, or a list of one of these tables. Every field here is required; others may be there.
Source: the models of Kalshi's own client 3.34 (November 2026).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from trainingdata.feed.fields import parse_timestamp

Kind = Any  # a word of KINDS, allowed words, or a list of a table
Words = Mapping[str, Kind]

_USD = re.compile(r"-?\d+\.\d{4,6}")
_COUNT = re.compile(r"-?\d+\.\d{2}")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_instant(value: Any) -> bool:
    try:
        parse_timestamp(value)
    except ValueError:
        return False
    return True


def _are_levels(value: Any) -> bool:
    pair = (_USD, _COUNT)
    return isinstance(value, list) and all(
        len(level) == 2 and all(k.fullmatch(text) for k, text in zip(pair, level, strict=True))
        for level in value
    )


KINDS: Mapping[str, Callable[[Any], bool]] = {
    "text": _is_text,
    "usd": lambda value: _is_text(value) and bool(_USD.fullmatch(value)),
    "count": lambda value: _is_text(value) and bool(_COUNT.fullmatch(value)),
    "whole": _is_whole,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "flag": lambda value: isinstance(value, bool),
    "at": _is_instant,
    "levels": _are_levels,
    "any": lambda value: True,
}

YES_NO = ("yes", "no")
BID_ASK = ("bid", "ask")

ORDER: Words = {
    "order_id": "text",
    "user_id": "text",
    "client_order_id": "text",
    "ticker": "text",
    "outcome_side": YES_NO,
    "book_side": BID_ASK,
    "type": ("limit", "market"),
    "status": ("resting", "canceled", "executed"),
    "yes_price_dollars": "usd",
    "no_price_dollars": "usd",
    "fill_count_fp": "count",
    "remaining_count_fp": "count",
    "initial_count_fp": "count",
    "taker_fill_cost_dollars": "usd",
    "maker_fill_cost_dollars": "usd",
    "taker_fees_dollars": "usd",
    "maker_fees_dollars": "usd",
}
FILL: Words = {
    "fill_id": "text",
    "trade_id": "text",
    "exchange_index": "whole",
    "order_id": "text",
    "ticker": "text",
    "market_ticker": "text",
    "outcome_side": YES_NO,
    "book_side": BID_ASK,
    "count_fp": "count",
    "yes_price_dollars": "usd",
    "no_price_dollars": "usd",
    "is_taker": "flag",
    "fee_cost": "usd",
}
SETTLEMENT: Words = {
    "ticker": "text",
    "exchange_index": "whole",
    "event_ticker": "text",
    "market_result": ("yes", "no", "scalar"),
    "yes_count_fp": "count",
    "yes_total_cost_dollars": "usd",
    "no_count_fp": "count",
    "no_total_cost_dollars": "usd",
    "revenue": "whole",
    "settled_time": "at",
    "fee_cost": "usd",
}
POSITION: Words = {
    "ticker": "text",
    "exchange_index": "whole",
    "total_traded_dollars": "usd",
    "position_fp": "count",
    "market_exposure_dollars": "usd",
    "realized_pnl_dollars": "usd",
    "fees_paid_dollars": "usd",
    "last_updated_ts": "at",
}
EVENT_POSITION: Words = {
    "event_ticker": "text",
    "total_cost_dollars": "usd",
    "total_cost_shares_fp": "count",
    "event_exposure_dollars": "usd",
    "realized_pnl_dollars": "usd",
    "fees_paid_dollars": "usd",
}
PRICE_RANGE: Words = {"start": "usd", "end": "usd", "step": "usd"}
MARKET: Words = {
    "ticker": "text",
    "event_ticker": "text",
    "market_type": ("binary", "scalar"),
    "yes_sub_title": "text",
    "no_sub_title": "text",
    "created_time": "at",
    "updated_time": "at",
    "open_time": "at",
    "close_time": "at",
    "latest_expiration_time": "at",
    "settlement_timer_seconds": "whole",
    "status": (
        *("initialized", "inactive", "active", "closed", "determined", "disputed", "amended"),
        "finalized",
    ),
    "yes_bid_dollars": "usd",
    "yes_bid_size_fp": "count",
    "yes_ask_dollars": "usd",
    "yes_ask_size_fp": "count",
    "no_bid_dollars": "usd",
    "no_ask_dollars": "usd",
    "last_price_dollars": "usd",
    "volume_fp": "count",
    "volume_24h_fp": "count",
    "result": ("yes", "no", "scalar", ""),
    "can_close_early": "flag",
    "open_interest_fp": "count",
    "notional_value_dollars": "usd",
    "previous_yes_bid_dollars": "usd",
    "previous_yes_ask_dollars": "usd",
    "previous_price_dollars": "usd",
    "settlement_bounds_type": ("default", "floor"),
    "expiration_value": "text",
    "rules_primary": "text",
    "rules_secondary": "text",
    "price_level_structure": "text",
    "price_ranges": [PRICE_RANGE],
}
SERIES: Words = {
    "ticker": "text",
    "frequency": "text",
    "title": "text",
    "category": "text",
    "categories": "any",
    "tags": "any",
    "settlement_sources": "any",
    "contract_url": "text",
    "contract_terms_url": "text",
    "fee_type": (
        "quadratic",
        "quadratic_with_maker_fees",
        "quadratic_with_combo_maker_fees",
        "flat",
    ),
    "fee_multiplier": "number",
    "additional_prohibitions": "any",
}
EVENT: Words = {
    "event_ticker": "text",
    "series_ticker": "text",
    "sub_title": "text",
    "title": "text",
    "collateral_return_type": "text",
    "mutually_exclusive": "flag",
    "settlement_sources": "any",
}
# By the model's name in Kalshi's client.
ANSWERS: Mapping[str, Words] = {
    "GetBalanceResponse": {
        "balance": "whole",
        "balance_dollars": "usd",
        "portfolio_value": "whole",
        "updated_ts": "whole",
    },
    "GetPositionsResponse": {"market_positions": [POSITION], "event_positions": [EVENT_POSITION]},
    "GetOrdersResponse": {"orders": [ORDER], "cursor": "text"},
    "GetOrderResponse": {"order": ORDER},
    "GetFillsResponse": {"fills": [FILL], "cursor": "text"},
    "GetSettlementsResponse": {"settlements": [SETTLEMENT]},
    "ExchangeStatus": {"exchange_active": "flag", "trading_active": "flag"},
    "GetMarketsResponse": {"markets": [MARKET], "cursor": "text"},
    "GetMarketResponse": {"market": MARKET},
    "GetMarketOrderbookResponse": {
        "orderbook_fp": {"yes_dollars": "levels", "no_dollars": "levels"}
    },
    "GetEventResponse": {"event": EVENT, "markets": [MARKET]},
    "GetSeriesResponse": {"series": SERIES},
    "CreateOrderV2Response": {
        "order_id": "text",
        "fill_count": "count",
        "remaining_count": "count",
        "ts_ms": "whole",
    },
    "CancelOrderV2Response": {"order_id": "text", "reduced_by": "count", "ts_ms": "whole"},
}
CREATE_REQUEST: Words = {
    "ticker": "text",
    "side": BID_ASK,
    "count": "count",
    "price": "usd",
    "time_in_force": ("fill_or_kill", "good_till_canceled", "immediate_or_cancel"),
    "self_trade_prevention_type": ("taker_at_cross", "maker"),
}


def faults_of(answer: Any, words: Words, where: str = "") -> Iterator[str]:
    """Return each field that differs from its table, by its path."""
    if not isinstance(answer, Mapping):
        yield f"{where or 'answer'}: no object"
        return
    for name, kind in words.items():
        path = f"{where}.{name}" if where else name
        if name not in answer:
            yield f"{path}: missing"
        else:
            yield from _value_faults(answer[name], kind, path)


def _value_faults(value: Any, kind: Kind, path: str) -> Iterator[str]:
    if isinstance(kind, Mapping):
        yield from faults_of(value, kind, path)
    elif isinstance(kind, list):
        if not isinstance(value, list):
            yield f"{path}: no list"
            return
        for number, each in enumerate(value):
            yield from _value_faults(each, kind[0], f"{path}[{number}]")
    elif isinstance(kind, tuple):
        if value not in kind:
            yield f"{path}: {value!r} is not one of {kind}"
    elif not KINDS[kind](value):
        yield f"{path}: {value!r} is no {kind}"
