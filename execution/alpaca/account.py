"""An account in the venue's words, as ours.

It takes what it needs: a field that the venue drops or adds changes nothing.
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
TYPES: tuple[OrderType, ...] = get_args(OrderType)
TIMES: tuple[TimeInForce, ...] = get_args(TimeInForce)


def account_of(
    facts: Mapping[str, Any],
    positions: list[Mapping[str, Any]],
    orders: list[Mapping[str, Any]],
    clock: Mapping[str, Any],
) -> Account:
    """The account in the venue's words, as ours.

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
        name = str(position.get("symbol"))
        pair = position.get("asset_class") == "crypto" and not name.endswith("USD")
        if pair or not is_symbol(name):
            cash += min(float(number(position, "market_value")), 0.0)
            continue
        symbol = instrument(name).symbol
        quantity = number(position, "qty")
        price = float(number(position, "current_price"))
        held[symbol] = quantity
        prices[symbol] = price
        if quantity < 0:
            short_proceeds += float(-quantity * number(position, "avg_entry_price"))
    free = cash - short_proceeds
    settled = (
        float(number(facts, "non_marginable_buying_power"))
        if facts.get("non_marginable_buying_power")
        else free
    )
    open_orders = tuple(order for entry in orders for order in _legs(entry, prices))
    multiplier = float(number(facts, "multiplier")) if facts.get("multiplier") else float("inf")
    if multiplier < 1:
        raise BrokerError(f"the answer makes no sense: multiplier is {facts['multiplier']!r}")
    return Account(
        cash=cash,
        positions=held,
        prices=prices,
        as_of=instant_of(clock["timestamp"]),
        open_orders=open_orders,
        unsettled=max(
            free - settled - coin_bids(open_orders, prices), 0.0
        ),  # what the venue sets aside for bids as well
        short_proceeds=short_proceeds,
        leverage=multiplier,
        shorting=facts.get("shorting_enabled") is not False,
        blocked=any(facts.get(name) is True for name in BLOCKS),
    )


def _legs(entry: Mapping[str, Any], prices: Mapping[str, float]) -> list[Order]:
    """What is left of an open order of a stock or coin; its legs wait for it, and take back
    what it opens.
    """
    name = str(entry.get("symbol"))
    if not is_symbol(name):
        return []
    symbol = instrument(name).symbol
    limit, stop = (float(entry[k]) if entry.get(k) else None for k in ("limit_price", "stop_price"))
    if entry.get("qty"):
        quantity = number(entry, "qty") - (
            number(entry, "filled_qty") if entry.get("filled_qty") else Decimal(0)
        )
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
    kind: OrderType = next((kind for kind in TYPES if kind == entry.get("type")), "market")
    trails: dict[str, Any] = {
        name: float(entry[name]) for name in ("trail_price", "trail_percent") if entry.get(name)
    }
    return [
        Order(
            client_order_id=str(entry["client_order_id"]),
            symbol=symbol,
            side="buy" if entry["side"] == "buy" else "sell",
            qty=quantity,
            reason="open at the venue",
            type=kind,
            tif=next((force for force in TIMES if force == entry.get("time_in_force")), "day"),
            limit_price=limit if "limit" in kind else None,
            stop_price=stop if kind in ("stop", "stop_limit") else None,
            **(trails if kind == "trailing_stop" else {}),
        )
    ]


def number(entry: Mapping[str, Any], name: str) -> Decimal:
    """The exact number of a field.

    Raises
    ------
    BrokerError
        where there is none.
    """
    value = entry.get(name)
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise BrokerError(f"the answer makes no sense: {name} is {value!r}, not a number") from None
    if not number.is_finite():
        raise BrokerError(f"the answer makes no sense: {name} is {value!r}, not a number")
    return number


def instant_of(text: Any) -> np.datetime64:
    """The instant of a stamp with a zone.

    Raises
    ------
    BrokerError
        for anything else.
    """
    stamp = pd.to_datetime(text)
    if pd.isna(stamp) or stamp.tzinfo is None:
        raise BrokerError(f"the answer makes no sense: the time is {text!r}")
    return np.datetime64(stamp.tz_convert("UTC").tz_localize(None), "ns")
