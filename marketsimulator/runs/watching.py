"""The watch in a simulation: the rule of the live loop, at every bar that the market has."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import numpy as np

from execution.decision.reduction import excess_quantities, plan_reductions, target_quantities
from execution.decision.watch import WatchState, ends_with_the_day, next_watch_state
from execution.journal.marks import build_mark, new_york_day
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.broker import place_reductions
from execution.orders.orders import Order
from marketsimulator.account.broker import SimulatedBroker
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import CLOSE
from trainingdata.instants import format_utc
from trainingdata.market import Market

log = logging.getLogger("marketsimulator")


class SimulatedWatch:
    """The watch of a simulated account.

    After it has acted it forbids opening orders, as the live loop's halt does: until the next New
    York date, and beyond `watch.drawdown` to the end of the run, because no person clears it.
    """

    def __init__(self, settings: BacktestSettings, market: Market, broker: SimulatedBroker) -> None:
        self._settings = settings
        self._market = market
        self._broker = broker
        self._state: WatchState | None = None
        self._halt: tuple[np.datetime64, str] | None = None  # start and reason
        bars = market.execution_bars
        self._closes = np.where(bars.mask, bars.values[:, :, CLOSE], np.nan)
        self._rows = bars.times

    def begin(self) -> None:
        """Begin the watch with the account after the orders of the run's first instant."""
        account = self._broker.account()
        self._state = WatchState.first(account.as_of, account.equity)

    def read(self) -> bool:
        """Read the account at the broker's instant, and act beyond a limit.

        Returns whether it has acted.
        """
        if self._state is None:
            return False
        account = self._read_account()
        mark = build_mark(account, self._settings.limits, 0.0)
        self._state, reason = next_watch_state(
            self._state, account.as_of, account.equity, mark.ceiling_use, self._settings.watch
        )
        if self._halt is not None:
            raised_at, why = self._halt
            if ends_with_the_day(why) and new_york_day(account.as_of) > new_york_day(raised_at):
                self._halt = None
        if not reason or self._halt is not None:
            return False
        self._halt = account.as_of, reason
        log.warning("%s watch: %s", format_utc(account.as_of), reason)
        self._reduce(account, reason)
        return True

    def allow(self, orders: Sequence[Order]) -> Sequence[Order]:
        """Return the orders that may be sent: while the watch's halt is active, reductions only."""
        return orders if self._halt is None else [order for order in orders if order.reduces]

    def _read_account(self) -> AccountSnapshot:
        """Return the account at the last closes of the finest bars."""
        account = self._broker.account()
        if self._market.finer_bars is None:
            return account
        row = int(np.searchsorted(self._rows, account.as_of))
        prices = dict(account.prices)
        symbols = self._market.execution_bars.symbols
        for symbol, close in zip(symbols, self._closes[:, row], strict=True):
            if close == close:
                prices[symbol] = float(close)
        return replace(account, prices=prices)

    def _reduce(self, account: AccountSnapshot, reason: str) -> None:
        """Cancel open orders, and reduce positions, if the settings say so."""
        watch, settings = self._settings.watch, self._settings
        if watch.action == "halt":
            return
        self._broker.cancel(order.client_order_id for order in account.open_orders)
        kept = Decimal(repr(watch.reduce_to)) if watch.action == "reduce" else Decimal(0)
        targets = target_quantities(account.positions, kept)
        orders, _ = plan_reductions(
            account,
            excess_quantities(account.positions, targets),
            settings.order_prefix,
            account.as_of,
            settings.orders,
            f"watch: {reason}",
        )
        place_reductions(self._broker, orders)
