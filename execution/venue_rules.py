"""What a venue allows: why it would refuse an order, and what may be done with a symbol today."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Protocol

import numpy as np

from execution.broker import Asset, Broker
from execution.orders import TERMS, Order, OrderTerms
from trainingdata.bars import Bars
from trainingdata.instruments import BILLIONTH, Instrument, Kind, instrument

_NOTHING = Decimal(0)
BLOCKED = "the venue has blocked this account from trading"


class Standing(Protocol):
    """What of an account decides whether an order is taken."""

    @property
    def positions(self) -> Mapping[str, Decimal]:
        """Signed quantities, by symbol."""

    @property
    def prices(self) -> Mapping[str, float]:
        """Last known price in USD, by symbol."""

    @property
    def open_orders(self) -> Sequence[Order]:
        """What still waits."""

    @property
    def blocked(self) -> bool:
        """Whether the account takes no orders at all."""


def refusal(
    order: Order,
    asset: Asset | None = None,
    account: Standing | None = None,
    terms: OrderTerms = TERMS,
) -> str:
    """Why the venue would not take an order, in words; empty where it would.

    asset: what it allows with the symbol, account: what is held and open, where these are known.
    """
    coin = instrument(order.symbol).kind is Kind.CRYPTO
    fraction = order.qty % 1 != 0
    if fraction and order.qty % BILLIONTH:
        return f"a quantity has nine decimals at most, not {order.qty:f}"
    return (
        _misshapen(order, coin, fraction)
        or (_not_allowed(order, coin, fraction, asset) if asset is not None else "")
        or (_out_of_place(order, coin, fraction, account, terms) if account is not None else "")
    )


def _misshapen(order: Order, coin: bool, fraction: bool) -> str:
    """Coins trade as market, limit and stop-limit orders, gtc or ioc; fractions of a share and
    the auctions for a day.
    """
    if coin:
        sound = order.type in ("market", "limit", "stop_limit") and order.tif in ("gtc", "ioc")
        sound &= not (order.legs or order.extended_hours)
        return (
            ""
            if sound
            else "coins take market, limit and stop-limit orders, gtc or ioc, without exits"
        )
    if fraction and order.tif != "day":
        return "fractions of a share trade in day orders only"
    if fraction and order.legs:
        return "orders with exits are in whole shares"
    if order.extended_hours and (order.type != "limit" or order.tif not in ("day", "gtc")):
        return "outside regular hours only limit orders trade, day or gtc"
    if order.tif in ("opg", "cls") and order.type not in ("market", "limit"):
        return "the opening and the closing print take market and limit orders"
    if order.type == "trailing_stop" and order.tif not in ("day", "gtc"):
        return "trailing stops are day or gtc"
    if order.legs and order.tif not in ("day", "gtc"):
        return "orders with exits are day or gtc"
    return ""


def _not_allowed(order: Order, coin: bool, fraction: bool, asset: Asset) -> str:
    """A fraction of what has none, a short of what cannot be borrowed, a quantity between the
    asset's steps.
    """
    opens_short = order.side == "sell" and not order.reduces and not coin
    if not asset.tradable:
        return f"{order.symbol} is not tradable now"
    if opens_short and not (asset.shortable and asset.easy_to_borrow):
        return f"{order.symbol} cannot be sold short now"
    if not coin and fraction and (not asset.fractionable or opens_short):
        return f"{order.symbol} trades in whole shares" + (
            " where it is sold short" if opens_short else ""
        )
    if order.qty % asset.increment or order.qty < asset.smallest:
        return (
            f"quantities of {order.symbol} are multiples of {asset.increment:f}, at least"
            f" {asset.smallest:f}"
        )
    return ""


def _out_of_place(
    order: Order, coin: bool, fraction: bool, account: Standing, terms: OrderTerms
) -> str:
    """Too small or too large, against the account's own open order, or through zero.

    A position is closed before the opposite one is opened; what closes one whole is never too
    small.
    """
    held = account.positions.get(order.symbol, _NOTHING)
    change = order.signed_qty
    if coin or (fraction and change != -held):
        price = order.limit_price or order.stop_price or account.prices.get(order.symbol)
        if why := _worth_too_little_or_much(order, coin, price, terms):
            return why
    if account.blocked:
        return BLOCKED
    waiting = account.open_orders
    beside = [other for other in waiting if other.symbol == order.symbol] if waiting else []
    for other in beside:
        if _meets(order, other):
            return f"it would trade with the account's own {other.client_order_id} (a wash trade)"
    if held * change < 0:
        free = abs(held) - sum(
            (other.qty for other in beside if other.side == order.side), Decimal(0)
        )
        if order.qty > free:
            return (
                f"insufficient qty available: {max(free, Decimal(0)):f} of {held:f} may be closed;"
                " no order goes through 0"
            )
    return ""


def _worth_too_little_or_much(
    order: Order, coin: bool, price: float | None, terms: OrderTerms
) -> str:
    worth = None if price is None else float(order.qty) * price
    if worth is not None and not coin and worth < terms.smallest_fraction:
        return (
            f"a fraction of a share is worth ${terms.smallest_fraction:g} at least, this"
            f" ${worth:.2f}"
        )
    if worth is not None and coin and worth > terms.largest_coin:
        return f"an order of coins is worth ${terms.largest_coin:,.0f} at most, this ${worth:,.0f}"
    return ""


def _meets(order: Order, other: Order) -> bool:
    """Whether two orders of one account would trade with each other."""
    if order.side == other.side:
        return False
    if "market" in (order.type, other.type):
        return True
    buy, sale = (order, other) if order.side == "buy" else (other, order)
    both = buy.limit_price is not None and sale.limit_price is not None
    return both and buy.limit_price >= sale.limit_price  # type: ignore[operator]


class VenueRules:
    """What the venue allows with each symbol, read once a day."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._asked: tuple[np.datetime64, tuple[str, ...]] | None = None
        self._assets: Mapping[str, Asset] = {}

    def applied(self, bars: Bars, now: np.datetime64, *, increments: bool) -> Bars:
        """The panel with what its symbols allow: whether they trade and can be short; increments:
        the venue's, for coins.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """
        asked = now.astype("datetime64[D]"), bars.symbols
        if asked != self._asked:
            self._assets = self._broker.assets(bars.symbols)
            self._asked = asked
        return replace(
            bars, instruments=tuple(self._allowed(item, increments) for item in bars.instruments)
        )

    def _allowed(self, item: Instrument, increments: bool) -> Instrument:
        asset = self._assets.get(item.symbol)
        return (
            replace(item, tradable=False)
            if asset is None
            else allowed(item, asset, increments=increments)
        )


def allowed(item: Instrument, asset: Asset, *, increments: bool) -> Instrument:
    """The instrument with what the venue allows; increments: its steps, for coins."""
    step = asset.increment if increments and item.kind is Kind.CRYPTO else item.increment
    borrowable = asset.shortable and asset.easy_to_borrow
    return replace(item, increment=step, tradable=asset.tradable, borrowable=borrowable)
