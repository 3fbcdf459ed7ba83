"""Whether a broker keeps what the system relies on: for one of a user's own, before money."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal

import numpy as np

from execution.broker import Asset, Broker
from execution.orders import Account, Fill, Order, TimeInForce, client_order_id
from trainingdata.instruments import is_coin

STRATEGY = "conformance"
ROOM = 0.01  # of what fills cost: fees that are booked apart from them
CENT = 0.01  # USD
FAR = 0.1  # from the last price, as a fraction of it, is no price of the same market


def check_broker(
    broker: Broker, symbol: str, quantity: Decimal, *, flat: bool = True
) -> tuple[str, ...]:
    """What a broker does that the system does not expect, a sentence each; none if it conforms.

    It TRADES: a limit order far below the market is sent, sent again and cancelled, then `quantity`
    of `symbol` is bought at the market and, if `flat`, sold again. For a paper account or a
    simulation, while the market is open.
    """
    return tuple(_faults(broker, symbol, quantity, flat))


def _faults(broker: Broker, symbol: str, quantity: Decimal, flat: bool) -> Iterator[str]:
    if not isinstance(broker.now(), np.datetime64):
        yield "now must be a numpy datetime64 in UTC"
        return
    yield from _faults_of_what_it_knows(broker, symbol)
    began = broker.now()
    account = broker.account()
    if not isinstance(account, Account):
        yield "account must be an execution.Account"
        return
    ended = broker.now()
    if not began <= account.as_of <= ended:
        yield f"account: as of {account.as_of}, asked for between {began} and {ended} by its clock"
    if symbol not in account.prices:
        yield f"account: no price of {symbol}; what is traded has to have one"
        return
    price = account.prices[symbol]
    resting = Order(
        client_order_id(STRATEGY, broker.now(), symbol, 0),
        symbol,
        "buy",
        quantity,
        "conformance",
        type="limit",
        tif="gtc",
        limit_price=round(price / 2, 2),
    )
    yield from _faults_of_a_resting_order(broker, resting)
    yield from _faults_of_a_round_trip(broker, symbol, quantity, flat)


def _faults_of_what_it_knows(broker: Broker, symbol: str) -> Iterator[str]:
    assets = broker.assets([symbol, "NOTLISTED"])
    if not isinstance(assets.get(symbol), Asset):
        yield f"assets must say what may be done with {symbol}"
    if "NOTLISTED" in assets:
        yield "assets must leave out what the venue does not know"


def _faults_of_a_resting_order(broker: Broker, order: Order) -> Iterator[str]:
    fills = broker.submit([order])
    if fills:
        yield "a limit order at half the price fills"
    working = [o.client_order_id for o in broker.account().open_orders]
    if order.client_order_id not in working:
        yield "an order that waits is not among the account's open orders"
    broker.submit([order])
    working = [o.client_order_id for o in broker.account().open_orders]
    if working.count(order.client_order_id) > 1:
        yield "the same client order id sent twice makes two orders"
    left = broker.cancel([order.client_order_id, "never-sent"])
    if left != {order.client_order_id: order.qty}:
        yield "cancel must say what of each order has not filled, and nothing of unknown ones"
    working = [o.client_order_id for o in broker.account().open_orders]
    if order.client_order_id in working:
        yield "a cancelled order still works"


def _faults_of_a_round_trip(
    broker: Broker, symbol: str, quantity: Decimal, flat: bool
) -> Iterator[str]:
    began = broker.now()
    before = broker.account()
    held = before.positions.get(symbol, Decimal(0))
    tif: TimeInForce = "gtc" if is_coin(symbol) else "day"
    name = client_order_id(STRATEGY, began, symbol, 1)
    order = Order(name, symbol, "buy", quantity, "conformance", tif=tif)
    fills = broker.submit([order])
    bought = sum((f.qty for f in fills if f.client_order_id == order.client_order_id), Decimal(0))
    after = broker.account()
    now_held = after.positions.get(symbol, Decimal(0))
    if now_held - held != bought:
        yield f"fills say {bought} of {symbol} was bought, the account {now_held - held}"
    if not bought:
        yield "a market order does not fill: is the market open?"
        return
    yield from _faults_of_what_was_paid(before, after, [f for f in fills if f.symbol == symbol])
    again = broker.submit([order])
    if again or broker.account().positions.get(symbol, Decimal(0)) != now_held:
        yield "an order whose id was used before trades again"
    earlier = began - np.timedelta64(1, "h")
    if order.client_order_id not in {f.client_order_id for f in broker.fills_since(earlier)}:
        yield "fills_since lacks a fill that submit returned"
    if flat:
        name = client_order_id(STRATEGY, began, symbol, 2)
        broker.submit([Order(name, symbol, "sell", bought, "conformance", reduces=True, tif=tif)])
        if broker.account().positions.get(symbol, Decimal(0)) != held:
            yield "selling what was bought does not bring back the position"


def _faults_of_what_was_paid(
    before: Account, after: Account, fills: Sequence[Fill]
) -> Iterator[str]:
    paid = sum(float(fill.qty) * fill.price + fill.fee for fill in fills)
    spent = before.cash - after.cash
    if abs(spent - paid) > ROOM * paid + CENT:
        yield f"fills say that {paid:,.2f} USD was paid, the account's cash {spent:,.2f}"
    for fill in fills:
        price = before.prices[fill.symbol]
        # What a fee takes in coin has no price.
        if fill.price and abs(fill.price / price - 1) > FAR:
            yield f"{fill.symbol} fills at {fill.price}, and the account prices it at {price}"
        if fill.at < before.as_of:
            yield f"a fill at {fill.at}, of an order sent after {before.as_of}"
