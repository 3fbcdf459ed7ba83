"""Forecasts of mean and deviation are read as normal quantiles, from a file or a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from forecasting.baseline import RandomWalk
from forecasting.file_forecaster import FileForecaster, interpolate_moments
from forecasting.forecast import HORIZON, LEVELS, MEDIAN_INDEX
from forecasting.moments import volatility_from_quantiles
from foundation.errors import DataError, InputError
from tests.support.messages import refused
from trainingdata.bars import Bars
from trainingdata.source import DataSettings

FIRST = np.datetime64("2024-03-18T14:30", "ns")
HEADINGS = "symbol,issued_at,horizon,mean,deviation\n"


@pytest.fixture(scope="module")
def bars() -> Bars:
    data = DataSettings(start="2024-01-02", end="2024-03-29")
    return data.load_panel(("SYA", "SYXUSD"), "2024-03-18", "2024-03-19")


def lines(*rows: str) -> str:
    return HEADINGS + "".join(f"{row}\n" for row in rows)


ROWS = (
    "SYA,2024-03-18T14:30Z,1,0.001,0.01",
    "SYA,2024-03-18T14:30Z,4,0.004,0.02",
    "SYA,2024-03-18T11:30-04:00,1,-0.002,0.012",
    "SYX/USD,2024-03-18 15:00Z,24,0,0.05",
)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_simple_form_gives_normal_quantiles(bars: Bars, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mine{suffix}"
    path.write_text(lines(*ROWS))
    if suffix == ".parquet":
        pd.read_csv(path).to_parquet(path)
    table = FileForecaster(path).forecast(bars, FIRST)
    assert len(table.windows) == 3
    price = float(table.price[0])
    expected = price * (1 + 0.001 + 0.01 * norm.ppf(LEVELS))
    np.testing.assert_allclose(table.all_quantiles[0, 0], expected, rtol=1e-6)
    coin = table.all_quantiles[2] / table.price[2]
    np.testing.assert_allclose(coin[:, MEDIAN_INDEX], 1, rtol=1e-6)
    widths = volatility_from_quantiles(coin, np.ones(HORIZON), "normal")
    np.testing.assert_allclose(widths, 0.05 * np.sqrt(np.arange(1, 25) / 24), rtol=1e-4)


def test_moments_between_and_beyond_horizons() -> None:
    """Horizons 2 and 4, by hand; beyond them the variance is 0.0012 / 4 a step."""
    mean, deviation = np.full((2, 1, HORIZON), np.nan, dtype=np.float32)
    mean[0, [1, 3]] = 0.02, 0.01
    deviation[0, [1, 3]] = np.sqrt([0.0004, 0.0012])
    means, deviations = interpolate_moments(mean, deviation)
    np.testing.assert_allclose(means[0, :6], [0.01, 0.02, 0.015, 0.01, 0.01, 0.01], rtol=1e-6)
    variances = [0.0002, 0.0004, 0.0008, 0.0012, 0.0015, 0.0018]
    np.testing.assert_allclose(deviations[0, :6] ** 2, variances, rtol=1e-6)
    assert deviations[0, 23] ** 2 == pytest.approx(0.0012 * 6)


def test_folder_equals_its_files_in_one(bars: Bars, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for number, row in enumerate(ROWS):
        (tmp_path / "folder" / f"{9 - number}.csv").write_text(lines(row))
    (tmp_path / "folder" / "seals.jsonl").write_text("not read")
    (tmp_path / "folder" / ".half.csv").write_text("not read")
    (tmp_path / "folder" / "empty.csv").write_text(HEADINGS)
    (tmp_path / "one.csv").write_text(lines(*ROWS))
    one = FileForecaster(tmp_path / "one.csv").forecast(bars, FIRST)
    folder = FileForecaster(tmp_path / "folder")
    many = folder.forecast(bars, FIRST)
    assert np.array_equal(one.all_quantiles, many.all_quantiles)
    assert folder.name == "forecasts of folder"
    assert len(many.source_digest) == 16
    (tmp_path / "folder" / "1.csv").write_text(lines(ROWS[0].replace("0.001", "0.002")))
    with refused(DataError, "9.csv", "row 1", "SYA", "horizon 1"):
        folder.forecast(bars, FIRST)


def test_csv_may_name_its_rows(bars: Bars, tmp_path: Path) -> None:
    plain, named = tmp_path / "plain.csv", tmp_path / "named.csv"
    plain.write_text(lines(*ROWS))
    named.write_text(lines(*(f"r{number},{row}" for number, row in enumerate(ROWS))))
    tables = [FileForecaster(path).forecast(bars, FIRST) for path in (plain, named)]
    assert np.array_equal(tables[0].all_quantiles, tables[1].all_quantiles)
    named.write_text(lines("5,SYA,2024-03-18T14:30Z,1,0.1,0.01", "6,SYA,2024-03-18T15:30Z,25,0,1"))
    with refused(DataError, "named.csv", "row 2", "horizon 25"):
        FileForecaster(named).forecast(bars, FIRST)


def test_folder_may_mix_both_forms(bars: Bars, tmp_path: Path) -> None:
    walk = RandomWalk().forecast(bars, FIRST)
    (symbol,) = np.flatnonzero(walk.windows.issued_at == FIRST)[:1]
    steps, levels = np.meshgrid(np.arange(1, 25), LEVELS, indexing="ij")
    values = walk.all_quantiles[symbol]
    rows = {"step": steps.ravel(), "level": levels.ravel(), "value": values.ravel()}
    frame = pd.DataFrame({"symbol": "SYA", "issued_at": "2024-03-18T14:30Z", **rows})
    frame.to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "b.csv").write_text(lines(ROWS[2]))
    table = FileForecaster(tmp_path).forecast(bars, FIRST)
    np.testing.assert_allclose(table.all_quantiles[0], values, rtol=1e-6)
    (tmp_path / "c.csv").write_text(lines(ROWS[0]))
    with refused(DataError, "c.csv", "SYA", "horizon 1"):
        FileForecaster(tmp_path).forecast(bars, FIRST)


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        ("", ()),
        ("symbol,issued_at,mean\nSYA,2024-03-18T14:30Z,0\n", ("horizon", "deviation")),
        (lines("SYA,2024-03-18T14:30Z,0,0,0.01"), ("row 1", "horizon 0", "24")),
        (lines(ROWS[1], "SYA,2024-03-18T14:30Z,1,0,0"), ("row 2", "deviation 0")),
        (lines("SYA,2024-03-18T14:30Z,1,0.1,1.2"), ("row 1", "0.1", "1.2", "fractions")),
        (lines("SYA,2024-03-18T14:30Z,1,2,0.01"), ("row 1", "mean 2", "fractions")),
        (lines("SYA,2024-03-18T14:30Z,1,,0.01"), ("row 1", "mean")),
        (lines("SYA,2024-03-18T14:30Z,1,x,0.01"), ("row 1", "'x'")),
        (lines("SYA,2024-03-18T14:30,1,0,0.01"), ("row 1", "time zone")),
        (lines("SYA,2024-03-18T14:31Z,1,0,0.01"), ("row 1", "SYA", "2024-03-18T14:31Z")),
    ],
)
def test_simple_form_error_names_file_and_row(
    bars: Bars, tmp_path: Path, content: str, facts: tuple[str, ...]
) -> None:
    (tmp_path / "f.csv").write_text(content)
    with refused(DataError, "f.csv", *facts):
        FileForecaster(tmp_path / "f.csv").forecast(bars, FIRST)


@pytest.mark.parametrize(
    ("row", "facts"),
    [
        ("SYA,2024-03-18T17:30,1,0.1,0.01", ("issued_at", "2024-03-18T17:30", "time zone")),
        ("SYA,2024-03-18T17:30Z,25,0.1,0.01", ("horizon 25",)),
        ("SYA,2024-03-18T17:30Z,1,,0.01", ("mean", "empty")),
        ("SYA,2024-03-18T17:30Z,1,many,0.01", ("mean", "'many'")),
    ],
)
def test_invalid_row_is_named_among_many_files(
    bars: Bars, tmp_path: Path, row: str, facts: tuple[str, ...]
) -> None:
    (tmp_path / "a.csv").write_text(lines(*ROWS[:2]))
    (tmp_path / "b.csv").write_text(lines(ROWS[2], row))
    (tmp_path / "c.csv").write_text(lines(ROWS[3]))
    with refused(DataError, "b.csv", "row 2", *facts):
        FileForecaster(tmp_path).forecast(bars, FIRST)


def test_folder_without_forecasts_is_refused(tmp_path: Path) -> None:
    with refused(InputError, "forecaster.path"):
        FileForecaster(tmp_path)
