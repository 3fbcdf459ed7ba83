"""Track records: column and unit of a file, figures, benchmark, deflated Sharpe ratio."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from foundation.errors import InputError
from marketsimulator import TrackRecord
from marketsimulator.results.metrics import measure_daily_performance
from marketsimulator.results.returns_file import read_returns
from marketsimulator.results.significance import expected_maximum_sharpe, probabilistic_sharpe
from tests.e2e.refused import answer_of, refusal_of
from tests.support.messages import check_message, refused
from trainingdata.sessions import sessions_between

COMMAND = "marketsimulator.tearsheet"
SESSIONS = sessions_between(np.datetime64("2021-01-04"), np.datetime64("2022-12-30"))


def daily(mean: float = 6e-4, deviation: float = 0.01, seed: int = 1) -> pd.Series:
    values = np.random.default_rng(seed).normal(mean, deviation, len(SESSIONS))
    return pd.Series(values, pd.DatetimeIndex(SESSIONS, name="date"), name="return")


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_track_record_figures_equal_backtest_metrics() -> None:
    returns = daily()
    record = TrackRecord.from_returns(returns)
    growth = np.append(1.0, np.cumprod(1 + returns.to_numpy()))
    found = measure_daily_performance(growth, 252).as_dict()
    assert record.days_per_year == 252
    assert {name: record.figures[name] for name in found} == found
    assert record.stats["Sharpe"] == pytest.approx(
        returns.mean() / returns.std() * np.sqrt(252), rel=1e-12
    )
    low, high = record.intervals["sharpe"]
    assert low < record.stats["Sharpe"] < high


def test_calendar_day_returns_use_365_periods_per_year() -> None:
    index = pd.date_range("2021-01-01", periods=400)
    assert (
        TrackRecord.from_returns(pd.Series(0.001 * (-1) ** np.arange(400), index)).days_per_year
        == 365
    )


def test_sheet_claims_a_positive_ratio_not_skill() -> None:
    evidence = TrackRecord.from_returns(daily()).verdict().evidence
    assert evidence.startswith("Probability of a Sharpe ratio above zero: ")


def test_constant_growth_has_no_sharpe_ratio() -> None:
    """Rounding alone makes the returns of 100 · 1.001^t differ."""
    equity = 100 * 1.001 ** np.arange(len(SESSIONS))
    returns = pd.Series(equity, daily().index).pct_change().dropna()
    assert returns.std() > 0
    record = TrackRecord.from_returns(returns)
    assert record.figures["sharpe"] is None
    assert record.figures["volatility"] == 0


def test_deflated_sharpe_falls_with_more_trials() -> None:
    returns = daily()
    few, many = (TrackRecord.from_returns(returns, trials=trials) for trials in (1, 1000))
    assert few.figures["deflated_sharpe"] == pytest.approx(few.figures["probabilistic_sharpe"])
    # Trials without skill, whose ratios vary as estimates of zero over these days do.
    figures = many.performance
    rho = figures.autocorrelation or 0.0
    best = expected_maximum_sharpe(1000, (1 + rho) / (1 - rho) / (len(returns) - 1))
    expected = probabilistic_sharpe(
        figures.daily_sharpe() or 0.0,
        figures.days,
        skewness=figures.skewness or 0.0,
        excess_kurtosis=figures.excess_kurtosis or 0.0,
        autocorrelation=rho,
        benchmark=best,
    )
    assert many.figures["deflated_sharpe"] == pytest.approx(expected)
    assert many.figures["deflated_sharpe"] < few.figures["deflated_sharpe"]
    assert "Luck is not ruled out" in many.warnings()[0]


def test_best_of_many_random_records_is_not_good() -> None:
    records = [TrackRecord.from_returns(daily(0.0, seed=k), trials=40) for k in range(40)]
    best = max(records, key=lambda record: record.stats["Sharpe"])
    assert best.figures["probabilistic_sharpe"] > 0.95
    assert best.figures["deflated_sharpe"] < 0.95
    assert best.verdict().level != "good"


def test_benchmark_returns_compound_between_the_dates() -> None:
    market = daily(seed=2)
    own = 0.5 * market + daily(0.0, 0.001, seed=3)
    record = TrackRecord.from_returns(own, market.rename("SPY"))
    assert record.stats["Beta"] == pytest.approx(0.5, abs=0.02)
    low, high = record.intervals["beta"]
    assert low < 0.5 < high
    # A record of every second day meets the market's two-day returns.
    sparse = (1 + market).cumprod().iloc[::2].pct_change().iloc[1:]
    half = TrackRecord.from_returns(sparse, market)
    # The day on which the first return starts is unknown.
    pair = half.benchmark
    assert pair is not None
    np.testing.assert_allclose(half.returns.iloc[1:], pair.returns.iloc[1:], rtol=1e-9)


def test_track_record_is_cut_to_the_benchmark_days() -> None:
    record = TrackRecord.from_returns(daily(), daily(seed=2).iloc[100:].rename("SPY"))
    assert record.days == len(SESSIONS) - 100
    assert f"Cut to the {record.days} days that SPY covers." in record.warnings()
    with refused(InputError, "benchmark", "10 days", "20"):
        TrackRecord.from_returns(daily(), daily(seed=2).iloc[-10:])


@pytest.mark.parametrize(
    ("form", "unit"),
    [
        (lambda r: r, "fractions"),
        (lambda r: 100 * r, "percent"),
        (lambda r: r.map(lambda value: f"{value:.12%}"), "percent"),
        (lambda r: (r / 5).rename("return %"), "percent"),
    ],
)
def test_returns_are_recognised_as_percent_or_fractions(
    tmp_path: Path, form: object, unit: str
) -> None:
    returns = form(daily())  # type: ignore[operator]
    returns.to_csv(tmp_path / "fund.csv")
    found = read_returns(tmp_path / "fund.csv")
    expected = daily() / 500 if "%" in returns.name else daily()
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert found.attrs["source"].endswith(f"in {unit}")


def test_track_record_reads_equity_prices_and_parquet(tmp_path: Path) -> None:
    equity = 5e4 * (1 + daily()).cumprod()
    frame = equity.to_frame("Equity").assign(Notes=1)
    frame.to_csv(tmp_path / "account.csv")
    frame.iloc[::-1].to_csv(tmp_path / "newest_first.csv")
    frame.tz_localize("UTC").to_parquet(tmp_path / "account.parquet")
    bars = pd.DataFrame({"open": 1.0, "close": equity, "adj close": 2 * equity, "volume": 9})
    bars.rename_axis("timestamp").tz_localize("America/New_York").to_csv(tmp_path / "SPY.csv")
    equity.rename("0").to_csv(tmp_path / "unnamed.csv")
    hours = pd.concat({hour: equity * (1 + hour / 16 - 1) for hour in (10, 16)}).swaplevel()
    stamps = [date + pd.Timedelta(hours=hour) for date, hour in hours.sort_index().index]
    hourly = pd.DataFrame({"at": stamps, "equity": hours.sort_index().to_numpy()})
    hourly.to_parquet(tmp_path / "hourly.parquet")
    # From 10:00 to 16:00 of the first day, equity grows from 10 to 16.
    assert read_returns(tmp_path / "hourly.parquet").iloc[0] == pytest.approx(0.6)
    for name in (
        "hourly.parquet",
        "account.csv",
        "newest_first.csv",
        "account.parquet",
        "SPY.csv",
        "unnamed.csv",
    ):
        found = read_returns(tmp_path / name)[daily().index[1] :]
        np.testing.assert_allclose(found, daily().iloc[1:], rtol=1e-9, atol=1e-12)
        assert (found.index == daily().index[1:]).all(), name


HEAD = "date,return\n2024-01-02,0.01\n"


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("content", "words", "facts"),
    [
        ("", (), ()),
        ("date,return\n", (), ()),
        (HEAD + "2024-01-03,x\n", (), ("row 2", "return", "'x'")),
        (HEAD + "2024-01-03,\n", (), ("row 2", "return", "''")),
        (HEAD + "03.01.2024,0.1\n", (), ("row 2", "'03.01.2024'")),
        (HEAD + "2024-02-30,0.1\n", (), ("row 2", "'2024-02-30'")),
        (HEAD + "2024-01-02,0.02\n", (), ("2024-01-02", "twice")),
        (HEAD, (), ("2", "1")),
        (HEAD + "2024-01-09,0.02\n2024-01-16,0\n", (), ("7 days", "3")),
        (HEAD + "2099-01-02,0.02\n", (), ("2099-01-02", "calendar")),
        (HEAD + "2024-01-03,0.1%\n", (), ("row 2", "return", "percent")),
        (HEAD + "2024-01-03,-1.1\n", ("unit=fraction",), ("2024-01-03", "-1.1", "-1")),
        (
            HEAD.replace("0.01", "0.05") + "2024-01-03,0.05\n",
            (),
            ("5.0%", "0.05%", "unit=fraction", "unit=percent"),
        ),
        ("day,value\n2024-01-02,10\n2024-01-03,0\n", (), ("2024-01-03", "value", "0")),
        ("when,return\n1,1\n", (), ("when", "return", "date")),
        ("date,a,b\n2024-01-02,1,2\n", (), ("column=NAME", "a", "b")),
        ("date,return,returns\n2024-01-02,1,2\n", (), ("column=NAME", "return", "returns")),
        ("date;return\n2024-01-02;1\n", (), ("semicolons",)),
        ("date,return,Return\n2024-01-02,1,2\n", (), ("'return'", "twice")),
        (HEAD, ("column=pnl",), ("column", "'pnl'", "return")),
        (HEAD, ("trials=0",), ("trials", "0", "1")),
        (HEAD + "2024-01-03,0\n", ("benchmark=nowhere.csv",), ("nowhere.csv",)),
        (HEAD, ("more.csv",), ("more.csv",)),
    ],
)
def test_unreadable_returns_give_a_one_line_error(
    tmp_path: Path, content: str, words: tuple[str, ...], facts: tuple[str, ...]
) -> None:
    written(tmp_path / "fund.csv", content)
    check_message(refusal_of(COMMAND, "fund.csv", *words, cwd=tmp_path), *facts)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fund.csv"]


def test_tearsheet_prints_and_writes_the_verdict(tmp_path: Path) -> None:
    daily().to_csv(tmp_path / "fund.csv")
    prices = (1 + daily(seed=2)).cumprod().rename("close")
    prices.to_csv(tmp_path / "SPY.csv")
    words = ("fund.csv", "benchmark=SPY.csv", "trials=20", "output=sheet")
    code, printed, _ = answer_of(COMMAND, *words, cwd=tmp_path)
    assert code == 0
    found = json.loads((tmp_path / "sheet" / "tearsheet.json").read_text())
    # The first return of the record precedes the benchmark's, which begins with a price.
    assert found["days"] == len(SESSIONS) - 1
    assert found["verdict"].startswith(printed.splitlines()[0])
    assert found["trials"] == 20
    assert found["benchmark"]["name"] == "SPY"
    for label in ("CAGR", "Sharpe", "Beta", "Outperformance", "deflated Sharpe"):
        assert label in printed
    page = (tmp_path / "sheet" / "tearsheet.html").read_text()
    assert len(page) < 500_000
    assert "fund.csv: column return, in fractions" in page
    answer_of(COMMAND, *words, cwd=tmp_path)
    assert json.loads((tmp_path / "sheet" / "tearsheet.json").read_text()) == found


def sheet(folder: Path, *words: str) -> dict[str, Any]:
    """The figures that the command writes."""
    code, _, error = answer_of(COMMAND, *words, "output=sheet", "overwrite=true", cwd=folder)
    assert (code, error) == (0, "")
    figures: dict[str, Any] = json.loads((folder / "sheet" / "tearsheet.json").read_text())
    return figures


def test_first_day_counts_from_the_runs_capital(tmp_path: Path) -> None:
    """A run with 100,000 USD loses 10 % before the last row of its first day."""
    summary = {
        "total_return": -0.19,
        "costs": 0.0,
        "trades": 1,
        "periods_per_year": 252,
        "max_leverage": 0.6,
        "forecaster": "none",
        "data": "by hand",
        "symbols": ["A"],
        "trials": None,
        "trial_sharpe_variance": None,
    }
    written(tmp_path / "summary.json", json.dumps(summary))
    hours = ("2024-02-09T15:30", "2024-02-09T21:00", "2024-02-12T21:00", "2024-02-13T21:00")
    rows = {"at": pd.to_datetime(hours, utc=True), "equity": [99e3, 90e3, 90e3, 81e3]}
    pd.DataFrame(rows).to_parquet(tmp_path / "equity.parquet")
    found = sheet(tmp_path, "equity.parquet")
    assert (found["start"], found["days"]) == ("2024-02-09", 3)
    assert found["total_return"] == pytest.approx(-0.19)
    assert found["max_drawdown"] == pytest.approx(-0.19)
    # The same file without its run starts at its first row.
    (tmp_path / "alone").mkdir()
    (tmp_path / "equity.parquet").rename(tmp_path / "alone" / "equity.parquet")
    alone = sheet(tmp_path, "alone/equity.parquet")
    assert alone["total_return"] == pytest.approx(81 / 99 - 1)
    assert "as equity from 99,000 on 2024-02-09" in (tmp_path / "sheet/tearsheet.html").read_text()


def stamped(path: Path, stamps: list[str]) -> Path:
    return written(
        path,
        "\n".join(["time,return", *map(",".join, zip(stamps, map(repr, daily()), strict=True))]),
    )


def test_stamps_on_the_day_beside_sessions_are_refused(tmp_path: Path) -> None:
    for days, words in ((1, ("2021-01-09", "after", "back")), (-1, ("2021-01-03", "before"))):
        dates = SESSIONS + np.timedelta64(days, "D")
        stamped(tmp_path / "fund.csv", [f"{date}T00:00:00Z" for date in dates])
        check_message(refusal_of(COMMAND, "fund.csv", cwd=tmp_path), *words)


def test_evening_stamps_in_utc_are_new_york_dates(tmp_path: Path) -> None:
    evenings = pd.DatetimeIndex(SESSIONS + np.timedelta64(20, "h"))
    at = evenings.tz_localize("America/New_York")
    stamped(tmp_path / "fund.csv", at.tz_convert("UTC").astype(str).tolist())
    found = sheet(tmp_path, "fund.csv")
    assert (found["start"], found["end"]) == (str(SESSIONS[0]), str(SESSIONS[-1]))
    assert found["sharpe"] == pytest.approx(TrackRecord.from_returns(daily()).figures["sharpe"])
    evening = pd.Series(daily().to_numpy(), at)
    assert TrackRecord.from_returns(evening).days_per_year == 252


def test_sparse_returns_are_annualised_by_dates(tmp_path: Path) -> None:
    """Returns of Mondays, Wednesdays and Fridays over two years."""
    sparse = daily()[np.is_busday(SESSIONS, weekmask="1010100")]
    sparse.to_csv(tmp_path / "fund.csv")
    found = sheet(tmp_path, "fund.csv")
    assert found["annual_return"] == pytest.approx(
        (1 + found["total_return"]) ** (1 / 2) - 1, abs=5e-4
    )
    assert found["volatility"] == pytest.approx(sparse.std() * np.sqrt(len(sparse) / 2), rel=5e-3)


@pytest.mark.first_example
@pytest.mark.parametrize("form", ["returns", "prices"])
@pytest.mark.parametrize("days", ["all", "hole", "scattered", "early"])
def test_record_equals_itself_as_incomplete_benchmark(tmp_path: Path, form: str, days: str) -> None:
    """The benchmark has the returns or the prices of the record, without some sessions."""
    returns = daily()
    returns.to_csv(tmp_path / "fund.csv")
    there = np.ones(len(returns), dtype=bool)
    there[
        {"all": [], "hole": range(200, 260), "early": range(300, 503)}.get(days, range(7, 487, 8))
    ] = False
    other = 80 * (1 + returns).cumprod().rename("close") if form == "prices" else returns
    other[there].to_csv(tmp_path / "bench.csv")
    found = sheet(tmp_path, "fund.csv", "benchmark=bench.csv")
    # The first price has no return.
    assert found["days"] == there.sum() - (form == "prices")
    assert found["beta"] == pytest.approx(1)
    assert found["tracking_error"] == pytest.approx(0, abs=1e-12)
    assert found["benchmark"]["total_return"] == pytest.approx(found["total_return"])
    if form == "prices":
        assert found["total_return"] == pytest.approx(other[there].iloc[-1] / other.iloc[0] - 1)


def test_empty_first_return_marks_the_base_date(tmp_path: Path) -> None:
    """`pct_change` leaves the first cell empty; quantstats #546 counts it as a day of 0."""
    closes = 80 * (1 + daily()).cumprod()
    closes.pct_change().to_csv(tmp_path / "fund.csv")
    found = read_returns(tmp_path / "fund.csv")
    np.testing.assert_allclose(found, daily().iloc[1:], rtol=1e-9, atol=1e-12)
    assert (found.index == daily().index[1:]).all()


@pytest.mark.parametrize("heading", ["log_return", "Cumulative Return", "pnl"])
def test_headings_of_other_quantities_are_refused(tmp_path: Path, heading: str) -> None:
    daily().rename(heading).to_csv(tmp_path / "fund.csv")
    check_message(refusal_of(COMMAND, "fund.csv", cwd=tmp_path), "fund.csv", heading.casefold())


def test_loss_beyond_equity_never_means_percent(tmp_path: Path) -> None:
    returns = daily()
    returns.iloc[60] = -1.2
    returns.to_csv(tmp_path / "fund.csv")
    check_message(refusal_of(COMMAND, "fund.csv", cwd=tmp_path), "2021-03-31", "-1.2")


def test_prices_in_place_of_returns_are_refused() -> None:
    closes = 80 * (1 + daily()).cumprod()
    with refused(InputError, "return", "0.3"):
        TrackRecord.from_returns(daily(), closes)


def test_unadjusted_split_in_prices_is_refused(tmp_path: Path) -> None:
    daily().to_csv(tmp_path / "fund.csv")
    prices = (1 + daily(seed=2)).cumprod().rename("close")
    prices.iloc[250:] /= 2
    prices.to_csv(tmp_path / "bench.csv")
    split = str(prices.index[250].date())
    for words in (("bench.csv",), ("fund.csv", "benchmark=bench.csv")):
        check_message(refusal_of(COMMAND, *words, cwd=tmp_path), "bench.csv", split, "2:1")


def test_short_record_has_no_annual_figures(tmp_path: Path) -> None:
    rows = "".join(f"2024-01-{day:02},{0.01 * (-1) ** day}\n" for day in (2, 3, 4, 5, 8, 9))
    written(tmp_path / "fund.csv", f"date,return\n{rows}")
    code, printed, _ = answer_of(COMMAND, "fund.csv", cwd=tmp_path)
    assert code == 0
    assert "Small sample of 6 days" in printed
    assert "(short)" in printed
