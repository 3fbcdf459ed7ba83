"""How good forecasts were: proper scores and calibration of each, and their means with errors.

Everything is measured on log returns from the issuing bar's close, in units of the symbol's
trailing deviation (100 own bars, times √step), so that symbols and steps can be averaged. Errors
are clustered by week: forecasts of one week, of all symbols and overlapping steps, are one
observation. A mean's reach is half of its 95 % interval, by Student's t over weeks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from forecasting.forecast import LEVELS, MEDIAN, ForecastTable, Progress, silent
from forecasting.moments import volatility
from forecasting.windows import Windows
from foundation.arrays import Array, Index
from foundation.errors import InputError
from foundation.sample_size import FEWEST_WEEKS
from trainingdata.bars import Bars
from trainingdata.instants import utc_text
from trainingdata.sessions import bar_slots, last_fridays

TRAILING = 100  # own bars of the deviation that scores are measured in
PORTION = 8192  # forecasts scored at once
LEVEL = np.array(LEVELS)
INTERVALS = {80: (LEVELS.index(0.1), LEVELS.index(0.9)), 90: (1, -2), 98: (0, -1)}
# of each level in twice the integral of the pinball loss over the levels
CRPS_WEIGHTS = 2 * np.gradient(LEVEL)


def pinball(quantiles: Array, realised: Array) -> Array:
    """Pinball loss [n, Q] of quantiles [n, Q] at `LEVELS` (Koenker and Bassett 1978)."""
    error = realised[:, None] - quantiles
    return np.asarray(np.maximum(LEVEL * error, (LEVEL - 1) * error))


def interval_score(lower: Array, upper: Array, realised: Array, coverage: float) -> Array:
    """Width plus 2/α times the miss [n] (Gneiting and Raftery 2007)."""
    miss = np.maximum(lower - realised, 0) + np.maximum(realised - upper, 0)
    return np.asarray(upper - lower + 2 / (1 - coverage) * miss)


def probability_transform(quantiles: Array, realised: Array) -> Array:
    """Probability integral transform [n]: the level that `realised` fell on.

    Linear between levels; 0 or 1 beyond the outermost.
    """
    above = (realised[:, None] >= quantiles).sum(axis=1)
    low = np.clip(above - 1, 0, None)
    high = np.clip(above, None, len(LEVEL) - 1)
    rows = np.arange(len(realised))
    width = quantiles[rows, high] - quantiles[rows, low]
    # Two equal quantiles leave the share between them open: the middle favours neither.
    middle = np.full(len(rows), 0.5)
    share = np.divide(realised - quantiles[rows, low], width, out=middle, where=width > 0)
    inside = LEVEL[low] + share * (LEVEL[high] - LEVEL[low])
    return np.asarray(np.where(above == 0, 0.0, np.where(above == len(LEVEL), 1.0, inside)))


def score_frame(
    bars: Bars, table: ForecastTable, rows: Index, steps: Sequence[int]
) -> pd.DataFrame:
    """A row a forecast and step, in the same order for every forecaster.

    Its columns are

    symbol, kind, issued_at, week, step: of the forecast.
    slot: place in the day of the issuing bar.
    loss: mean pinball loss over the levels, in units of the trailing deviation; NaN where the
        outcome is not known.
    crps: in the same units.
    score80: interval score of the 80 % interval, in the same units.
    inside80, inside90, inside98: whether the interval holds the outcome.
    pit: probability integral transform.
    scale: (return/σ)², σ by the `quantile` rule.
    expected, realised: return over σ.
    trailing: deviation over the last 100 own bars, a root step.
    """
    logs = [np.log(closes) for closes in table.windows.closes]
    squares = [np.append(0.0, np.cumsum(np.diff(closes) ** 2)) for closes in logs]
    parts = []
    for first in range(0, len(rows), PORTION):
        chosen = rows[first : first + PORTION]
        values = table.quantiles[chosen].astype(np.float64)
        for step in steps:
            at_step = values[:, step - 1]
            parts.append(_scored_step(bars, table, chosen, at_step, step, logs, squares))
    return pd.concat(parts, ignore_index=True)


def _scored_step(
    bars: Bars,
    table: ForecastTable,
    rows: Index,
    values: Array,
    step: int,
    logs: list[Array],
    squares: list[Array],
) -> pd.DataFrame:
    """Scores of quantiles `values` [n, Q] after one step of the forecasts with numbers `rows` [n].

    logs, squares: of each symbol's closes; the sum of its squared log returns up to each.
    """
    windows = table.windows
    symbol = windows.symbol[rows]
    realised, unit = _outcomes(windows, rows, step, logs, squares)
    slot = np.zeros(len(rows), dtype=np.int64)
    for s in np.unique(symbol):
        chosen = np.flatnonzero(symbol == s)
        issued = windows.issued_at[rows[chosen]]
        slot[chosen] = bar_slots(bars.instruments[s].kind, issued, 0)[:, 0]
    # The price is rounded as the values are: otherwise a forecast without an edge would have one of
    # 1e-8.
    price = table.price[rows].astype(np.float32).astype(np.float64)
    # A symbol that stands still has no unit to measure in.
    unit = np.where(unit > 0, unit, np.nan)
    quantiles = np.log(values / price[:, None])
    sigma = volatility(values, price, "quantile")
    loss = pinball(quantiles, realised)
    kinds = np.array([item.kind.value for item in bars.instruments])
    issued = windows.issued_at[rows]
    inside = {
        f"inside{name}": (quantiles[:, low] <= realised) & (realised <= quantiles[:, high])
        for name, (low, high) in INTERVALS.items()
    }
    low, high = INTERVALS[80]
    return pd.DataFrame(
        {
            "symbol": np.array(bars.symbols)[symbol],
            "kind": kinds[symbol],
            "issued_at": issued,
            "week": last_fridays(issued),
            "slot": slot,
            "step": step,
            "loss": loss.mean(axis=1) / unit,
            "crps": loss @ CRPS_WEIGHTS / unit,
            "score80": interval_score(quantiles[:, low], quantiles[:, high], realised, 0.8) / unit,
            **inside,
            "pit": probability_transform(quantiles, realised),
            "scale": (np.expm1(realised) / sigma) ** 2,
            "expected": quantiles[:, MEDIAN] / sigma,
            "realised": realised / sigma,
            "trailing": unit / np.sqrt(step),
        }
    )


def _outcomes(
    windows: Windows, rows: Index, step: int, logs: list[Array], squares: list[Array]
) -> tuple[Array, Array]:
    """(log return after the step, trailing deviation over as many bars) of each forecast, [n]."""
    realised = np.full(len(rows), np.nan)
    unit = np.full(len(rows), np.nan)
    symbol = windows.symbol[rows]
    last = windows.last[rows]
    for s in np.unique(symbol):
        chosen = np.flatnonzero(symbol == s)
        closes = logs[s]
        total = squares[s]
        ended = chosen[last[chosen] + step < len(closes)]
        realised[ended] = closes[last[ended] + step] - closes[last[ended]]
        end = last[chosen]
        begin = np.maximum(end - TRAILING, 0)
        variance = (total[end] - total[begin]) / np.maximum(end - begin, 1)
        unit[chosen] = np.sqrt(variance * step)
    return realised, unit


def clustered_mean(values: pd.Series, week: pd.Series) -> tuple[float, float]:
    """(mean, its standard error), clustered by week (Liang and Zeger 1986).

    The error is NaN within one week.
    """
    # Overlapping steps and symbols of one week move together. As independent rows they would make
    # chance look like skill.
    mean = float(values.mean())
    sums = (values - mean).groupby(week).sum().to_numpy()
    count = len(sums)
    if count < 2:
        return mean, float("nan")
    return mean, float(np.sqrt(np.square(sums).sum() * count / (count - 1)) / len(values))


def reach(error: float, week: pd.Series) -> float | None:
    """Half of the 95 % interval of a mean with this clustered error; None for too few weeks.

    Student's t with a degree of freedom less than there are weeks (Cameron and Miller 2015): two
    errors would be 14 % to miss by chance over 4 weeks, and 5 % over 60.
    """
    weeks = week.nunique()
    if weeks < FEWEST_WEEKS or np.isnan(error):
        return None
    return float(stdtrit(weeks - 1, 0.975) * error)


def skill(loss: pd.Series, baseline: pd.Series, week: pd.Series) -> tuple[float, float]:
    """(share of the baseline's loss that is saved, its standard error); positive is better."""
    mean, error = clustered_mean(baseline - loss, week)
    level = float(baseline.mean())
    return mean / level, error / level


def rank_correlation(
    expected: pd.Series, realised: pd.Series, week: pd.Series
) -> tuple[float, float]:
    """(rank correlation of expected with realised return, its standard error).

    NaN where nothing is expected.
    """
    if expected.nunique() < 2:
        return float("nan"), float("nan")
    ranks = (expected.rank(), realised.rank())
    x, y = ((rank - rank.mean()) / rank.std(ddof=0) for rank in ranks)
    return clustered_mean(x * y, week)


def summary(frame: pd.DataFrame) -> dict[str, float | None]:
    """Means over a frame of `score_frame`, with errors beside those that people compare.

    None stands for a figure that is not defined.
    """
    loss, loss_error = clustered_mean(frame["loss"], frame["week"])
    cover, cover_error = clustered_mean(frame["inside80"].astype(float), frame["week"])
    scale, scale_error = clustered_mean(frame["scale"], frame["week"])
    rank, rank_error = rank_correlation(frame["expected"], frame["realised"], frame["week"])
    pit = np.sort(frame["pit"].to_numpy())
    grid = (np.arange(len(pit)) + 0.5) / len(pit)
    figures = {
        "forecasts": len(frame),
        "weeks": frame["week"].nunique(),
        "loss": loss,
        "loss_error": loss_error,
        "crps": float(frame["crps"].mean()),
        "score80": float(frame["score80"].mean()),
        "inside80": cover,
        "inside80_error": cover_error,
        "inside80_reach": reach(cover_error, frame["week"]),
        "inside90": float(frame["inside90"].mean()),
        "inside98": float(frame["inside98"].mean()),
        "scale": scale,
        "scale_error": scale_error,
        "pit_mean": float(pit.mean()),
        "pit_distance": float(np.abs(pit - grid).max()),
        "information": rank,
        "information_error": rank_error,
        "information_reach": reach(rank_error, frame["week"]),
    }
    return {
        name: None if value is None or np.isnan(value) else value for name, value in figures.items()
    }


def fifths(frame: pd.DataFrame, by: str) -> pd.DataFrame:
    """Coverage and scale from the calmest to the wildest fifth by a column, up to 5 rows.

    Its columns are inside80, scale and forecasts.
    """
    # Intervals often hold too little when volatility is high though their coverage over all looks
    # right.
    place = (5 * (frame[by].rank(method="first") - 1) / len(frame)).astype(int)
    grouped = frame.groupby(place)
    return pd.DataFrame(
        {
            "inside80": grouped["inside80"].mean(),
            "scale": grouped["scale"].mean(),
            "forecasts": grouped.size(),
        }
    )


def scored_together(
    bars: Bars,
    tables: Sequence[ForecastTable],
    first: np.datetime64,
    last: np.datetime64,
    steps: Sequence[int],
    progress: Progress = silent,
) -> list[pd.DataFrame]:
    """Scores of each table's forecasts, row by row the same ones, whose outcome is known.

    They are those that all tables issue within a span, in the order of time and symbol.

    Raises
    ------
    InputError
        where there are none.
    """
    # Forecasters wait for different numbers of bars: scored on forecasts of their own, the one that
    # begins later would be compared on other weeks.
    numbers = common_forecasts(tables, first, last)
    if not len(numbers[0]):
        raise InputError(
            f"start, end: no forecast is issued by all between {utc_text(first)} and"
            f" {utc_text(last)}"
        )
    frames = []
    for done, (table, rows) in enumerate(zip(tables, numbers, strict=True)):
        frames.append(score_frame(bars, table, rows, steps))
        progress("scores", done + 1, len(tables))
    known = np.logical_and.reduce([frame["loss"].notna() for frame in frames])
    if not known.any():
        raise InputError(
            "start, end: no forecast's outcome is known yet; end later bars or start earlier"
        )
    return [frame[known] for frame in frames]


def common_forecasts(
    tables: Sequence[ForecastTable], first: np.datetime64, last: np.datetime64
) -> list[Index]:
    """Numbers, table by table, of the forecasts that all of them issue within a span.

    They are in the order of time and symbol.
    """
    keys = []
    for table in tables:
        windows = table.windows
        inside = np.flatnonzero((windows.issued_at >= first) & (windows.issued_at <= last))
        index = pd.MultiIndex.from_arrays([windows.issued_at[inside], windows.symbol[inside]])
        keys.append(pd.Series(inside, index=index))
    common = keys[0].index
    for key in keys[1:]:
        common = common.intersection(key.index)
    common = common.sort_values()
    return [key.loc[common].to_numpy(dtype=np.int64) for key in keys]
