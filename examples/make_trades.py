r"""Write synthetic closed trades of option spreads: a CSV file in the autoscaler's format.

    .venv/bin/python examples/make_trades.py outputs/example-trades.csv
    .venv/bin/python -m option_spreads.monte_carlo trades=outputs/example-trades.csv \
        runs=2000 days=60 seed=0 output=outputs/example-monte-carlo

Seven in ten trades gain 90 to 150 USD per contract, and the others lose 180 to 320 USD. The largest
possible loss is 350 USD (a width of 6 less a credit of 2.50, times 100). On average the trades earn
almost nothing.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pandas as pd

COLUMNS = (
    *("Timestamp_ET", "Trade_ID", "Strategy", "Strikes", "Entry_Credit", "Position_Size"),
    *("Exit_Time", "P/L_$", "Exit_Reason"),
)
TRADES = 120


def main(path: Path) -> None:
    """Write the trades of one quarter, two a day."""
    rng = np.random.default_rng(7)
    wins = rng.random(TRADES) < 0.7
    results = np.where(wins, rng.uniform(90, 150, TRADES), rng.uniform(-320, -180, TRADES))
    days = np.repeat(pd.bdate_range("2024-01-02", periods=TRADES // 2), 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for k, (day, result) in enumerate(zip(days, results, strict=True)):
            date = pd.Timestamp(day).strftime("%Y-%m-%d")
            reason = "TARGET" if result > 0 else "STOP"
            made = (f"{date} 10:00:00", f"EXAMPLE-{k}", "PUT", "500/494", "2.50", 1)
            rows.writerow((*made, f"{date} 15:00:00", f"{result:.2f}", reason))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
