"""Protective orders of a simulated account, by the rule of `execution.decision.protection`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from execution.decision.protection import (
    ProtectedAccount,
    cooling_symbols,
    daily_deviations,
    plan_protection,
)
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.orders import Order, is_protective_id, parse_order_prefix
from marketsimulator.account.broker import SimulatedBroker
from marketsimulator.account.entry_prices import EntryPrices
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import Bars

SPLIT = "split"  # the strategy part in the id of a split


class SimulatedProtection:
    """Keeper of a simulated account's protective orders.

    orders: protective orders sent so far, each with its instant.
    """

    def __init__(self, settings: BacktestSettings, broker: SimulatedBroker) -> None:
        """Start with the broker's present positions, which enter at their last prices."""
        self.orders: list[tuple[np.datetime64, Order]] = []
        self._settings = settings
        self._broker = broker
        self._entries = EntryPrices()
        self._stopped_at: dict[str, np.datetime64] = {}
        self._fills_seen = 0
        account = broker.account()
        for symbol, quantity in account.positions.items():
            self._entries.add_fill(symbol, quantity, account.prices[symbol])

    def account(self) -> AccountSnapshot:
        """Return the account, with the symbols that are not opened after their stop has filled."""
        self._read_fills()
        account = self._broker.account()
        cooldown = self._settings.protect.cooldown
        cooling = cooling_symbols(self._stopped_at, account.as_of, cooldown)
        return replace(account, cooling_symbols=cooling)

    def update(self, bars: Bars) -> None:
        """Cancel and send protective orders, so that each position has one.

        bars: bars known at this instant.
        """
        self._read_fills()
        settings, account = self._settings, self._broker.account()
        protect = settings.protect
        entries = {symbol: self._entries.entry_price(symbol) for symbol in account.positions}
        deviations = daily_deviations(bars, account.positions) if protect.uses_deviation else {}
        daily = bars.timeframe.is_daily
        plan = plan_protection(
            protect,
            ProtectedAccount(
                account,
                entries,
                deviations,
                settings.order_prefix,
                settings.orders,
                at=bars.last_instant,
                auction=bars.timeframe.auction_time_in_force,
                # With daily bars the account has no instant at which the next auction is open.
                checked_at=None if daily else account.as_of,
                last_trades={
                    symbol: self._broker.open_price(symbol) or account.prices[symbol]
                    for symbol in account.positions
                },
            ),
        )
        self._broker.cancel(order.client_order_id for order in plan.cancels)
        self._broker.submit(plan.orders)
        self.orders += [(bars.last_instant, order) for order in plan.orders]

    def _read_fills(self) -> None:
        """Apply new fills to the entry prices, and note those of protective orders."""
        for fill in self._broker.fills[self._fills_seen :]:
            if parse_order_prefix(fill.client_order_id) == SPLIT:
                self._entries.apply_split(fill.symbol, fill.qty)
            else:
                self._entries.add_fill(fill.symbol, fill.qty, fill.price)
            if is_protective_id(fill.client_order_id):
                self._stopped_at[fill.symbol] = fill.at
        self._fills_seen = len(self._broker.fills)
