"""A broker for one job that reads, reconciles and guards the account before it sends orders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

import numpy as np

from execution.brokers import AccountReadingRejected, Gateway, read_until_accepted
from execution.live.account import LiveAccount
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.broker import Asset
from execution.orders.gate import OrderGate
from execution.orders.orders import Fill, Order

MAX_MARK_READ_ATTEMPTS = 3  # readings for one mark, if deposits or withdrawals arrive


class GuardedBroker:
    """A `Broker` that reconciles the account, and whose orders have to pass a pre-trade gate.

    gateway: gateway to the venue, for the orders of one job.
    live: the account.
    secured: true if the collateral of open spreads is reserved, so that it buys nothing else.
    """

    def __init__(self, gateway: Gateway, live: LiveAccount, *, secured: bool = False) -> None:
        self._gateway = gateway
        self._live = live
        self._secured = secured

    def now(self) -> np.datetime64:
        return self._gateway.now()

    def account(self) -> AccountSnapshot:
        """Read and reconcile the account, and return its snapshot.

        The account is read again if a reading is rejected or lacks fills that the journal has.

        Raises
        ------
        AccountReadingRejected
            if the second reading contradicts the journal as well.
        BrokerError
            if the venue does not respond.
        """
        live = self._live
        account = read_until_accepted(
            self._read, live.connection.time, live.reconciler.describe_lagging_positions
        )
        self._gateway.cache_account(account)
        return account

    def cache_account(self, account: AccountSnapshot) -> None:
        """Use this fresh snapshot for the pre-trade checks of the next orders."""
        self._gateway.cache_account(account)

    def _read(self, reread: bool) -> AccountSnapshot:
        reading = self._gateway.read_account(reread=reread)
        account = self._live.check_reading(reading)
        account = replace(account, cooling_symbols=self._live.cooling_symbols(account.as_of))
        return (
            account.with_reserved_collateral(sum(self._live.max_loss_by_root().values()))
            if self._secured
            else account
        )

    def submit(self, orders: Sequence[Order], gate: OrderGate | None = None) -> list[Fill]:
        """Send orders, and return their fills.

        The account is read first if its last snapshot is stale. If that reading is rejected, the
        orders are sent only if all of them reduce positions.

        gate: pre-trade gate; None uses a gate without a snapshot, which lets no position be opened.
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
        """Query orders that were open when last reported, and record the venue's new reports."""
        self._gateway.refresh_open_orders()

    def has_order_id(self, client_order_id: str) -> bool:
        """Return whether the venue has an order with this id, open or ended."""
        return self._gateway.has_order_id(client_order_id)

    def read_and_record_mark(self) -> AccountSnapshot:
        """Read the account, record an equity mark of it, and return the snapshot.

        If a deposit or withdrawal arrives meanwhile, the account is read again, up to three times
        in all. A deposit between the snapshot and the mark would count as profit. A loss may halt
        the account.
        """
        for _ in range(MAX_MARK_READ_ATTEMPTS):
            before = self._live.net_deposits()
            account = self.account()
            self._live.record_activities()
            if self._live.net_deposits() == before:
                break
        self._live.record_mark(account)
        return account
