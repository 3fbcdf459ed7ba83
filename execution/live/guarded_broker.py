"""Steps of one job from a reading of the account to its orders."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

import numpy as np

from execution.brokers import REREAD_SECONDS, Gateway, ReadingRejected, RereadRequired
from execution.live.account import LiveAccount
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.broker import Asset
from execution.orders.gate import OrderGate
from execution.orders.orders import Fill, Order

log = logging.getLogger(__name__)

MAX_MARK_READINGS = 3  # of an account that is marked, while something is paid in or out


class GuardedBroker:
    """A `Broker` whose account is reconciled and whose orders pass a gate.

    gateway: to the venue, for the orders of one job.
    live: the account.
    secured: whether the collateral of open spreads is taken off the cash that buys.
    """

    def __init__(self, gateway: Gateway, live: LiveAccount, *, secured: bool = False) -> None:
        self._gateway = gateway
        self._live = live
        self._secured = secured

    def now(self) -> np.datetime64:
        return self._gateway.now()

    def account(self) -> AccountSnapshot:
        """Return the snapshot of the account: read, and once more where the first is rejected.

        Raises
        ------
        ReadingRejected
            for a second reading that the journal does not explain.
        BrokerError
            for a venue that does not answer.
        """
        try:
            account = self._read(reread=False)
        except RereadRequired as error:
            log.warning("asked again: %s", error)
            self._live.connection.time.wait(REREAD_SECONDS)
            account = self._read(reread=True)
        self._gateway.accept(account)
        return account

    def _read(self, *, reread: bool) -> AccountSnapshot:
        reading = self._gateway.read_account(reread=reread)
        account = self._live.check(reading)
        return (
            account.with_collateral(sum(self._live.at_risk().values()))
            if self._secured
            else account
        )

    def submit(self, orders: Sequence[Order], gate: OrderGate | None = None) -> list[Fill]:
        """Send orders as `Broker.submit` does, by an account that was read within a minute.

        Reductions do not wait for an accepted reading.

        gate: None judges without a snapshot, and opens nothing.
        """
        if orders and not self._gateway.has_recent_account:
            try:
                self.account()
            except ReadingRejected as error:
                if not all(order.reduces for order in orders):
                    raise
                self._gateway.accept(error.account)
        return self._gateway.submit(orders, gate or self._live.guards.check(None))

    def cancel(self, client_order_ids: Iterable[str]) -> Mapping[str, Decimal]:
        return self._gateway.cancel(client_order_ids)

    def assets(self, symbols: Sequence[str]) -> Mapping[str, Asset]:
        return self._gateway.assets(symbols)

    def refresh_open_orders(self) -> None:
        """Query orders that rested at their last answer, and record the answers."""
        self._gateway.refresh_open_orders()

    def read_and_mark(self) -> AccountSnapshot:
        """Return the snapshot of the account, and mark it net of deposits and withdrawals.

        A deposit between the two readings would count as profit, a withdrawal as a loss. A loss may
        halt the account.
        """
        for _ in range(MAX_MARK_READINGS):
            before = self._live.flows()
            account = self.account()
            self._live.read_activities()
            if self._live.flows() == before:
                break
        self._live.mark(account)
        return account
