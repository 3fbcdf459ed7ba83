"""A data frame of one symbol's bars, read into the four series that are forecast jointly."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from foundation.arrays import first_row
from foundation.counts import counted
from foundation.errors import InputError
from trainingdata.bars import check_bars
from trainingdata.instants import cell_text

# Columns of stamps that users' frames have.
STAMPS = ("timestamp", "datetime", "date", "time")
OHLC = ("open", "high", "low", "close")
# Stamps without a zone repeat an hour when clocks go back.
REPEATED = pd.Timedelta(1, "h")


def ohlc_context(
    context_df: pd.DataFrame, symbol: str, length: int
) -> list[npt.NDArray[np.float64]]:
    """Open, high, low and close of the last `length` rows, an array [length] each."""
    place = f"context_df of {symbol}"
    if not isinstance(context_df, pd.DataFrame):
        raise InputError(f"{place}: it is no data frame but a {type(context_df).__name__}")
    frame = context_df.rename(columns=lambda name: str(name).lower())
    names = list(frame.columns)
    for name in OHLC:
        if name not in names:
            raise InputError(f"{place}: column {name!r} is missing")
        if names.count(name) > 1:
            raise InputError(f"{place}: column {name!r} is there twice")
    if len(frame) < length:
        raise InputError(f"{place}: {counted(len(frame), 'bar')}, {length} are needed")
    _refuse_backward(frame, place)
    try:
        context = frame[list(OHLC)].to_numpy(dtype=np.float64)[-length:]
    except (TypeError, ValueError) as error:
        raise InputError(f"{place}: a price is not a number") from error
    if not np.isfinite(context).all():
        raise InputError(f"{place}: a price is not a number")
    order = np.arange(length).astype("datetime64[ns]")
    bars = np.column_stack([context, np.zeros(length)])
    check_bars(order, bars, f"{place}: its last {counted(length, 'bar')}")
    return list(np.ascontiguousarray(context.T))


def _refuse_backward(frame: pd.DataFrame, place: str) -> None:
    """Refuse rows out of order, as far as an index or a column of stamps says so."""
    named = [name for name in STAMPS if list(frame.columns).count(name) == 1]
    if isinstance(frame.index, pd.DatetimeIndex):
        column = frame.index.to_series()
    elif named:
        column = frame[named[0]]
    else:
        return
    text = pd.api.types.is_string_dtype(column) or column.dtype == object
    stamps = pd.to_datetime(column, utc=True, errors="coerce", format="ISO8601" if text else None)
    # Newest first is told by the ends, however short the bars.
    reversed_rows = stamps.iloc[-1] < stamps.iloc[0]
    allowed = pd.Timedelta(0) if reversed_rows else REPEATED - pd.Timedelta(1, "ns")
    back = (stamps.diff() < -allowed).to_numpy()
    if back.any():
        row = first_row(back)
        raise InputError(
            f"{place}: row {row + 1}: {cell_text(column.iloc[row])} is earlier than the row before;"
            " rows must increase in time"
        )
