"""The forecasts in force at an instant, of a table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forecasting.forecast import ForecastTable
from foundation.arrays import Array, Array32, Instants


@dataclass(frozen=True, eq=False)
class Latest:
    """Of each symbol [S], NaT and NaN where there is none: issue, price and quantiles [S, H, Q]."""

    issued_at: Instants
    price: Array
    values: Array32


def latest(table: ForecastTable, now: np.datetime64) -> Latest:
    """The latest forecast of each symbol issued by `now`."""
    column = int(np.searchsorted(table.panel_times, now, side="right")) - 1
    rows = table.latest_window_index[:, column] if column >= 0 else np.full(len(table.symbols), -1)
    issued = np.append(table.windows.issued_at, np.datetime64("NaT", "ns"))
    values = np.concatenate([table.all_quantiles, np.full((1, 24, 21), np.nan, dtype=np.float32)])
    return Latest(issued[rows], np.append(table.price, np.nan)[rows], values[rows])
