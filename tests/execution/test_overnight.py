"""The overnight ceiling holds whatever is known about what is held."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from execution.decision.decision import Decision
from execution.decision.trader import Trader
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.orders import Order, make_order_id
from sizing.strategies import KellyStrategy
from tests.execution.traders import (
    STOCKS,
    Tilted,
    account_in,
    allowing,
    decided,
    known,
    trader_of,
    without_an_answer,
)
from trainingdata.bars import Bars

LAST = "2024-02-21T20:30"
EARLIER = "2024-02-21T19:30"  # 15:30 and 14:30 New York
OVER = {"SYA": 1.2, "SYB": -0.8, "SYC": 0.39}


def mute(*symbols: str) -> Trader:
    """One that forecasts nothing of these."""
    return trader_of(Tilted(mute=symbols))


def carried(decision: Decision, account: AccountSnapshot) -> float:
    """Stock gross over equity once the decision's orders have filled."""
    held = {**dict.fromkeys(STOCKS, Decimal(0)), **account.positions}
    for order in decision.orders:
        held[order.symbol] = held[order.symbol] + order.signed_qty
    return sum(abs(float(held[s])) * account.prices[s] for s in STOCKS) / account.equity


@pytest.mark.parametrize("silent", [STOCKS, ("SYA",), ("SYB", "SYC")])
def test_symbols_without_a_forecast_are_cut_overnight(
    market: Bars, silent: tuple[str, ...]
) -> None:
    """2.39 times equity at 15:30 is cut to 1.96, and each stock without a forecast keeps the same
    share.
    """
    account = account_in(known(market, LAST), **OVER)
    who = mute(*silent)
    decision = decided(market, LAST, who, account)
    assert carried(decision, account) <= 1.96 + 1e-9
    assert all(order.reduces for order in decision.orders)
    cut = {c.symbol: c for c in decision.choices if "overnight" in c.binding_shadow_prices}
    if silent == STOCKS:
        shares = [cut[s].target_weight / cut[s].held_weight for s in STOCKS]
        assert shares == pytest.approx([1.96 / 2.39] * 3, rel=5e-3)
        (stock,) = who.costs.expected_cost(np.array([False]), who.fees)
        assert {cut[s].unit_cost for s in STOCKS} == {stock}
        assert all("no forecast: weight" in str(order.reason) for order in decision.orders)


def test_failed_solver_still_cuts_the_overnight_book(
    market: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KellyStrategy, "allocate", without_an_answer)
    account = account_in(known(market, LAST), **OVER)
    decision = decided(market, LAST, mute(), account)
    assert decision.sizing_failure == "no convergence"
    assert carried(decision, account) <= 1.96 + 1e-9
    assert all("no convergence; " in str(order.reason) for order in decision.orders)


def test_overnight_cut_skips_compliant_books_and_untradable_stocks(market: Bars) -> None:
    bars, earlier = known(market, LAST), known(market, EARLIER)
    assert mute(*STOCKS).decide(bars, account_in(bars, SYA=1.2, SYB=-0.7)) is None
    assert mute(*STOCKS).decide(earlier, account_in(earlier, **OVER)) is None
    account = account_in(bars, **OVER)
    decision = decided(allowing(bars, "SYA", is_tradable=False), LAST, mute(*STOCKS), account)
    assert {order.symbol for order in decision.orders} == {"SYB", "SYC"}
    assert carried(decision, account) <= 1.96 + 1e-9


@pytest.mark.parametrize("held", [0, 1])
def test_open_purchases_are_cut_like_positions(market: Bars, held: int) -> None:
    """Twice equity is held, and an own order for as much is open: the book ends the day under
    1.96.
    """
    base = account_in(known(market, LAST), SYA=1.5)
    name = make_order_id("test", np.datetime64(EARLIER, "ns"), "SYB", 0)
    size = Decimal(int(150_000 / base.prices["SYB"]))
    waits = Order(name, "SYB", "buy", size, "left over")
    positions = {**base.positions, "SYB": Decimal(held)}
    account = replace(base, positions=positions, open_orders=(waits,))
    decision = decided(market, LAST, mute(*STOCKS), account)
    assert decision.orders_to_cancel == (waits,)
    assert carried(decision, account) <= 1.96 + 1e-9
