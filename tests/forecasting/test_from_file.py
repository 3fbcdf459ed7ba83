"""A file of forecasts answers exactly what it holds, and what is wrong with one is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from forecasting.baseline import RandomWalk
from forecasting.batch import ForecastBatch, is_batch_file, run_batch, write_batch
from forecasting.file_forecaster import FileForecaster
from forecasting.forecast import HORIZON, LEVELS, ForecastTable, has_look_ahead
from forecasting.scores import score_common_forecasts
from forecasting.settings import BatchSettings, ForecasterSettings
from foundation.errors import DataError, InputError
from tests.support.latest import latest
from tests.support.messages import refused
from trainingdata.bars import Bars, build_panel
from trainingdata.source import DataSettings

SYMBOLS = ("SYA", "SYXUSD")
SPAN = {"start": "2024-03-18", "end": "2024-03-18"}
DATA = DataSettings(start="2024-01-02", end="2024-03-29")
WALK = ForecasterSettings(kind="ewma", calibrated=False)


@pytest.fixture(scope="module")
def bars() -> Bars:
    return DATA.load_panel(SYMBOLS, SPAN["start"], SPAN["end"])


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    path = tmp_path_factory.mktemp("batch") / "forecasts.parquet"
    batch = run_batch(BatchSettings(SYMBOLS, **SPAN, data=DATA, forecaster=WALK))
    write_batch(batch, path)
    return pd.read_parquet(path)


def written(rows: pd.DataFrame, path: Path) -> Path:
    """The rows as a file."""
    rows.to_parquet(path)
    return path


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_forecast_file_replays_forecasts_from_any_instant(
    share: float, rows: pd.DataFrame, bars: Bars, tmp_path: Path
) -> None:
    """Forecasts issued before the first instant are in force there."""
    issued = np.unique(rows.issued_at.dt.tz_localize(None).to_numpy("datetime64[ns]"))
    since = issued[int(share * (len(issued) - 1))]
    table = FileForecaster(written(rows, tmp_path / "f.parquet")).forecast(bars, since)
    expected = RandomWalk().forecast(bars, since)
    if share == 0:
        assert len(table.windows) * HORIZON * len(LEVELS) == len(rows)
    for at in bars.times[bars.times >= since]:
        ours, theirs = latest(table, at), latest(expected, at)
        there = ~np.isnat(ours.issued_at)
        assert there.all() or at < np.datetime64("2024-03-18T15:00"), "all from the first bars on"
        assert np.array_equal(ours.issued_at[there], theirs.issued_at[there])
        assert np.allclose(ours.values[there], theirs.values[there], rtol=1e-6)
    assert len(table.source_digest) == 16, "the file's content is part of what was tried"


def test_output_without_parquet_suffix_is_refused_at_once() -> None:
    with refused(InputError, "f.csv"):
        BatchSettings(output="f.csv")


def test_forecast_target_time_skips_missing_bars(tmp_path: Path) -> None:
    """The data lack a day's last bar, which the calendar has."""
    bars = DATA.load_panel(("SYA",), "2024-03-18", "2024-03-20")
    closing = bars.times == np.datetime64("2024-03-19T20:00", "ns")
    mask = bars.mask & ~closing
    holed = build_panel(
        [(bars.instruments[0], bars.times[mask[0]], bars.values[0, mask[0]])], "holed"
    )
    table = RandomWalk().forecast(holed, np.datetime64("2024-03-19T19:00"))
    since = table.windows.issued_at.min()
    batch = ForecastBatch(holed, table.name, since, holed.last_instant, table.windows, [table])
    write_batch(batch, tmp_path / "f.parquet")
    rows = pd.read_parquet(tmp_path / "f.parquet").drop_duplicates(["issued_at", "step"])
    at = rows[rows.issued_at == pd.Timestamp("2024-03-19T19:30Z")]
    times = holed.times[holed.times > np.datetime64("2024-03-19T19:30")]
    own = at.target_at.dt.tz_convert(None).to_numpy()[: len(times)]
    np.testing.assert_array_equal(own, times)
    last = rows[rows.issued_at == rows.issued_at.max()]
    assert last.target_at.iloc[0] == pd.Timestamp("2024-03-21T14:30Z"), "by the calendar"


def test_failed_batch_write_leaves_no_file_behind(tmp_path: Path) -> None:
    (tmp_path / "f.parquet").mkdir()
    batch = run_batch(BatchSettings(SYMBOLS, **SPAN, data=DATA, forecaster=WALK))
    with refused(InputError, "f.parquet"):
        write_batch(batch, tmp_path / "f.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["f.parquet"]


def table_without(bars: Bars, *symbols: str) -> ForecastTable:
    """Forecasts of a random walk; those of some symbols have no values."""
    table = RandomWalk().forecast(bars, np.datetime64("2024-03-18T00:00"))
    values = np.array(table.quantiles[np.arange(len(table.windows))])
    numbers = [bars.symbols.index(symbol) for symbol in symbols]
    values[np.isin(table.windows.symbol_index, numbers)] = np.nan
    return ForecastTable.from_quantiles(table.name, bars, table.windows, values)


def batch_of(bars: Bars, *without: str) -> ForecastBatch:
    table = table_without(bars, *without)
    since = np.datetime64("2024-03-18T12:00")
    return ForecastBatch(bars, table.name, since, bars.last_instant, table.windows, [table])


def test_batch_reports_symbols_without_forecast_values(bars: Bars, tmp_path: Path) -> None:
    batch = batch_of(bars, "SYXUSD")
    counts = write_batch(batch, tmp_path / "f.parquet")
    rows = pd.read_parquet(tmp_path / "f.parquet")
    held = rows[(rows.step == 1) & (rows.symbol == "SYA")]
    assert counts.tolist() == [len(held) // len(LEVELS), 0]
    said = batch.format_missing_values(counts)
    assert said.endswith(" for SYXUSD have no values: the forecaster returned none")
    assert "SYA" not in said


def test_missing_forecast_values_are_explained_by_constant_close(bars: Bars) -> None:
    values = bars.values.copy()
    values[1, :, :4] = 1.0
    batch = batch_of(replace(bars, values=values), "SYXUSD")
    counts = np.array([7, 0])
    assert batch.format_missing_values(counts).endswith(
        "SYXUSD have no values: its close never changes"
    )


def test_batch_without_any_value_writes_no_file(bars: Bars, tmp_path: Path) -> None:
    with refused(InputError):
        write_batch(batch_of(bars, *bars.symbols), tmp_path / "f.parquet")
    assert list(tmp_path.iterdir()) == []


def test_evaluation_without_forecast_values_is_refused(bars: Bars) -> None:
    table = table_without(bars, *bars.symbols)
    first = np.datetime64("2024-03-18T12:00")
    with refused(InputError):
        score_common_forecasts(bars, [table], first, bars.last_instant, (1,))


def test_only_batch_files_are_overwritten(rows: pd.DataFrame, tmp_path: Path) -> None:
    rows[["symbol", "value"]].to_parquet(tmp_path / "mine.parquet")
    (tmp_path / "noise.parquet").write_bytes(b"no archive")
    assert not any(is_batch_file(tmp_path / f"{name}.parquet") for name in ("mine", "noise"))


def test_forecast_file_records_forecaster_name_and_look_ahead(tmp_path: Path) -> None:
    oracle = ForecasterSettings(kind="oracle", calibrated=False)
    path = tmp_path / "mine.parquet"
    write_batch(run_batch(BatchSettings(SYMBOLS, **SPAN, data=DATA, forecaster=oracle)), path)
    assert is_batch_file(path)
    maker = oracle.build(SYMBOLS).name
    name = FileForecaster(path).name
    assert name == f"forecasts of mine.parquet by {maker}"
    assert has_look_ahead(maker)
    assert has_look_ahead(name)
    assert not has_look_ahead(RandomWalk().name)


@pytest.mark.slow
def test_forecast_file_rows_outside_the_run_are_ignored(
    rows: pd.DataFrame, bars: Bars, tmp_path: Path
) -> None:
    other = rows.head(5).assign(symbol="NA")
    later = rows.head(5).assign(issued_at=pd.Timestamp("2030-01-07T15:30Z"))
    path = written(pd.concat([rows.astype({"symbol": str}), other, later]), tmp_path / "f.parquet")
    table = FileForecaster(path).forecast(bars, rows.issued_at.min().to_datetime64())
    assert np.isfinite(table.all_quantiles).all()


@pytest.mark.parametrize(
    ("name", "content"), [("f.xlsx", b"PK"), ("f.csv", b""), ("f.parquet", b"PAR1 not really")]
)
def test_invalid_forecast_file_format_gives_one_line_error(
    bars: Bars, tmp_path: Path, name: str, content: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with refused(InputError, name):
        FileForecaster(path).forecast(bars, bars.times[0])


def test_file_forecaster_is_built_from_settings(
    rows: pd.DataFrame, bars: Bars, tmp_path: Path
) -> None:
    path = written(rows, tmp_path / "f.parquet")
    forecaster = ForecasterSettings(kind="file", path=str(path), calibrated=False).build(SYMBOLS)
    assert forecaster.name == "forecasts of f.parquet"
    with refused(InputError, "forecaster.path"):
        ForecasterSettings(kind="file").build(SYMBOLS)
    with refused(InputError, "forecaster.path"):
        ForecasterSettings(kind="file", path=str(tmp_path / "none")).build(SYMBOLS)


def changed(rows: pd.DataFrame, row: int, **cells: object) -> pd.DataFrame:
    """The rows with some cells of one of them replaced."""
    other = rows.astype({"symbol": str, "value": float})
    if isinstance(cells.get("issued_at"), str):
        other["issued_at"] = other["issued_at"].astype(str)
    for column, value in cells.items():
        other.loc[other.index[row], column] = value
    return other


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (lambda r: r.drop(columns="level"), ()),
        (lambda r: r.assign(value="many"), ("value", "'many'")),
        (lambda r: changed(r, 3, value=-1.0), ("row 4", "value -1.0")),
        (lambda r: changed(r, 3, value=0.0), ("row 4", "value 0.0")),
        (lambda r: changed(r, 3, value=1e30), ("row 4", "value 1e+30")),
        (lambda r: changed(r, 3, step=25), ("row 4", "step 25", "1", "24")),
        (lambda r: changed(r, 3, level=0.33), ("row 4", "level 0.33", "21")),
        (
            lambda r: changed(r, 3, issued_at="2024-03-18 04:00:00"),
            ("row 4", "issued_at", "'2024-03-18 04:00:00'"),
        ),
        (
            lambda r: changed(r, 0, symbol="SYA", issued_at="2024-03-18 14:45:00+00:00"),
            ("row 1", "SYA", "2024-03-18", "14:45:00+00:00"),
        ),
        (lambda r: pd.concat([r, r.tail(1)]), ("level 0.99",)),
        (lambda r: r.drop(index=r.index[7]), ("step", "21")),
        (lambda r: r[r.step != 2], ("24",)),
        (lambda r: changed(r, 5, value=1e-3), ()),
        (lambda r: r.assign(value=r.value * 1.5), ()),
        (lambda r: r.assign(symbol="NVDA"), ("SYA", "SYXUSD")),
    ],
)
def test_forecast_file_error_is_one_line_naming_file(
    rows: pd.DataFrame, bars: Bars, tmp_path: Path, change: object, facts: tuple[str, ...]
) -> None:
    path = written(change(rows), tmp_path / "f.parquet")  # type: ignore[operator]
    with refused(DataError, "f.parquet", *facts):
        FileForecaster(path).forecast(bars, rows.issued_at.min().to_datetime64())
