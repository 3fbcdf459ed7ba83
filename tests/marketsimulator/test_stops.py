"""Stops and reasons that a strategy states: recorded by every engine, shown on hover."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from execution.decision.choice import NO_RATIONALE, Choice
from execution.journal.decisions import decode_choice, encode_choice
from foundation.errors import InputError
from marketsimulator.results.order_reasons import short_reasons_by_order
from marketsimulator.results.price_charts import MAX_STOP_LEVELS, price_charts, stop_series
from marketsimulator.runs.simulate import simulate_stepwise, simulate_trading
from sizing.inputs import require_lookback
from sizing.strategies import StrategyAnswer, wrap_plugin_rule
from tests.sizing.books import random_inputs
from tests.support.eager_runs import believing
from tests.support.messages import refused
from tests.support.own_module import own_module
from trainingdata.history import PriceHistory

RULE = """
import numpy as np
from sizing import StrategyAnswer

def rule(s):
    closes = s.history.closes[:, -1]
    holds = (s.decision_time.astype("datetime64[h]").astype(int) // 5 % 2 == 0) & s.universe
    stops = np.where(holds, np.floor(closes) * 0.95, np.nan)
    reasons = [f"{symbol} fell" if each else "" for symbol, each in zip(s.symbols, holds)]
    return StrategyAnswer(np.where(holds, 0.1, 0.0), stops, reasons)
"""
HOUR = np.timedelta64(1, "h")
NOON = np.datetime64("2024-03-04T12:00", "ns")


def hourly(*stops: float) -> pd.DataFrame:
    """Decisions at each hour from noon on, with these stops."""
    at = pd.DatetimeIndex(NOON + HOUR * np.arange(len(stops) + 1)).tz_localize("UTC")
    return pd.DataFrame({"at": at[:-1], "until": at[1:], "plan_stop_price": stops})


def test_every_engine_records_the_same_stops_and_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = own_module(RULE, tmp_path, monkeypatch)
    settings, market, trader = believing(f"sizing.strategy={module}.rule", "sizing.lookback=5")
    compiled = simulate_trading(settings, market, "x", trader)
    stepped = simulate_stepwise(settings, market, "x", trader, settings.build_broker(market))
    decisions, others = (run.decision_frame() for run in (compiled, stepped))
    np.testing.assert_array_equal(decisions["plan_stop_price"], others["plan_stop_price"])
    assert (decisions["strategy_reason"] == others["strategy_reason"]).all()
    assert compiled.order_frame().equals(stepped.order_frame())
    rows = decisions[decisions["plan_stop_price"].notna()]
    given = decisions[decisions["strategy_reason"] != ""]
    assert set(rows["symbol"]) == set(given["symbol"]) == set(market.bars.symbols)
    assert set(given["strategy_reason"]) == {f"{symbol} fell" for symbol in given["symbol"]}
    orders = compiled.order_frame().merge(given, on=["symbol", "at"])
    assert len(orders)
    for order in orders.to_dict("records"):
        assert order["reason"].startswith(f"{order['symbol']} fell; ")
    shown = short_reasons_by_order(compiled.order_frame(), decisions)
    texts = [shown[name] for name in orders["client_order_id"]]
    assert all(" fell; weight " in text and text.count("fell") == 1 for text in texts)
    exits = []
    for symbol, chart in price_charts(compiled, market.bars, compiled.order_frame()):
        drawn = {each.name: each for each in chart.series}
        own = rows.loc[rows["symbol"] == symbol, "plan_stop_price"]
        stops = drawn["stop"].values
        assert set(stops[np.isfinite(stops)]) == set(own)
        assert f"at {len(own):,} decisions" in chart.description
        notes = [*drawn["buys"].point_notes, *drawn["sells"].point_notes]
        entries = [note for note in notes if note.startswith("enter")]
        exits += [note for note in notes if note.startswith("exit")]
        assert entries
        assert all(", stop at $" in note and " fell; " in note for note in entries)
    # What is left of an order that filled partly is sold without a stop before it.
    assert sum("; the stop was at $" in note for note in exits) > len(exits) / 2


@pytest.mark.parametrize("reasons", [["a"], "ab", ["a", 1], ["a", "b" * 81], ["a", "b\nc"]])
def test_invalid_reasons_are_refused(reasons: object) -> None:
    s = random_inputs(np.random.default_rng(0), 2)
    answer = StrategyAnswer(np.zeros(2), reasons=reasons)  # type: ignore[arg-type]
    with refused(InputError, "own.rule", "2 symbols"):
        wrap_plugin_rule("own.rule", lambda _: answer)(s)


def test_rule_with_bars_outside_lookback_is_refused() -> None:
    s = replace(
        random_inputs(np.random.default_rng(0), 2), history=PriceHistory(*[np.zeros((2, 50))] * 6)
    )
    require_lookback(s, fast=20, slow=50)
    rule = partial(require_lookback, fast=20, slow=200)
    with refused(InputError, "sizing.arguments.slow", "sizing.lookback", "200", "50"):
        wrap_plugin_rule("own.rule", rule)(s)
    with refused(InputError, "sizing.arguments.fast", "0 bars", "1"):
        require_lookback(s, fast=0)


def test_stop_line_is_stepped_with_gaps_between_levels() -> None:
    line = stop_series(hourly(9.0, 9.0, 9.5, math.nan, math.nan, 9.5))
    hours = (line.x - NOON) / HOUR
    assert hours.tolist() == [0, 2, 2, 2, 3, 3, 5, 6, 6]
    expected = [9.0, 9.0, math.nan, 9.5, 9.5, math.nan, 9.5, 9.5, math.nan]
    np.testing.assert_array_equal(line.values, expected)
    trailing = stop_series(hourly(*(9.0 + k for k in range(1000))))
    assert len(trailing.x) == 3 * MAX_STOP_LEVELS
    assert (trailing.x[3::3] == trailing.x[1:-3:3]).all(), "each level lasts until the next one"


@pytest.mark.parametrize("stops", [[1.0], [0.0, 2.0], "none"])
def test_invalid_stop_prices_are_refused(stops: object) -> None:
    s = random_inputs(np.random.default_rng(0), 2)
    rule = wrap_plugin_rule("own.rule", lambda _: StrategyAnswer(np.zeros(2), stops))  # type: ignore[arg-type]
    with refused(InputError, "own.rule", "stop prices", "2 symbols"):
        rule(s)


def test_journal_keeps_stops_and_reads_older_entries() -> None:
    rationale = NO_RATIONALE._replace(days=1.0, stop_price=97.5)
    choice = Choice("SYA", 0.0, 0.1, 0.1, 0.0, 0.1, Decimal(1), 100.0, {}, 0.0, rationale)
    entry = encode_choice(choice)
    assert decode_choice(entry).rationale.stop_price == 97.5
    del entry["rationale"]["stop_price"]
    assert decode_choice(entry).rationale.stop_price is None


def test_journal_keeps_reasons_and_reads_older_entries() -> None:
    choice = Choice(
        "SYA", 0.0, 0.1, 0.1, 0.0, 0.1, Decimal(1), 100.0, {}, 0.0, NO_RATIONALE, "fell"
    )
    entry = json.loads(json.dumps(encode_choice(choice)))
    assert decode_choice(entry).strategy_reason == "fell"
    del entry["strategy_reason"]
    assert decode_choice(entry).strategy_reason == ""


def test_price_chart_without_stops_has_no_stop_line() -> None:
    settings, market, trader = believing("sizing.strategy=equal_weight")
    run = simulate_trading(settings, market, "x", trader)
    for _, chart in price_charts(run, market.bars, run.order_frame()):
        assert "stop" not in {each.name for each in chart.series} | {chart.description}
