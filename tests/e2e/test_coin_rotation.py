"""All of one coin sold and another bought with it in one decision: what the venue takes of it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import pytest

from execution.decision.decision import Decision
from execution.decision.trader import Trader
from foundation.arrays import Array
from foundation.compose import compose_config
from marketsimulator.run_result import Run
from marketsimulator.runs.outcome import simulate_variants
from marketsimulator.runs.simulate import simulate_trading
from marketsimulator.settings import BacktestSettings
from sizing.inputs import SizingInputs
from tests.e2e.practice import SPAN, Live, Start
from trainingdata.market import Market

CASH = "unborrowed_cash"  # the limit that a cut purchase names
TURN = 2  # hours that a coin is held
WORDS = (
    "symbols=[SYXUSD,SYYUSD]",
    "limits.symbol_cap=1.0",
    f"sizing._target_={__name__}.all_in_one_coin",
)
REFUSES = ("fills.shortfall=refuse", "fills.volume_share=null")


def all_in_one_coin(inputs: SizingInputs) -> Array:
    """Everything in one coin, and every two hours in the other one."""
    hours = (
        int(inputs.decision_time.astype("datetime64[h]").astype(int)) if inputs.decision_time else 0
    )
    weights = np.zeros(len(inputs.held_weight))
    weights[(hours // TURN) % 2] = 1.0
    return weights


def half_in_each_and_half_in_one(inputs: SizingInputs) -> Array:
    """Half of the account spread over both coins, the other half in the coin of the hour."""
    return 0.25 + 0.5 * all_in_one_coin(inputs)


def walked(*words: str) -> tuple[BacktestSettings, Market, Trader, Run]:
    """A run by itself, in which coins are rotated and nothing is refused."""
    settings = alone(*REFUSES, *words)
    market = settings.load_market()
    trader = settings.build_trader(settings.forecaster.build(market.bars.symbols)).with_beliefs(
        market
    )
    run = simulate_trading(settings, market, "alone", trader)
    assert rotations(run) > 10
    assert run.margin_event_counts["refusals"] == 0
    return settings, market, trader, run


def rotations(run: Run) -> int:
    """Decisions that sell one coin and buy the other."""
    return sum({o.side for o in d.orders} == {"buy", "sell"} for d in run.decisions)


def sent(decisions: Sequence[Decision]) -> list[tuple[str, Decimal]]:
    """Orders by id, which names symbol and instant, with their signed quantities."""
    return [(o.client_order_id, o.signed_qty) for d in decisions for o in d.orders]


def alone(*words: str) -> BacktestSettings:
    span = ["start=2024-02-20", "end=2024-02-22"]
    return BacktestSettings.from_config(compose_config("backtest", [*SPAN, *span, *WORDS, *words]))


@pytest.mark.parametrize("capital", [1_000.0, 300_000.0])
def test_hourly_rotation_of_all_crypto_fills_every_order(capital: float) -> None:
    """The venue checks a purchase at 1.03 of its price against the cash from the sale."""
    _, market, _, run = walked(f"capital={capital}")
    # No bar starts at the last instant.
    decisions = [d for d in run.decisions if d.at < market.bars.last_instant]
    ordered = {o.client_order_id: o.qty for d in decisions for o in d.orders}
    traded = dict.fromkeys(ordered, Decimal(0))
    for fill in run.fills:
        if fill.price > 0:
            traded[fill.client_order_id] += abs(fill.qty)
    assert traded == ordered, "nothing is lost, nothing is sent twice"
    for row in run.equity_rows[1:]:
        assert row.gross_crypto > 0.95 * row.equity, "no hour is spent in cash"


@pytest.mark.first_example
@pytest.mark.parametrize(("capital", "increments"), [(1_500.0, "original"), (100_000.0, "broker")])
def test_crypto_purchases_fit_sale_proceeds_after_quantity_rounding(
    capital: float, increments: str
) -> None:
    words = (f"sizing._target_={__name__}.half_in_each_and_half_in_one", "limits.crypto_leverage=1")
    *_, run = walked(*words, f"capital={capital}", f"increments={increments}")
    least = 0.6 if increments == "original" and capital < 10_000 else 0.95
    for row in run.equity_rows[2:]:
        assert row.gross_crypto > least * row.equity, "no hour is spent in cash"


def test_live_rotation_of_all_crypto_matches_the_backtest(practice: Start) -> None:
    here = practice(*WORDS, *REFUSES, "increments=original", "end=2024-02-21")
    settings = alone(*REFUSES, "end=2024-02-21")
    market = here.venue.market
    oracle = settings.forecaster.build(market.bars.symbols)
    trader = settings.build_trader(oracle).with_beliefs(market)
    expected = simulate_trading(settings, market, "alone", trader)
    decisions = Live.at(here, *WORDS).through(here)
    assert rotations(expected) > 10
    assert sent(decisions) == sent(expected.decisions)
    assert here.venue.broker.margin_event_counts()["refusals"] == 0
    filled = [name for name, ticket in here.venue.tickets.items() if ticket.status == "filled"]
    assert filled == [o.client_order_id for d in decisions[:-1] for o in d.orders]
    assert here.venue.broker.equity_row().equity == expected.equity_rows[-1].equity


def test_compiled_sweep_reduces_crypto_purchases_like_the_backtest() -> None:
    settings, market, trader, run = walked(
        "sizing.strategy=kelly_100", "sizing._target_=null", "end=2024-02-23"
    )
    assert trader.belief_table is not None
    (outcome,) = simulate_variants([settings], market, trader.belief_table)
    cut = [
        c
        for d in run.decisions
        for c in d.choices
        if np.isnan(c.binding_shadow_prices.get(CASH, 0.0))
    ]
    assert len(cut) > 10
    np.testing.assert_allclose(outcome.equity, [row.equity for row in run.equity_rows], atol=1e-6)
    assert outcome.totals.trades == sum(fill.price > 0 for fill in run.fills)
