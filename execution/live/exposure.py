"""Largest positions that an account can reach, whichever of its open orders fill."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from execution.journal.order_store import PENDING_STATES, OrderIntent
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.gate import GuardedOrder
from execution.orders.last_trades import TradeSource
from execution.orders.orders import Order
from trainingdata.instruments import is_symbol

log = logging.getLogger(__name__)

_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class PositionRange:
    """Range of the signed quantity that a position can reach, whichever open orders fill.

    low: smallest quantity.
    high: largest quantity, not below `low`.
    """

    low: Decimal = _ZERO
    high: Decimal = _ZERO

    @property
    def max_abs_quantity(self) -> Decimal:
        return max(-self.low, self.high)

    def with_open_order(self, quantity: Decimal) -> PositionRange:
        """Return the range after adding an open order, which may fill completely, partly or never.

        quantity: signed unfilled quantity of the order.
        """
        return PositionRange(self.low + min(quantity, _ZERO), self.high + max(quantity, _ZERO))

    def with_fill(self, quantity: Decimal) -> PositionRange:
        return PositionRange(self.low + quantity, self.high + quantity)


@dataclass(frozen=True, slots=True)
class WorstCaseExposure:
    """Positions and losses that an account can reach, whichever of its open orders fill.

    ranges_by_symbol: ranges of positions in stocks and crypto, by symbol.
    max_loss_by_root: maximum loss of spreads, USD by root of their options.
    """

    ranges_by_symbol: Mapping[str, PositionRange]
    max_loss_by_root: Mapping[str, float]

    def position_range(self, symbol: str) -> PositionRange:
        return self.ranges_by_symbol.get(symbol, PositionRange())

    def with_order(
        self, order: GuardedOrder, intent: OrderIntent | None = None
    ) -> WorstCaseExposure:
        """Return the exposure after adding an order, which may fill completely, partly or never.

        A reducing order does not lower the exposure before it has filled.

        intent: record of the order and its fills; None if it is not recorded.
        """
        filled, left = _filled_and_remaining(order, intent)
        if isinstance(order, Order):
            position_range = (
                self.position_range(order.symbol).with_fill(filled).with_open_order(left)
            )
            return WorstCaseExposure(
                {**self.ranges_by_symbol, order.symbol: position_range}, self.max_loss_by_root
            )
        if order.is_fully_covered:
            return self
        risk = self.max_loss_by_root.get(order.root, 0.0) + order.max_loss_usd(filled + left)
        return WorstCaseExposure(self.ranges_by_symbol, {**self.max_loss_by_root, order.root: risk})

    def max_gross_usd(self, snapshot: AccountSnapshot) -> float:
        """Return the largest gross value of positions, plus the maximum loss of spreads, USD.

        snapshot: account snapshot with the prices.
        """
        total = sum(self.max_loss_by_root.values())
        for symbol, position_range in self.ranges_by_symbol.items():
            if position_range.max_abs_quantity:
                total += float(position_range.max_abs_quantity) * snapshot.price(symbol)
        return total


def build_worst_case_exposure(
    snapshot: AccountSnapshot,
    sent_orders: Iterable[tuple[GuardedOrder, OrderIntent | None]],
    excluded_order_id: str = "",
) -> WorstCaseExposure:
    """Return the exposure of a snapshot's positions and open orders, and of orders sent since then.

    sent_orders: orders sent since the snapshot, each with its recorded intent, or None if there is
        no record yet.
    excluded_order_id: id of an open order of the snapshot to leave out.
    """
    ranges = {symbol: PositionRange(held, held) for symbol, held in snapshot.positions.items()}
    exposure = WorstCaseExposure(ranges, snapshot.known_max_loss_by_root)
    for waiting in snapshot.open_orders:
        if waiting.client_order_id != excluded_order_id:
            exposure = exposure.with_order(waiting)
    for order, intent in sent_orders:
        exposure = exposure.with_order(order, intent)
    return exposure


def open_order_prices(account: AccountSnapshot, source: TradeSource) -> dict[str, float]:
    """Return prices, USD, for symbols that have open orders but no price in the snapshot.

    Such a symbol may have no position, and this process may not trade it. The price is the order's
    limit or stop price. For a market order it is the last trade, which may be a day old.

    source: source of last trades.

    Raises
    ------
    BrokerError
        if the source does not respond.
    """
    prices = {}
    at_market = set()
    for order in account.open_orders:
        if order.symbol in account.prices:
            continue
        if order.limit_or_stop_price is not None:
            prices[order.symbol] = order.limit_or_stop_price
        elif is_symbol(order.symbol):
            at_market.add(order.symbol)
    missing = sorted(at_market - set(prices))
    trades = source.last_trades(missing) if missing else {}
    return {**prices, **{symbol: trade.price for symbol, trade in trades.items()}}


def _filled_and_remaining(
    order: GuardedOrder, intent: OrderIntent | None
) -> tuple[Decimal, Decimal]:
    """Return the filled and the open quantity of an order, both signed.

    For a spread both are numbers of spreads.

    intent: record of the order and its fills; None if it is not recorded yet.
    """
    whole = order.signed_qty if isinstance(order, Order) else Decimal(order.contracts)
    if intent is None:
        return _ZERO, whole
    filled = intent.progress.filled.copy_sign(whole)
    if intent.state in PENDING_STATES:
        return filled, whole - filled
    return filled, _ZERO
