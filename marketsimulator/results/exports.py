"""Exports of a run for quantstats and pyfolio: daily returns, positions, transactions."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from pathlib import Path

import numpy as np
import pandas as pd

from marketsimulator.results.metrics import day_end_rows, returns_until_ruin
from marketsimulator.results.report_charts import daily_weights
from marketsimulator.results.summary import BacktestResults
from marketsimulator.run_result import is_trade
from trainingdata.instants import new_york_date

VALUE_DECIMAL_PLACES = 6  # decimal places of a position's value
RETURNS_FILE = "returns.csv"


def returns_frame(results: BacktestResults) -> pd.DataFrame:
    """Return the daily returns of the main run as fractions, by New York date.

    A day ends at 16:00 New York; the first day starts and the last one ends with the run. The
    return is -1 on the day of ruin, then 0.
    """
    ends, daily = results.daily_equity_curve(results.main_run)
    dates = pd.DatetimeIndex(new_york_date(ends[1:]), name="date")
    return pd.DataFrame({"return": returns_until_ruin(daily)}, index=dates)


def position_frame(results: BacktestResults) -> pd.DataFrame:
    """Return the value of each position and the cash at the end of each day, USD, by date.

    The columns are the symbols and `cash`; the sum of a row is the equity.
    """
    run, bars = results.main_run, results.market.bars
    at, equity = run.equity_curve()
    rows, ends = day_end_rows(at, has_crypto=results.has_crypto)
    # Rounding removes floating-point residuals of closed positions.
    values = np.round(daily_weights(bars, run, rows) * equity[rows], VALUE_DECIMAL_PLACES)
    index = pd.DatetimeIndex(new_york_date(ends), name="date")
    frame = pd.DataFrame(values.T, index=index, columns=list(bars.symbols))
    frame["cash"] = equity[rows] - values.sum(axis=0)
    return frame


def transaction_frame(results: BacktestResults) -> pd.DataFrame:
    """Return the trades by UTC time: symbol, signed amount, price and fee in USD."""
    fills = [fill for fill in results.main_run.fills if is_trade(fill)]
    fills.sort(key=attrgetter("at"))
    columns = {
        "symbol": [fill.symbol for fill in fills],
        "amount": [float(fill.qty) for fill in fills],
        "price": [fill.price for fill in fills],
        "fee": [fill.fee for fill in fills],
    }
    instants = np.array([fill.at for fill in fills], dtype="datetime64[ns]")
    return pd.DataFrame(columns, index=pd.DatetimeIndex(instants, name="date").tz_localize("UTC"))


def export_file_writers(results: BacktestResults) -> dict[str, Callable[[Path], object]]:
    """Return the writer of each exported table, by file name."""
    frames = {
        RETURNS_FILE: returns_frame,
        "positions.csv": position_frame,
        "transactions.csv": transaction_frame,
    }

    def csv_writer(frame: Callable[[BacktestResults], pd.DataFrame]) -> Callable[[Path], object]:
        return lambda path: frame(results).to_csv(path)

    return {name: csv_writer(frame) for name, frame in frames.items()}
