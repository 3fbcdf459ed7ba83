"""Frames whose columns have the same types however many rows there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

INSTANTS = ("at", "until", "booked_at")
TEXT_COLUMNS = {"symbol", "client_order_id", "binding", "side", "type", "tif", "reason", "kind"}


def frame_of(columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> pd.DataFrame:
    """A frame of rows."""
    return frame_of_columns({name: [row[k] for row in rows] for k, name in enumerate(columns)})


def frame_of_columns(columns: Mapping[str, Any]) -> pd.DataFrame:
    """A frame of columns: instants, text, and numbers."""
    # pandas guesses the types of empty columns.
    data: dict[str, Any] = {}
    for name, values in columns.items():
        if name in INSTANTS:
            instants = pd.DatetimeIndex(np.array(values, dtype="datetime64[ns]"))
            data[name] = instants.tz_localize("UTC")
        else:
            data[name] = pd.Series(values, dtype="str" if name in TEXT_COLUMNS else "float64")
    return pd.DataFrame(data, columns=list(columns))
