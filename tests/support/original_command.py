"""The original backtest command and bars that it reads."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

ORIGINAL = "marketsimulator.backtest_kelly_chronos2"


def bars_file(folder: Path, name: str) -> Path:
    """A folder with 400 hours of a coin."""
    stamps = pd.date_range("2024-01-01", periods=400, freq="1h", tz="UTC")
    close = 100 + 5 * pd.Series(range(400)).mod(17)
    prices = {"open": close, "high": close + 1, "low": close - 1, "close": close}
    folder.mkdir(exist_ok=True)
    pd.DataFrame({"timestamp": stamps, **prices, "volume": 1.0}).to_parquet(folder / name)
    return folder
