"""Scores of forecasts: proper scores and calibration of each forecast, and means with errors.

Scores are computed on log returns from the close of the issuing bar. They are in units of the
symbol's trailing standard deviation (over its last 100 bars, times √step), so that symbols and
steps can be averaged. Errors are clustered by week: forecasts of one week, of all symbols and
overlapping steps, are one observation. The half-width of a mean's 95 % interval follows Student's t
over weeks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from forecasting.forecast import LEVELS, MEDIAN_INDEX, ForecastTable, Progress, no_progress
from forecasting.moments import volatility_from_quantiles
from foundation.arrays import Array, Index, Instants
from foundation.errors import InputError
from foundation.formatting import MIN_WEEKS_FOR_INTERVALS, format_count
from trainingdata.bars import Bars
from trainingdata.instants import format_utc
from trainingdata.instruments import AssetClass
from trainingdata.sessions import last_friday_four_pms

TRAILING_VOLATILITY_BARS = 100  # a symbol's bars in the trailing deviation that scales its scores
SIGNIFICANCE = 0.05  # size of the two-sided test of a gain
FORECASTS_PER_CHUNK = 8192  # forecasts scored at once
QUANTILE_LEVEL_ARRAY = np.array(LEVELS)
INTERVAL_LEVEL_INDICES = {80: (LEVELS.index(0.1), LEVELS.index(0.9)), 90: (1, -2), 98: (0, -1)}
# weight of each level in twice the integral of the pinball loss over the levels
CRPS_WEIGHTS = 2 * np.gradient(QUANTILE_LEVEL_ARRAY)


def pinball_loss(quantiles: Array, realised: Array) -> Array:
    """Return the pinball loss of each quantile, [n, Q] (Koenker and Bassett 1978).

    quantiles: [n, Q] quantiles at `LEVELS`.
    realised: [n] outcomes.
    """
    error = realised[:, None] - quantiles
    return np.asarray(np.maximum(QUANTILE_LEVEL_ARRAY * error, (QUANTILE_LEVEL_ARRAY - 1) * error))


def interval_score(lower: Array, upper: Array, realised: Array, coverage: float) -> Array:
    """Return the interval score [n]: width + 2/α · miss (Gneiting and Raftery 2007).

    The miss is the distance of the outcome from the interval, 0 inside it.

    lower, upper, realised: [n] bounds of the interval, and outcomes.
    coverage: nominal coverage 1 - α.
    """
    miss = np.maximum(lower - realised, 0) + np.maximum(realised - upper, 0)
    return np.asarray(upper - lower + 2 / (1 - coverage) * miss)


def probability_integral_transform(quantiles: Array, realised: Array) -> Array:
    """Return the probability integral transform [n]: the quantile level of each outcome.

    The level is interpolated linearly between levels; it is 0 or 1 beyond the outermost quantiles.

    quantiles: [n, Q] quantiles at `LEVELS`.
    realised: [n] outcomes.
    """
    above = (realised[:, None] >= quantiles).sum(axis=1)
    low = np.clip(above - 1, 0, None)
    high = np.clip(above, None, len(QUANTILE_LEVEL_ARRAY) - 1)
    rows = np.arange(len(realised))
    width = quantiles[rows, high] - quantiles[rows, low]
    # Between two equal quantiles the share is undefined: the middle favours neither.
    middle = np.full(len(rows), 0.5)
    share = np.divide(realised - quantiles[rows, low], width, out=middle, where=width > 0)
    inside = QUANTILE_LEVEL_ARRAY[low] + share * (
        QUANTILE_LEVEL_ARRAY[high] - QUANTILE_LEVEL_ARRAY[low]
    )
    return np.asarray(
        np.where(above == 0, 0.0, np.where(above == len(QUANTILE_LEVEL_ARRAY), 1.0, inside))
    )


def score_forecasts(
    bars: Bars, table: ForecastTable, rows: Index, steps: Sequence[int]
) -> pd.DataFrame:
    """Score forecasts: return a frame with one row per forecast and step.

    The row order is the same for every forecaster. The columns are

    symbol, kind, issued_at, week, step: symbol, asset class, instant and week of issue, and horizon
        of the forecast in bars.
    slot: intraday slot of the issuing bar.
    loss: mean pinball loss over the levels, in units of the trailing deviation; NaN where the
        outcome is not known.
    crps: continuous ranked probability score, in the same units.
    score80: interval score of the 80 % interval, in the same units.
    inside80, inside90, inside98: true if the 80, 90 or 98 % interval contains the outcome.
    pit: probability integral transform.
    scale: (return/σ)², where σ is the forecast's standard deviation by the `quantile` rule.
    deviation, squared_return: σ, and the squared simple return.
    expected, realised: expected and realised return, both divided by σ.
    """
    logs = [np.log(closes) for closes in table.windows.closes]
    squares = [np.append(0.0, np.cumsum(np.diff(own) ** 2))[: len(own)] for own in logs]
    history = _Closes(
        np.concatenate([bars.bars_of_symbol(s)[0] for s in range(len(bars.symbols))]),
        np.concatenate(logs),
        np.concatenate(squares),
        np.cumsum([0, *map(len, logs)]),
    )
    portions = [
        rows[first : first + FORECASTS_PER_CHUNK]
        for first in range(0, len(rows), FORECASTS_PER_CHUNK)
    ]
    scored = [_score_chunk(bars, table, each, np.array(steps), history) for each in portions]
    return pd.concat(scored, ignore_index=True)


class _Closes(NamedTuple):
    """Closes of all bars of each symbol, concatenated by symbol.

    times: [M] instant at which each close became known.
    log_close: [M] log of each close.
    cumulative_squares: [M] cumulative sum of squared log returns, within each symbol.
    close_offsets: [S + 1] position of each symbol's first close.
    """

    times: Instants
    log_close: Array
    cumulative_squares: Array
    close_offsets: Index


def _score_chunk(
    bars: Bars, table: ForecastTable, rows: Index, steps: Index, closes: _Closes
) -> pd.DataFrame:
    """Return scores of forecasts, one row per step and forecast, step by step.

    rows: [n] indices of the forecasts.
    steps: [K] steps that are scored.
    """
    windows = table.windows
    symbol = windows.symbol_index[rows]
    issued = windows.issued_at[rows]
    last = closes.close_offsets[symbol] + windows.last_bar_index[rows]
    ahead = last + steps[:, None]
    known = ahead < closes.close_offsets[symbol + 1]
    move = closes.log_close[np.where(known, ahead, last)] - closes.log_close[last]
    realised = np.where(known, move, np.nan).ravel()
    since = np.maximum(last - TRAILING_VOLATILITY_BARS, closes.close_offsets[symbol])
    variance = (closes.cumulative_squares[last] - closes.cumulative_squares[since]) / np.maximum(
        last - since, 1
    )
    unit = np.sqrt(variance * steps[:, None]).ravel()
    # A symbol that does not move has no scale.
    unit = np.where(unit > 0, unit, np.nan)
    slot = np.zeros(len(rows), dtype=np.int64)
    for kind in AssetClass:
        own = np.flatnonzero(bars.crypto[symbol] == (kind is AssetClass.CRYPTO))
        slot[own] = bars.clock(kind).slot_indices(issued[own], 0)[:, 0]
    values = table.quantiles[rows][:, steps - 1].astype(np.float64)
    values = values.swapaxes(0, 1).reshape(-1, len(LEVELS))
    # The price is rounded as the values are. Otherwise a forecast equal to the price would have an
    # expected return of 1e-8.
    price = np.tile(table.price[rows].astype(np.float32).astype(np.float64), len(steps))
    quantiles = np.log(values / price[:, None])
    sigma = volatility_from_quantiles(values, price, "quantile")
    loss = pinball_loss(quantiles, realised)
    low, high = INTERVAL_LEVEL_INDICES[80]
    of_forecasts = {
        "symbol": np.array(bars.symbols)[symbol],
        "kind": np.array([item.kind.value for item in bars.instruments])[symbol],
        "issued_at": issued,
        "week": last_friday_four_pms(issued),
        "slot": slot,
    }
    return pd.DataFrame(
        {
            **{name: np.tile(column, len(steps)) for name, column in of_forecasts.items()},
            "step": np.repeat(steps, len(rows)),
            "loss": loss.mean(axis=1) / unit,
            "crps": loss @ CRPS_WEIGHTS / unit,
            "score80": interval_score(quantiles[:, low], quantiles[:, high], realised, 0.8) / unit,
            **{
                f"inside{name}": (quantiles[:, low] <= realised) & (realised <= quantiles[:, high])
                for name, (low, high) in INTERVAL_LEVEL_INDICES.items()
            },
            "pit": probability_integral_transform(quantiles, realised),
            "scale": (np.expm1(realised) / sigma) ** 2,
            "deviation": sigma,
            "squared_return": np.expm1(realised) ** 2,
            "expected": quantiles[:, MEDIAN_INDEX] / sigma,
            "realised": realised / sigma,
        }
    )


def clustered_mean(values: pd.Series, week: pd.Series) -> tuple[float, float]:
    """Return a mean and its standard error, clustered by week (Liang and Zeger 1986).

    The error is NaN if all values are from one week.

    values, week: values, and the week of each.
    """
    # Overlapping steps and symbols of one week move together. Counted as independent rows they
    # would make chance look like skill.
    mean = float(values.mean())
    sums = (values - mean).groupby(week).sum().to_numpy()
    count = len(sums)
    if count < 2:
        return mean, float("nan")
    return mean, float(np.sqrt(np.square(sums).sum() * count / (count - 1)) / len(values))


def interval_half_width(error: float, week: pd.Series) -> float | None:
    """Return the half-width of a mean's 95 % confidence interval; None for too few weeks.

    At least MIN_WEEKS weeks are required. The half-width is `error` times the quantile of Student's
    t with weeks - 1 degrees of freedom (Cameron and Miller 2015). An interval of two standard
    errors would miss the true mean 14 % of the time with 4 weeks of data, and 5 % with 60.

    error: standard error of the mean, clustered by week.
    week: week of each value.
    """
    weeks = week.nunique()
    if weeks < MIN_WEEKS_FOR_INTERVALS or np.isnan(error):
        return None
    return float(stdtrit(weeks - 1, 1 - SIGNIFICANCE / 2) * error)


def gain_over_baseline(scores: pd.DataFrame, baseline: pd.DataFrame) -> dict[str, float | None]:
    """Return the relative reduction of the loss against a baseline, with its uncertainty.

    mean: reduction of the loss, as a fraction of the baseline's loss.
    error: standard error of the mean; None if all scores are from one week.
    reach: half-width of the mean's 95 % interval; None for too few weeks.
    beyond: sign of the mean if its absolute value exceeds `reach`, else 0.
    """
    level = float(baseline["loss"].mean())
    difference = baseline["loss"] - scores["loss"]
    saved, error = clustered_mean(difference, scores["week"])
    mean = saved / level
    half = interval_half_width(error / level, scores["week"])
    beyond = float(np.sign(mean)) if half is not None and abs(mean) > half else 0.0
    return _nan_to_none({"mean": mean, "error": error / level, "reach": half, "beyond": beyond})


def _nan_to_none(figures: dict[str, float | None]) -> dict[str, float | None]:
    """Return the figures with NaN replaced by None."""
    return {
        name: None if value is None or np.isnan(value) else value for name, value in figures.items()
    }


def rank_correlation(
    expected: pd.Series, realised: pd.Series, week: pd.Series
) -> tuple[float, float]:
    """Return the rank correlation of expected and realised returns, and its standard error.

    The error is clustered by week. Both are NaN if all expected returns are equal.
    """
    if expected.nunique() < 2:
        return float("nan"), float("nan")
    ranks = (expected.rank(), realised.rank())
    x, y = ((rank - rank.mean()) / rank.std(ddof=0) for rank in ranks)
    return clustered_mean(x * y, week)


def summarise_scores(frame: pd.DataFrame) -> dict[str, float | None]:
    """Return the means of the scores in a frame, with standard errors of the main ones.

    Figures that are undefined are None.

    frame: scores from `score_forecasts`.
    """
    week = frame["week"]
    pit = np.sort(frame["pit"].to_numpy())
    grid = (np.arange(len(pit)) + 0.5) / len(pit)
    figures: dict[str, float | None] = {
        "forecasts": len(frame),
        "weeks": week.nunique(),
        **{name: float(frame[name].mean()) for name in ("crps", "score80", "inside90", "inside98")},
        "pit_mean": float(pit.mean()),
        "pit_distance": float(np.abs(pit - grid).max()),
    }
    means = {name: clustered_mean(frame[name], week) for name in ("loss", "inside80", "scale")}
    means["information"] = rank_correlation(frame["expected"], frame["realised"], week)
    for name, (mean, error) in means.items():
        figures |= {
            name: mean,
            f"{name}_error": error,
            f"{name}_reach": interval_half_width(error, week),
        }
    return _nan_to_none(figures)


def score_common_forecasts(
    bars: Bars,
    tables: Sequence[ForecastTable],
    first: np.datetime64,
    last: np.datetime64,
    steps: Sequence[int],
    progress: Progress = no_progress,
) -> list[pd.DataFrame]:
    """Score the forecasts that all tables contain; return one score frame per table.

    Only forecasts issued from `first` to `last` count. All frames have the same forecasts in the
    same rows, ordered by time and symbol. Forecasts without a known outcome are skipped.

    Raises InputError if there are no common forecasts with a known outcome.
    """
    # Forecasters need different numbers of bars: scored on its own forecasts, one that begins later
    # would be compared on other weeks.
    numbers = select_common_forecasts(tables, first, last)
    if not len(numbers[0]):
        raise InputError(
            "start, end: no forecast is common to all forecasters between"
            f" {format_utc(first)} and {format_utc(last)}; choose a longer range"
        )
    frames = []
    for done, (table, rows) in enumerate(zip(tables, numbers, strict=True)):
        frames.append(score_forecasts(bars, table, rows, steps))
        progress("scores", done + 1, len(tables))
    known = np.logical_and.reduce([frame["loss"].notna() for frame in frames])
    if not known.any():
        for table, rows in zip(tables, numbers, strict=True):
            if np.isnan(table.quantiles[rows, 0, MEDIAN_INDEX]).all():
                raise InputError(
                    f"start, end: none of {format_count(len(rows), 'forecast')} by"
                    f" {table.name} has"
                    " values: the closes never change, so their volatility is zero; choose other"
                    " symbols"
                )
        raise InputError(
            "start, end: no outcome of a forecast is known yet; choose an earlier start, or load"
            " later bars"
        )
    return [frame[known] for frame in frames]


def select_common_forecasts(
    tables: Sequence[ForecastTable], first: np.datetime64, last: np.datetime64
) -> list[Index]:
    """Return, for each table, the indices of the forecasts that all tables contain.

    Only forecasts issued from `first` to `last` count. They are ordered by time and symbol.
    """
    keys = []
    for table in tables:
        windows = table.windows
        inside = np.flatnonzero((windows.issued_at >= first) & (windows.issued_at <= last))
        index = pd.MultiIndex.from_arrays([windows.issued_at[inside], windows.symbol_index[inside]])
        keys.append(pd.Series(inside, index=index))
    common = keys[0].index
    for key in keys[1:]:
        common = common.intersection(key.index)
    common = common.sort_values()
    return [key.loc[common].to_numpy(dtype=np.int64) for key in keys]
