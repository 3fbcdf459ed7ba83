"""A broker that reads, reconciles and guards the account before it sends orders of one job."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

import numpy as np

from execution.brokers import REREAD_DELAY_SECONDS, AccountReadingRejected, Gateway, RereadRequired
from execution.live.account import LiveAccount
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.broker import Asset
from execution.orders.gate import OrderGate
from execution.orders.orders import Fill, Order

log = logging.getLogger(__name__)

MAX_MARK_READ_ATTEMPTS = 3  # readings for one mark, if deposits or withdrawals arrive


class GuardedBroker:
    """A `Broker` whose account is reconciled and whose orders pass a pre-trade gate.

    gateway: gateway to the venue, for the orders of one job.
    live: the account.
    secured: true if the collateral of open spreads is deducted from the cash available to buy.
    """

    def __init__(self, gateway: Gateway, live: LiveAccount, *, secured: bool = False) -> None:
        self._gateway = gateway
        self._live = live
        self._secured = secured

    def now(self) -> np.datetime64:
        return self._gateway.now()

    def account(self) -> AccountSnapshot:
        """Read the account, and return its snapshot; a rejected first reading is repeated once.

        Raises
        ------
        AccountReadingRejected
            if the second reading contradicts the journal as well.
        BrokerError
            if the venue does not respond.
        """
        try:
            account = self._read(reread=False)
        except RereadRequired as error:
            log.warning("reading the account again: %s", error)
            self._live.connection.time.wait(REREAD_DELAY_SECONDS)
            account = self._read(reread=True)
        self._gateway.cache_account(account)
        return account

    def _read(self, *, reread: bool) -> AccountSnapshot:
        reading = self._gateway.read_account(reread=reread)
        account = self._live.check(reading)
        return (
            account.with_collateral(sum(self._live.max_loss_by_root().values()))
            if self._secured
            else account
        )

    def submit(self, orders: Sequence[Order], gate: OrderGate | None = None) -> list[Fill]:
        """Send orders, and return their fills.

        The account is read first if its last snapshot is stale. If that reading is rejected, only
        a batch of reducing orders is sent.

        gate: pre-trade gate; None checks orders without a snapshot, so that no position is opened.
        """
        if orders and not self._gateway.has_recent_account:
            try:
                self.account()
            except AccountReadingRejected as error:
                if not all(order.reduces for order in orders):
                    raise
                self._gateway.cache_account(error.account)
        return self._gateway.submit(orders, gate or self._live.guards.build_gate(None))

    def cancel(self, client_order_ids: Iterable[str]) -> Mapping[str, Decimal]:
        return self._gateway.cancel(client_order_ids)

    def assets(self, symbols: Sequence[str]) -> Mapping[str, Asset]:
        return self._gateway.assets(symbols)

    def refresh_open_orders(self) -> None:
        """Query the orders whose last recorded state was open, and record their new states."""
        self._gateway.refresh_open_orders()

    def read_and_mark(self) -> AccountSnapshot:
        """Read the account, record its equity mark, and return the snapshot.

        The account is read up to three times while deposits or withdrawals arrive, because a
        deposit between snapshot and mark would count as profit. A loss may halt the account.
        """
        for _ in range(MAX_MARK_READ_ATTEMPTS):
            before = self._live.net_deposits()
            account = self.account()
            self._live.record_activities()
            if self._live.net_deposits() == before:
                break
        self._live.record_mark(account)
        return account
