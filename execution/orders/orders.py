"""Orders and their fills."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from operator import attrgetter
from typing import Literal, NamedTuple, get_args

import numpy as np

from foundation.arrays import Array, Mask
from foundation.errors import InputError
from foundation.settings import setting, settings_class
from trainingdata.bars import HIGH, Bars
from trainingdata.instants import format_compact_utc, parse_compact_utc
from trainingdata.instruments import AssetClass, Instrument, instrument, is_crypto

Side = Literal["buy", "sell"]
OrderType = Literal["market", "limit", "stop", "stop_limit", "trailing_stop"]
TimeInForce = Literal["day", "gtc", "opg", "cls"]
ORDER_TYPES: tuple[OrderType, ...] = get_args(OrderType)
TIMES_IN_FORCE: tuple[TimeInForce, ...] = get_args(TimeInForce)
STOP_TYPES: tuple[OrderType, ...] = ("stop", "stop_limit", "trailing_stop")
PROTECTIVE_LEG = "stop"  # leg in the ids of protective orders, in place of a number
USD_PRICE_FIELDS = ("limit_price", "stop_price", "trail_price")  # which a split divides
PRICE_FIELDS = (*USD_PRICE_FIELDS, "trail_percent")
MAX_QTY = 10**12  # quantities of orders are below it
UNLIMITED_QUANTITY = float("inf")
# The venue accepts ids of at most 128 characters.
_ORDER_ID_PATTERN = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_get_prices = attrgetter(*PRICE_FIELDS)
_NO_PRICES = (None,) * len(PRICE_FIELDS)


@dataclass(frozen=True, slots=True)
class Order:
    """An order to a venue; its constructor rejects invalid terms with `ValueError`.

    client_order_id: client order id, derived from strategy, instant, symbol, leg and attempt, so
        that a repeated order has the same id.
    symbol: name of the symbol.
    side: buy or sell.
    qty: quantity above 0: a multiple of the instrument's increment, or the whole position.
    reason: reason for the order; `str` turns it into words.
    reduces: true if the order can only bring a position closer to zero.
    type: order type, which determines the prices that are required.
    tif: time in force; `opg` and `cls` orders trade only in the opening and the closing auction.
    limit_price: limit price of limit and stop-limit orders, USD.
    stop_price: stop price of stop and stop-limit orders, USD.
    trail_price: distance of a trailing stop from the best price since the order was sent, USD.
    trail_percent: distance of a trailing stop in percent; a trailing stop has either this or
        `trail_price`.
    extended_hours: true if the order may trade outside regular hours.
    expires_at: instant from which the order is not sent; None without an expiry.
    """

    client_order_id: str
    symbol: str
    side: Side
    qty: Decimal
    reason: object
    reduces: bool = False
    type: OrderType = "market"
    tif: TimeInForce = "day"
    limit_price: float | None = None
    stop_price: float | None = None
    trail_price: float | None = None
    trail_percent: float | None = None
    extended_hours: bool = False
    expires_at: np.datetime64 | None = None

    def __post_init__(self) -> None:
        if not (self.qty.is_finite() and 0 < self.qty < MAX_QTY):
            raise ValueError(
                f"{self.client_order_id}: qty must be above 0 and below {MAX_QTY:,}, got {self.qty}"
            )
        if not _ORDER_ID_PATTERN.fullmatch(self.client_order_id):
            raise ValueError(
                "client_order_id must be 1 to 128 letters, digits, '.', '_' or '-', got"
                f" {self.client_order_id!r}"
            )
        for name, words in (("type", ORDER_TYPES), ("tif", TIMES_IN_FORCE)):
            if (word := getattr(self, name)) not in words:
                raise ValueError(
                    f"{self.client_order_id}: {name} {word!r} is not one of {', '.join(words)}"
                )
        # Most orders are market orders without a price, and need no further check.
        if self.type != "market" or _get_prices(self) != _NO_PRICES:
            self._check_prices()

    def _check_prices(self) -> None:
        limited = "limit" in self.type
        stopped = self.type in ("stop", "stop_limit")
        for name, needed in (("limit_price", limited), ("stop_price", stopped)):
            if needed != (getattr(self, name) is not None):
                rule = "needs a" if needed else "must not have a"
                raise ValueError(f"{self.client_order_id}: a {self.type} order {rule} {name}")
        trails = (self.trail_price is not None) + (self.trail_percent is not None)
        if trails != (self.type == "trailing_stop"):
            raise ValueError(
                f"{self.client_order_id}: a trailing_stop order needs trail_price or trail_percent,"
                " not both; other types must have neither"
            )
        for name in PRICE_FIELDS:
            price = getattr(self, name)
            if price is not None and not 0 < price < float("inf"):
                raise ValueError(f"{self.client_order_id}: {name} must be above 0, got {price}")

    @property
    def instrument(self) -> Instrument:
        """Instrument of the order, with the default quantity increment of its class."""
        return instrument(self.symbol)

    @property
    def is_for_auction(self) -> bool:
        """Return whether the order trades only in the opening or the closing auction."""
        return self.tif in ("opg", "cls")

    @property
    def is_immediate(self) -> bool:
        """Return whether the order should trade at once, so that an unfilled part is cancelled."""
        return self.type == "market" and not self.is_for_auction

    @property
    def limit_or_stop_price(self) -> float | None:
        """Limit price or, without one, stop price, USD; None if the order has neither."""
        return self.limit_price or self.stop_price

    @property
    def signed_qty(self) -> Decimal:
        """Signed quantity: positive for a buy, negative for a sale."""
        return self.qty if self.side == "buy" else -self.qty


@settings_class("orders")
class OrderSizeLimits:
    """Minimum and maximum values of an order."""

    min_fractional_value: float = setting(
        1.0, "smallest value of an order for a fraction of a share, USD", ge=0
    )
    # Alpaca refuses smaller crypto purchases (403, code 40310000: "cost basis must be >= minimal
    # amount of order 10"), by probes of its paper API: github.com/ccxt/ccxt/pull/30101, 2026-08-25.
    min_crypto_value: float = setting(
        10.0,
        "smallest value of a crypto order that does not close a position, USD; Alpaca, seen "
        "2026-08-25",
        ge=0,
    )
    # Its min_order_size, about what 1 USD buys (same source), applies to sales as well.
    crypto_dust: float = setting(
        1.0, "value below which crypto cannot be sold, USD; Alpaca, seen 2026-08-25", ge=0
    )
    max_crypto_value: float = setting(200_000.0, "largest value of a crypto order, USD", gt=0)
    price_margin: float = setting(
        0.05,
        "margin to min_crypto_value and max_crypto_value in sizing, because prices move; fraction",
        ge=0,
        lt=1,
    )

    def __post_init__(self) -> None:
        if self.crypto_dust > self.min_crypto_value:
            raise InputError(
                f"orders.crypto_dust: {self.crypto_dust:g} USD exceeds orders.min_crypto_value,"
                f" {self.min_crypto_value:g} USD; lower crypto_dust"
            )

    def min_value_when_sent(self, *, is_crypto: bool, closes_position: bool) -> float:
        """Return the minimum value of an order that may be sent, USD.

        For stocks, the minimum applies to fractions of a share only. An order that closes a whole
        crypto position need only exceed the dust threshold, because the position could otherwise
        never be sold. `sizing.increments.required_order_value` is the compiled form of this rule.
        """
        if not is_crypto:
            return self.min_fractional_value
        return self.crypto_dust if closes_position else self.min_crypto_value

    def min_values_when_sized(self, crypto: Mask) -> Array:
        """Return the minimum value of an order when it is sized, USD, [S].

        It is the minimum that applies when the order is sent, plus a margin for price moves. It
        does not apply to orders that close a position.

        crypto: [S] true for crypto.
        """
        return np.where(crypto, self.min_crypto_value * (1 + self.price_margin), 0.0)

    def dust_values(self, crypto: Mask) -> Array:
        """Return the minimum value of a position that the venue allows to be closed, USD, [S].

        crypto: [S] true for crypto.
        """
        return np.where(crypto, self.crypto_dust, 0.0)

    @property
    def max_crypto_value_when_sized(self) -> float:
        """Maximum value of one crypto order when it is sized, USD.

        It is the maximum that applies when the order is sent, less a margin for price moves.
        """
        return self.max_crypto_value * (1 - self.price_margin)

    def max_order_quantity(self, item: Instrument, price: float) -> float:
        """Return the maximum quantity of one order; infinite for stocks.

        item: instrument of the order.
        price: price of one unit, USD.
        """
        if item.kind is not AssetClass.CRYPTO:
            return UNLIMITED_QUANTITY
        # Imported here, because readers of a journal need orders but no compiled rules of sizes.
        from sizing.quantity import max_crypto_quantity

        return max_crypto_quantity(self.max_crypto_value_when_sized, price)

    def check_increments(self, bars: Bars) -> None:
        """Check that one increment of each crypto symbol is worth less than the maximum order.

        Otherwise no order for that symbol could be sent.

        Raises
        ------
        InputError
            for a symbol whose increment is worth more than the maximum order value.
        """
        for s in np.flatnonzero(bars.crypto).tolist():
            # The smallest order is one increment. If the price makes it worth more than the venue
            # accepts in one order, a position could not be closed.
            highest = float(bars.bars_of_symbol(s)[1][:, HIGH].max(initial=0.0))
            worth = float(bars.instruments[s].qty_increment) * highest
            if worth > self.max_crypto_value_when_sized:
                raise InputError(
                    f"orders.max_crypto_value: {self.max_crypto_value:g} USD less"
                    f" orders.price_margin is below {worth:.2f} USD, the value of one increment of"
                    f" {bars.symbols[s]}; raise it"
                )


DEFAULT_SIZE_LIMITS = OrderSizeLimits()


class Fill(NamedTuple):
    """A fill of an order.

    client_order_id: client order id of the order.
    symbol: name of the symbol.
    qty: signed quantity. The fee of a crypto purchase is paid in crypto, and recorded as a second
        fill of the same order, with negative `qty` and price 0.
    price: price of one unit, USD.
    fee: fee in USD.
    at: start of the bar at whose open the order filled; if it filled within a bar, the instant at
        which that bar became known.
    equity_row_at: instant of the first account row that includes the fill; None if it is `at`. It
        differs from `at` if the account has no row at the start of the bar.
    """

    client_order_id: str
    symbol: str
    qty: Decimal
    price: float
    fee: float
    at: np.datetime64
    equity_row_at: np.datetime64 | None = None

    @property
    def booked_at(self) -> np.datetime64:
        """Instant of the first account row that includes the fill."""
        return self.at if self.equity_row_at is None else self.equity_row_at


def open_crypto_bid_cost(orders: Iterable[Order], prices: Mapping[str, float]) -> float:
    """Return the cost of open crypto purchases, USD, at their limit price, else the last price."""
    bids = [o for o in orders if o.side == "buy" and o.instrument.kind is AssetClass.CRYPTO]
    return sum(float(o.qty) * (o.limit_price or prices.get(o.symbol, 0.0)) for o in bids)


def default_time_in_force(symbol: str, auction: TimeInForce | None = None) -> TimeInForce:
    """Return the time in force of our orders: `gtc` for crypto, else `auction` or `day`.

    auction: `opg` or `cls` if the next bar of stocks starts with that auction; None if it starts
        without one.
    """
    return "gtc" if is_crypto(symbol) else auction or "day"


@lru_cache(maxsize=1 << 12)  # a backtest converts the same positions at every bar
def to_shortest_decimal(quantity: float) -> Decimal:
    """Convert a float to the decimal with the fewest digits that denotes it: 3, not 3.0."""
    return Decimal(int(quantity)) if quantity.is_integer() else Decimal(repr(quantity))


def make_order_id(strategy: str, at: np.datetime64, symbol: str, leg: int, attempt: int = 0) -> str:
    """Return the client order id of an order of a strategy.

    The same arguments give the same id. A decision that is repeated after a crash therefore sends
    no order twice.
    """
    return format_order_id(strategy, format_compact_utc(at), symbol, leg, attempt)


def format_order_id(
    strategy: str, formatted_instant: str, symbol: str, leg: int | str, attempt: int = 0
) -> str:
    """Return the client order id for an instant that is already formatted as text.

    formatted_instant: the formatted instant.
    leg: number of the order among those of its decision and symbol, or `PROTECTIVE_LEG`.
    """
    return f"{strategy}-{formatted_instant}-{symbol}-{leg}-{attempt}"


def parse_order_prefix(client_order_id: str) -> str:
    """Return the prefix of a client order id: the strategy's name or the configured order tag.

    The prefix may contain dashes. The parts after it do not.
    """
    return client_order_id.rsplit("-", 4)[0]


def parse_order_symbol(client_order_id: str) -> str:
    """Return the symbol in one of our client order ids."""
    return client_order_id.rsplit("-", 4)[2]


def parse_order_leg(client_order_id: str) -> str:
    """Return the number of the order in one of our client order ids, or `PROTECTIVE_LEG`."""
    return client_order_id.rsplit("-", 4)[3]


def parse_order_instant(client_order_id: str) -> np.datetime64:
    """Return the instant in one of our client order ids."""
    return parse_compact_utc(client_order_id.rsplit("-", 4)[1])


def is_protective_id(client_order_id: str) -> bool:
    """Return whether an id is that of a protective order, or of an order that closes for it."""
    return client_order_id.rsplit("-", 2)[1:2] == [PROTECTIVE_LEG]


def is_protective_order(order: Order) -> bool:
    """Return whether an order protects a position: a stop that rests at the venue."""
    return is_protective_id(order.client_order_id) and order.type in STOP_TYPES
