"""A simulated account that is stepped as a live one: broker, watch, protective orders and tiers."""

from __future__ import annotations

import numpy as np

from execution.decision.decision import Decision
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.broker import place_orders
from execution.orders.orders import Order
from marketsimulator.account.broker import SimulatedBroker
from marketsimulator.runs.protection import SimulatedProtection
from marketsimulator.runs.watching import SimulatedWatch
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import Bars
from trainingdata.market import Market


class SteppedAccount:
    """A simulated account with the rules that act on a live one around its decisions.

    At each instant call `advance` (not at the first), `account` and `trade`, in this order.

    broker: simulated broker with the account at the start of the run.
    """

    def __init__(self, settings: BacktestSettings, market: Market, broker: SimulatedBroker) -> None:
        self._guards = settings.guards
        self._broker = broker
        self._watch = SimulatedWatch(settings, market, broker) if settings.watch.limits else None
        self._protection = SimulatedProtection(settings, broker) if settings.protect.is_on else None
        self._known = market.initial_history
        self._peak = 0.0  # highest equity at a decision, for `guards.tiers`
        self._has_begun = False

    @property
    def protective_orders(self) -> tuple[tuple[np.datetime64, Order], ...]:
        """Protective orders sent so far, each with its instant."""
        return () if self._protection is None else tuple(self._protection.orders)

    def advance(self, index: int) -> None:
        """Advance to a later instant of the panel, while the watch reads every bar in between."""
        if self._watch is None:
            self._broker.advance(index)
        else:
            self._broker.advance(index, self._read_watch)
            self._read_watch()

    def account(self) -> AccountSnapshot:
        """Return the account for a decision."""
        source = self._broker if self._protection is None else self._protection
        return self._guards.apply(source.account(), self._peak)

    def trade(self, decision: Decision | None, equity: float, known: Bars) -> None:
        """Place the orders of a decision, update protective orders, and open the bars.

        decision: decision at this instant; None without one.
        equity: equity of the account on which the decision is based, USD.
        known: bars known at this instant.
        """
        self._known = known
        if decision is not None:
            self._peak = max(self._peak, equity)
            orders = decision.orders
            if self._watch is not None:
                orders = tuple(self._watch.allow(orders))
            place_orders(self._broker, orders, decision.cancelled_quantities)
        if self._protection is not None:
            self._protection.update(known)
        self._broker.open_bars()
        if self._watch is not None and not self._has_begun:
            self._watch.begin()
        self._has_begun = True

    def _read_watch(self) -> None:
        """Let the watch read the account; after it has acted, update protective orders."""
        assert self._watch is not None
        if self._watch.read() and self._protection is not None:
            self._protection.update(self._known)
