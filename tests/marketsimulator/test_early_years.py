"""Runs before 1970, whose dates and instants are negative numbers, and at the calendar's edge."""

from __future__ import annotations

from dataclasses import asdict
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from execution.orders.orders import Order
from marketsimulator.backtest import run_backtest
from marketsimulator.results.summary import BacktestResults
from tests.marketsimulator.accountant import Records, audit
from tests.marketsimulator.accounts import account_on, panel_of
from tests.marketsimulator.runs import settings_of
from trainingdata.sessions import sessions_between
from trainingdata.timeframe import DAILY


def run_from(folder: Path, first: str, last: str, start: str, *words: str) -> BacktestResults:
    """A backtest of equal weights on a file of synthetic days [first, last]."""
    dates = sessions_between(np.datetime64(first), np.datetime64(last))
    rng = np.random.default_rng(3)
    close = 50 * np.exp(np.cumsum(rng.normal(0, 0.01, len(dates))))
    rows = {"Date": dates, "Open": close * 1.001, "High": close * 1.01}
    rows |= {"Low": close * 0.99, "Close": close, "Volume": 1e6}
    pd.DataFrame(rows).to_csv(folder / "GE.csv", index=False)
    settings = settings_of(
        *(f"data.dir={folder}", f"start={start}", "trials=null", "forecaster=ewma"),
        *("sizing.strategy=equal_weight", "forecaster.calibrated=false", *words),
    )
    return run_backtest(settings)


@pytest.mark.first_example
@pytest.mark.parametrize("year", [1963, 1967, 1969])
def test_buy_and_hold_fills_before_1970(year: int, tmp_path: Path) -> None:
    results = run_from(tmp_path, f"{year}-01-02", f"{year}-12-31", f"{year}-12-02")
    runs = [results.main_run, *results.benchmark_runs]
    assert all(len(run.fills) for run in runs)
    assert all(run.margin_event_counts["refusals"] == 0 for run in runs)
    for run in runs:
        records = Records.of(asdict(results.settings), results.market.bars, run)
        assert str(audit(records)) == "0 differences"


def test_account_may_borrow_before_1970() -> None:
    """An account without restrictions may borrow on every date."""
    for year in (1963, 1969, 1973):
        dates = sessions_between(np.datetime64(f"{year}-06-03"), np.datetime64(f"{year}-06-14"))
        ends = DAILY.stock_clock.ends
        at = ends[np.searchsorted(ends, dates.astype("datetime64[ns]"))]
        flat = [(100.0, 101.0, 99.0, 100.0)] * len(at)
        account = account_on(panel_of({"GE": (at, flat)}, timeframe=DAILY))
        account.submit([Order("a", "GE", "buy", Decimal(1_500), "", tif="opg")])
        account.advance(1)
        assert [fill.qty for fill in account.fills] == [Decimal(1_500)]


@pytest.mark.first_example
@pytest.mark.parametrize("first", ["1962-01-02", "1962-01-03"])
def test_calibrated_run_starts_on_the_calendars_first_days(first: str, tmp_path: Path) -> None:
    words = ("forecaster.calibrated=true",)
    results = run_from(tmp_path, first, "1962-12-31", "1962-12-20", *words)
    assert results.market.bars.times[0] == np.datetime64(f"{first}T21:00", "ns")
    assert len(results.main_run.fills)
