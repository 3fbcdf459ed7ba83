"""What still waits from an earlier decision: it is replaced where it stands in the way, and
reductions are not done yet.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from execution.decision.decision import Decision
from execution.decision.rebalancing import find_orders_to_replace, find_reductions_to_cancel
from execution.decision.sizing import SizingSettings
from execution.decision.trader import Trader
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.orders import Order, make_order_id
from foundation.compose import compose_config
from marketsimulator.runs.simulate import simulate_trading
from marketsimulator.settings import BacktestSettings
from sizing.settings import Limits
from tests.execution.traders import Tilted, account_of, allowing, decided, known, trader_of
from trainingdata.bars import VOLUME, Bars

MIDDAY = "2024-02-21T16:30"


def waiting(symbol: str, qty: int, name: str = "test") -> Order:
    side = "buy" if qty > 0 else "sell"
    identity = make_order_id(name, np.datetime64("2024-02-21T15:30", "ns"), symbol, 0)
    return Order(identity, symbol, side, Decimal(abs(qty)), "left over")  # type: ignore[arg-type]


def holder(position: float) -> Trader:
    """Holds so much of every symbol."""
    sizing = SizingSettings(strategy="fixed_fraction", position=position, band=0.0)
    return trader_of(Tilted(100.0, at_once=True), sizing)


def after(decision: Decision, before: AccountSnapshot, symbol: str) -> Decimal:
    """What is held and open once the decision has been carried out."""
    left = [o for o in before.open_orders if o not in decision.orders_to_cancel]
    quantity = before.positions.get(symbol, Decimal(0))
    return quantity + sum(o.signed_qty for o in (*left, *decision.orders) if o.symbol == symbol)


@pytest.mark.parametrize(
    ("held", "left", "position", "replaces"),
    [
        (100, 900, 0.1, True),  # the open order exceeds the target: it is cancelled and replaced
        (100, 50, 0.5, False),  # the same direction: it stays, what is missing comes on top
        (400, -300, 0.1, True),  # an open reduction is included in the new order
        (400, -390, 0.5, True),
        (-200, 150, 0.3, True),  # the position crosses zero
    ],
)
def test_new_order_replaces_conflicting_open_orders(
    market: Bars, held: int, left: int, position: float, replaces: bool
) -> None:
    bars = known(market, MIDDAY)
    plain = account_of(bars, SYA=held)
    before = account_of(bars, waiting("SYA", left), SYA=held)
    decision = decided(market, MIDDAY, holder(position), before)
    anew = decided(market, MIDDAY, holder(position), plain)
    assert after(decision, before, "SYA") == after(anew, plain, "SYA")
    assert (decision.orders_to_cancel == before.open_orders[:1]) == replaces
    sides = {o.side for o in decision.orders if o.symbol == "SYA"}
    assert replaces or sides == {before.open_orders[0].side}
    for name in ("manual", "test-mean", "tes"):
        by_others = account_of(bars, waiting("SYA", left, name), SYA=held)
        decision = decided(market, MIDDAY, holder(position), by_others)
        assert decision.orders_to_cancel == (), "the order of somebody else"


def test_decision_cancels_only_its_own_open_reductions(market: Bars) -> None:
    bars = known(market, MIDDAY)
    mine = waiting("SYA", -50), waiting("SYB", 30)
    sizes = {"SYA": 50, "SYB": -30, "SYC": -20, "SYXUSD": -5}
    others = (waiting("SYA", -50, "manual"), *(waiting(s, size) for s, size in sizes.items()))
    adjustable = ("SYA", "SYB", "SYXUSD")
    held = account_of(bars, *mine, *others, SYA=100, SYB=-100, SYC=100)
    assert find_reductions_to_cancel("test", held, adjustable) == mine
    assert find_reductions_to_cancel("test", held, ()) == ()


@pytest.mark.parametrize(
    ("held", "left", "change", "replaced"),
    [
        ("0", "0.5", "0.5", False),
        ("0", "0.5", "-0.5", True),
        ("0", "-0.5", "-0.5", False),
        ("0", "-0.5", "0.5", True),
        ("2", "-0.5", "-0.5", True),
        ("-2", "0.5", "0.5", True),
        ("2", "0.5", "0.5", False),
        ("2", "-0.5", "0", False),
    ],
)
def test_opposing_or_reducing_change_replaces_a_fractional_order(
    market: Bars, held: str, left: str, change: str, replaced: bool
) -> None:
    bars = known(market, MIDDAY)
    order = replace(waiting("SYA", 1 if Decimal(left) > 0 else -1), qty=abs(Decimal(left)))
    before = replace(account_of(bars, order), positions={"SYA": Decimal(held)})
    found = find_orders_to_replace("test", before, {"SYA": Decimal(change)})
    assert found == ((order,) if replaced else ())
    assert find_orders_to_replace("other", before, {"SYA": Decimal(change)}) == ()


def test_open_reduction_frees_no_leverage_before_it_fills(market: Bars) -> None:
    """3.2 times equity are held, 0.2 of which are being sold: another symbol may use exactly the
    leverage that remains up to 4.
    """
    bars = known(market, MIDDAY)
    price = account_of(bars).prices["SYA"]
    held = int(3.2 * 100_000 / price)
    before = account_of(bars, waiting("SYA", -int(20_000 / price)), SYA=held)
    who = replace(holder(2.0), limits=Limits(symbol_cap=2.0))
    others = (symbol for symbol in bars.symbols if symbol != "SYB")
    decision = decided(allowing(bars, *others, is_tradable=False), MIDDAY, who, before)
    (choice,) = decision.choices
    assert choice.target_weight == pytest.approx(4.0 - held * price / before.equity, abs=1e-6)


def test_targets_plus_open_sales_stay_under_the_ceilings() -> None:
    """Gross exposure after every instant stays under the ceiling of its decision, even with carried
    remainders and changing targets. Prices may move it, orders may not.
    """
    words = (
        "start=2024-03-04 data.start=2024-01-02 data.end=2024-03-08 trials=null"
        " fills.remainder=carry forecaster=oracle forecaster.calibrated=false"
        " capital=20000000 symbols=[SYA,SYB,SYC,SYXUSD]"
    )
    settings = BacktestSettings.from_config(compose_config("backtest", words.split()))
    market = settings.load_market()
    thin = market.bars.values.copy()
    thin[:, :, VOLUME] *= 0.02
    market = market.with_bars(replace(market.bars, values=thin))
    trader = settings.build_trader(settings.forecaster.build(market.bars.symbols)).with_beliefs(
        market
    )
    run = simulate_trading(settings, market, "carried", trader)
    assert sum(len(d.orders_to_cancel) for d in run.decisions) > 5
    assert run.count_incomplete_orders() > 10
    assert run.margin_event_counts["refusals"] < 0.02 * sum(len(d.orders) for d in run.decisions)
    rows = {row.at: row for row in run.equity_rows}
    for decision in run.decisions:
        row = rows[decision.at]
        load = row.gross_stock / row.equity / decision.stock_ceiling + row.gross_crypto / row.equity
        opened = any(not order.reduces for order in decision.orders)
        assert load <= 1.03 or not opened
