"""Time to write the report of a year of 18 symbols, and its size."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from foundation.compose import compose_config
from foundation.files import write_files_atomically
from marketsimulator.backtest import run_backtest
from marketsimulator.results import report
from marketsimulator.results.report import render_report, result_file_writers
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import VOLUME, Bars, build_panel
from trainingdata.instruments import AssetClass, instrument

pytestmark = pytest.mark.bench
STOCKS = tuple(f"Q{letter}" for letter in "ABCDEFGHIJ")
COINS = tuple(f"Z{letter}USD" for letter in "ABCDEFGH")
WORDS = [
    "start=2023-06-01",
    "end=2024-05-31",
    "forecaster=historical",
    "data.information_coefficient=0.3",
]
MOST_SECONDS = 3.0
MOST_BYTES = 1_000_000


def wide(bars: Bars) -> Bars:
    """Return 18 symbols with the synthetic market's bars, each with independent noise."""
    rng = np.random.default_rng(1)
    tables = []
    for kind, names in ((AssetClass.STOCK, STOCKS), (AssetClass.CRYPTO, COINS)):
        alike = [s for s, item in enumerate(bars.instruments) if item.kind is kind]
        for number, name in enumerate(names):
            times, values = bars.bars_of_symbol(alike[number % len(alike)])
            noise = np.exp(np.cumsum(rng.normal(0, 0.002, len(times))))
            values = values.copy()
            values[:, :VOLUME] *= noise[:, None]
            tables.append((instrument(name), times, values))
    return build_panel(tables, "synthetic market, widened")


def test_yearly_report_meets_its_time_and_size_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars = wide(BacktestSettings.from_config(compose_config("backtest", WORDS)).load_bars())
    monkeypatch.setattr(BacktestSettings, "bars", lambda self: bars)
    results = run_backtest(BacktestSettings.from_config(compose_config("backtest", WORDS)))
    spent = []

    def timed(*parts: object) -> str:
        began = time.process_time()
        page: str = render_report(*parts)  # type: ignore[arg-type]
        spent.append(time.process_time() - began)
        return page

    monkeypatch.setattr(report, "render_report", timed)
    write_files_atomically(result_file_writers(results, results.summary()), tmp_path)
    size = (tmp_path / "report.html").stat().st_size
    print(f"\n{len(results.main_run.fills):,} fills: {spent[0]:.2f} s of CPU, {size:,} bytes")
    assert len(results.market.bars.symbols) == 18
    assert spent[0] < MOST_SECONDS
    assert size < MOST_BYTES
