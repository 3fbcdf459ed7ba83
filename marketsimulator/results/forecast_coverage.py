"""How many of a run's decisions had a forecast, and whether any bar has moved as far as they say.

A file of forecasts may hold a part of them, and a forecaster of one's own may answer anything.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from execution.outlook import closed_and_due
from execution.records import Run
from foundation.arrays import Mask
from foundation.counts import counted
from marketsimulator.results.forecast_outcomes import forecast_outcomes
from trainingdata.bars import Bars
from trainingdata.instants import utc_text
from trainingdata.market import Market
from trainingdata.schedule import Schedule

MOST = 0.95  # of the decisions with a forecast, below which a reader is told
LOOKED_AT = 200  # decisions, at most
FEWEST = 20  # forecasts whose centres say something together
CLAIM = 10.0  # deviations of recent bars from the last close, further than bars move


def coverage_remarks(run: Run, market: Market, schedule: Schedule, inside: Mask) -> list[str]:
    """That many decisions had no forecast, with the first and the last that had one.

    A decision is one of one symbol. inside: [T, S] whether the universe holds it at an instant.
    """
    bars = market.period
    possible = int((closed_and_due(bars, schedule) & inside).sum())
    decisions = run.decision_frame()
    forecast = decisions["at"][decisions["sigma"].notna()].to_numpy(dtype="datetime64[ns]")
    if not len(forecast) or len(forecast) >= MOST * possible:
        return []
    return [
        f"Forecasts cover {len(forecast):,} of {counted(possible, 'decision')}, the first at"
        f" {utc_text(forecast[0])} and the last at {utc_text(forecast[-1])}; at the others nothing"
        " was decided."
    ]


def centre_remarks(run: Run, bars: Bars) -> list[str]:
    """That the centres which decisions rested on lie further away than bars move.

    Evenly many decisions are looked at; what calibration has corrected is no longer far.
    """
    count = len(run.decisions)
    looked_at = np.unique(np.linspace(0, count - 1, min(count, LOOKED_AT)).astype(int))
    part = replace(run, decisions=[run.decisions[k] for k in looked_at])
    outcomes = forecast_outcomes(part, bars)
    moved = outcomes.trailing > 0
    if moved.sum() < FEWEST:
        return []
    far = float(np.median(np.abs(outcomes.mu[moved]) / outcomes.trailing[moved]))
    if far <= CLAIM:
        return []
    return [
        f"At most decisions the forecast's centre lies {math.floor(far)} or more deviations of the"
        " last 100 bars from the last close: no bar has moved so; look at what the forecaster"
        " answers."
    ]
