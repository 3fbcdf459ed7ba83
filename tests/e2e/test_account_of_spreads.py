"""Several strategies in one account: the backtest sells what the live seller sells, and the venue's
money and the account's guards are the bounds of both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from execution.journal.commands import CommandJournal
from execution.journal.events import EventLog
from execution.journal.halts import HaltJournal
from execution.journal.order_store import OrderStore
from execution.live.guards import Guards, GuardSettings
from execution.live.loop import StopSignal
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.gate import ALLOW_ALL_ORDERS, OrderGate, OrderRole
from execution.orders.option_orders import SpreadFill, SpreadOrder
from foundation.errors import OrderRejected
from foundation.notifier import Notifier
from option_spreads.autoscaler.account import AccountFiles
from option_spreads.autoscaler.trades import parse_trade_rows
from option_spreads.selling.job import SpreadGate
from option_spreads.selling.seller import SpreadSeller
from option_spreads.selling.state import read_state, total_collateral
from option_spreads.simulation.selling import (
    MAX_COLLATERAL_SHARE,
    list_candidate_trades,
    simulate_spread_account,
)
from option_spreads.simulation.spread_report import format_trades_csv
from tests.e2e.selling import COSTS, HELD, SMILE, DeskVenue, Practising, practising_seller
from tests.support.connections import open_for_test

BOOKED = (
    "Timestamp_ET", "Trade_ID", "Strategy", "Strikes", "Entry_Credit", "Position_Size",
    "Exit_Time", "P/L_$", "Exit_Reason",
)  # fmt: skip


@pytest.fixture(autouse=True)
def no_power_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes end here, machines do not: no disk is waited for."""
    monkeypatch.setattr("os.fsync", lambda file: None)


@dataclass
class Watched:
    """The part of an account that a gate of spreads asks."""

    guards: Guards
    notices: Notifier

    def with_guard_data(
        self,
        account: AccountSnapshot,
        symbols: tuple[str, ...],
        *,
        max_loss_by_root: dict[str, float],
    ) -> AccountSnapshot:
        del symbols
        return replace(account, max_loss_by_root=max_loss_by_root)


@dataclass
class Funded(DeskVenue):
    """The desk, for an account of whose money open spreads hold their collateral, guarded as a
    live one is.

    beyond: USD that the venue has more than the account's files.
    """

    here: Practising
    guards: Guards
    beyond: int

    @property
    def files(self) -> AccountFiles:
        return AccountFiles(self.here.folder, self.here.settings.STARTING_CAPITAL)

    def account(self) -> AccountSnapshot:
        equity = float(self.files.read_account().balance) + self.beyond
        return AccountSnapshot(equity, {}, {}, self.now())

    def held_against(self) -> Decimal:
        spreads = read_state(self.here.folder).spreads
        return total_collateral(each for each in spreads if each.stage != "opening")

    def buying_power(self) -> Decimal:
        return Decimal(str(self.account().equity)) - self.held_against()

    def submit(self, order: SpreadOrder, gate: OrderGate = ALLOW_ALL_ORDERS) -> SpreadFill:
        at_risk = {"SPXW": float(self.held_against())}
        live = Watched(self.guards, self.here.notices)
        gate = SpreadGate(live, self, self.files, at_risk)  # type: ignore[arg-type]
        part: OrderRole = "reduction" if order.reduces else "opening"
        if why := gate.refusal_reason(order, part, self.now()):
            raise OrderRejected(why)
        return super().submit(order)


def funded(here: Practising, max_position: float, beyond: int) -> SpreadSeller:
    """The seller of an account, guarded as a live one is."""
    database = open_for_test()
    events = EventLog(database)
    halts, commands = HaltJournal(database, events), CommandJournal(database, events)
    settings = GuardSettings(max_position=max_position, max_gross=10)
    kill_file = here.folder / "KILL"
    guards = Guards(settings, halts, OrderStore(database), commands, kill_file, StopSignal())
    return here.seller(Funded(here.desk, here, guards, beyond))


@pytest.mark.parametrize(
    ("strategies", "days", "capital", "max_position", "bound", "beyond", "rules"),
    [
        (("PUT", "IRON_CONDOR"), 2, 3_500.0, MAX_COLLATERAL_SHARE, "max_position", 100_000, {}),
        pytest.param(
            ("IRON_CONDOR", "PUT"), 6, 5_300.0, 10.0, "cut", 100_000, {}, marks=pytest.mark.wire
        ),
        pytest.param(
            ("IRON_CONDOR", "PUT"), 3, 5_300.0, 10.0, "opposite_leg", 0,
            {**HELD, "exit_minute": 380},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("CALL", "IRON_CONDOR", "OTM_SINGLE_SIDED"), 8, 20_000.0, MAX_COLLATERAL_SHARE,
            "max_position", 0, {}, marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_live_account_sells_the_same_spreads_as_backtest(
    tmp_path: Path,
    strategies: tuple[str, ...],
    days: int,
    capital: float,
    max_position: float,
    bound: str,
    beyond: int,
    rules: dict[str, Any],
) -> None:
    """Contracts, exits and results agree, in the order of the account's file, even if the venue
    holds more money.
    """
    here = practising_seller(
        tmp_path, days, 3, *strategies,
        entry_minutes=(30, 60, 90, 120),
        sizing={
            "STARTING_CAPITAL": capital, "BOOTSTRAP_MODE": "prior", "BOOTSTRAP_TRADES": 4,
            "MAX_CONTRACTS": 5, "SAFETY_HALT_PCT": 0.1,
        },
        **rules,
    )  # fmt: skip
    offers = list_candidate_trades(here.market.days, here.settings.strategy_rules, COSTS, SMILE)
    account = simulate_spread_account(offers, here.settings, max_position)
    _, theirs = parse_trade_rows(format_trades_csv(account.trades, here.market.days).encode())
    seller = funded(here, max_position, beyond)
    for _ in here.market.points():
        here.desk.advance()
        seller.step()
    assert not seller.step().spreads
    assert not here.desk.option_positions()
    ours = here.booked()
    assert [[row[name] for name in BOOKED] for row in ours] == [
        [row[name] for name in BOOKED] for row in theirs
    ]
    assert {row["Strategy"] for row in ours} == set(strategies)
    assert len({row["Position_Size"] for row in ours}) > 1
    refused = {refusal.reason for refusal in account.refused_trades}
    assert days < 6 or "opposite_leg" in refused
    assert bound in (refused | {"cut"} if account.downsized_trade_count else refused)
    assert days < 3 or len({row["Account_Balance"] for row in ours}) > 1, "what it was sized from"
    reasons = {row["Exit_Reason"] for row in ours}
    assert days < 6 or reasons >= {"stop", "trailing"}, reasons
    for row in ours:
        balance = f"balance ${Decimal(row['Account_Balance']):,.2f}".removesuffix(".00")
        for part in ("deviations", "at risk", balance):
            assert part in row["Entry_Reason"]


@pytest.mark.parametrize(
    ("max_position", "beyond", "sold"),
    [
        (10.0, -18_700, [3, 2]),  # 5 x 500 of the venue's 2,900
        (0.75, -18_700, [3]),  # and 5 x 500 > 0.75 x 2,900
        (10.0, -10_000, [3, 3]),
        (0.1, 100_000, [3]),  # 6 x 500 > 0.1 x 21,600
    ],
)
def test_spread_contract_count_is_limited_by_buying_power(
    tmp_path: Path, max_position: float, beyond: int, sold: list[int]
) -> None:
    """Two strategies sell in the same step."""
    sizing = {"STARTING_CAPITAL": 21_600, "BOOTSTRAP_MODE": "prior", "BOOTSTRAP_TRADES": 10}
    here = practising_seller(
        tmp_path, 2, 3, "PUT", "IRON_CONDOR", entry_minutes=(30,), sizing=sizing
    )
    here.to(0, 30)
    assert [each.contracts for each in funded(here, max_position, beyond).step().spreads] == sold
