"""Overhead of `forecasting.batch` around a network that responds at once: `make bench`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from forecasting.forecast import HORIZON, LEVELS
from studies.benchmarks.instant_network import CURVE
from trainingdata.instruments import AssetClass
from trainingdata.timeframe import HOURLY

pytestmark = pytest.mark.bench
ROOT = Path(__file__).resolve().parents[2]
SYMBOLS = 500
BARS = 2870  # a context of 100, 1,000 to learn from, and a year
SPAN = ("start=2024-01-02", "end=2024-12-31")


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write synthetic stocks that share a factor and a volatility, one file each."""
    folder = tmp_path_factory.mktemp("bars")
    rng = np.random.default_rng(0)
    ends = HOURLY.stock_clock.ends
    ends = ends[ends < np.datetime64("2025-01-01")][-BARS:]
    starts = pd.DatetimeIndex(HOURLY.clock(AssetClass.STOCK).starts_by_end(ends)).tz_localize("UTC")
    market = rng.standard_t(5, BARS)
    level = np.exp(np.cumsum(0.03 * rng.normal(size=BARS)) / 4)
    for s in range(SYMBOLS):
        moves = 0.004 * level * (0.5 * market + rng.standard_t(5, BARS))
        close = 100 * np.exp(np.cumsum(moves - moves.mean()))
        opened = np.append(100, close[:-1])
        reach = 1 + 0.002 * level * np.abs(rng.normal(size=(2, BARS)))
        frame = pd.DataFrame(
            {
                "timestamp": starts,
                "open": opened,
                "high": np.maximum(opened, close) * reach[0],
                "low": np.minimum(opened, close) / reach[1],
                "close": close,
                "volume": 1e5,
            }
        )
        frame.to_parquet(folder / f"{letters(s)}.parquet")
    return folder


def letters(number: int) -> str:
    return "Q" + "".join(chr(65 + number // 26**k % 26) for k in (2, 1, 0))


def timed(folder: Path, *words: str) -> dict[str, Any]:
    """Run the command in a separate process and return its measurements."""
    done = subprocess.run(
        [sys.executable, "-m", "studies.benchmarks.instant_network", *SPAN, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_year_of_500_symbols_is_forecast_and_calibrated(bars: Path, tmp_path: Path) -> None:
    words = (f"data.dir={bars}", f"forecaster.cache={tmp_path / 'cache'}")
    timed(tmp_path, words[0], "symbols=[QAAA]", "forecaster.cache=null", "output=w.parquet")
    for name, output in (
        ("first run, one file", "f.parquet"),
        ("again, all found, one file", "g.parquet"),
    ):
        taken = timed(tmp_path, *words, f"output={output}")
        path = tmp_path / output
        count = len(pd.read_parquet(path, columns=["step"])) // (HORIZON * len(LEVELS))
        size = path.stat().st_size / 1e9
        print(
            f"\n{name}: {count:,} forecasts in {taken['seconds']:.1f} s,"
            f" {count / taken['seconds']:,.0f}/s, {taken['processors']:.1f} s of processors"
            f" (network {taken['network']:.1f}), peak {taken['gib']:.2f} GiB, {size:.2f} GB"
        )
    long = pd.read_parquet(tmp_path / "f.parquet", filters=[("symbol", "==", "QAAA")])
    values = long["value"].to_numpy().reshape(-1, len(LEVELS))
    raw = np.tile(CURVE / CURVE[:, [len(LEVELS) // 2]], (len(values) // HORIZON, 1))
    spread = np.log(values[:, -3] / values[:, 2]) / np.log(raw[:, -3] / raw[:, 2])
    print(f"80 % intervals are {np.median(spread):.2f} times the network's, which knows nothing")
