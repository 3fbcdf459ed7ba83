"""Remarks of a report on costs, buy and hold, short runs, and days on a chart."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from execution.decision.choice import Choice
from execution.decision.decision import decision_from_choices
from execution.decision.sizing import SizingSettings
from foundation.charts import Chart
from marketsimulator.results.metrics import format_figure
from marketsimulator.results.remarks import (
    buy_and_hold_remarks,
    cost_remarks,
    no_trade_remarks,
    unused_sizing_remarks,
)
from marketsimulator.results.report_charts import leverage_chart
from trainingdata.bars import Bars, build_panel
from trainingdata.instants import new_york_date
from trainingdata.instruments import instrument


@pytest.mark.parametrize(
    ("profit", "costs", "says"),
    [
        (-1197.99, 27.81, "Loss before costs: $1,170.18; costs add $27.81."),
        (-10.0, 30.0, "Costs of $30.00 exceed the profit before costs, $20.00."),
        (-30.0, 30.0, "Costs of $30.00 exceed the profit before costs, $0.00."),
    ],
)
def test_cost_remark_compares_costs_with_profit_or_loss(
    profit: float, costs: float, says: str
) -> None:
    assert cost_remarks(profit, costs) == [says]


def bars_at(**prices: float) -> Bars:
    times = np.array(["2024-03-04T15:30", "2024-03-04T16:30"], dtype="datetime64[ns]")
    rows = [
        (instrument(name), times, np.tile([p, p, p, p, 9.0], (2, 1))) for name, p in prices.items()
    ]
    return build_panel(rows, "made")


def held(*fills: tuple[str, int, float]) -> Any:
    made = [SimpleNamespace(symbol=s, qty=Decimal(q), price=p) for s, q, p in fills]
    return SimpleNamespace(fills=made)


def test_uninvested_buy_and_hold_is_explained() -> None:
    bars = bars_at(AAA=320.0, BBB=700.0)
    assert buy_and_hold_remarks(held(("AAA", 1, 320.0)), bars, 1000.0) == [
        "Buy and hold invests 32% of the capital: it buys whole shares for $500.00 per"
        " symbol; one share of BBB costs more."
    ]
    assert buy_and_hold_remarks(held(("AAA", 1, 499.0), ("BBB", 1, 480.0)), bars, 1000.0) == []


@pytest.mark.parametrize(("name", "short"), [("sharpe", "1.20 (short)"), ("calmar", "—")])
def test_annual_ratios_of_short_runs_are_marked(name: str, short: str) -> None:
    figures = {name: 1.2}
    assert format_figure(figures, name, annual=True) == "1.20"
    assert format_figure(figures, name, annual=False) == short
    assert format_figure({name: None}, name, annual=False) == "—"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"target_volatility": 0.3}, "sizing.target_volatility=0.3 has no effect on kelly_50; it"),
        (
            {"position": 0.2, "strategy": "vol_target"},
            "sizing.position=0.2 has no effect on vol_target",
        ),
        ({"target_volatility": 0.3, "strategy": "vol_target"}, None),
        ({}, None),
    ],
)
def test_sizing_parameter_unused_by_the_strategy_is_reported(
    settings: dict[str, Any], says: str | None
) -> None:
    notes = unused_sizing_remarks(SizingSettings(**settings))
    assert [note[: len(says or "")] for note in notes] == ([says] if says else [])


def test_chart_days_are_new_york_dates() -> None:
    at = np.array(["2024-01-05T15:30", "2024-01-05T20:30", "2024-07-08T19:30"], "datetime64[ns]")
    rows = [SimpleNamespace(gross_stock=60.0, gross_crypto=30.0)] * 3
    decision_log = SimpleNamespace(stock_ceilings=np.full(3, 2.0), instants=at)
    run: Any = SimpleNamespace(
        equity_curve=lambda: (at, np.full(3, 100.0)), equity_rows=rows, decision_log=decision_log
    )
    chart = leverage_chart(run, 1.0)
    assert isinstance(chart, Chart)
    for series in chart.series:
        days = new_york_date(series.x).astype(str).tolist()
        assert days == ["2024-01-05", "2024-07-08"]


AT = np.datetime64("2024-03-04T21:00", "ns")


def remark(equity: float, *choices: Choice) -> str:
    """The remark of a run with one decision and no fill."""
    decision = decision_from_choices(AT, AT + np.timedelta64(1, "D"), equity, 4.0, choices)
    run = SimpleNamespace(fills=(), decisions=[decision])
    (said,) = no_trade_remarks(cast(Any, run), "kelly")
    return said


def choice(symbol: str, target: float, price: float) -> Choice:
    return Choice(symbol, 0.0025, 0.02, 1.2, 0.0, target, Decimal(0), price, {}, 0.0002)


def test_small_account_without_trades_is_explained() -> None:
    said = remark(50.0, choice("AAA", 0.4, 60.0), choice("BBB", -0.5, 200.0))
    assert said == (
        "No trades: the account is too small. Of $50.00, $20.00 is the target of AAA, but one"
        " share costs $60.00; set about capital=150 to buy one."
    )


def test_small_crypto_account_without_trades_is_explained() -> None:
    assert remark(9.0, choice("BTCUSD", 0.4, 60_000.0)) == (
        "No trades: the account is too small. Of $9.00, $3.60 is the target of BTCUSD, but the"
        " minimum crypto order costs $10.50; set at least capital=27."
    )
    refused = choice("BTCUSD", 0.0, 60_000.0)._replace(
        binding_shadow_prices={"smallest_order": 0.0}
    )
    assert remark(9.0, refused) == (
        "No trades: the account is too small. Of $9.00, every order of BTCUSD was below the"
        " minimum crypto order, $10.50; raise capital."
    )


@pytest.mark.parametrize(
    ("equity", "of"), [(150.0, ("AAA", 0.4, 60.0)), (50.0, ("BTCUSD", 0.4, 60_000.0))]
)
def test_run_without_trades_states_largest_edge_and_cost(
    equity: float, of: tuple[str, float, float]
) -> None:
    assert remark(equity, choice(*of)).startswith("No trades: the largest edge was ")
