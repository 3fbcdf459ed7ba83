"""Exported tables equal the run; quantstats and pyfolio read them."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from foundation.files import write_files_atomically
from marketsimulator.backtest import run_backtest
from marketsimulator.results.comparison import compare_records
from marketsimulator.results.exports import export_file_writers
from marketsimulator.results.metrics import day_end_rows
from marketsimulator.results.report import result_file_writers
from marketsimulator.results.returns_file import read_returns
from marketsimulator.results.round_trips import build_round_trips
from marketsimulator.results.run_record import read_run_record
from marketsimulator.results.search.spans import build_whole_span
from marketsimulator.results.summary import BacktestResults
from marketsimulator.results.track_record import TrackRecord
from tests.marketsimulator.runs import settings_of
from trainingdata.bars import last_closes_by_symbol
from trainingdata.instants import new_york_date

NEEDS_QUANTSTATS = "quantstats is not installed (dev extra)"
NEEDS_PYFOLIO = "pyfolio-reloaded is not installed: it needs peewee below 3.17.4"


def library(name: str, reason: str) -> ModuleType:
    """Import a library without its warnings, or skip the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: ModuleType = pytest.importorskip(name, reason=reason)
    return found


@pytest.fixture(scope="module")
def stocks() -> BacktestResults:
    """Five weeks of two stocks: pyfolio counts whole shares."""
    return run_backtest(
        settings_of(
            *("start=2024-02-05", "end=2024-03-08", "data.start=2024-01-02"),
            *("data.end=2024-03-08", "symbols=[SYA,SYB]", "forecaster=historical"),
            *("data.information_coefficient=0.4", "forecaster.calibrated=false", "trials=null"),
        )
    )


def read(
    results: BacktestResults, folder: Path, zone: str | None = None
) -> dict[str, pd.DataFrame]:
    """Read the exported tables as a user does."""
    for name, write in export_file_writers(results).items():
        write(folder / name)
    frames = {
        path.stem: pd.read_csv(path, index_col="date", parse_dates=True)
        for path in folder.glob("*.csv")
    }
    if zone:
        for name in ("returns", "positions"):
            frames[name].index = frames[name].index.tz_localize(zone)
    return frames


def test_exports_contain_equity_returns_and_trades(traded: BacktestResults, tmp_path: Path) -> None:
    frames = read(traded, tmp_path)
    at, equity = traded.main_run.equity_curve()
    rows, marks = day_end_rows(at, has_crypto=True)
    returns = frames["returns"]["return"]
    np.testing.assert_allclose(100_000 * np.cumprod(1 + returns), equity[rows])
    assert (frames["positions"].index == returns.index).all()
    assert len(marks) == len(returns)
    positions = frames["positions"]
    assert list(positions.columns) == [*traded.market.bars.symbols, "cash"]
    np.testing.assert_allclose(positions.sum(axis=1), equity[rows])
    cash = [traded.main_run.equity_rows[row].cash for row in rows]
    np.testing.assert_allclose(positions["cash"], cash, atol=1e-5)
    trades = frames["transactions"]
    fills = traded.main_run.fills
    assert len(trades) == len(fills)
    paid = sum(float(fill.qty) * fill.price for fill in fills)
    assert (trades["amount"] * trades["price"]).sum() == pytest.approx(paid)
    assert trades["fee"].sum() == pytest.approx(sum(fill.fee for fill in fills))
    again = read_returns(tmp_path / "returns.csv")
    assert again.to_list() == returns.to_list()
    assert list(again.index) == list(returns.index)


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("symbols", "end"),
    [
        ("[SYXUSD]", "2024-02-20T17:00Z"),  # at noon in New York
        ("[SYA,SYXUSD]", "2024-02-20T23:00Z"),  # two hours after 16:00
        ("[SYA,SYB]", "2024-02-20"),
        ("[SYXUSD]", "2024-02-06T03:00Z"),  # before the first 16:00
    ],
)
def test_daily_returns_compound_to_the_total_return(symbols: str, end: str, tmp_path: Path) -> None:
    """In the report, the exports, their tear sheet, a comparison and a search."""
    words = ("sizing.strategy=equal_weight", "forecaster=none", "data.start=2024-01-02")
    span = ("start=2024-02-06T00:00Z", f"end={end}", "data.end=2024-03-01", "trials=null")
    results = run_backtest(settings_of(*words, *span, f"symbols={symbols}"))
    summary = results.summary()
    total, capital = summary["total_return"], results.settings.capital
    at, equity = results.main_run.equity_curve()
    assert total == equity[-1] / capital - 1 != 0
    years = summary["days"] / summary["periods_per_year"]
    assert summary["annual_return"] == pytest.approx((1 + total) ** (1 / years) - 1)
    frames = read(results, tmp_path)
    assert np.prod(1 + frames["returns"]["return"]) - 1 == pytest.approx(total)
    assert frames["positions"].iloc[-1].sum() == pytest.approx(equity[-1])
    assert frames["returns"].index[-1] == pd.Timestamp(new_york_date(at[-1:])[0])
    write_files_atomically(result_file_writers(results, summary), tmp_path / "run")
    record = read_run_record(tmp_path / "run")
    found = compare_records([record, replace(record, path=None, name="again")]).table
    spans = build_whole_span(results.market).daily_returns(equity, capital)
    assert np.prod(1 + spans) - 1 == pytest.approx(total)
    names = ("total_return", "annual_return", "sharpe", "max_drawdown", "hit_rate")
    sheets = [{name: found[name][0] for name in names}]
    if len(frames["returns"]) > 1:
        sheet = TrackRecord.from_returns(read_returns(tmp_path / "run" / "returns.csv")).figures
        assert sheet["sharpe"] / np.sqrt(sheet["periods_per_year"]) == pytest.approx(
            summary["sharpe"] / np.sqrt(summary["periods_per_year"])
        )
        sheets.append({name: sheet[name] for name in ("total_return", "max_drawdown", "hit_rate")})
    for figures in sheets:
        assert figures == pytest.approx({name: summary[name] for name in figures}, nan_ok=True)


@pytest.mark.slow
def test_report_and_tear_sheet_deflate_alike(tmp_path: Path) -> None:
    """After four variants over the same days."""
    words = ("start=2024-02-06", "end=2024-03-01", "data.end=2024-03-01", "symbols=[SYA,SYB]")
    ledger = f"trials={tmp_path / 'trials.sqlite'}"
    for strategy in ("equal_weight", "risk_parity", "vol_target", "buy_and_hold"):
        results = run_backtest(
            settings_of(*words, ledger, "forecaster=none", f"sizing.strategy={strategy}")
        )
    summary = results.summary()
    assert summary["trials"] == 4
    read(results, tmp_path)
    sheet = TrackRecord.from_returns(read_returns(tmp_path / "returns.csv"), trials=4).figures
    for name in ("probabilistic_sharpe", "deflated_sharpe"):
        assert sheet[name] == pytest.approx(summary[name])
    assert summary["deflated_sharpe"] < summary["probabilistic_sharpe"]


@pytest.mark.slow
def test_quantstats_computes_the_same_figures(stocks: BacktestResults, tmp_path: Path) -> None:
    quantstats = library("quantstats", NEEDS_QUANTSTATS)
    returns = read(stocks, tmp_path)["returns"]["return"]
    summary = stocks.summary()
    days = summary["periods_per_year"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = quantstats.stats
        assert theirs.sharpe(returns, periods=days) == pytest.approx(summary["sharpe"])
        assert theirs.sortino(returns, periods=days) == pytest.approx(summary["sortino"])
        assert theirs.volatility(returns, periods=days) == pytest.approx(summary["volatility"])
        assert theirs.max_drawdown(returns) == pytest.approx(summary["max_drawdown"])
        assert theirs.profit_factor(returns) == pytest.approx(summary["profit_factor"])
        hold = stocks.daily_benchmark_curve()[1]
        benchmark = pd.Series(hold[1:] / hold[:-1] - 1, index=returns.index)
        greeks = theirs.greeks(returns, benchmark, periods=days)
        daily = theirs.information_ratio(returns, benchmark)
    assert greeks["beta"] == pytest.approx(summary["beta"])
    assert greeks["alpha"] == pytest.approx(summary["alpha"])
    assert daily * np.sqrt(days) == pytest.approx(summary["information_ratio"])


def test_pyfolio_reads_positions_and_transactions(stocks: BacktestResults, tmp_path: Path) -> None:
    pyfolio = library("pyfolio", NEEDS_PYFOLIO)
    frames = read(stocks, tmp_path, "UTC")
    positions, trades = frames["positions"], frames["transactions"]
    summary = stocks.summary()
    marks = last_closes_by_symbol(stocks.market.bars)
    ours = build_round_trips(stocks.main_run, marks)
    closing = pd.DataFrame(
        [
            (trip.symbol, -float(trip.current_quantity), marks[trip.symbol], 0.0)
            for trip in ours
            if trip.current_quantity
        ],
        columns=trades.columns,
        index=[trades.index[-1] + pd.Timedelta(days=9)]
        * sum(bool(trip.current_quantity) for trip in ours),
    )
    ended = trades if closing.empty else pd.concat([trades, closing])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figures = pyfolio.timeseries.perf_stats(
            frames["returns"]["return"], positions=positions, transactions=trades
        )
        trips = pyfolio.round_trips.extract_round_trips(ended)
        shares = pyfolio.pos.get_percent_alloc(positions)
    assert figures["Max drawdown"] == pytest.approx(summary["max_drawdown"])
    assert figures["Daily turnover"] > 0
    assert shares.sum(axis=1).to_numpy() == pytest.approx(1.0)
    assert len(trips) > 10
    gross = sum(trip.profit + trip.fees for trip in ours)
    assert trips["pnl"].sum() == pytest.approx(gross, abs=0.01)
