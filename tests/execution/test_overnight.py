"""The overnight ceiling holds whatever is known about what is held."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from execution.decision import Decision
from execution.orders import Account, Order, client_order_id
from execution.trader import SizingSettings, Trader
from sizing.allocation import Allocation
from sizing.inputs import SizingInputs
from sizing.kelly import SizingProblem, SolverFailed
from sizing.strategies import Kelly
from tests.execution.traders import Tilted, account_in, known, trader_of
from trainingdata.bars import Bars

LAST = "2024-02-21T20:30"
EARLIER = "2024-02-21T19:30"  # 15:30 and 14:30 New York
STOCKS = ("SYA", "SYB", "SYC")


def trader(*mute: str, **more: object) -> Trader:
    return trader_of(Tilted(mute=mute), SizingSettings(**more))  # type: ignore[arg-type]


def carried(decision: Decision | None, account: Account) -> float:
    """Stock gross over equity once the decision's orders have filled."""
    held = dict(account.positions)
    for order in decision.orders if decision is not None else ():
        held[order.symbol] = held.get(order.symbol, Decimal(0)) + order.signed_qty
    return (
        sum(abs(float(q)) * account.prices[s] for s, q in held.items() if s in STOCKS)
        / account.equity
    )


@pytest.mark.parametrize("mute", [STOCKS, ("SYA",), ("SYB", "SYC")])
def test_what_has_no_forecast_is_cut_for_the_night_all_the_same(
    market: Bars, mute: tuple[str, ...]
) -> None:
    """2.39 times equity at 15:30: 1.96 is left, and each stock without a forecast keeps the
    same share.
    """
    bars = known(market, LAST)
    account = account_in(bars, SYA=1.2, SYB=-0.8, SYC=0.39)
    decision = trader(*mute).decide(bars, account)
    assert decision is not None
    assert carried(decision, account) <= 1.96 + 1e-9
    assert all(order.reduces for order in decision.orders)
    cut = {c.symbol: c for c in decision.choices if "overnight" in c.binding}
    if mute == STOCKS:
        shares = [cut[s].target / cut[s].held for s in STOCKS]
        assert shares == pytest.approx([1.96 / 2.39] * 3, rel=5e-3)
        (stock,) = trader().costs.expected(np.array([False]), trader().fees)
        assert {cut[s].cost for s in STOCKS} == {stock}
        assert all("no forecast: weight" in str(order.reason) for order in decision.orders)


def test_a_solver_that_fails_at_the_last_decision_does_not_keep_the_book(
    market: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Kelly, inputs: SizingInputs) -> Allocation:
        n = len(inputs.mu)
        problem = SizingProblem(*[np.zeros(n)] * 9, 0.5)
        raise SolverFailed("it did not end", problem)

    monkeypatch.setattr(Kelly, "allocate", fails)
    bars = known(market, LAST)
    account = account_in(bars, SYA=1.2, SYB=-0.8, SYC=0.39)
    decision = trader().decide(bars, account)
    assert decision is not None
    assert decision.failure == "it did not end"
    assert carried(decision, account) <= 1.96 + 1e-9
    assert all("it did not end; " in str(order.reason) for order in decision.orders)


def test_what_stands_under_the_ceiling_and_what_may_not_be_traded_is_not_cut(market: Bars) -> None:
    bars = known(market, LAST)
    assert trader(*STOCKS).decide(bars, account_in(bars, SYA=1.2, SYB=-0.7)) is None
    earlier = known(market, EARLIER)
    over = {"SYA": 1.2, "SYB": -0.8, "SYC": 0.39}
    assert trader(*STOCKS).decide(earlier, account_in(earlier, **over)) is None
    items = tuple(replace(i, tradable=i.symbol != "SYA") for i in bars.instruments)
    account = account_in(bars, **over)
    decision = trader(*STOCKS).decide(replace(bars, instruments=items), account)
    assert decision is not None
    assert {order.symbol for order in decision.orders} == {"SYB", "SYC"}
    assert carried(decision, account) <= 1.96 + 1e-9


@pytest.mark.parametrize("held", [0, 1])
def test_what_still_waits_to_be_opened_is_cut_as_what_is_held(market: Bars, held: int) -> None:
    """Twice equity is held, an own order for as much again waits: the book ends the day under
    1.96.
    """
    bars = known(market, LAST)
    base = account_in(bars, SYA=1.5)
    price = base.prices["SYB"]
    name = client_order_id("test", np.datetime64("2024-02-21T19:30", "ns"), "SYB", 0)
    waits = Order(name, "SYB", "buy", Decimal(int(150_000 / price)), "left over")
    account = replace(
        base, positions={**base.positions, "SYB": Decimal(held)}, open_orders=(waits,)
    )
    decision = trader(*STOCKS).decide(bars, account)
    assert decision is not None
    assert decision.cancels == (waits,)
    assert carried(decision, account) <= 1.96 + 1e-9
