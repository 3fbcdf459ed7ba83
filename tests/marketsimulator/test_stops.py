"""Stops that a strategy states: recorded alike by every engine, drawn, named on hover."""

from __future__ import annotations

import math
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from execution.decision.choice import NO_RATIONALE, Choice
from execution.journal.decisions import decode_choice, encode_choice
from foundation.errors import InputError
from marketsimulator.results.price_charts import MAX_STOP_LEVELS, price_charts, stop_series
from marketsimulator.runs.simulate import simulate_stepwise, simulate_trading
from sizing.strategies import WeightsWithStops, wrap_plugin_rule
from tests.sizing.books import random_inputs
from tests.support.eager_runs import believing
from tests.support.messages import refused
from tests.support.own_module import own_module

RULE = """
import numpy as np
from sizing import WeightsWithStops

def rule(s):
    closes = s.history.closes[:, -1]
    holds = (s.decision_time.astype("datetime64[h]").astype(int) // 5 % 2 == 0) & s.universe
    stops = np.where(holds, np.floor(closes) * 0.95, np.nan)
    return WeightsWithStops(np.where(holds, 0.1, 0.0), stops)
"""
HOUR = np.timedelta64(1, "h")
NOON = np.datetime64("2024-03-04T12:00", "ns")


def hourly(*stops: float) -> pd.DataFrame:
    """Decisions at each hour from noon on, with these stops."""
    at = pd.DatetimeIndex(NOON + HOUR * np.arange(len(stops) + 1)).tz_localize("UTC")
    return pd.DataFrame({"at": at[:-1], "until": at[1:], "plan_stop_price": stops})


def test_every_engine_records_and_draws_the_same_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = own_module(RULE, tmp_path, monkeypatch)
    settings, market, trader = believing(f"sizing.strategy={module}.rule", "sizing.lookback=5")
    compiled = simulate_trading(settings, market, "x", trader)
    stepped = simulate_stepwise(settings, market, "x", trader, settings.build_broker(market))
    frames = [run.decision_frame() for run in (compiled, stepped)]
    np.testing.assert_array_equal(*(each["plan_stop_price"] for each in frames))
    rows = frames[0][frames[0]["plan_stop_price"].notna()]
    assert set(rows["symbol"]) == set(market.bars.symbols)
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
        assert all(", stop at $" in note for note in entries)
    # What is left of an order that filled partly is sold without a stop before it.
    assert sum("; the stop was at $" in note for note in exits) > len(exits) / 2


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
    rule = wrap_plugin_rule("own.rule", lambda _: WeightsWithStops(np.zeros(2), stops))  # type: ignore[arg-type]
    with refused(InputError, "own.rule", "stop prices", "2 symbols"):
        rule(s)


def test_journal_keeps_stops_and_reads_older_entries() -> None:
    rationale = NO_RATIONALE._replace(days=1.0, stop_price=97.5)
    choice = Choice("SYA", 0.0, 0.1, 0.1, 0.0, 0.1, Decimal(1), 100.0, {}, 0.0, rationale)
    entry = encode_choice(choice)
    assert decode_choice(entry).rationale.stop_price == 97.5
    del entry["rationale"]["stop_price"]
    assert decode_choice(entry).rationale.stop_price is None


def test_price_chart_without_stops_has_no_stop_line() -> None:
    settings, market, trader = believing("sizing.strategy=equal_weight")
    run = simulate_trading(settings, market, "x", trader)
    for _, chart in price_charts(run, market.bars, run.order_frame()):
        assert "stop" not in {each.name for each in chart.series} | {chart.description}
