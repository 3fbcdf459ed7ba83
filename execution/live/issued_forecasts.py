"""Seal the forecasts of live decisions: a folder with one file per decision, in the simple form."""

from __future__ import annotations

import math
import stat
from pathlib import Path

import numpy as np

from execution.decision.decision import Decision
from forecasting.file_forecaster import SIMPLE_COLUMNS
from forecasting.forecast import HORIZON
from forecasting.sealing import seal_folder
from foundation.files import write_atomically
from trainingdata.bars import Bars
from trainingdata.instants import format_compact_utc, format_utc
from trainingdata.instruments import instrument

FORECASTS_FOLDER = "forecasts"  # in the account's folder
HORIZON_TOL = 1e-6  # bars


def seal_decision_forecasts(
    folder: Path, decision: Decision, bars: Bars, now: np.datetime64
) -> None:
    """Write the forecasts of a decision to a folder, and seal the folder's new files.

    A decision's file is written once. A file that an ended process left unsealed is sealed now.

    folder: folder of the account's forecasts.
    bars: bars of the decision.
    now: venue's time.

    Raises
    ------
    InputError, OSError
        if the folder or its witness cannot be written, or a sealed file has changed.
    """
    path = folder / f"{format_compact_utc(decision.at)}.csv"
    rows = format_forecast_rows(decision, bars)
    if not rows:
        return
    folder.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
    if not path.exists():
        content = "".join(f"{row}\n" for row in (",".join(SIMPLE_COLUMNS), *rows))
        write_atomically(path, content.encode(), is_private=True)
    seal_folder(folder, now=now)


def format_forecast_rows(decision: Decision, bars: Bars) -> list[str]:
    """Return the forecasts of a decision's first period, a CSV row per symbol.

    Included are symbols whose bar closed at the decision, if the period ends with one of their next
    24 bars.
    """
    rows = []
    ends = np.array([decision.at, decision.interval_end])
    for i, symbol in enumerate(decision.symbols):
        mean, deviation = float(decision.columns.mu[i]), float(decision.columns.sigma[i])
        begin, end = bars.clock(instrument(symbol).kind).bars_elapsed(ends).tolist()
        horizon = round(end - begin)
        if (
            bars.mask[bars.symbols.index(symbol), -1]
            and math.isfinite(mean)
            and deviation > 0
            and 1 <= horizon <= HORIZON
            and abs(end - begin - horizon) < HORIZON_TOL
        ):
            rows.append(f"{symbol},{format_utc(decision.at)},{horizon},{mean!r},{deviation!r}")
    return rows
