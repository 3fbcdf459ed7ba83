"""How many of a run's decisions had a forecast: a file of forecasts may hold a part of them."""

from __future__ import annotations

import math

import numpy as np

from execution.records import Run
from foundation.counts import counted
from trainingdata.bars import Bars
from trainingdata.instants import utc_text
from trainingdata.instruments import Kind
from trainingdata.sessions import is_decision

MOST = 0.95  # of the decisions with a forecast, below which a reader is told


def coverage_remarks(run: Run, bars: Bars, first: int) -> list[str]:
    """That many decisions had no forecast, with the first and the last that had one.

    first: number of the instant that the run begins at. A decision is one of one symbol.
    """
    times = bars.times[first:]
    stock, coin = (is_decision(kind, times) for kind in (Kind.STOCK, Kind.CRYPTO))
    possible = int((bars.mask[:, first:] & np.where(bars.crypto[:, None], coin, stock)).sum())
    forecast = []
    for decision in run.decisions:
        known = sum(not math.isnan(choice.sigma) for choice in decision.choices)
        forecast += [decision.at] * known
    if not forecast or len(forecast) >= MOST * possible:
        return []
    return [
        f"Forecasts cover {len(forecast):,} of {counted(possible, 'decision')}, the first at"
        f" {utc_text(forecast[0])} and the last at {utc_text(forecast[-1])}; at the others nothing"
        " was decided."
    ]
