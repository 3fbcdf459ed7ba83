r"""Write synthetic bars from a seed: one CSV file for each symbol, like a user's own files.

    .venv/bin/python examples/make_bars.py outputs/example-bars
    .venv/bin/python -m marketsimulator.backtest 'data.dir=[outputs/example-bars]' \
        start=2024-03-04 end=2024-05-31 forecaster=ewma output=outputs/example-own-bars

A file has `timestamp` (the bar's start, UTC), open, high, low, close and volume. Stocks have
hourly bars from 09:30 New York time on, the last of which covers half an hour; crypto has a bar
from each full hour on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

FIRST, LAST = "2024-01-02", "2024-05-31"
HOLIDAYS = [
    "2024-01-15",
    "2024-02-19",
    "2024-03-29",
    "2024-05-27",
]  # exchange holidays between them


def starts_of_stock_bars() -> pd.DatetimeIndex:
    """Return the start times of the seven hourly bars of each session."""
    days = pd.bdate_range(FIRST, LAST, tz="America/New_York").drop(HOLIDAYS)
    return pd.DatetimeIndex([day + pd.Timedelta(hours=9.5 + k) for day in days for k in range(7)])


def random_bars(starts: pd.DatetimeIndex, price: float, seed: int) -> pd.DataFrame:
    """Return the bars of a random walk with a standard deviation of 0.4 % per bar.

    price: first open, USD.
    """
    rng = np.random.default_rng(seed)
    close = price * np.exp(np.cumsum(rng.normal(0.0, 0.004, len(starts))))
    opened = np.append(price, close[:-1])
    bars = pd.DataFrame({"timestamp": starts.tz_convert("UTC"), "open": opened})
    bars["high"] = np.maximum(opened, close) * (1 + rng.exponential(0.001, len(starts)))
    bars["low"] = np.minimum(opened, close) * (1 - rng.exponential(0.001, len(starts)))
    bars["close"] = close
    bars["volume"] = rng.integers(50_000, 500_000, len(starts))
    prices = ["open", "high", "low", "close"]
    bars[prices] = bars[prices].round(4)
    return bars


def main(folder: Path) -> None:
    """Write the bar files of three fictitious stocks and a fictitious coin."""
    folder.mkdir(parents=True, exist_ok=True)
    session = starts_of_stock_bars()
    # Days are New York's here, so that stocks and coins end on the same one.
    hours = pd.date_range(FIRST, f"{LAST} 23:00", freq="h", tz="America/New_York").tz_convert("UTC")
    for seed, (symbol, starts, price) in enumerate(
        [
            ("ACME", session, 50.0),
            ("ZINC", session, 120.0),
            ("TOYUSD", hours, 3.0),
            ("OPAL", session, 80.0),
        ]
    ):
        random_bars(starts, price, seed).to_csv(folder / f"{symbol}.csv", index=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write synthetic bars, one CSV file a symbol.")
    parser.add_argument("folder", type=Path)
    main(parser.parse_args().folder)
