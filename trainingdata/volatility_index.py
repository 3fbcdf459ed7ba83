"""A volatility index: daily closes from a file, and an intraday estimate of the index."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from foundation.errors import DataError
from foundation.formatting import format_count
from trainingdata.confirmation import MAX_VOLATILITY_INDEX_RATIO, find_unconfirmed_index_closes

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

# Log of the volatility index per log of the index lost, measured on SPY and VIX from open to close,
# 2023-04 to 2025-06.
VOLATILITY_INDEX_ELASTICITY = 5.8
# Range of a plausible median of closes in points: VIX has closed at 9.14 to 82.69. A fraction, or
# the level of a price index, is outside.
MIN_MEDIAN, MAX_MEDIAN = 2.0, 200.0


def read_volatility_index(path: str, key: str = "bars.vix") -> pd.Series:
    """Read the closes of a volatility index by date, in points, without unconfirmed closes.

    The session after an unconfirmed close is not traded, in a backtest as in live trading.

    path: path of a Parquet file with columns `timestamp` and `close`.
    key: setting that names the file, for messages.

    Raises DataError for a file that cannot be read or trusted.
    """
    import pandas as pd

    try:
        table = pd.read_parquet(Path(path).expanduser())
        # In other forms, 2/10/2024 may be a day in February or in October.
        stamps = pd.to_datetime(table["timestamp"], format="ISO8601")
        days = pd.DatetimeIndex(stamps).tz_localize(None).normalize()
        closes = pd.Series(table["close"].to_numpy(dtype=float), index=days).sort_index()
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DataError(
            f"{key}: {path} is not a Parquet file with columns timestamp and close: {why}"
        ) from error
    if not len(closes):
        raise DataError(f"{key}: {path} has no rows; give a file with one row per day")
    if (undated := days.isna()).any():
        raise DataError(f"{key}: {path}: row {undated.argmax() + 1} has no timestamp; fill it in")
    if (twice := closes.index[closes.index.duplicated()]).size:
        raise DataError(f"{key}: {path} lists {twice[0]:%Y-%m-%d} twice; keep one row per day")
    if (invalid := ~(np.isfinite(closes) & (closes > 0))).any():
        day, close = closes.index[invalid][0], closes[invalid].iloc[0]
        raise DataError(
            f"{key}: {path}: the close of {day:%Y-%m-%d} is {close:g}; every close must be a number"
            " above 0"
        )
    if not MIN_MEDIAN <= (median := closes.median()) <= MAX_MEDIAN:
        raise DataError(
            f"{key}: {path}: the median close is {median:g}, outside the range of a volatility"
            f" index in points, {MIN_MEDIAN:g} … {MAX_MEDIAN:g}; check the file"
        )
    unconfirmed_closes = find_unconfirmed_index_closes(closes.to_numpy())
    if unconfirmed_closes.any():
        log.warning(
            "%s: %s skipped, because the level differs by more than a factor of %g from the last"
            " accepted close and no later close confirms it; the first is of %s; the session after"
            " each is not traded; check the file",
            key,
            format_count(int(unconfirmed_closes.sum()), "close"),
            MAX_VOLATILITY_INDEX_RATIO,
            closes.index[unconfirmed_closes][0].date(),
        )
    return closes[~unconfirmed_closes]


def estimate_intraday_volatility_index(
    previous_close: float,
    index_level: npt.ArrayLike,
    index_close: float,
    response: float = VOLATILITY_INDEX_ELASTICITY,
) -> npt.NDArray[np.float64]:
    """Estimate a volatility index from its previous close and the move of the stock index since.

    The estimate is previous_close · (index / index_close) ^ -response.

    previous_close: previous close of the volatility index, points.
    index_level: current level of the stock index.
    index_close: previous close of the stock index, in the units of `index_level`.
    response: elasticity, the log gain of the volatility index per log loss of the stock index.
    """
    return np.asarray(
        previous_close * (np.asarray(index_level, dtype=float) / index_close) ** -response
    )
