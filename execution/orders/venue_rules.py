"""Rules of a venue: reasons why it refuses an order, and trading properties of symbols."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Literal

import numpy as np

from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.auctions import auction_refusal_reason
from execution.orders.broker import Asset, Broker
from execution.orders.orders import DEFAULT_SIZE_LIMITS, Order, OrderSizeLimits
from trainingdata.bars import Bars
from trainingdata.instruments import MIN_CRYPTO_QTY, AssetClass

_ZERO = Decimal(0)
_CENT = Decimal("0.01")
_HUNDREDTH_OF_CENT = Decimal("0.0001")
IncrementSource = Literal["original", "broker"]
ACCOUNT_BLOCKED_TEXT = "the venue has blocked this account from trading"


def venue_refusal_reason(
    order: Order,
    asset: Asset | None = None,
    account: AccountSnapshot | None = None,
    size_limits: OrderSizeLimits = DEFAULT_SIZE_LIMITS,
    at: np.datetime64 | None = None,
) -> str:
    """Return why the venue would refuse an order, or an empty string.

    order: order to be sent.
    asset: the venue's properties of the symbol; None if unknown.
    account: account with positions and open orders; None if unknown.
    size_limits: minimum and maximum values of an order.
    at: instant at which the order is sent; None skips the check of auction times.
    """
    # The simulator applies Alpaca's rules as well, so that a backtest trades nothing that the venue
    # would have refused.
    coin = order.instrument.kind is AssetClass.CRYPTO
    fraction = order.qty % 1 != 0
    if fraction and order.qty % MIN_CRYPTO_QTY:
        return f"quantity {order.qty:f} has more than nine decimals"
    why = _order_type_refusal(order, coin, fraction) or tick_size_refusal_reason(order)
    if not why and at is not None:
        why = auction_refusal_reason(order, at)
    if not why and asset is not None:
        why = _asset_refusal(order, coin, fraction, asset)
    if not why and account is not None:
        why = _account_refusal(order, coin, fraction, account, size_limits)
    return why


def _order_type_refusal(order: Order, coin: bool, fraction: bool) -> str:
    """Return why the order type, the time in force or extended hours are not allowed, or "".

    coin: true for crypto.
    fraction: true if the quantity has a fraction of a share.
    """
    if coin:
        sound = order.type in ("market", "limit", "stop_limit") and order.tif == "gtc"
        if sound and not order.extended_hours:
            return ""
        return "crypto accepts only market, limit and stop-limit orders, good till cancelled"
    if fraction and order.tif != "day":
        return "fractions of a share can only be traded by day orders"
    # docs.alpaca.markets/docs/fractional-trading: market, limit, stop and stop-limit orders.
    if fraction and order.type == "trailing_stop":
        return "fractions of a share accept no trailing stop"
    day_or_gtc = order.tif in ("day", "gtc")
    if order.extended_hours and (order.type != "limit" or not day_or_gtc):
        return "outside regular hours only limit orders (day or gtc) are accepted"
    if order.tif in ("opg", "cls") and order.type not in ("market", "limit"):
        return "opening and closing auctions accept only market and limit orders"
    if order.type == "trailing_stop" and not day_or_gtc:
        return "a trailing stop must be a day or gtc order"
    return ""


def tick_size_refusal_reason(order: Order) -> str:
    """Return Alpaca's error text if a stock price is not on the tick grid, else an empty string.

    At 1 USD and above a price has at most two decimals, below 1 USD four (Rule 612 of Regulation
    NMS; docs.alpaca.markets/docs/orders-at-alpaca). Alpaca's page does not have the half-cent ticks
    that the rule allows from 2026 on.
    """
    if order.instrument.kind is AssetClass.CRYPTO:
        return ""
    for name in ("limit_price", "stop_price"):
        if (value := getattr(order, name)) is None:
            continue
        price = Decimal(repr(value))
        if price % (_CENT if price >= 1 else _HUNDREDTH_OF_CENT):
            return (
                f"invalid {name} {price:f}. sub-penny increment does not fulfill minimum pricing"
                " criteria"
            )
    return ""


def stop_price_refusal_reason(order: Order, price: float | None) -> str:
    """Return Alpaca's error text if the market has passed a stop, else an empty string.

    Alpaca refuses it (422, code 42210000), whether the market is open or not.

    price: present price, USD; None if unknown.
    """
    if order.stop_price is None or price is None:
        return ""
    buys = order.side == "buy"
    if order.stop_price > price if buys else order.stop_price < price:
        return ""
    return f"stop price must be {'greater' if buys else 'less'} than current price, {price:g}"


def _asset_refusal(order: Order, coin: bool, fraction: bool, asset: Asset) -> str:
    """Return why the asset cannot be traded in this quantity or sold short, or "".

    coin: true for crypto.
    fraction: true if the quantity has a fraction of a share.
    """
    opens_short = order.side == "sell" and not order.reduces and not coin
    if not asset.tradable:
        return f"{order.symbol} is not tradable now"
    # A short of a hard-to-borrow stock needs a locate first, which this project does not request.
    if opens_short and not (asset.shortable and asset.easy_to_borrow):
        return f"{order.symbol} cannot be sold short now"
    if not coin and fraction and (not asset.fractionable or opens_short):
        where = " when sold short" if opens_short else ""
        return f"{order.symbol} trades in whole shares only{where}"
    if order.qty % asset.increment or order.qty < asset.min_order_qty:
        return (
            f"the quantity of {order.symbol} must be a multiple of {asset.increment:f} and at least"
            f" {asset.min_order_qty:f}, got {order.qty:f}"
        )
    return ""


def _account_refusal(
    order: Order, coin: bool, fraction: bool, account: AccountSnapshot, terms: OrderSizeLimits
) -> str:
    """Return why the account's order value, open orders or position rule the order out, or "".

    coin: true for crypto.
    fraction: true if the quantity has a fraction of a share.
    """
    held = account.positions.get(order.symbol, _ZERO)
    change = order.signed_qty
    closes = change == -held
    if coin or (fraction and not closes):
        price = order.limit_or_stop_price or account.prices.get(order.symbol)
        if why := _value_refusal(order, coin, closes, price, terms):
            return why
    if account.block_reason:
        return account.block_reason
    if why := stop_price_refusal_reason(order, account.prices.get(order.symbol)):
        return why
    waiting = account.open_orders
    same_symbol = [o for o in waiting if o.symbol == order.symbol] if waiting else []
    for other in same_symbol:
        if _would_self_trade(order, other):
            return f"it would trade with our own order {other.client_order_id} (a wash trade)"
    # The venue accepts no order that crosses zero: a position is closed before the opposite one
    # opens. The part that open orders of the same side will close cannot be closed again.
    if held * change < 0:
        closing = sum((o.qty for o in same_symbol if o.side == order.side), _ZERO)
        free = abs(held) - closing
        if order.qty > free:
            return (
                f"insufficient qty available: {max(free, _ZERO):f} of {held:f} may be closed;"
                " close the position before opening the opposite one"
            )
    return ""


def _value_refusal(
    order: Order, coin: bool, closes: bool, price: float | None, terms: OrderSizeLimits
) -> str:
    """Return why the value of a crypto order or a fractional share order is not allowed, or "".

    coin: true for crypto.
    closes: true if the order closes the whole position.
    price: price of one unit, USD; None if unknown.
    """
    if price is None:
        return ""
    worth = order.qty * Decimal(repr(price))
    least = terms.min_value_when_sent(is_crypto=coin, closes_position=closes)
    if worth < Decimal(repr(least)):
        if not coin:
            return (
                f"order value ${worth:.2f} is below the minimum for a fraction of a share,"
                f" ${least:g} (orders.min_fractional_value)"
            )
        if closes:
            return (
                f"{order.symbol} is dust: the position of ${worth:.4f} is below the smallest sale,"
                f" ${least:g} (orders.crypto_dust)"
            )
        return (
            f"order value ${worth:.2f} is below the minimum for a crypto order that does not close"
            f" its position, ${least:g} (orders.min_crypto_value)"
        )
    if coin and worth > Decimal(repr(terms.max_crypto_value)):
        return (
            f"order value ${worth:,.0f} exceeds the maximum for a crypto order,"
            f" ${terms.max_crypto_value:,.0f} (orders.max_crypto_value)"
        )
    return ""


def _would_self_trade(order: Order, other: Order) -> bool:
    """Return whether two orders of the same account could trade with each other."""
    if order.side == other.side:
        return False
    # The venue refuses opposite open orders that would meet, on paper accounts too. A market order
    # meets any other, and so does a stop, which becomes one (403, code 40310000, "potential wash
    # trade detected": "opposite side market/stop order exists", and of a stop beside a limit order
    # "use complex/limit/stop_limit orders"; docs.alpaca.markets/docs/user-protection).
    if {order.type, other.type} & {"market", "stop", "trailing_stop"}:
        return True
    buy, sale = (order, other) if order.side == "buy" else (other, order)
    return (buy.limit_price or 0.0) >= (sale.limit_price or 0.0)


class VenueRules:
    """The venue's trading properties of symbols, which are queried once a day."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._read_for: tuple[np.datetime64, tuple[str, ...]] | None = None
        self._assets: Mapping[str, Asset] = {}

    def apply(self, bars: Bars, now: np.datetime64, increments: IncrementSource) -> Bars:
        """Return the panel with the venue's trading properties of its symbols.

        increments: `broker` uses the venue's quantity increments of crypto, `original` keeps those
            of the panel.
        """
        request = now.astype("datetime64[D]"), bars.symbols
        if request != self._read_for:
            self._assets = self._broker.assets(bars.symbols)
            self._read_for = request
        known = {symbol: self._assets.get(symbol) for symbol in bars.symbols}
        return with_venue_rules(bars, known, increments)


def with_venue_rules(
    bars: Bars, assets: Mapping[str, Asset | None], increments: IncrementSource
) -> Bars:
    """Return the panel with the venue's trading properties of the given symbols.

    A symbol that the venue does not know is not tradable.

    assets: properties by symbol; None for a symbol that the venue does not know.
    increments: `broker` uses the venue's quantity increments of crypto, `original` keeps those of
        the panel.
    """
    items = []
    for item in bars.instruments:
        if item.symbol in assets:
            asset = assets[item.symbol]
            if asset is None:
                item = replace(item, is_tradable=False)
            else:
                its_own = increments == "broker" and item.kind is AssetClass.CRYPTO
                item = replace(
                    item,
                    qty_increment=asset.increment if its_own else item.qty_increment,
                    min_order_qty=asset.min_order_qty
                    if item.kind is AssetClass.CRYPTO
                    else item.min_order_qty,
                    is_tradable=asset.tradable,
                    is_borrowable=asset.shortable and asset.easy_to_borrow,
                )
        items.append(item)
    return replace(bars, instruments=tuple(items))
