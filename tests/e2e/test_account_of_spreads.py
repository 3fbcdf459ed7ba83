"""Several strategies in one account: the backtest sells what the live seller sells, and the venue's
money and the account's guards are the bounds of both.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from execution.events import EventLog
from execution.intents import Intent, IntentBook
from execution.live.exposure import Sight
from execution.live.guards import Guards, GuardSettings
from execution.live.halts import Halts
from execution.live.spread_job import collateral
from execution.orders import Account
from execution.spreads.orders import SpreadFill, SpreadOrder
from execution.spreads.seller import SpreadSeller
from execution.spreads.state import read_state
from foundation.database import Database
from foundation.errors import OrderRejected
from marketsimulator.options.selling import MAX_POSITION, offered_spreads, spread_account
from marketsimulator.options.spread_report import trade_table
from sizing.autoscaler.account import AccountFiles
from sizing.autoscaler.trades import Row, rows_of
from tests.e2e.selling import COSTS, SMILE, Practising, practising_seller

BOOKED = (
    "Timestamp_ET", "Trade_ID", "Strategy", "Strikes", "Entry_Credit", "Position_Size",
    "Exit_Time", "P/L_$", "Exit_Reason",
)  # fmt: skip


@dataclass
class Funded:
    """The desk, for an account of whose balance open spreads hold their collateral, guarded as a
    live one is.
    """

    here: Practising
    guards: Guards

    def __getattr__(self, name: str) -> Any:
        return getattr(self.here.desk, name)

    def balance(self) -> Fraction:
        starting = self.here.terms.sizing.STARTING_CAPITAL
        return AccountFiles(self.here.folder, starting).read().balance

    def held_against(self) -> Decimal:
        spreads = read_state(self.here.folder).spreads
        return collateral(tuple(each for each in spreads if each.stage != "opening"))

    def buying_power(self) -> Decimal:
        return Decimal(str(float(self.balance()))) - self.held_against()

    def submit(self, order: SpreadOrder) -> SpreadFill:
        now = self.here.desk.now()
        if not order.reduces:
            account = Account(float(self.balance()), {}, {}, now)
            self.guards.see(Sight(account, at_risk={"SPXW": float(self.held_against())}))
        legs = [
            {"symbol": leg.contract.symbol, "ratio_qty": "1", "side": leg.side}
            for leg in order.legs
        ]
        request = {"qty": str(order.contracts), "legs": legs}
        part = "reduction" if order.reduces else "opening"
        if why := self.guards(Intent(order.client_order_id, request, now, part=part), now):
            raise OrderRejected(why)
        return self.here.desk.submit(order)


def sold_live(here: Practising, max_position: float, folder: Path) -> list[Row]:
    """What the seller has booked after every step of the path."""
    database = Database()
    halts = Halts(database, EventLog(database))
    settings = GuardSettings(max_position=max_position, max_gross=10)
    guards = Guards(settings, halts, IntentBook(database), folder / "KILL")
    venue: Any = Funded(here, guards)
    seller = SpreadSeller(venue, here.terms, lambda: here.vix, here.notices)
    for _ in here.market.points():
        here.desk.advance()
        seller.step()
    assert not seller.step().spreads
    return rows_of((here.folder / "trades.csv").read_bytes())[1]


@pytest.mark.parametrize(
    ("strategies", "days", "capital", "max_position", "bound"),
    [
        (("PUT", "IRON_CONDOR"), 3, 3_500.0, MAX_POSITION, "max_position"),
        (("IRON_CONDOR", "PUT"), 3, 5_300.0, 10.0, "cut"),
        pytest.param(
            ("CALL", "IRON_CONDOR", "OTM_SINGLE_SIDED"), 8, 20_000.0, MAX_POSITION, "max_position",
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_in_one_account_strategies_sell_live_what_they_sell_in_the_backtest(
    tmp_path: Path,
    strategies: tuple[str, ...],
    days: int,
    capital: float,
    max_position: float,
    bound: str,
) -> None:
    """Contracts, exits and results, in the order in which the account's file has them."""
    here = practising_seller(
        tmp_path, days, 3, *strategies,
        entries=(30, 60, 90, 120),
        sizing={
            "STARTING_CAPITAL": capital, "BOOTSTRAP_MODE": "prior", "BOOTSTRAP_TRADES": 4,
            "MAX_CONTRACTS": 5, "SAFETY_HALT_PCT": 0.1,
        },
    )  # fmt: skip
    sizing = here.terms.sizing
    offers = offered_spreads(here.market.days, here.terms.rules, COSTS, SMILE)
    account = spread_account(offers, sizing, max_position)
    _, theirs = rows_of(trade_table(account.trades, here.market.days).encode())
    ours = sold_live(here, max_position, tmp_path)
    assert [[row[name] for name in BOOKED] for row in ours] == [
        [row[name] for name in BOOKED] for row in theirs
    ]
    assert {row["Strategy"] for row in ours} == set(strategies)
    assert len({row["Position_Size"] for row in ours}) > 1
    refused = {refusal.reason for refusal in account.refusals}
    assert bound in (refused | {"cut"} if account.cut else refused)
