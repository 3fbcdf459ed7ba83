"""Every field of accounts and orders that is read here, and what it means where it is missing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy as np

from foundation.decimals import EXACT
from foundation.errors import SenselessAnswer
from trainingdata.feed.fields import (
    NOTHING,
    Needed,
    Optional,
    an_instant,
    boolean,
    exact,
    mean,
    multiplier,
    not_negative,
    objects,
    one_of,
    optional,
    positive,
    words,
)
from trainingdata.instants import instant


class Clock:
    """`GET /v2/clock`."""

    timestamp = Needed("timestamp", an_instant)
    is_open = optional("is_open", boolean, "the exchange's calendar says whether it is open")
    next_close = optional("next_close", an_instant, "the exchange's calendar says when it closes")


class AccountFacts:
    """`GET /v2/account`."""

    id = Needed("id", words)
    # Alpaca's reference: "currently will always be the value USD".
    currency = Optional("currency", one_of("USD"), "USD", "it is taken for USD")
    cash = optional("cash", exact, "equity less the value of positions counts as cash")
    settled = optional(
        "non_marginable_buying_power",
        exact,
        "coins are bought with all cash but what open shorts were sold for",
    )
    long_value = optional("long_market_value", exact, "nothing says whether positions are missing")
    short_value = optional("short_market_value", exact, "nothing says whether shorts are missing")
    equity = optional("equity", exact, "nothing says whether cash is right")
    multiplier = Optional("multiplier", multiplier, Decimal(1), "nothing is borrowed")
    shorting = Optional("shorting_enabled", boolean, False, "nothing is sold short")
    status = Optional("status", words, "ACTIVE", "it is taken for ACTIVE")
    crypto_status = Optional("crypto_status", words, "ACTIVE", "it is taken for ACTIVE")
    options_buying_power = optional(
        "options_buying_power", exact, "spreads are sized by the account's files alone"
    )
    blocks = tuple(
        Optional(name, boolean, False, "the account is taken for not blocked")
        for name in ("trading_blocked", "account_blocked", "trade_suspended_by_user")
    )


def stated_cash(facts: Mapping[str, Any]) -> Decimal:
    """Return the cash that an answer to /account states, or that its equity implies, USD.

    Alpaca's document requires `id` and `status` alone, and defines equity as the sum of cash,
    `long_market_value` and `short_market_value`. Raises SenselessAnswer without either.
    """
    cash = AccountFacts.cash.of(facts)
    if cash is not None:
        return cash
    sums = (AccountFacts.equity, AccountFacts.long_value, AccountFacts.short_value)
    equity, long, short = (field.of(facts) for field in sums)
    if equity is None or long is None or short is None:
        absent = [field.name for field in sums if field.of(facts) is None]
        raise SenselessAnswer(f"cash and {absent[0]} are missing")
    return EXACT.subtract(equity, EXACT.add(long, short))


class Position:
    """An entry of `GET /v2/positions`."""

    symbol = Needed("symbol", words)
    qty = Needed("qty", exact)
    side = optional("side", one_of("long", "short"))  # where it is missing, the sign of qty says it
    asset_class = optional("asset_class", words)
    price = optional("current_price", not_negative)
    last_price = optional("lastday_price", not_negative)
    market_value = optional("market_value", exact)
    entry_price = optional(
        "avg_entry_price", mean(not_negative), "a short's proceeds are taken for what it is worth"
    )
    available = optional("qty_available", exact, "all that is held may be sold")


def a_side(value: Any) -> str:
    """Buy or sell, short sales and orders by tick among them (Alpaca, "Orders": `side`)."""
    if not isinstance(value, str) or (said := value.partition("_")[0]) not in ("buy", "sell"):
        raise ValueError("not buy or sell")
    return said


class OrderEntry:
    """An order, wherever it is named."""

    id = Needed("id", words)
    client_order_id = Needed("client_order_id", words)
    stated_client_order_id = optional("client_order_id", words)
    status = Needed("status", words)
    symbol = optional("symbol", words)
    leg_symbol = Needed("symbol", words)
    qty = optional("qty", not_negative)
    whole_qty = Needed("qty", positive)
    notional = optional("notional", positive)
    filled_qty = Optional("filled_qty", not_negative, NOTHING)
    filled_stated = Needed("filled_qty", not_negative)
    mean_price = optional("filled_avg_price", mean(not_negative))
    net_price = optional("filled_avg_price", mean(exact))  # of several legs, below 0 for a credit
    order_class = optional("order_class", words)
    filled_price = Needed("filled_avg_price", mean(positive))
    leg_price = Needed("filled_avg_price", mean(not_negative))
    filled_at = optional("filled_at", an_instant)
    # Instants of the last change, best first; Alpaca's document makes each of them optional.
    changed_at = tuple(
        optional(name, an_instant)
        for name in (
            *("updated_at", "canceled_at", "expired_at", "replaced_at", "failed_at"),
            *("submitted_at", "created_at"),
        )
    )
    side = Needed("side", a_side)
    # An order of several legs has none of its own.
    traded_side = optional("side", a_side)
    type = optional("type", words)
    time_in_force = optional("time_in_force", words)
    limit_price = optional("limit_price", positive)
    net_limit = optional("limit_price", exact)  # of several legs, below 0 for a credit
    stop_price = optional("stop_price", positive)
    trail_price = optional("trail_price", positive)
    trail_percent = optional("trail_percent", positive)
    extended_hours = Optional("extended_hours", boolean, False)
    legs: Optional[tuple[Mapping[str, Any], ...]] = Optional("legs", objects, ())
    replaced_by = optional("replaced_by", words)


class AssetEntry:
    """`GET /v2/assets/{symbol}`, and each of `GET /v2/assets`."""

    symbol = Needed("symbol", words)
    tradable = Optional("tradable", boolean, False, "it is not traded")
    status = Optional("status", words, "", "it is not traded")
    shortable = Optional("shortable", boolean, False, "it is not sold short")
    easy_to_borrow = optional("easy_to_borrow", boolean)
    borrow_status = Optional(
        "borrow_status", words, "", "and no easy_to_borrow either: it is not sold short"
    )
    fractionable = Optional("fractionable", boolean, False, "it is traded in whole shares")
    increment = optional("min_trade_increment", positive)
    smallest = optional("min_order_size", positive)


_DAY = re.compile(r"(\d{4}-\d{2}-\d{2})(?:T00:00:00Z)?")
_CAPITALS = re.compile(r"[A-Z][A-Z0-9_]{0,15}")


def capitals(value: Any) -> str:
    """A word of the venue's for a kind of thing, as CFEE."""
    if not isinstance(value, str) or not _CAPITALS.fullmatch(value):
        raise ValueError("no word of capitals")
    return value


def a_new_york_midnight(value: Any) -> np.datetime64:
    """The instant at which a day begins in New York."""
    day = _DAY.fullmatch(value) if isinstance(value, str) else None
    if day is None or not 1990 <= int(day[1][:4]) <= 2200:
        raise ValueError("no day")
    return instant(day[1], name="the day")


class ActivityEntry:
    """An entry of `GET /v2/account/activities`: a trade has an instant and a side, others a day."""

    id = Needed("id", words)
    stated_id = optional("id", words)
    kind = Needed("activity_type", capitals)
    sub_kind = Optional("activity_sub_type", words, "")
    status = Optional("status", one_of("executed", "correct", "canceled"), "executed")
    traded_at = Needed("transaction_time", an_instant)
    day = Needed("date", a_new_york_midnight)
    symbol = optional("symbol", words)
    cusip = optional("cusip", words)
    traded_qty = Needed("qty", positive)
    qty = Optional("qty", exact, NOTHING)
    side = Needed("side", one_of("buy", "sell", "sell_short"))
    traded_price = Needed("price", not_negative)
    price = optional("price", not_negative)
    transfer = Needed("net_amount", exact)  # of a deposit or withdrawal it is all there is
    amount = Optional("net_amount", exact, NOTHING)
    order_id = Optional("order_id", words, "")
