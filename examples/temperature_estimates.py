r"""Estimates for event contracts: the probability of each range of a day's high temperature.

    .venv/bin/python examples/temperature_estimates.py outputs/example-estimates.csv

The model forecasts a high of 71.3 °F with a standard deviation of 2.4 °F. The file lists the
probability of YES in each market and when the estimate expires. `event_contracts.trade
estimates=outputs/example-estimates.csv` reads it at every tick and does not trade markets without
an estimate. The printed table has the contracts that half-Kelly buys at given asks.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import ndtr

from event_contracts.trading.fees import FeeRules
from sizing.kelly import binary_kelly

MEAN, DEVIATION = 71.3, 2.4  # °F, of the forecast
EVENT = "KXHIGHNY-26JUN18"
EDGES = (67.5, 69.5, 71.5, 73.5)  # °F between the markets
ASKS = (0.10, 0.18, 0.24, 0.33, 0.14)  # USD, of YES, as quoted
CASH = 1_000.0  # USD


def main(path: Path) -> None:
    """Write the estimates, and print them with the position of half-Kelly after fees."""
    below = ndtr((np.array(EDGES) - MEAN) / DEVIATION)
    chance = np.diff(below, prepend=0.0, append=1.0)  # [markets], sums to 1
    bins = (np.array(EDGES[:-1]) + np.array(EDGES[1:])) / 2
    names = [f"T{EDGES[0] + 0.5:g}", *(f"B{middle:g}" for middle in bins), f"T{EDGES[-1] - 0.5:g}"]
    table = pd.DataFrame(
        {
            "market": [f"{EVENT}-{name}" for name in names],
            "probability": chance.round(4),
            "until": "2026-06-18T20:00:00Z",
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)
    ask = np.array(ASKS)
    cost = ask + float(FeeRules().taker) * ask * (1 - ask)  # a contract, with the taker's fee
    share = binary_kelly(chance, cost, 0.5)  # of cash
    table["ask"] = ask
    table["contracts"] = np.floor(share * CASH / cost).astype(int)
    print(table.drop(columns="until").to_string(index=False))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]))
