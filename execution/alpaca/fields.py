"""Every field of the venue's answers that is read here, and what it means where it is missing.

A vendor drops fields, empties them, and writes other things into them. What is needed and missing,
or there and not understood, is an error that names it. What can be done without is declared with
what its absence means, which the log says once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd

from foundation.decimals import is_bounded
from foundation.errors import BrokerError

log = logging.getLogger(__name__)

T = TypeVar("T")
NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True)
class Needed(Generic[T]):
    """A field without which an answer says nothing.

    name: of the field.
    parse: what its value says; it raises `ValueError` for a value that says nothing.
    """

    name: str
    parse: Callable[[Any], T]

    def of(self, entry: Mapping[str, Any]) -> T:
        """What the field says.

        Raises
        ------
        BrokerError
            for a field that is missing, empty, or not understood.
        """
        value = entry.get(self.name)
        if value is None or value == "":
            raise BrokerError(f"the answer makes no sense: {self.name} is missing")
        return _understood(self.name, self.parse, value)


@dataclass(frozen=True, slots=True)
class Optional(Generic[T]):
    """A field that may be missing.

    name: of the field.
    parse: what its value says; it raises `ValueError` for a value that says nothing.
    absent: what counts where it is missing or empty.
    means: what that means, for the log; empty where it is the rule that it is missing.
    """

    name: str
    parse: Callable[[Any], T]
    absent: T
    means: str = ""

    def of(self, entry: Mapping[str, Any]) -> T:
        """What the field says, or what its absence means.

        Raises
        ------
        BrokerError
            for a value that is not understood.
        """
        value = entry.get(self.name)
        if value is None or value == "":
            if self.means:
                _say_once(f"the venue's answer has no {self.name}: {self.means}")
            return self.absent
        return _understood(self.name, self.parse, value)


def _understood(name: str, parse: Callable[[Any], T], value: Any) -> T:
    try:
        return parse(value)
    except (ValueError, TypeError, OverflowError) as error:
        shown = f"{value!r}"[:60]
        raise BrokerError(f"the answer makes no sense: {name} is {shown}, {error}") from None


@cache
def _say_once(line: str) -> None:
    log.warning("%s", line)


def exact(value: Any) -> Decimal:
    """A number, as exact as it is written."""
    if isinstance(value, bool):
        raise ValueError("not a number")
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise ValueError("not a number") from None
    if not is_bounded(number):
        raise ValueError("not a number")
    return number


def positive(value: Any) -> Decimal:
    """A number above 0."""
    number = exact(value)
    if number <= 0:
        raise ValueError("not above 0")
    return number


def not_negative(value: Any) -> Decimal:
    """A number from 0 on."""
    number = exact(value)
    if number < 0:
        raise ValueError("below 0")
    return number


def loan(value: Any) -> Decimal:
    """What equity is multiplied by, at least 1."""
    number = exact(value)
    if number < 1:
        raise ValueError("below 1")
    return number


def truth(value: Any) -> bool:
    """True or false, and nothing that might be either."""
    if not isinstance(value, bool):
        raise ValueError("neither true nor false")
    return value


def words(value: Any) -> str:
    """A text."""
    if not isinstance(value, str):
        raise ValueError("not a text")
    return value


def a_side(value: Any) -> str:
    """`buy` or `sell`."""
    if value not in ("buy", "sell"):
        raise ValueError("neither buy nor sell")
    return str(value)


def entries(value: Any) -> tuple[Mapping[str, Any], ...]:
    """A list of objects."""
    if not isinstance(value, list) or not all(isinstance(each, Mapping) for each in value):
        raise ValueError("not a list of objects")
    return tuple(value)


def an_instant(value: Any) -> np.datetime64:
    """The instant of a time stamp with a zone."""
    stamp = pd.to_datetime(value) if isinstance(value, str) else pd.NaT
    if pd.isna(stamp) or stamp.tzinfo is None:
        raise ValueError("no time with a zone")
    # A year that nanoseconds cannot count to comes out as another one, without an error.
    if not 1990 <= stamp.year <= 2200:
        raise ValueError("no time of our days")
    return np.datetime64(stamp.tz_convert("UTC").tz_localize(None), "ns")


def _maybe(name: str, parse: Callable[[Any], T], means: str = "") -> Optional[T | None]:
    """A field that says something only where it is."""
    return Optional(name, parse, None, means)


class Clock:
    """`GET /v2/clock`."""

    timestamp = Needed("timestamp", an_instant)


class AccountFacts:
    """`GET /v2/account`."""

    id = Needed("id", words)
    cash = Needed("cash", exact)
    settled = _maybe(
        "non_marginable_buying_power",
        exact,
        "coins are bought with all cash but what open shorts were sold for",
    )
    long_value = _maybe("long_market_value", exact)
    short_value = _maybe("short_market_value", exact)
    multiplier = Optional("multiplier", loan, Decimal(1), "nothing is borrowed")
    shorting = Optional("shorting_enabled", truth, False, "nothing is sold short")
    status = Optional("status", words, "ACTIVE", "it is taken for ACTIVE")
    crypto_status = Optional("crypto_status", words, "ACTIVE", "it is taken for ACTIVE")
    options_buying_power = _maybe(
        "options_buying_power", exact, "spreads are sized by the account's files alone"
    )
    blocks = tuple(
        Optional(name, truth, False, "the account is taken for not blocked")
        for name in ("trading_blocked", "account_blocked", "trade_suspended_by_user")
    )


class Position:
    """An entry of `GET /v2/positions`."""

    symbol = Needed("symbol", words)
    qty = Needed("qty", exact)
    asset_class = _maybe("asset_class", words)
    price = _maybe("current_price", not_negative)
    last_price = _maybe("lastday_price", not_negative)
    market_value = _maybe("market_value", exact)
    entry_price = _maybe(
        "avg_entry_price", not_negative, "a short's proceeds are taken for what it is worth"
    )
    available = _maybe("qty_available", exact, "all that is held may be sold")


class OrderEntry:
    """An order, wherever it is named."""

    id = Needed("id", words)
    client_order_id = Needed("client_order_id", words)
    status = Needed("status", words)
    symbol = _maybe("symbol", words)
    qty = _maybe("qty", positive)
    notional = _maybe("notional", positive)
    filled_qty = Optional("filled_qty", not_negative, NOTHING)
    filled_price = Needed("filled_avg_price", positive)
    leg_price = Needed("filled_avg_price", not_negative)
    filled_at = _maybe("filled_at", an_instant)
    updated_at = Needed("updated_at", an_instant)
    side = Needed("side", a_side)
    type = _maybe("type", words)
    time_in_force = _maybe("time_in_force", words)
    limit_price = _maybe("limit_price", positive)
    stop_price = _maybe("stop_price", positive)
    trail_price = _maybe("trail_price", positive)
    trail_percent = _maybe("trail_percent", positive)
    legs: Optional[tuple[Mapping[str, Any], ...]] = Optional("legs", entries, ())
    replaced_by = _maybe("replaced_by", words)


class FillEntry:
    """An entry of `GET /v2/account/activities/FILL`."""

    id = Needed("id", words)
    order_id = Needed("order_id", words)
    symbol = Needed("symbol", words)
    qty = Needed("qty", positive)
    price = Needed("price", positive)
    side = Needed("side", words)
    at = Needed("transaction_time", an_instant)


class AssetEntry:
    """`GET /v2/assets/{symbol}`."""

    tradable = Optional("tradable", truth, False, "it is not traded")
    status = Optional("status", words, "", "it is not traded")
    shortable = Optional("shortable", truth, False, "it is not sold short")
    easy_to_borrow = _maybe("easy_to_borrow", truth)
    borrow_status = Optional(
        "borrow_status", words, "", "and no easy_to_borrow either: it is not sold short"
    )
    fractionable = Optional("fractionable", truth, False, "it is traded in whole shares")
    increment = _maybe("min_trade_increment", positive)
    smallest = _maybe("min_order_size", positive)
