"""What a class of symbols learns in a week: a function of its last own bars and of nothing else.

S symbols, n rows, H steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forecasting.calibration.centre import autocorrelation, worth
from forecasting.calibration.dispersion import Dispersion, DispersionSample
from forecasting.calibration.history import (
    STANDING_STILL,
    SymbolHistory,
    class_sample,
    outcomes,
)
from forecasting.calibration.variance import SPANS, DayPattern
from forecasting.forecast import HORIZON
from foundation.arrays import Array, Index
from trainingdata.instruments import Kind
from trainingdata.sessions import BARS_A_DAY

# forecasts a lesson learns from at most: symbols of a class move together, more say little more
MAX_ROWS = 100_000


@dataclass(frozen=True, eq=False, slots=True)
class Lesson:
    """What one class learned in one week.

    pattern: of the day.
    dispersion: deviation and shape of the log return after each step.
    slopes: [H] what the base forecaster's centre is multiplied by.
    begin: [S] first own bar of each symbol that anything is computed from.
    persistence: of the base forecaster's first-step centre from one bar to the next.
    skill: information coefficient of the first step, as far as the slope is believed: the root
        mean square of the shrunk centre over that of the returns.
    """

    pattern: DayPattern
    dispersion: Dispersion
    slopes: Array
    begin: tuple[int, ...]
    persistence: float
    skill: float


def learn(
    kind: Kind,
    histories: list[SymbolHistory],
    week: np.datetime64,
    window: int,
    confidence: float,
) -> Lesson:
    """What a class knows at the beginning of a week.

    Parameters
    ----------
    kind, histories
        the class, and the history of each of its symbols [S].
    week
        the Friday 16:00 New York that the week begins at; bars after it are not seen.
    window
        own bars of each symbol that are learned from.
    confidence
        standard errors by which a centre's worth must exceed zero to count.
    """
    slots = BARS_A_DAY[kind]
    ends = [int(np.searchsorted(h.times, week, side="right")) for h in histories]
    learned = [slice(max(end - window, 0), end) for end in ends]
    parts = list(zip(histories, learned, strict=True))
    pattern = DayPattern.of(
        [h.variance[part] for h, part in parts],
        [h.slots[part, 0] for h, part in parts],
        [h.column[part] for h, part in parts],
        slots,
    )
    begin = tuple(max(part.start - SPANS[-1], 0) for part in learned)
    rows = _thinned([np.arange(max(part.start, h.first), part.stop) for h, part in parts])
    member = np.concatenate([np.full(len(bars), s) for s, bars in enumerate(rows)])
    sample, median = class_sample(histories, begin, member, np.concatenate(rows), pattern)
    results = [outcomes(h, bars, end) for h, bars, end in zip(histories, rows, ends, strict=True)]
    move, variance = (np.concatenate(part) for part in zip(*results, strict=True))
    # A symbol that stands still says nothing of the others, and its forecasts over a deviation of
    # next to nothing would outweigh theirs.
    move[sample.logs[:, len(SPANS) - 1, 0] < STANDING_STILL] = np.nan
    dispersion = Dispersion.fit(sample, variance, move, slots, len(histories))
    persistence = autocorrelation([h.first_steps(part) for h, part in parts])
    deviation = dispersion.deviation(sample)
    slopes = _slopes(sample, deviation, median, move, confidence)
    skill = 0.0
    if slopes[0] > 0:
        skill = slopes[0] * _first_step_size(median, deviation) / _first_step_size(move, deviation)
    return Lesson(pattern, dispersion, slopes, begin, persistence, float(np.float32(skill)))


def _slopes(
    sample: DispersionSample, deviation: Array, median: Array, move: Array, confidence: float
) -> Array:
    """[H] what the base forecaster's median has been worth at each step."""
    slopes = np.zeros(HORIZON)
    for h in range(HORIZON):
        has_outcome = np.isfinite(move[:, h]) & np.isfinite(median[:, h])
        unit = deviation[has_outcome, h]
        forecast = median[has_outcome, h] / unit
        realised = move[has_outcome, h] / unit
        slopes[h] = worth(forecast, realised, sample.instant[has_outcome], h + 1, confidence)
    return slopes


def _first_step_size(values: Array, deviation: Array) -> float:
    """Root mean square of the first step of values [n, H] in deviations, where it is known."""
    finite = (values[:, 0] / deviation[:, 0])[np.isfinite(values[:, 0])]
    return float(np.sqrt(np.mean(finite**2))) if len(finite) else 0.0


def _thinned(rows: list[Index]) -> list[Index]:
    """Every k-th own bar of each symbol, so that a lesson has about `MAX_ROWS` rows at most."""
    stride = -(-sum(len(bars) for bars in rows) // MAX_ROWS)
    if stride <= 1:
        return rows
    # Bars are counted from the last, which is nearest to the week that begins. The symbols take
    # turns: between them they still cover nearly every instant.
    thinned = []
    for s, bars in enumerate(rows):
        latest_first = bars[::-1]
        thinned.append(latest_first[s % stride :: stride][::-1])
    return thinned
