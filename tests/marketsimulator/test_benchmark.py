"""Figures relative to a benchmark: alpha, beta and capture by hand; invalid benchmarks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import linregress

from foundation.errors import InputError
from marketsimulator.backtest import run_backtest
from marketsimulator.results.benchmark import read_benchmark
from marketsimulator.results.exports import returns_frame
from marketsimulator.results.metrics import (
    RelativePerformance,
    daily_returns,
    largest_drawdown,
    longest_drawdown_days,
    measure_daily_performance,
    relative_performance,
    rolling_figures,
    worst_drawdowns,
)
from marketsimulator.results.report import result_file_writers, terminal_parts
from marketsimulator.results.returns_file import read_returns
from marketsimulator.results.significance import alpha_beta_intervals
from marketsimulator.results.summary import BacktestResults
from tests.e2e.refused import answer_of
from tests.marketsimulator.runs import settings_of
from tests.marketsimulator.stressed import write_bars
from tests.support.messages import check_message, refused
from trainingdata.sessions import sessions_between

SHORT = (
    *("start=2024-02-20", "end=2024-03-08", "data.start=2024-01-02", "data.end=2024-03-08"),
    *("forecaster=ewma", "trials=null", "symbols=[SYA,SYB]"),
)


def market_pair(days: int = 250, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Daily returns of a run and of its benchmark, with a beta of 0.5."""
    rng = np.random.default_rng(seed)
    other = rng.normal(0.0004, 0.01, days)
    return 0.0002 + 0.5 * other + rng.normal(0, 0.004, days), other


def test_benchmark_relative_metrics_match_hand_calculation() -> None:
    """The benchmark returns +2 %, -1 %, +2 %, -1 %; the run returns half of it plus 0.1 % a day."""
    other = np.array([0.02, -0.01, 0.02, -0.01])
    found = relative_performance(0.001 + 0.5 * other, other, 252)
    assert found.beta == pytest.approx(0.5)
    assert found.alpha == pytest.approx(0.252)
    assert found.correlation == pytest.approx(1.0)
    assert found.up_capture == pytest.approx(0.011 / 0.02)
    assert found.down_capture == pytest.approx(0.4)
    assert found.treynor == pytest.approx((0.001 + 0.5 * 0.005) * 252 / 0.5)
    active = 0.001 - 0.5 * other
    deviation = active.std(ddof=1)
    assert found.tracking_error == pytest.approx(deviation * np.sqrt(252))
    assert found.information_ratio == pytest.approx(active.mean() / deviation * np.sqrt(252))


def test_alpha_and_beta_are_those_of_a_regression() -> None:
    mine, other = market_pair()
    found = relative_performance(mine, other, 252)
    line = linregress(other, mine)
    assert found.beta == pytest.approx(line.slope)
    assert found.alpha == pytest.approx(line.intercept * 252)
    assert found.correlation == pytest.approx(line.rvalue)
    ends = alpha_beta_intervals(mine, other, 252, seed=0)
    for name, value in (("alpha", found.alpha), ("beta", found.beta)):
        low, high = ends[name]
        assert low < value < high
    wide = 2 * 1.645 * line.stderr
    assert np.ptp(ends["beta"]) == pytest.approx(wide, rel=0.3)


def test_undefined_benchmark_relative_metrics_are_missing() -> None:
    mine, other = market_pair(30)
    nothing = RelativePerformance()
    assert relative_performance(mine, np.zeros(30), 252) == nothing
    assert relative_performance(mine[1:], other, 252) == nothing
    assert relative_performance(mine[:1], other[:1], 252) == nothing
    itself = relative_performance(other, other, 252)
    assert (itself.beta, itself.up_capture) == (pytest.approx(1.0), pytest.approx(1.0))
    assert itself.information_ratio is None
    assert alpha_beta_intervals(mine[:19], other[:19], 252, seed=0) == {}
    assert alpha_beta_intervals(other, other, 252, seed=0) == {}


@given(st.lists(st.floats(-0.2, 0.2), min_size=1, max_size=80))
def test_worst_drawdowns_agree_with_maximum_depth_and_length(returns: list[float]) -> None:
    daily = np.append(1.0, np.cumprod(1 + np.array(returns)))
    found = worst_drawdowns(daily, len(daily))
    assert min([0.0, *(each.depth for each in found)]) == largest_drawdown(daily)
    assert max([0, *(each.days_below_peak for each in found)]) == longest_drawdown_days(daily)
    assert [each.depth for each in found] == sorted(each.depth for each in found)
    for each in found:
        assert daily[each.peak_index] == daily[: each.trough_index + 1].max()
        assert each.depth == pytest.approx(daily[each.trough_index] / daily[each.peak_index] - 1)
        assert (
            each.recovery_index is None
            or daily[each.recovery_index] >= daily[each.peak_index] > daily[each.recovery_index - 1]
        )
    assert worst_drawdowns(daily, 2) == found[:2]


def test_rolling_metrics_equal_those_of_each_window() -> None:
    mine, other = market_pair(80)
    found = rolling_figures(mine, other, 20, 252)
    assert {len(values) for values in found.values()} == {61}
    for first in range(0, 61, 12):
        part = slice(first, first + 20)
        daily = np.append(1.0, np.cumprod(1 + mine[part]))
        alone = measure_daily_performance(daily, 252)
        assert found["sharpe"][first] == pytest.approx(alone.sharpe)
        assert found["volatility"][first] == pytest.approx(alone.volatility)
        beside = relative_performance(mine[part], other[part], 252)
        assert found["beta"][first] == pytest.approx(beside.beta)
    still = rolling_figures(np.zeros(30), other[:30], 20, 252)
    assert np.isnan(still["sharpe"]).all()
    assert (still["volatility"] == 0).all()


@pytest.fixture(scope="module")
def beside() -> BacktestResults:
    """Three weeks of two stocks, with a third one as benchmark."""
    return run_backtest(settings_of(*SHORT, "benchmark=SYC"))


def test_symbol_outside_the_run_serves_as_benchmark(beside: BacktestResults) -> None:
    summary = beside.summary()
    assert summary["symbols"] == ["SYA", "SYB"]
    bars = settings_of(*SHORT, "symbols=[SYC]").load_bars()
    at, _ = beside.main_run.equity_curve()
    times, values = bars.bars_of_symbol(0)
    closes = values[np.searchsorted(times, at, side="right") - 1, 3]
    column = summary["comparisons"]["SYC"]
    assert column["total_return"] == pytest.approx(closes[-1] / closes[0] - 1)
    assert column["costs"] is column["beta"] is None
    daily = beside.daily_benchmark_curve()[1]
    line = linregress(
        daily_returns(daily), daily_returns(beside.daily_equity_curve(beside.main_run)[1])
    )
    assert summary["beta"] == pytest.approx(line.slope)
    assert summary["benchmark"] == "SYC"
    assert summary["outperformances"]["SYC"]["lead"] == pytest.approx(
        (1 + summary["total_return"]) / (1 + column["total_return"]) - 1
    )
    parts, sentences = terminal_parts(summary, 1.0)
    assert "SYC" in str(parts[0])
    assert any("relative to SYC: price return without dividends" in each for each in sentences)


def test_buy_and_hold_is_the_default_benchmark(traded: BacktestResults) -> None:
    summary = traded.summary()
    assert summary["benchmark"] == "buy_and_hold"
    assert summary["comparisons"]["buy_and_hold"]["beta"] == pytest.approx(1.0)
    assert summary["beta"] is not None


def test_own_returns_as_benchmark_give_zero_alpha(beside: BacktestResults, tmp_path: Path) -> None:
    """The returns file of a run is used as the benchmark of the same run."""
    file = tmp_path / "returns.csv"
    returns_frame(beside).to_csv(file)
    settings = replace(beside.settings, benchmark=str(file))
    again = replace(beside, settings=settings, benchmark=read_benchmark(settings, beside.market))
    summary = again.summary()
    assert (summary["beta"], summary["up_capture"]) == (pytest.approx(1), pytest.approx(1))
    assert summary["alpha"] == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(
        again.daily_benchmark_curve()[1], again.daily_equity_curve(again.main_run)[1]
    )


@pytest.mark.parametrize("name", ["beside", "traded"])
def test_equity_file_gives_the_runs_daily_returns(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Stocks alone, and stocks with crypto, whose days end at 16:00 New York as well."""
    results = request.getfixturevalue(name)
    writers = result_file_writers(results, results.summary())
    for file in ("summary.json", "equity.parquet"):
        writers[file](tmp_path / file)
    found, expected = read_returns(tmp_path / "equity.parquet"), returns_frame(results)["return"]
    assert list(found.index) == list(expected.index)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_benchmark_choice_does_not_count_as_a_trial(beside: BacktestResults) -> None:
    plain = replace(beside, settings=replace(beside.settings, benchmark=None), benchmark=None)
    assert beside.to_trial() == plain.to_trial()


DAYS = pd.bdate_range("2024-02-12", "2024-03-15")


HEAD = "date,return\n2024-02-20,0.01\n"


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        (HEAD + "2024-02-21,0.01\n", ("2024-02-22",)),
        (HEAD + "2024-02-21,-1\n2024-02-22,0.01\n", ("2024-02-21", "-1")),
        (HEAD + "yesterday,0.1\n", ("row 2", "'yesterday'")),
        (HEAD + "2024-02-20,0.01\n", ("2024-02-20", "twice")),
        ("date,return,ret\n2024-02-20,0.1,1\n", ("return", "ret")),
        ("", ()),
        (None, ()),
    ],
)
def test_invalid_benchmark_file_is_refused_with_its_row(
    beside: BacktestResults, tmp_path: Path, text: str | None, facts: tuple[str, ...]
) -> None:
    file = tmp_path / "other.csv"
    if text is not None:
        file.write_text(text)
    settings = replace(beside.settings, benchmark=str(file))
    with refused(InputError, "benchmark", "other.csv", *facts):
        read_benchmark(settings, beside.market)


@pytest.mark.first_example
@pytest.mark.parametrize("word", ["NOPE", "not a symbol", "none.csv"])
def test_unknown_benchmark_is_refused_before_the_run(word: str) -> None:
    with refused(InputError, "benchmark", word):
        run_backtest(settings_of(*SHORT, f"benchmark='{word}'"))


def test_benchmark_must_cover_the_run(beside: BacktestResults, tmp_path: Path) -> None:
    file = tmp_path / "late.csv"
    pd.DataFrame({"return": 0.001}, index=DAYS[DAYS > "2024-02-26"]).to_csv(file)
    settings = replace(beside.settings, benchmark=str(file))
    with refused(InputError, "benchmark", "late.csv", "2024-02-20"):
        read_benchmark(settings, beside.market)


def test_price_file_serves_as_benchmark(beside: BacktestResults, tmp_path: Path) -> None:
    days = pd.DatetimeIndex(pd.bdate_range("2024-02-12", "2024-03-15"), name="date")
    prices = pd.DataFrame({"open": 1.0, "close": np.linspace(100, 120, len(days))}, index=days)
    prices.to_csv(tmp_path / "SPY.csv")
    settings = replace(beside.settings, benchmark=str(tmp_path / "SPY.csv"))
    found = read_benchmark(settings, beside.market)
    assert found is not None
    np.testing.assert_allclose(found.values, prices["close"] / 100)


def test_benchmark_returns_are_read_from_csv_and_parquet(tmp_path: Path) -> None:
    frame = pd.DataFrame({"return": np.linspace(-0.01, 0.02, len(DAYS))}, index=DAYS)
    frame.iloc[::-1].to_csv(tmp_path / "a.csv")
    frame.to_parquet(tmp_path / "b.parquet")
    frame.reset_index(names="day").to_parquet(tmp_path / "c.parquet")
    for name in ("a.csv", "b.parquet", "c.parquet"):
        read = read_returns(tmp_path / name)
        assert list(read.index) == list(DAYS)
        assert read.to_list() == frame["return"].to_list()


def test_monthly_returns_are_refused_before_their_unit(tmp_path: Path) -> None:
    """A median of 4 % may be a fraction or a percentage, but no monthly return is read."""
    months = pd.date_range("2022-01-31", periods=24, freq="ME", name="date")
    path = tmp_path / "months.csv"
    pd.DataFrame({"return": np.tile([0.05, -0.04], 12)}, index=months).to_csv(path)
    with refused(InputError, "months.csv", "31 days apart", "daily returns"):
        read_returns(path)


def test_benchmark_value_before_its_first_bar_is_constant(beside: BacktestResults) -> None:
    """Crypto trades before stocks: the stock benchmark has no return until its first bar."""
    settings = replace(beside.settings, benchmark="SYC")
    found = read_benchmark(settings, beside.market)
    assert found is not None
    early = np.array(
        [found.instants[0] - np.timedelta64(1, "D"), found.instants[0], found.instants[9]]
    )
    np.testing.assert_allclose(found.relative_values_at(early)[:2], 1.0)
    assert found.relative_values_at(early)[2] == pytest.approx(found.values[9] / found.values[0])


def test_benchmark_file_dates_half_days_like_symbols(tmp_path: Path) -> None:
    """Monday 2023-07-03 ends at 13:00; daily closes as a symbol and as a file agree."""
    days = sessions_between(np.datetime64("2023-01-03"), np.datetime64("2023-07-10"))
    closes = 100.0 + np.arange(len(days)) % 7
    (tmp_path / "bars").mkdir()
    path = tmp_path / "bars" / "AAA.csv"
    prices = {name: closes for name in ("open", "high", "low", "close")}
    pd.DataFrame({"date": days, **prices, "volume": 1e6}).to_csv(path, index=False)
    words = (f"data.dir={path.parent}", "start=2023-06-26", "end=2023-07-10", "forecaster=ewma")
    results = run_backtest(settings_of(*words, "trials=null"))
    at = results.market.run_bars.times
    curves = [
        read_benchmark(replace(results.settings, benchmark=name), results.market)
        for name in ("AAA", str(path))
    ]
    by_symbol, by_file = (each.relative_values_at(at)[1:] for each in curves if each is not None)
    np.testing.assert_allclose(by_file / by_file[0], by_symbol / by_symbol[0])


def refusal_after_coverage(folder: Path, *words: str) -> str:
    """The line with which a backtest ends after it has printed the coverage of its bars."""
    code, _, error = answer_of("marketsimulator.backtest", *words, "trials=null", cwd=folder)
    assert code == 2
    [line] = error.splitlines()
    return line


@pytest.mark.first_example
@pytest.mark.parametrize("missing", [slice(-3, None), slice(-9, -6), slice(0, -6)])
@pytest.mark.parametrize("name", ["BBB", "bars/BBB.csv"])
def test_benchmark_without_a_session_is_refused(tmp_path: Path, name: str, missing: slice) -> None:
    """A benchmark ends early, has a hole, or starts late, as a symbol and as a file."""
    data = write_bars(tmp_path / "bars", {"AAA": 0.9, "BBB": 0.9}, sessions=10)
    table = pd.read_csv(data / "BBB.csv", parse_dates=["timestamp"])
    days = table["timestamp"].dt.date
    absent = days.unique()[missing]
    table[~days.isin(absent)].to_csv(data / "BBB.csv", index=False)
    first = max(absent[0], days.unique()[-12])
    words = (f"data.dir={data}", "symbols=[AAA]", "timeframe=1h", "forecaster=none")
    period = f"start={days.unique()[-12]}"
    check_message(
        refusal_after_coverage(tmp_path, *words, period, f"benchmark={name}"), "BBB", str(first)
    )


def test_split_in_a_benchmark_file_is_refused(tmp_path: Path) -> None:
    """The prices of the file halve between two sessions, and stay there."""
    data = write_bars(tmp_path / "bars", {"AAA": 0.9}, sessions=10)
    table = pd.read_csv(data / "AAA.csv")
    table.loc[table["timestamp"] >= "2024-10-09", ["open", "high", "low", "close"]] /= 2
    table.to_csv(tmp_path / "index.csv", index=False)
    words = (f"data.dir={data}", "symbols=[AAA]", "forecaster=none", "benchmark=index.csv")
    check_message(
        refusal_after_coverage(tmp_path, *words), "benchmark", "index.csv", "2024-10-09", "2:1"
    )


@pytest.mark.parametrize("hourly", [True, False])
def test_untraded_benchmark_may_have_hourly_or_daily_bars(tmp_path: Path, hourly: bool) -> None:
    """AAA is traded; BBB has hourly or daily bars in the same folder."""
    data = write_bars(tmp_path / "bars", {"AAA": 0.9, "BBB": 0.8}, sessions=10)
    other = data / "BBB.csv"
    table = pd.read_csv(other, parse_dates=["timestamp"])
    if not hourly:
        days = table.groupby(table["timestamp"].dt.date)
        daily = days.agg(
            open=("open", "first"),
            high=("high", "max"),
            low=("low", "min"),
            close=("close", "last"),
            volume=("volume", "sum"),
        )
        daily.rename_axis("date").to_csv(other)
    words = (f"data.dir={data}", "symbols=[AAA]", "timeframe=1h", "data.accept_jumps=true")
    settings = settings_of(*words, "forecaster=ewma", "trials=null", "benchmark=BBB")
    found = read_benchmark(settings, settings.load_market())
    assert found is not None
    assert len(found.instants) == (len(table) if hourly else table["timestamp"].dt.date.nunique())
    assert found.values[-1] == table["close"].iloc[-1]
