"""Alpaca's words about an account, its positions and its open orders, as an `Account`.

It reads only the fields that it needs, so that a field which the venue drops or adds changes
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, get_args

import numpy as np
import pandas as pd

from execution.orders import Account, Order, OrderType, TimeInForce, coin_bids
from foundation.errors import BrokerError
from trainingdata.instruments import instrument, is_symbol

BLOCKS = ("trading_blocked", "account_blocked", "trade_suspended_by_user")
ORDER_TYPES: tuple[OrderType, ...] = get_args(OrderType)
TIMES_IN_FORCE: tuple[TimeInForce, ...] = get_args(TimeInForce)
NOTHING = Decimal(0)


def account_of(
    facts: Mapping[str, Any],
    positions: list[Mapping[str, Any]],
    orders: list[Mapping[str, Any]],
    clock: Mapping[str, Any],
) -> Account:
    """The account that four answers of the venue describe.

    Parameters
    ----------
    facts, positions, orders, clock:
        Answers to /account, /positions, /orders (open ones) and /clock.

    Raises
    ------
    BrokerError
        for an answer without what an account needs.
    """
    cash = float(number(facts, "cash"))
    short_proceeds = 0.0
    held: dict[str, Decimal] = {}
    prices: dict[str, float] = {}
    for position in positions:
        # Options, and pairs of two coins, are not positions of ours. What is owed on them is taken
        # off cash; what they are worth is not cash yet.
        if not _is_stock_or_coin(position):
            cash += min(float(number(position, "market_value")), 0.0)
            continue
        symbol = instrument(str(position.get("symbol"))).symbol
        quantity = number(position, "qty")
        price = float(number(position, "current_price"))
        held[symbol] = quantity
        prices[symbol] = price
        if quantity < 0:
            short_proceeds += float(-quantity * number(position, "avg_entry_price"))
    free = cash - short_proceeds
    # Coins are bought with settled cash alone, which the venue gives as what is not marginable.
    settled = free
    if facts.get("non_marginable_buying_power"):
        settled = float(number(facts, "non_marginable_buying_power"))
    open_orders = tuple(order for entry in orders for order in _open_orders(entry, prices))
    leverage = float(number(facts, "multiplier")) if facts.get("multiplier") else float("inf")
    if leverage < 1:
        raise BrokerError(f"the answer makes no sense: multiplier is {facts['multiplier']!r}")
    # The venue has taken open bids for coins off its figure, and the account takes them off as
    # well: counted as unsettled cash they would be taken off twice.
    unsettled = max(free - settled - coin_bids(open_orders, prices), 0.0)
    return Account(
        cash=cash,
        positions=held,
        prices=prices,
        as_of=instant_of(clock["timestamp"]),
        open_orders=open_orders,
        unsettled=unsettled,
        short_proceeds=short_proceeds,
        leverage=leverage,
        shorting=facts.get("shorting_enabled") is not False,
        blocked=any(facts.get(name) is True for name in BLOCKS),
    )


def _is_stock_or_coin(position: Mapping[str, Any]) -> bool:
    name = str(position.get("symbol"))
    coin_in_coins = position.get("asset_class") == "crypto" and not name.endswith("USD")
    return is_symbol(name) and not coin_in_coins


def _open_orders(entry: Mapping[str, Any], prices: Mapping[str, float]) -> list[Order]:
    """What remains of an open order of a stock or coin: one order, or none.

    Its legs are not among them: they wait for the order, and take back what it opens.
    """
    name = str(entry.get("symbol"))
    if not is_symbol(name):
        return []
    symbol = instrument(name).symbol
    limit = _price(entry, "limit_price")
    stop = _price(entry, "stop_price")
    if entry.get("qty"):
        quantity = number(entry, "qty") - number(entry, "filled_qty", NOTHING)
    else:
        price = limit or prices.get(symbol)
        if price is None:
            raise BrokerError(
                f"order {entry.get('client_order_id')}: {symbol} is ordered by value and has no"
                " price"
            )
        quantity = Decimal(repr(float(number(entry, "notional")) / price))
    if quantity <= 0:
        return []
    kind: OrderType = next((kind for kind in ORDER_TYPES if kind == entry.get("type")), "market")
    force: TimeInForce = next(
        (force for force in TIMES_IN_FORCE if force == entry.get("time_in_force")), "day"
    )
    trail_price = _price(entry, "trail_price")
    trail_percent = _price(entry, "trail_percent")
    order = Order(
        client_order_id=str(entry["client_order_id"]),
        symbol=symbol,
        side="buy" if entry["side"] == "buy" else "sell",
        qty=quantity,
        reason="open at the venue",
        type=kind,
        tif=force,
        limit_price=limit if "limit" in kind else None,
        stop_price=stop if kind in ("stop", "stop_limit") else None,
        trail_price=trail_price if kind == "trailing_stop" else None,
        trail_percent=trail_percent if kind == "trailing_stop" else None,
    )
    return [order]


def _price(entry: Mapping[str, Any], name: str) -> float | None:
    return float(entry[name]) if entry.get(name) else None


def number(entry: Mapping[str, Any], name: str, default: Decimal | None = None) -> Decimal:
    """The exact number in a field; the default, where there is one, for a field without a value.

    Raises
    ------
    BrokerError
        for a field that holds no number.
    """
    value = entry.get(name)
    if default is not None and not value:
        return default
    try:
        exact = Decimal(str(value))
    except InvalidOperation:
        raise BrokerError(f"the answer makes no sense: {name} is {value!r}, not a number") from None
    if not exact.is_finite():
        raise BrokerError(f"the answer makes no sense: {name} is {value!r}, not a number")
    return exact


def instant_of(text: Any) -> np.datetime64:
    """The instant of a time stamp with a zone.

    Raises
    ------
    BrokerError
        for anything else.
    """
    stamp = pd.to_datetime(text)
    if pd.isna(stamp) or stamp.tzinfo is None:
        raise BrokerError(f"the answer makes no sense: the time is {text!r}")
    return np.datetime64(stamp.tz_convert("UTC").tz_localize(None), "ns")
