"""Interface of a broker, and the sequence in which the orders of a decision are sent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import inf
from types import MappingProxyType
from typing import NamedTuple, Protocol

import numpy as np

from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.gate import ALLOW_ALL_ORDERS, AllowAllGate, OrderGate, infer_order_role
from execution.orders.orders import Fill, Order, parse_order_symbol
from foundation.errors import AccountChanged, BrokerError, OutcomeUnknown

# Least filled fraction of an order that counts as complete: a float cannot represent tens of
# millions of units of crypto exactly to the billionth.
MIN_COMPLETE_FILL_RATIO = 1 - 1e-12
BUDGET_TOLERANCE_USD = 1e-6  # rounding error of sums of values
# Attempts to cancel the orders that a decision replaces, of about four seconds each. After them the
# orders that still wait for a cancellation are not sent.
MAX_CANCEL_ATTEMPTS = 8


class CancellationPending(OutcomeUnknown):
    """Orders are still open after their cancellation was requested.

    unfilled: unfilled quantities of the orders that have ended, by client order id.
    reasons: reasons for which the other orders are still open, by client order id.
    """

    def __init__(self, unfilled: Mapping[str, Decimal], reasons: Mapping[str, str]) -> None:
        super().__init__("; ".join(reasons.values()))
        self.unfilled = unfilled
        self.reasons = reasons


@dataclass(frozen=True, slots=True)
class Asset:
    """Trading properties of a symbol at the venue.

    symbol: name of the symbol.
    tradable: true if the venue accepts orders for the symbol.
    shortable: true if the symbol can be sold short.
    easy_to_borrow: true if the symbol can be sold short without locating shares first.
    fractionable: true if fractions of a share can be traded.
    increment: quantity increment: orders are for multiples of it.
    min_order_qty: smallest quantity of an order.
    """

    symbol: str
    tradable: bool
    shortable: bool
    easy_to_borrow: bool
    fractionable: bool
    increment: Decimal
    min_order_qty: Decimal


class Broker(Protocol):
    """Interface of a broker: it reads one account, and sends and cancels its orders."""

    def now(self) -> np.datetime64: ...
    def account(self) -> AccountSnapshot: ...

    def submit(self, orders: Sequence[Order], gate: OrderGate = ALLOW_ALL_ORDERS) -> list[Fill]:
        """Send orders in sequence, and return their fills.

        The remainder of a market order that does not fill at once is cancelled. A rejected order
        has no fills. An order whose id was used before does not trade again.

        gate: pre-trade checks that run right before each order is sent; the simulator ignores them.
        """
        ...

    def cancel(self, client_order_ids: Iterable[str]) -> Mapping[str, Decimal]:
        """Cancel resting orders by id, and return the unfilled quantity of each.

        All other orders stay open. An order that the venue does not know is left out of the result.

        Raises
        ------
        CancellationPending
            if an order is still open after all cancellations were requested.
        """
        ...

    def assets(self, symbols: Sequence[str]) -> Mapping[str, Asset]:
        """Return the properties of each symbol that the venue knows, by symbol."""
        ...


class Cancellations(NamedTuple):
    """Result of cancelling orders; orders that the venue does not know are in neither mapping.

    unfilled: unfilled quantities of the orders that have ended, by client order id.
    reasons: reasons for which the other orders are still open, by client order id.
    """

    unfilled: Mapping[str, Decimal] = MappingProxyType({})
    reasons: Mapping[str, str] = MappingProxyType({})


class Placement(NamedTuple):
    """Result of sending the orders of a decision.

    fills: fills of the orders.
    unsent_reasons: reason by symbol for which orders were not sent: an order that they replace is
        still open, or has filled meanwhile.
    """

    fills: list[Fill]
    unsent_reasons: Mapping[str, str] = MappingProxyType({})


def place_orders(
    broker: Broker,
    orders: Sequence[Order],
    cancels: Mapping[str, Decimal] | None = None,
    gate: OrderGate = ALLOW_ALL_ORDERS,
) -> Placement:
    """Cancel the orders that a decision replaces, send its reductions, then its openings.

    Openings were sized for the reduced positions. If a reduction did not fill completely (a halt, a
    missing bar), only the openings that `affordable_openings` returns are sent; the next decision
    sizes the rest. Orders for an auction are sent together, because all of them fill at one price.
    If the gate refuses all orders in a symbol, no order in it is cancelled. A slow cancellation
    delays only the orders in its symbol.

    cancels: unfilled quantity of each open order that the decision replaces, by order id.
    gate: pre-trade checks that run right before each order is sent.

    Raises
    ------
    AccountChanged
        if an order to be cancelled has filled since the decision, because the new order would
        repeat its trade.
    """
    fills: list[Fill] = []
    # An order that is replaced would trade with its successor; venues refuse that.
    left = _allowed_cancels(broker, orders, cancels or {}, gate)
    unsent = list(orders)
    changed: dict[str, str] = {}  # symbols in which a replaced order has filled meanwhile
    waiting: Mapping[str, str] = {}
    for attempt in range(MAX_CANCEL_ATTEMPTS):
        result = cancel_orders(broker, left)
        changed |= {
            parse_order_symbol(name): f"order {name} has filled since the decision to replace it"
            for name, quantity in left.items()
            if name not in result.reasons and result.unfilled.get(name) != quantity
        }
        if changed and not attempt:
            raise AccountChanged(f"{next(iter(changed.values()))}; no orders were sent")
        waiting = {parse_order_symbol(name): why for name, why in result.reasons.items()}
        left = {name: left[name] for name in result.reasons}
        free = [o for o in unsent if o.symbol not in waiting and o.symbol not in changed]
        unsent = [order for order in unsent if order.symbol in waiting]
        reductions = [order for order in free if order.reduces]
        openings = [order for order in free if not order.reduces]
        fills += (done := broker.submit(reductions, gate))
        if unfilled := _unfilled_quantities(reductions, done):
            openings = affordable_openings(openings, unfilled, broker.account(), gate.prices)
        if any(order.reduces for order in unsent):
            unsent += openings
        else:
            fills += broker.submit(openings, gate)
        if not left:
            break
    return Placement(fills, {**changed, **waiting})


def cancel_orders(broker: Broker, client_order_ids: Iterable[str]) -> Cancellations:
    """Cancel orders, and return which have ended and which are still open, without raising."""
    if not (names := list(client_order_ids)):
        return Cancellations()
    try:
        return Cancellations(broker.cancel(names))
    except CancellationPending as error:
        return Cancellations(error.unfilled, error.reasons)
    except BrokerError as error:
        return Cancellations({}, dict.fromkeys(names, str(error)))


def _allowed_cancels(
    broker: Broker, orders: Sequence[Order], cancels: Mapping[str, Decimal], gate: OrderGate
) -> Mapping[str, Decimal]:
    """Return the cancellations of a decision, less those in symbols that the gate refuses."""
    if not cancels or isinstance(gate, AllowAllGate):
        return cancels
    now = broker.now()
    allowed = [o for o in orders if not gate.refusal_reason(o, infer_order_role(o), now)]
    return cancels_for_orders(cancels, orders, allowed)


def cancels_for_orders(
    cancels: Mapping[str, Decimal], orders: Sequence[Order], allowed: Sequence[Order]
) -> Mapping[str, Decimal]:
    """Return the cancellations of a decision, less those in symbols without an allowed order.

    Otherwise a stop could be cancelled for an order that is then refused, and its position would
    stay unprotected.

    orders: orders of the decision.
    allowed: orders of the decision that may be sent.
    """
    refused = {order.symbol for order in orders} - {order.symbol for order in allowed}
    return {n: quantity for n, quantity in cancels.items() if parse_order_symbol(n) not in refused}


def _unfilled_quantities(orders: Sequence[Order], fills: Sequence[Fill]) -> dict[str, float]:
    """Return the unfilled quantity of reductions by symbol, without auction orders."""
    # Only purchases of crypto pay a fee in crypto, so a reduction has one fill.
    filled_quantities = {fill.client_order_id: abs(fill.qty) for fill in fills}
    unfilled: defaultdict[str, float] = defaultdict(float)
    for order in orders:
        filled = filled_quantities.get(order.client_order_id, Decimal(0))
        if not (order.is_for_auction or is_fully_filled(filled, order.qty)):
            unfilled[order.symbol] += float(order.qty - filled)
    return unfilled


def opening_budget(equity: float, gross: float, planned: float, unfilled: float) -> float:
    """Return the maximum value of openings after reductions that did not fill completely, USD.

    equity, gross: equity and gross exposure after the reductions, USD.
    planned: value of all openings of the decision, USD.
    unfilled: value of the unfilled quantities of the reductions, USD.
    """
    return max(equity - gross, planned - unfilled) + BUDGET_TOLERANCE_USD


def affordable_openings(
    openings: Sequence[Order],
    unfilled: Mapping[str, float],
    account: AccountSnapshot,
    prices: Mapping[str, float],
) -> list[Order]:
    """Return the openings that can be paid for although reductions did not fill completely.

    They keep gross exposure within the larger of equity and the gross exposure that the decision
    planned. Openings are chosen in sequence, those of a symbol together. An opening that has no
    price, or the opposite sign of its symbol's position, is left out.

    unfilled: unfilled quantities of the reductions, by symbol.
    account: account after the reductions.
    prices: further prices, USD by symbol.
    """
    all_prices = {**account.prices, **prices}
    positions = account.positions
    groups: dict[str, list[Order]] = {}
    for order in openings:
        if order.symbol in all_prices and positions.get(order.symbol, 0) * order.signed_qty >= 0:
            groups.setdefault(order.symbol, []).append(order)
    values = {s: sum(float(o.qty) for o in group) * all_prices[s] for s, group in groups.items()}
    gross = sum(abs(float(quantity)) * all_prices.get(s, inf) for s, quantity in positions.items())
    unfilled_value = sum(quantity * all_prices.get(s, inf) for s, quantity in unfilled.items())
    budget = opening_budget(account.equity, gross, sum(values.values()), unfilled_value)
    chosen: list[Order] = []
    for symbol, value in values.items():
        if value <= budget:
            budget -= value
            chosen += groups[symbol]
    return chosen


def place_reductions(
    broker: Broker, reductions: Sequence[Order], gate: OrderGate = ALLOW_ALL_ORDERS
) -> None:
    """Send reducing orders one by one, so that an error in one does not block the others.

    gate: pre-trade checks that run right before each order is sent.

    Raises
    ------
    BrokerError
        the first error, after all orders were tried.
    """
    troubles = []
    for order in reductions:
        try:
            broker.submit((order,), gate)
        except BrokerError as error:
            troubles.append(error)
    if troubles:
        raise troubles[0]


def is_fully_filled(filled: Decimal, quantity: Decimal) -> bool:
    return float(filled) >= float(quantity) * MIN_COMPLETE_FILL_RATIO
