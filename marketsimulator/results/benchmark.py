"""Benchmark of a backtest that the user chooses: a symbol of the bars, or a file of returns.

A chosen benchmark is the return of a price or of a file. It is not traded, so it has no costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from foundation.arrays import Array, Instants
from foundation.errors import DataError, InputError
from foundation.formatting import count_text
from marketsimulator.results.metrics import daily_rows
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import CLOSE, Bars
from trainingdata.corporate_actions import adjust_for_splits
from trainingdata.instants import DAY, four_pm, new_york_date, parse_date
from trainingdata.instruments import instrument
from trainingdata.market import Market
from trainingdata.source import DataSettings
from trainingdata.timeframe import Timeframe

RETURN_FILES = (".csv", ".parquet")
MAX_UNCOVERED_DAYS = 7  # days of a run before a benchmark's first value, and after its last
DIVIDENDS = {
    "split": "price return without dividends",
    "raw": "price return without dividends",
    "all": "dividends included in the adjusted prices",
}


@dataclass(frozen=True, eq=False, slots=True)
class Benchmark:
    """A benchmark: its value over time.

    name: symbol, or name of the file.
    text: description of its returns, in one sentence.
    at: [N] instants at which a value becomes known, increasing.
    values: [N] prices, or growth of 1 USD; above 0.
    """

    name: str
    text: str
    at: Instants
    values: Array

    def value_at(self, instants: Instants) -> Array:
        """Return the last value known at each instant, relative to that at the first instant.

        Before the first value there is no return.
        """
        last = np.searchsorted(self.at, instants, side="right") - 1
        known = self.values[np.maximum(last, 0)]
        return np.asarray(known / known[0])


def read_benchmark(settings: BacktestSettings, market: Market) -> Benchmark | None:
    """Read the benchmark of a run; None without `benchmark` in the settings.

    Raises
    ------
    InputError
        for a benchmark that cannot be read or does not cover the run.
    """
    if settings.benchmark is None:
        return None
    if settings.benchmark.endswith(RETURN_FILES):
        found = _of_file(Path(settings.benchmark).expanduser(), market)
    else:
        found = _of_symbol(settings, market)
    _check_span(found, market.run_bars.times)
    return found


def read_returns(path: Path) -> pd.Series:
    """Read daily returns from CSV or Parquet: a column of dates, then one of returns.

    Returns are fractions, by New York date. The file `returns.csv` of a run has this form.

    Raises
    ------
    DataError
        for an unreadable file, a repeated or missing date, or a return that is not above -1.
    """
    try:
        if path.suffix == ".csv":
            frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        else:
            frame = pd.read_parquet(path)
            frame = frame.reset_index(drop=isinstance(frame.index, pd.RangeIndex))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise DataError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None
    if frame.shape[1] != 2 or frame.empty:
        raise DataError(
            f"{path}: {count_text(frame.shape[1], 'column')} and {count_text(len(frame), 'row')};"
            " two columns are needed, date and return, and a row a day"
        )
    dates = [_date(path, row, text) for row, text in enumerate(frame.iloc[:, 0], 2)]
    returns = pd.to_numeric(frame.iloc[:, 1], errors="coerce").to_numpy(dtype=np.float64)
    wrong = ~(np.isfinite(returns) & (returns > -1))
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{path}: row {row + 2}: {frame.iloc[row, 1]!r} is no return;"
            " a fraction above -1 is needed, 0.01 for 1 %"
        )
    series = pd.Series(returns, index=pd.DatetimeIndex(dates), name="return")
    if not series.index.is_unique:
        twice = series.index[series.index.duplicated()][0].date()
        raise DataError(f"{path}: {twice} has two returns; a date may be listed once")
    return series.sort_index()


def _date(path: Path, row: int, text: object) -> np.datetime64:
    try:
        return parse_date(str(text)[:10])
    except ValueError:
        raise DataError(f"{path}: row {row}: {text!r} is no date; write it as 2024-03-04") from None


def _of_file(path: Path, market: Market) -> Benchmark:
    """Return a benchmark of daily returns; each ends at 16:00 New York of its date."""
    try:
        returns = read_returns(path)
    except DataError as error:
        raise DataError(f"benchmark: {error}") from None
    dates = returns.index.to_numpy().astype("datetime64[D]")
    _, marks = daily_rows(market.run_bars.times, has_crypto=False)
    missing = np.setdiff1d(new_york_date(marks), dates)
    if len(missing):
        raise DataError(f"benchmark: {path} has no return for {missing[0]}, a session of the run")
    growth = np.cumprod(1.0 + returns.to_numpy())
    text = f"{path.name}: daily returns of the file, as they are"
    at = np.append(four_pm(dates[:1]) - DAY, four_pm(dates))
    return Benchmark(path.name, text, at, np.append(1.0, growth))


def _of_symbol(settings: BacktestSettings, market: Market) -> Benchmark:
    """Return the prices of a symbol, in the run's bars or elsewhere in `data.dir`."""
    try:
        name = instrument(str(settings.benchmark)).symbol
    except InputError as error:
        raise InputError(
            f"benchmark: {error}; give a symbol of the bars, or a file of returns (.csv, .parquet)"
        ) from None
    bars = market.bars
    if name not in bars.symbols:
        bars = _read_bars(settings.data, name, bars)
    if settings.data.adjustment == "raw":
        bars = adjust_for_splits(bars, settings.data.listed_actions())
    at, values = bars.bars_of_symbol(bars.symbols.index(name))
    text = f"{name}: {DIVIDENDS[settings.data.adjustment]}, without costs"
    return Benchmark(name, text, at, values[:, CLOSE])


def _read_bars(data: DataSettings, name: str, bars: Bars) -> Bars:
    """Read a symbol that the run does not trade: bars of the run's timeframe, else daily bars."""
    end = f"{np.datetime_as_string(bars.last_instant, unit='s')}Z"
    try:
        return data.bars((name,), None, end, bars.timeframe)
    except InputError as error:
        refused = error
    try:
        return data.bars((name,), None, end, Timeframe("1d"))
    except InputError:
        raise InputError(f"benchmark: {refused}") from None


def _check_span(found: Benchmark, times: Instants) -> None:
    """Refuse a benchmark that begins long after a run, or ends long before it."""
    first, last = (str(each) for each in new_york_date(found.at[[0, -1]]))
    if found.at[0] > times[0] + MAX_UNCOVERED_DAYS * DAY:
        raise InputError(
            f"benchmark: {found.name} begins on {first}, the run on {new_york_date(times[:1])[0]};"
            " start the run later, or choose a benchmark with a longer history"
        )
    if found.at[-1] < times[-1] - MAX_UNCOVERED_DAYS * DAY:
        raise InputError(
            f"benchmark: {found.name} ends on {last}, the run on {new_york_date(times[-1:])[0]};"
            " end the run earlier, or choose a benchmark that goes on"
        )
