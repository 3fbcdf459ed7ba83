"""A desk reads an account twice before it rejects it, and then lets reductions alone go out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from types import SimpleNamespace

import numpy as np
import pytest

from execution.brokers import AccountReading, AccountReadingRejected, RereadRequired
from execution.live.guarded_broker import GuardedBroker
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.broker import Asset
from execution.orders.gate import ALLOW_ALL_ORDERS, AllowAllGate, OrderGate
from execution.orders.orders import Fill, Order
from tests.support.messages import refused
from tests.support.passing import Passing

NOW = np.datetime64("2024-03-05T17:30:20", "ns")
HELD = AccountSnapshot(1_000.0, {"NVDA": Decimal(5)}, {"NVDA": 10.0}, NOW)
OPENING = Order("o-1", "NVDA", "buy", Decimal(1), "test")
REDUCTION = Order("o-2", "NVDA", "sell", Decimal(1), "test", reduces=True)
CLOSED = AllowAllGate()  # the gate of guards that were shown no snapshot


@dataclass
class Gateway:
    """A gateway that counts its readings, and keeps what it was told."""

    read: list[bool] = field(default_factory=list)
    accepted: list[AccountSnapshot] = field(default_factory=list)
    sent: list[tuple[Order, OrderGate]] = field(default_factory=list)
    has_recent_account: bool = False

    def read_account(self, *, reread: bool = False) -> AccountReading:
        self.read.append(reread)
        return AccountReading(HELD, Decimal(1000), Decimal(4), None, reread)

    def cache_account(self, account: AccountSnapshot) -> None:
        self.accepted.append(account)
        self.has_recent_account = True

    def submit(self, orders: Sequence[Order], gate: OrderGate = ALLOW_ALL_ORDERS) -> list[Fill]:
        self.sent += [(order, gate) for order in orders]
        return []

    def now(self) -> np.datetime64:
        return NOW

    def account(self) -> AccountSnapshot:
        return HELD

    def cancel(self, client_order_ids: Iterable[str]) -> Mapping[str, Decimal]:
        del client_order_ids
        return {}

    def assets(self, symbols: Sequence[str]) -> Mapping[str, Asset]:
        del symbols
        return {}

    def refresh_open_orders(self) -> None: ...


class Checked:
    """An account whose first readings are rejected, so many of them."""

    def __init__(self, rejected: int) -> None:
        self.waited = Passing()
        self.connection = SimpleNamespace(time=self.waited.time)
        self.guards = SimpleNamespace(build_gate=lambda snapshot: CLOSED)
        self.rejected = rejected
        self.lags = 0
        self.reconciler = self

    def check_reading(self, reading: AccountReading) -> AccountSnapshot:
        if not reading.is_reread and self.rejected > 0:
            raise RereadRequired("cash differs from fills")
        if self.rejected > 1:
            raise AccountReadingRejected("cash differs from fills", reading.account)
        return reading.account

    def describe_lagging_positions(self, account: AccountSnapshot) -> str:
        self.lags -= 1
        return "" if self.lags < 0 else "SYA: the venue holds 0"

    def max_loss_by_root(self) -> dict[str, float]:
        return {"SPXW": 300.0}

    def cooling_symbols(self, now: np.datetime64) -> frozenset[str]:
        return frozenset()


def desk_of(rejected: int, *, secured: bool = False) -> tuple[GuardedBroker, Gateway, Checked]:
    gateway, live = Gateway(), Checked(rejected)
    return GuardedBroker(gateway, live, secured=secured), gateway, live  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rejected", "read", "waited"), [(0, [False], []), (1, [False, True], [2])]
)
def test_rejected_account_snapshot_is_read_again_after_pause(
    rejected: int, read: list[bool], waited: list[float]
) -> None:
    desk, gateway, live = desk_of(rejected)
    assert desk.account() == HELD
    assert (gateway.read, live.waited.waited, gateway.accepted) == (read, waited, [HELD])


@pytest.mark.parametrize(("lags", "waited"), [(2, [2, 2]), (9, [2, 2, 4])])
def test_lagging_positions_are_read_again_for_eight_seconds(lags: int, waited: list[float]) -> None:
    desk, gateway, live = desk_of(0)
    live.lags = lags
    assert desk.account() == HELD
    assert live.waited.waited == waited
    assert gateway.read == [False, *[True] * len(waited)]


def test_two_rejected_account_snapshots_allow_only_reductions() -> None:
    desk, gateway, _ = desk_of(2)
    with refused(AccountReadingRejected, "cash"):
        desk.submit([OPENING, REDUCTION], ALLOW_ALL_ORDERS)
    assert (gateway.sent, gateway.accepted) == ([], [])
    desk.submit([REDUCTION], ALLOW_ALL_ORDERS)
    assert gateway.sent == [(REDUCTION, ALLOW_ALL_ORDERS)]
    assert gateway.accepted == [HELD]


def test_orders_sent_without_guards_use_the_default_guards() -> None:
    desk, gateway, _ = desk_of(0)
    desk.submit([OPENING])
    desk.submit([REDUCTION])
    assert gateway.sent == [(OPENING, CLOSED), (REDUCTION, CLOSED)]
    assert gateway.read == [False], "an account that was read a moment ago is not read again"


def test_account_snapshot_is_reduced_by_spread_collateral() -> None:
    desk, gateway, _ = desk_of(0, secured=True)
    assert desk.account() == HELD.with_reserved_collateral(300.0) != HELD
    assert gateway.accepted == [HELD.with_reserved_collateral(300.0)]
