"""Benchmark that the user chooses for a backtest: a symbol of the bars, or a file of returns.

The benchmark is an index without costs: it is not traded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foundation.arrays import Array, Instants
from foundation.errors import InputError
from foundation.formatting import format_count
from marketsimulator.results.returns_file import DailyReturns, read_returns
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import CLOSE, Bars
from trainingdata.corporate_actions import adjust_for_splits
from trainingdata.instants import DAY, Dates, new_york_date, new_york_four_pm
from trainingdata.instruments import instrument
from trainingdata.market import Market
from trainingdata.sessions import sessions_between
from trainingdata.source import DataSettings
from trainingdata.timeframe import Timeframe

RETURN_FILE_SUFFIXES = (".csv", ".parquet")
RETURN_DESCRIPTIONS = {  # description of returns by data.adjustment
    "split": "price return without dividends",
    "raw": "price return without dividends",
    "all": "total return, dividends in the adjusted prices",
}


@dataclass(frozen=True, eq=False, slots=True)
class Benchmark:
    """The value of a benchmark over time.

    name: symbol, or name of the file.
    returns_description: description of its returns.
    instants: [N] instants at which a value becomes known, increasing.
    values: [N] prices, or growth of 1 USD; above 0.
    """

    name: str
    returns_description: str
    instants: Instants
    values: Array

    def relative_values_at(self, instants: Instants) -> Array:
        """Return the last known value at each instant, relative to the first instant.

        The return before the first value is 0.
        """
        last = np.searchsorted(self.instants, instants, side="right") - 1
        known = self.values[np.maximum(last, 0)]
        return np.asarray(known / known[0])


def read_benchmark(settings: BacktestSettings, market: Market) -> Benchmark | None:
    """Read the benchmark of a run; None if `benchmark` is not set.

    Raises InputError for a benchmark that cannot be read or does not cover the run.
    """
    if settings.benchmark is None:
        return None
    try:
        if settings.benchmark.endswith(RETURN_FILE_SUFFIXES):
            return _from_file(
                Path(settings.benchmark).expanduser(),
                market,
                accepts_jumps=settings.data.accept_jumps,
            )
        return _from_symbol(settings, market)
    except InputError as error:
        # Bars and instruments name the setting `symbols`, which the user did not set.
        raise InputError(f"benchmark: {str(error).removeprefix('symbols: ')}") from error


def _from_file(path: Path, market: Market, *, accepts_jumps: bool) -> Benchmark:
    """Return a benchmark of daily returns.

    A return ends with the run's last row of its date up to 16:00 New York: half-days end earlier.
    """
    daily = DailyReturns.from_series(read_returns(path, accepts_jumps=accepts_jumps), str(path))
    dates, returns = daily.dates, daily.values
    if (returns == -1).any():
        raise InputError(
            f"{path}: {dates[returns == -1][0]}: return -1 is a total loss; correct it"
        )
    _check_sessions(str(path), "return", dates, market)
    times = market.run_bars.times
    closes = new_york_four_pm(dates)
    latest = times[np.maximum(np.searchsorted(times, closes, side="right") - 1, 0)]
    ends = np.where(new_york_date(latest) == dates, latest, closes)
    at = np.append(closes[:1] - DAY, ends)
    growth = np.append(1.0, np.cumprod(1.0 + returns))
    return Benchmark(path.name, f"{path.name}: daily returns of the file", at, growth)


def _from_symbol(settings: BacktestSettings, market: Market) -> Benchmark:
    """Return the prices of a symbol, from the bars of the run or others of `data.dir`."""
    try:
        name = instrument(str(settings.benchmark)).symbol
    except InputError as error:
        raise InputError(
            f"{error}; give a symbol of the bars, or a file of returns (.csv, .parquet)"
        ) from None
    bars = market.bars
    if name not in bars.symbols:
        bars = _read_bars(settings.data, name, bars)
    if settings.data.adjustment == "raw":
        bars = adjust_for_splits(bars, settings.data.actions_in_file())
    at, values = bars.bars_of_symbol(bars.symbols.index(name))
    _check_sessions(name, "bar", new_york_date(at), market)
    text = f"{name}: {RETURN_DESCRIPTIONS[settings.data.adjustment]}, without costs"
    return Benchmark(name, text, at, values[:, CLOSE])


def _read_bars(data: DataSettings, name: str, bars: Bars) -> Bars:
    """Read a symbol that the run does not trade: bars of the run's timeframe, else daily bars."""
    end = f"{np.datetime_as_string(bars.last_instant, unit='s')}Z"
    try:
        return data.load_panel((name,), None, end, bars.timeframe)
    except InputError as error:
        try:
            return data.load_panel((name,), None, end, Timeframe("1d"))
        except InputError:
            raise error from None


def _check_sessions(name: str, row_kind: str, dates: Dates, market: Market) -> None:
    """Raise InputError for a benchmark without a row in a session of the run.

    row_kind: kind of the rows, `bar` or `return`, for the message.
    dates: dates of the rows.
    """
    period = market.run_bars.times[[0, -1]]
    sessions = sessions_between(*new_york_date(period))
    closes = new_york_four_pm(sessions)
    missing = np.setdiff1d(sessions[(closes >= period[0]) & (closes <= period[1])], dates)
    if len(missing):
        raise InputError(
            f"{name} has no {row_kind} for {missing[0]}, a session of the run"
            f" ({format_count(len(missing), 'session')} without one); add it, or choose another"
            " benchmark or period"
        )
