"""A run on forecasts that cover a part of it says which part."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from forecasting.baseline import Oracle, RandomWalk
from forecasting.forecast import HORIZON, LEVELS, has_look_ahead
from marketsimulator.backtest import run_backtest
from marketsimulator.settings import BacktestSettings
from tests.marketsimulator.runs import settings_of

SPAN = [
    *("start=2024-02-26", "end=2024-03-01", "data.start=2024-01-02", "data.end=2024-03-01"),
    *("symbols=[SYA,SYB]", "forecaster.calibrated=false", "trials=null"),
]


def settings(*words: str) -> BacktestSettings:
    return settings_of(*SPAN, *words)


def remarks(*words: str) -> list[str]:
    summary = run_backtest(settings(*words)).summary()
    assert set(summary["warnings"]) <= set(summary["remarks"])
    return [line for line in summary["warnings"] if line.startswith("Forecasts cover")]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forecasts of a random walk that end on Wednesday."""
    bars = settings("forecaster=ewma").load_market().bars
    table = RandomWalk().forecast(bars, np.datetime64("2024-02-25", "ns"))
    windows = table.windows
    rows = np.flatnonzero(windows.issued_at < np.datetime64("2024-02-28T12:00"))
    index = pd.MultiIndex.from_product(
        [rows, range(1, HORIZON + 1), LEVELS], names=["row", "step", "level"]
    )
    frame = pd.DataFrame({"value": table.quantiles[rows].ravel()}, index=index).reset_index()
    frame["symbol"] = np.array(bars.symbols)[windows.symbol_index[frame["row"]]]
    frame["issued_at"] = pd.DatetimeIndex(windows.issued_at[frame["row"]]).tz_localize("UTC")
    found = tmp_path_factory.mktemp("forecasts") / "half.parquet"
    frame.to_parquet(found)
    return found


def future_file(folder: Path, noise: float) -> Path:
    """Write a file without a forecaster's name whose medians are future closes, times noise."""
    bars = settings("forecaster=ewma").load_market().bars
    since = np.datetime64("2024-02-01", "ns")
    table = Oracle().forecast(bars, since)
    ahead = table.quantiles[np.arange(len(table.windows))][:, :, 10] / table.windows.price[:, None]
    rows = np.flatnonzero(np.isfinite(ahead).all(axis=1))
    walk = RandomWalk().forecast(bars, since)
    values = walk.quantiles[rows] * ahead[rows][:, :, None]
    rng = np.random.default_rng(5)
    values *= np.exp(rng.normal(0.0, noise, (len(rows), 1, 1)))
    index = pd.MultiIndex.from_product(
        [rows, range(1, HORIZON + 1), LEVELS], names=["row", "step", "level"]
    )
    frame = pd.DataFrame({"value": values.ravel()}, index=index).reset_index()
    frame["symbol"] = np.array(bars.symbols)[table.windows.symbol_index[frame["row"]]]
    issued = table.windows.issued_at[frame["row"]]
    frame["issued_at"] = pd.DatetimeIndex(issued).tz_localize("UTC")
    frame.to_parquet(folder / "mine.parquet")
    return folder / "mine.parquet"


@pytest.mark.first_example
@pytest.mark.parametrize("noise", [0.0, 0.0003])
def test_look_ahead_forecasts_are_reported_as_no_result(tmp_path: Path, noise: float) -> None:
    made = future_file(tmp_path, noise)
    ledger = tmp_path / "trials.sqlite"
    mine = settings("forecaster=file", f"forecaster.path={made}")
    results = run_backtest(replace(mine, start="2024-02-20", trials=str(ledger)))
    assert has_look_ahead(results.main_run.name)
    assert results.trial_count == 0
    assert "No result: the forecaster reads the future." in results.summary()["warnings"]


@pytest.mark.parametrize("forecaster", ["ewma", "historical"])
def test_forecasts_without_look_ahead_are_not_flagged(forecaster: str) -> None:
    assert not has_look_ahead(run_backtest(settings(f"forecaster={forecaster}")).main_run.name)


def test_partial_forecast_coverage_is_reported_with_its_span(path: Path) -> None:
    assert remarks("forecaster=ewma") == [], "it covers everything"
    assert remarks("forecaster=file", f"forecaster.path={path}") == [
        "Forecasts cover 24 of 60 decisions, the first at 2024-02-26T15:30Z and the last at"
        " 2024-02-27T20:30Z. No decision was made at the other times."
    ]
