r"""Write another program's forecasts to a file, and trade them. Here: last week's return continues.

    .venv/bin/python examples/write_forecasts.py outputs/example-bars \
        outputs/example-forecasts.parquet
    .venv/bin/python -m marketsimulator.backtest 'data.dir=[outputs/example-bars]' \
        'symbols=[ACME,ZINC]' start=2024-03-04 end=2024-03-28 forecaster=file \
        forecaster.path=outputs/example-forecasts.parquet forecaster.calibrated=false \
        output=outputs/example-forecasts

A row of the file is one forecast value: symbol, issued_at, step (1 to 24 of the symbol's bars
ahead), level (one of 21 quantile levels) and value, a close in USD. A forecast may only use bars
that are known when it is issued.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm

QUANTILE_LEVELS = [0.01, *np.linspace(0.05, 0.95, 19).round(2), 0.99]
STEPS = np.arange(1, 25)
BARS_PER_WEEK = 35  # bars


def forecasts_of(symbol: str, bars: pd.DataFrame) -> pd.DataFrame:
    """Return the forecasts at every bar of a stock, from the first full week on.

    bars: the stock's bar file as a table.
    """
    starts = pd.to_datetime(bars["timestamp"], utc=True)
    # A bar is known when it ends: after an hour, the session's last after half of one.
    last = starts.dt.tz_convert("America/New_York").dt.hour == 15
    known = starts + pd.to_timedelta(np.where(last, 30, 60), unit="min")
    returns = np.log(bars["close"]).diff()
    median = returns.rolling(BARS_PER_WEEK).mean().to_numpy()[:, None, None] * STEPS[:, None]
    width = returns.rolling(BARS_PER_WEEK).std().to_numpy()[:, None, None] * np.sqrt(STEPS)[:, None]
    values = bars["close"].to_numpy()[:, None, None] * np.exp(
        median + width * norm.ppf(QUANTILE_LEVELS)
    )
    index = pd.MultiIndex.from_product(
        [known, STEPS, QUANTILE_LEVELS], names=["issued_at", "step", "level"]
    )
    table = pd.DataFrame({"value": values.ravel()}, index=index).dropna().reset_index()
    return table.assign(symbol=symbol)


def main(folder: Path, path: Path) -> None:
    """Read the bar files and write the forecasts."""
    tables = [
        forecasts_of(symbol, pd.read_csv(folder / f"{symbol}.csv")) for symbol in ("ACME", "ZINC")
    ]
    pd.concat(tables).to_parquet(path, index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
