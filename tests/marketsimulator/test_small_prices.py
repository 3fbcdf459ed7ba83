"""Coins that cost a billionth of a USD trade at the costs of any other coin."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from marketsimulator.backtest import run_backtest
from marketsimulator.results.summary import BacktestResults
from tests.marketsimulator.accountant import Records, audit
from tests.marketsimulator.runs import settings_of


def run_at(price: float, folder: Path) -> BacktestResults:
    """A backtest on hours of a coin that begins at a price; the moves are the same at each."""
    rng = np.random.default_rng(8)
    times = pd.date_range("2024-01-01", "2024-02-20", freq="h", tz="UTC")
    close = np.exp(np.cumsum(rng.normal(0, 0.004, len(times))))
    rows = {"open": close * 1.0003, "high": close * 1.004, "low": close * 0.996, "close": close}
    frame = pd.DataFrame({name: price * values for name, values in rows.items()})
    frame.insert(0, "timestamp", times)
    frame["volume"] = 1e9 / price
    folder.mkdir()
    frame.to_parquet(folder / "AAAUSD.parquet")
    words = "trials=null", "forecaster=ewma", "forecaster.calibrated=false"
    words += "sizing.strategy=equal_weight", "data.volume_unit=coins"
    return run_backtest(settings_of(f"data.dir={folder}", "start=2024-02-10", *words))


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> BacktestResults:
    return run_at(1.23e-4, tmp_path_factory.mktemp("usual") / "bars")


@pytest.mark.first_example
@pytest.mark.parametrize("price", [6e-7, 4.1e-8, 1.23e-9])
def test_cheap_crypto_fills_at_its_price(
    price: float, usual: BacktestResults, tmp_path: Path
) -> None:
    results = run_at(price, tmp_path / "bars")
    held, other = results.benchmark_runs[-1], usual.benchmark_runs[-1]
    scaled = other.fills[0].price * price / 1.23e-4
    assert held.fills[0].price == pytest.approx(scaled, rel=2e-5)
    for run in [results.main_run, *results.benchmark_runs]:
        assert len(run.fills) > 0
        records = Records.of(asdict(results.settings), results.market.bars, run)
        # The last digit of a float may move billions of coins by one increment, worth nothing.
        told = [what for _, what in audit(records).differences if "fills.qty" not in what]
        assert told == []
