"""Fields of Alpaca's responses that this project reads, and defaults for missing fields."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy as np

from foundation.decimals import EXACT_CONTEXT
from foundation.errors import InputError, InvalidResponse
from trainingdata.feed.fields import (
    ZERO_DECIMAL,
    OptionalField,
    RequiredField,
    choice_parser,
    optional_field,
    parse_bool,
    parse_decimal,
    parse_margin_multiplier,
    parse_non_negative_decimal,
    parse_object_list,
    parse_positive_decimal,
    parse_text,
    parse_timestamp,
    truncating_parser,
)
from trainingdata.instants import parse_instant


class ClockEntry:
    """Fields read from the response to `GET /v2/clock`."""

    timestamp = RequiredField("timestamp", parse_timestamp)
    is_open = optional_field("is_open", parse_bool, "using the exchange's calendar")
    next_close = optional_field("next_close", parse_timestamp, "using the exchange's calendar")


class AccountEntry:
    """Fields read from the response to `GET /v2/account`."""

    id = RequiredField("id", parse_text)
    # Alpaca's reference: "currently will always be the value USD".
    currency = OptionalField("currency", choice_parser("USD"), "USD", "assuming USD")
    cash = optional_field(
        "cash", parse_decimal, "using equity minus the value of positions as cash"
    )
    non_marginable_buying_power = optional_field(
        "non_marginable_buying_power",
        parse_decimal,
        "using cash minus the proceeds of open shorts for crypto purchases",
    )
    long_market_value = optional_field(
        "long_market_value", parse_decimal, "missing long positions cannot be detected"
    )
    short_market_value = optional_field(
        "short_market_value", parse_decimal, "missing short positions cannot be detected"
    )
    equity = optional_field("equity", parse_decimal, "cash cannot be checked against equity")
    multiplier = OptionalField("multiplier", parse_margin_multiplier, Decimal(1), "not borrowing")
    shorting_enabled = OptionalField("shorting_enabled", parse_bool, False, "not selling short")
    status = OptionalField("status", parse_text, "ACTIVE", "assuming ACTIVE")
    crypto_status = OptionalField("crypto_status", parse_text, "ACTIVE", "assuming ACTIVE")
    options_buying_power = optional_field(
        "options_buying_power", parse_decimal, "sizing spreads by the account's files alone"
    )
    block_flags = tuple(
        OptionalField(name, parse_bool, False, "assuming that the account is not blocked")
        for name in ("trading_blocked", "account_blocked", "trade_suspended_by_user")
    )


def parse_cash(account_entry: Mapping[str, Any]) -> Decimal:
    """Return the cash in a response to /account, USD; if it is missing, derive it from the equity.

    Alpaca's API reference requires only `id` and `status`. It defines equity as the sum of cash,
    `long_market_value` and `short_market_value`.

    Raises
    ------
    InvalidResponse
        if the response lacks cash, and also a figure from which cash follows.
    """
    cash = AccountEntry.cash.read(account_entry)
    if cash is not None:
        return cash
    sums = (AccountEntry.equity, AccountEntry.long_market_value, AccountEntry.short_market_value)
    equity, long, short = (field.read(account_entry) for field in sums)
    if equity is None or long is None or short is None:
        absent = [field.name for field in sums if field.read(account_entry) is None]
        raise InvalidResponse(f"cash and {absent[0]} are missing")
    return EXACT_CONTEXT.subtract(equity, EXACT_CONTEXT.add(long, short))


class PositionEntry:
    """Fields read from a position in the response to `GET /v2/positions`."""

    symbol = RequiredField("symbol", parse_text)
    qty = RequiredField("qty", parse_decimal)
    side = optional_field(
        "side", choice_parser("long", "short")
    )  # without it, the sign of qty decides
    asset_class = optional_field("asset_class", parse_text)
    current_price = optional_field("current_price", parse_non_negative_decimal)
    last_day_price = optional_field("lastday_price", parse_non_negative_decimal)
    market_value = optional_field("market_value", parse_decimal)
    entry_price = optional_field(
        "avg_entry_price",
        truncating_parser(parse_non_negative_decimal),
        "using the market value of a short as its proceeds",
    )
    available_qty = optional_field(
        "qty_available", parse_decimal, "assuming that the whole position may be sold"
    )


def parse_side(value: Any) -> str:
    """Return `buy` or `sell` from an order's side, such as `sell_short` (Alpaca, "Orders")."""
    if not isinstance(value, str) or (side := value.partition("_")[0]) not in ("buy", "sell"):
        raise ValueError("not buy or sell")
    return side


class OrderEntry:
    """Fields read from an order in any response or stream message."""

    id = RequiredField("id", parse_text)
    client_order_id = RequiredField("client_order_id", parse_text)
    optional_client_order_id = optional_field("client_order_id", parse_text)
    status = RequiredField("status", parse_text)
    symbol = optional_field("symbol", parse_text)
    required_symbol = RequiredField("symbol", parse_text)
    qty = optional_field("qty", parse_non_negative_decimal)
    required_qty = RequiredField("qty", parse_positive_decimal)
    notional = optional_field("notional", parse_positive_decimal)
    filled_qty = OptionalField("filled_qty", parse_non_negative_decimal, ZERO_DECIMAL)
    required_filled_qty = RequiredField("filled_qty", parse_non_negative_decimal)
    mean_fill_price = optional_field(
        "filled_avg_price", truncating_parser(parse_non_negative_decimal)
    )
    net_fill_price = optional_field(
        "filled_avg_price", truncating_parser(parse_decimal)
    )  # of several legs, below 0 for a credit
    order_class = optional_field("order_class", parse_text)
    required_fill_price = RequiredField(
        "filled_avg_price", truncating_parser(parse_positive_decimal)
    )
    leg_fill_price = RequiredField(
        "filled_avg_price", truncating_parser(parse_non_negative_decimal)
    )
    filled_at = optional_field("filled_at", parse_timestamp)
    # Instants of the last change, the most precise first; Alpaca's document makes each optional.
    update_times = tuple(
        optional_field(name, parse_timestamp)
        for name in (
            *("updated_at", "canceled_at", "expired_at", "replaced_at", "failed_at"),
            *("submitted_at", "created_at"),
        )
    )
    side = RequiredField("side", parse_side)
    # An order of several legs has no side.
    optional_side = optional_field("side", parse_side)
    type = optional_field("type", parse_text)
    time_in_force = optional_field("time_in_force", parse_text)
    limit_price = optional_field("limit_price", parse_positive_decimal)
    net_limit_price = optional_field(
        "limit_price", parse_decimal
    )  # of several legs, below 0 for a credit
    stop_price = optional_field("stop_price", parse_positive_decimal)
    trail_price = optional_field("trail_price", parse_positive_decimal)
    trail_percent = optional_field("trail_percent", parse_positive_decimal)
    extended_hours = OptionalField("extended_hours", parse_bool, False)
    legs: OptionalField[tuple[Mapping[str, Any], ...]] = OptionalField(
        "legs", parse_object_list, ()
    )
    replaced_by = optional_field("replaced_by", parse_text)


class AssetEntry:
    """Fields read from an asset in the response to `GET /v2/assets` or `/v2/assets/{symbol}`."""

    symbol = RequiredField("symbol", parse_text)
    tradable = OptionalField("tradable", parse_bool, False, "not trading the asset")
    status = OptionalField("status", parse_text, "", "not trading the asset")
    shortable = OptionalField("shortable", parse_bool, False, "not selling the asset short")
    easy_to_borrow = optional_field("easy_to_borrow", parse_bool)
    borrow_status = OptionalField(
        "borrow_status",
        parse_text,
        "",
        "easy_to_borrow is missing too, not selling the asset short",
    )
    fractionable = OptionalField("fractionable", parse_bool, False, "trading whole shares only")
    min_trade_increment = optional_field("min_trade_increment", parse_positive_decimal)
    min_order_size = optional_field("min_order_size", parse_positive_decimal)


_DAY = re.compile(r"(\d{4}-\d{2}-\d{2})(?:T00:00:00Z)?")
_ACTIVITY_TYPE_PATTERN = re.compile(r"[A-Z][A-Z0-9_]{0,15}")


def parse_activity_type(value: Any) -> str:
    """Check that a value is an activity type of the venue, such as CFEE, and return it."""
    if not isinstance(value, str) or not _ACTIVITY_TYPE_PATTERN.fullmatch(value):
        raise ValueError("not an activity type in capital letters, such as CFEE")
    return value


def parse_new_york_midnight(value: Any) -> np.datetime64:
    """Convert a date (YYYY-MM-DD) to the instant at which that day starts in New York."""
    day = _DAY.fullmatch(value) if isinstance(value, str) else None
    try:
        if day is not None and 1990 <= int(day[1][:4]) <= 2200:
            return parse_instant(day[1], name="the date")
    except InputError:  # no such day in the month
        pass
    raise ValueError("not a date (YYYY-MM-DD, 1990 to 2200)")


class ActivityEntry:
    """Fields read from an activity in the response to `GET /v2/account/activities`.

    A trade has a time and a side. Any other activity has only a date.
    """

    id = RequiredField("id", parse_text)
    optional_id = optional_field("id", parse_text)
    activity_type = RequiredField("activity_type", parse_activity_type)
    activity_sub_type = OptionalField("activity_sub_type", parse_text, "")
    status = OptionalField("status", choice_parser("executed", "correct", "canceled"), "executed")
    transaction_time = RequiredField("transaction_time", parse_timestamp)
    date = RequiredField("date", parse_new_york_midnight)
    symbol = optional_field("symbol", parse_text)
    cusip = optional_field("cusip", parse_text)
    trade_qty = RequiredField("qty", parse_positive_decimal)
    qty = OptionalField("qty", parse_decimal, ZERO_DECIMAL)
    side = RequiredField("side", choice_parser("buy", "sell", "sell_short"))
    trade_price = RequiredField("price", parse_non_negative_decimal)
    price = optional_field("price", parse_non_negative_decimal)
    transfer_amount = RequiredField(
        "net_amount", parse_decimal
    )  # the only amount of a deposit or withdrawal
    net_amount = OptionalField("net_amount", parse_decimal, ZERO_DECIMAL)
    order_id = OptionalField("order_id", parse_text, "")
