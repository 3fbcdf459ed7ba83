"""How good forecasts were: proper scores and calibration of each forecast, and their means with
honest errors.

Everything is measured on log returns from the issuing bar's close, in units of the symbol's
trailing deviation (100 own bars, times √step), so that symbols and steps can be averaged. Errors
are clustered by week: forecasts of one week, of all symbols and overlapping steps, are one
observation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from forecasting.forecast import LEVELS, MEDIAN, ForecastTable
from forecasting.moments import volatility
from foundation.arrays import Array, Index
from trainingdata.bars import Bars
from trainingdata.sessions import bar_slots, week_before

TRAILING = 100  # own bars of the deviation that scores are measured in
PORTION = 8192  # forecasts scored at once
LEVEL = np.array(LEVELS)
INTERVALS = {80: (LEVELS.index(0.1), LEVELS.index(0.9)), 90: (1, -2), 98: (0, -1)}
CRPS_WEIGHTS = 2 * np.gradient(
    LEVEL
)  # of each level in twice the integral of the pinball loss over the levels


def pinball(quantiles: Array, realised: Array) -> Array:
    """Pinball loss [n, Q] of quantiles [n, Q] at `LEVELS` (Koenker and Bassett 1978)."""
    error = realised[:, None] - quantiles
    return np.asarray(np.maximum(LEVEL * error, (LEVEL - 1) * error))


def interval_score(lower: Array, upper: Array, realised: Array, coverage: float) -> Array:
    """Width plus 2/α times the miss [n] (Gneiting and Raftery 2007)."""
    miss = np.maximum(lower - realised, 0) + np.maximum(realised - upper, 0)
    return np.asarray(upper - lower + 2 / (1 - coverage) * miss)


def transform(quantiles: Array, realised: Array) -> Array:
    """Probability integral transform [n]: the level realised fell on, linear between levels; 0
    or 1 beyond the outermost.
    """
    above = (realised[:, None] >= quantiles).sum(axis=1)
    low = np.clip(above - 1, 0, None)
    high = np.clip(above, None, len(LEVEL) - 1)
    rows = np.arange(len(realised))
    width = quantiles[rows, high] - quantiles[rows, low]
    share = np.divide(
        realised - quantiles[rows, low], width, out=np.full(len(rows), 0.5), where=width > 0
    )
    inside = LEVEL[low] + share * (LEVEL[high] - LEVEL[low])
    return np.asarray(np.where(above == 0, 0.0, np.where(above == len(LEVEL), 1.0, inside)))


def scored(bars: Bars, table: ForecastTable, rows: Index, steps: Sequence[int]) -> pd.DataFrame:
    """A row a forecast and step, in the same order for every forecaster; NaN in `loss` where the
    outcome is not known.

    symbol, kind, issued_at, week, slot (place in the day of the issuing bar), step; loss (mean
    pinball over the levels), crps, score80 (interval score), in units of the trailing deviation;
    inside80, inside90, inside98; pit; scale, (return/σ)² with σ by the `quantile` rule; expected,
    realised (over σ); trailing, a root step.
    """
    logs = [np.log(closes) for closes in table.windows.closes]
    squares = [np.append(0.0, np.cumsum(np.diff(own) ** 2)) for own in logs]
    parts = []
    for first in range(0, len(rows), PORTION):
        chosen = rows[first : first + PORTION]
        values = table.answer(chosen).astype(np.float64)
        parts += [
            _scored(bars, table, chosen, values[:, step - 1], step, logs, squares) for step in steps
        ]
    return pd.concat(parts, ignore_index=True)


def _scored(
    bars: Bars,
    table: ForecastTable,
    rows: Index,
    values: Array,
    step: int,
    logs: list[Array],
    squares: list[Array],
) -> pd.DataFrame:
    """logs, squares: of each symbol's closes; the sum of its squared log returns up to each."""
    windows = table.windows
    realised, unit = (np.full(len(rows), np.nan) for _ in range(2))
    slot = np.zeros(len(rows), dtype=np.int64)
    symbol = windows.symbol[rows]
    last = windows.last[rows]
    for s in np.unique(symbol):
        mine = np.flatnonzero(symbol == s)
        own = logs[s]
        total = squares[s]
        here = mine[last[mine] + step < len(own)]
        realised[here] = own[last[here] + step] - own[last[here]]
        begin = np.maximum(last[mine] - TRAILING, 0)
        unit[mine] = np.sqrt(
            (total[last[mine]] - total[begin]) / np.maximum(last[mine] - begin, 1) * step
        )
        slot[mine] = bar_slots(bars.instruments[s].kind, windows.issued_at[rows[mine]], 0)[:, 0]
    price = (
        table.price[rows].astype(np.float32).astype(np.float64)
    )  # as exact as the values: no edge is 0, not 1e-8
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
            "week": week_before(issued),
            "slot": slot,
            "step": step,
            "loss": loss.mean(axis=1) / unit,
            "crps": loss @ CRPS_WEIGHTS / unit,
            "score80": interval_score(quantiles[:, low], quantiles[:, high], realised, 0.8) / unit,
            **inside,
            "pit": transform(quantiles, realised),
            "scale": (np.expm1(realised) / sigma) ** 2,
            "expected": quantiles[:, MEDIAN] / sigma,
            "realised": realised / sigma,
            "trailing": unit / np.sqrt(step),
        }
    )


def clustered(values: pd.Series, week: pd.Series) -> tuple[float, float]:
    """(mean, its standard error): weeks are independent, what lies within one is not (Liang and
    Zeger 1986).
    """
    mean = float(values.mean())
    sums = (values - mean).groupby(week).sum().to_numpy()
    count = len(sums)
    if count < 2:
        return mean, float("nan")
    return mean, float(np.sqrt(np.square(sums).sum() * count / (count - 1)) / len(values))


def skill(ours: pd.Series, theirs: pd.Series, week: pd.Series) -> tuple[float, float]:
    """(how much less we lose, as a share of their loss; its standard error). Positive is better."""
    mean, error = clustered(theirs - ours, week)
    level = float(theirs.mean())
    return mean / level, error / level


def information(expected: pd.Series, realised: pd.Series, week: pd.Series) -> tuple[float, float]:
    """(rank correlation of expected with realised return, its standard error); NaN where
    nothing is expected.
    """
    if expected.nunique() < 2:
        return float("nan"), float("nan")
    ranks = (expected.rank(), realised.rank())
    x, y = ((r - r.mean()) / r.std(ddof=0) for r in ranks)
    return clustered(x * y, week)


def summary(frame: pd.DataFrame) -> dict[str, float | None]:
    """Means over a frame of `scored`, errors beside those that people compare; none where one
    is not defined.
    """
    loss, loss_error = clustered(frame["loss"], frame["week"])
    cover, cover_error = clustered(frame["inside80"].astype(float), frame["week"])
    scale, scale_error = clustered(frame["scale"], frame["week"])
    rank, rank_error = information(frame["expected"], frame["realised"], frame["week"])
    pit = np.sort(frame["pit"].to_numpy())
    grid = (np.arange(len(pit)) + 0.5) / len(pit)
    figures = {
        "forecasts": len(frame),
        "loss": loss,
        "loss_error": loss_error,
        "crps": float(frame["crps"].mean()),
        "score80": float(frame["score80"].mean()),
        "inside80": cover,
        "inside80_error": cover_error,
        "inside90": float(frame["inside90"].mean()),
        "inside98": float(frame["inside98"].mean()),
        "scale": scale,
        "scale_error": scale_error,
        "pit_mean": float(pit.mean()),
        "pit_distance": float(np.abs(pit - grid).max()),
        "information": rank,
        "information_error": rank_error,
    }
    return {name: None if np.isnan(value) else value for name, value in figures.items()}


def fifths(frame: pd.DataFrame, by: str) -> pd.DataFrame:
    """Coverage and scale from the calmest to the wildest fifth by a column, up to 5 rows:
    inside80, scale, forecasts.
    """
    place = (5 * (frame[by].rank(method="first") - 1) / len(frame)).astype(int)
    grouped = frame.groupby(place)
    return pd.DataFrame(
        {
            "inside80": grouped["inside80"].mean(),
            "scale": grouped["scale"].mean(),
            "forecasts": grouped.size(),
        }
    )


def comparable(
    tables: Sequence[ForecastTable], first: np.datetime64, last: np.datetime64
) -> list[Index]:
    """Numbers, table by table, of the forecasts that all of them issue within a span, in the
    order of time and symbol.
    """
    keys = []
    for table in tables:
        windows = table.windows
        inside = np.flatnonzero((windows.issued_at >= first) & (windows.issued_at <= last))
        keys.append(
            pd.Series(
                inside,
                index=pd.MultiIndex.from_arrays(
                    [windows.issued_at[inside], windows.symbol[inside]]
                ),
            )
        )
    common = keys[0].index
    for key in keys[1:]:
        common = common.intersection(key.index)
    common = common.sort_values()
    return [key.loc[common].to_numpy(dtype=np.int64) for key in keys]
