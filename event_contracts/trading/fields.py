"""Every field of the venue's answers that is read here, and what it means where it is missing.

Prices are `_dollars` and counts `_fp`: fixed-point text, never a float. Direction is `book_side`:
a bid buys YES or sells NO, an ask sells YES or buys NO, at a price of YES.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal, Self, get_type_hints

from event_contracts.trading.orders import COUNT_STEP, PAYOUT, PRICE_STEP
from event_contracts.trading.ticks import TABLES, Ticks
from foundation.errors import SenselessAnswer
from trainingdata.feed.fields import (
    NOTHING,
    Needed,
    Optional,
    an_instant,
    entries,
    exact,
    maybe,
    positive,
    truth,
    words,
)

BookSide = Literal["bid", "ask"]
Status = Literal["resting", "canceled", "executed"]
CENTS = 100
MOST_MULTIPLIED = 10  # of fee rates


def fixed_point(value: Any) -> Decimal:
    """A number as fixed-point text.

    Raises
    ------
    ValueError
        for anything else; a float has lost what it was.
    """
    if not isinstance(value, str):
        raise ValueError("no fixed-point text")
    return exact(value)


def a_price(value: Any) -> Decimal:
    """USD, from 0 to 1."""
    price = fixed_point(value)
    if not 0 <= price <= PAYOUT:
        raise ValueError("outside 0 … 1")
    return price


def an_order_price(value: Any) -> Decimal:
    """USD, above 0 and below 1, in ten-thousandths."""
    price = a_price(value)
    if price in (0, PAYOUT) or price % PRICE_STEP:
        raise ValueError("no price of an order")
    return price


def a_signed_count(value: Any) -> Decimal:
    """Contracts, in hundredths."""
    count = fixed_point(value)
    if count % COUNT_STEP:
        raise ValueError("no count of hundredths")
    return count


def a_count(value: Any) -> Decimal:
    """Contracts, 0 or more, in hundredths."""
    count = a_signed_count(value)
    if count < 0:
        raise ValueError("below 0")
    return count


def a_traded_count(value: Any) -> Decimal:
    """Contracts, above 0, in hundredths."""
    return positive(a_count(value))


def a_book_side(value: Any) -> BookSide:
    """`bid` or `ask`."""
    if value == "bid":
        return "bid"
    if value == "ask":
        return "ask"
    raise ValueError("neither bid nor ask")


def a_status(value: Any) -> Status:
    """`resting`, `canceled` or `executed`."""
    for status in ("resting", "canceled", "executed"):
        if value == status:
            return status
    raise ValueError("none of resting, canceled, executed")


def a_payout(value: Any) -> Decimal:
    """USD for a contract, from whole or broken cents."""
    usd = exact(value) / CENTS
    if not 0 <= usd <= PAYOUT:
        raise ValueError("no payout between 0 and 100 cents")
    return usd


def a_multiplier(value: Any) -> Decimal:
    """What fee rates are multiplied by, 0 … 10."""
    multiplier = exact(value)
    if not 0 <= multiplier <= MOST_MULTIPLIED:
        raise ValueError(f"outside 0 … {MOST_MULTIPLIED}")
    return multiplier


def price_ranges(value: Any) -> Ticks:
    """The prices that a market takes."""
    ranges = [
        tuple(a_price(each.get(name)) for name in ("start", "end", "step"))
        for each in entries(value)
    ]
    return Ticks.of((start, end, step) for start, end, step in ranges)


def a_tick_table(value: Any) -> Ticks:
    """The table that a name stands for."""
    if value not in TABLES:
        raise ValueError(f"none of {', '.join(TABLES)}")
    return TABLES[value]


def an_object(value: Any) -> Mapping[str, Any]:
    """An object with fields."""
    if not isinstance(value, Mapping):
        raise ValueError("no object")
    return value


class Entry:
    """A dataclass of what an entry of an answer says.

    Each field is annotated with where it stands and how it is read, `Needed` or `Optional`.
    """

    __slots__ = ()

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """What an entry says.

        Raises
        ------
        SenselessAnswer
            naming the field that is missing or makes no sense.
        """
        hints = get_type_hints(cls, include_extras=True)
        return cls(**{name: hint.__metadata__[0].of(entry) for name, hint in hints.items()})


class Page:
    """An answer that may have another one after it: its cursor is empty on the last."""

    cursor = Optional("cursor", words, "")


class BalanceEntry:
    """`GET /portfolio/balance`."""

    cash = Needed("balance_dollars", fixed_point)


class PositionEntry:
    """An entry of `market_positions`, `GET /portfolio/positions`: YES above 0, NO below."""

    ticker = Needed("ticker", words)
    position = Needed("position_fp", a_signed_count)


class OrderAnswer:
    """What `POST /portfolio/events/orders` answers; a market of its own it does not name."""

    order_id = Needed("order_id", words)
    client_order_id = Needed("client_order_id", words)
    filled = Needed("fill_count", a_count)
    remaining = Needed("remaining_count", a_count)


class SettlementEntry:
    """An entry of `settlements`, `GET /portfolio/settlements`."""

    ticker = Needed("ticker", words)
    result = Needed("market_result", words)
    value = Needed("value", a_payout)  # of a market that settled at neither side
    at = Needed("settled_time", an_instant)


def paid_for_yes(settlement: Any) -> Decimal:
    """USD that a settlement paid for a contract of YES."""
    result = SettlementEntry.result.of(settlement)
    if result in ("yes", "no"):
        return PAYOUT if result == "yes" else NOTHING
    return SettlementEntry.value.of(settlement)


class MarketEntry:
    """A market, `GET /markets` and `/markets/{ticker}`."""

    ticker = Needed("ticker", words)
    status = Needed("status", words)
    bid = Optional("yes_bid_dollars", a_price, NOTHING)  # nobody bids
    ask = Optional("yes_ask_dollars", a_price, NOTHING)  # nobody offers; the venue writes 0 or 1
    ranges = maybe("price_ranges", price_ranges)
    structure = Needed("price_level_structure", a_tick_table)
    fractional = Optional("fractional_trading_enabled", truth, False)
    bid_size = Optional("yes_bid_size_fp", a_count, NOTHING)
    ask_size = Optional("yes_ask_size_fp", a_count, NOTHING)
    closes = Needed("close_time", an_instant)
    result = Optional("result", words, "")


class FeeEntry:
    """What leads from `GET /markets/{ticker}` to the fees of a market."""

    market = Needed("market", an_object)
    event = Needed("event_ticker", words)
    waived_until = maybe("fee_waiver_expiration_time", an_instant)


class EventEntry:
    """`GET /events/{event_ticker}`."""

    event = Needed("event", an_object)
    series = Needed("series_ticker", words)


class SeriesEntry:
    """`GET /series/{series_ticker}`."""

    series = Needed("series", an_object)
    fee_type = Needed("fee_type", words)
    multiplier = Needed("fee_multiplier", a_multiplier)


def ticks_of(entry: Mapping[str, Any]) -> Ticks:
    """The prices that a market takes: its ranges, else the table that it names.

    Raises
    ------
    SenselessAnswer
        where it says neither.
    """
    ranges = MarketEntry.ranges.of(entry)
    if ranges is not None:
        return ranges
    try:
        return MarketEntry.structure.of(entry)
    except SenselessAnswer as error:
        raise SenselessAnswer(f"no price_ranges, and {error.why}") from None
