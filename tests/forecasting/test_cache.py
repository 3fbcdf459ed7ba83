"""Computed once, ever: what is kept is found, whatever is killed, damaged or done twice at once."""

# Private access: no forecast shows which windows share a forward pass.
from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from forecasting.batch import ForecastBatch, write_batch
from forecasting.chronos2 import engine as engines
from forecasting.chronos2.cached_forecaster import (
    CachedForecaster,
    Prediction,
    _portions,
    predict_locally,
)
from forecasting.chronos2.checkpoint import BUNDLED_CHECKPOINT
from forecasting.chronos2.engine import Engine
from forecasting.chronos2.forecaster import Chronos2Forecaster
from forecasting.chronos2.profile import InferenceProfile
from forecasting.forecast import HORIZON, LEVELS, no_progress
from forecasting.forecast_cache import CachePartition
from forecasting.moments import log_return_moments
from forecasting.windows import WindowKeys, Windows
from foundation.arrays import Array32, Index, Instants
from foundation.errors import InputError
from tests.forecasting.kept import answered, content, files
from tests.support.commands import Started, run_command
from tests.support.messages import refused
from trainingdata.bars import Bars


def counting(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Windows the network is asked for, call by call."""
    asked: list[int] = []
    real = Engine.forecast_quantiles

    def quantiles(
        self: Engine, windows: Windows, portions: Sequence[Index], *rest: Any, **how: Any
    ) -> Iterator[Array32]:
        asked.append(sum(map(len, portions)))
        return real(self, windows, portions, *rest, **how)

    monkeypatch.setattr(Engine, "forecast_quantiles", quantiles)
    return asked


def test_cached_forecast_is_not_computed_again(
    tmp_path: Path, market: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    since = market.times[-120]
    direct = Chronos2Forecaster().forecast(market, since).all_quantiles
    asked = counting(monkeypatch)
    first = CachedForecaster(Chronos2Forecaster(), tmp_path).forecast(market, since)
    assert sum(asked) == len(first.windows)
    asked.clear()
    again = CachedForecaster(Chronos2Forecaster(), tmp_path).forecast(market, since)
    np.testing.assert_array_equal(again.all_quantiles, first.all_quantiles)
    np.testing.assert_allclose(
        again.all_quantiles, direct, rtol=2e-7
    )  # the last bit of a float32 price: other batch-mates
    part = CachedForecaster(Chronos2Forecaster(), tmp_path).forecast(
        market.slice_rows(0, len(market.times) - 50), since
    )
    assert asked == []
    rows = np.flatnonzero(np.isin(first.windows.issued_at, part.windows.issued_at))
    assert len(part.windows) == len(rows)


def test_monthly_window_groups_are_complete_and_ordered(market: Bars) -> None:
    windows = Windows.from_bars(market, market.times[0], 100)
    months = windows.group_by_month()
    issued = [np.unique(windows.issued_at[rows].astype("datetime64[M]")) for rows in months]
    assert all(len(each) == 1 for each in issued)
    assert (np.diff(np.concatenate(issued)) > np.timedelta64(0, "M")).all()
    assert all((np.diff(rows) > 0).all() for rows in months)
    np.testing.assert_array_equal(np.sort(np.concatenate(months)), np.arange(len(windows)))
    assert windows.select(np.empty(0, dtype=np.int64)).group_by_month() == []


def test_forecasts_written_monthly_equal_those_written_at_once(
    tmp_path: Path, market: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = CachedForecaster(Chronos2Forecaster(), tmp_path / "cache")
    since = market.times[-240]
    asked = counting(monkeypatch)
    windows, tables = cached.forecast_by_month(market, since)
    assert sum(asked) == len(windows), "computed before the first is asked for"
    whole = cached.forecast(market, since)
    months = list(tables)
    assert len(months) > 1
    assert sum(asked) == len(windows), "and once"
    assert sum(len(each.windows) for each in months) == len(windows)
    span = (market, cached.name, since, market.last_instant)
    write_batch(ForecastBatch(*span, windows, months), tmp_path / "by_month.parquet")
    write_batch(ForecastBatch(*span, whole.windows, [whole]), tmp_path / "at_once.parquet")
    files = [tmp_path / "by_month.parquet", tmp_path / "at_once.parquet"]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_new_hourly_bar_adds_one_small_cache_file(
    tmp_path: Path, market: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    since = market.times[-100]
    CachedForecaster(Chronos2Forecaster(), tmp_path).forecast(
        market.slice_rows(0, len(market.times) - 1), since
    )
    before = content(tmp_path)
    asked = counting(monkeypatch)
    CachedForecaster(Chronos2Forecaster(), tmp_path).forecast(market, since)
    new = set(content(tmp_path)) - set(before)
    assert len(new) == 1
    assert asked == [int(market.mask[:, -1].sum())]
    assert sum(map(len, content(tmp_path)[new.pop()])) < 40_000


def test_every_forecast_setting_selects_a_separate_cache_partition(tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(BUNDLED_CHECKPOINT, other)
    text = (other / "config.json").read_text()
    (other / "config.json").write_text(text.replace('"dropout_rate": 0.0', '"dropout_rate": 0.1'))

    def specification(**changes: Any) -> str:
        profile = InferenceProfile(**changes)
        return json.dumps(Chronos2Forecaster(profile).build_specification(profile))

    given_each = ({}, {"model": str(other)}, {"dtype": "bf16"}, {"context_length": 64})
    found = [specification(**changes) for changes in given_each]
    found.append(specification(augmentation="log"))
    assert len(set(found)) == len(found) == 5


@given(
    seed=st.integers(0, 2**16),
    length=st.integers(3, 40),
    place=st.integers(0, 39),
    sign=st.booleans(),
)
def test_cache_key_depends_on_closing_prices_only(
    seed: int, length: int, place: int, sign: bool
) -> None:
    rng = np.random.default_rng(seed)
    closes = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, 120)))
    times = np.datetime64("2024-01-01", "ns") + np.arange(120) * np.timedelta64(1, "h")

    def keys(values: np.ndarray, first: int) -> np.ndarray:
        rows = np.arange(max(first, length - 1), len(values))
        return Windows(
            (values,), np.array([length]), np.zeros_like(rows), rows, times[rows]
        ).content_keys()

    whole = keys(closes, 0)
    np.testing.assert_array_equal(keys(closes, 60), whole[-60:])
    altered = closes.copy()
    altered[60 + place] = np.nextafter(altered[60 + place], np.inf if sign else 0)
    differ = np.flatnonzero(keys(altered, 0) != whole) + length - 1
    np.testing.assert_array_equal(differ, np.arange(60 + place, min(60 + place + length, 120)))
    assert len(np.unique(whole)) == len(whole)


BATCH = [
    "-m",
    "forecasting.batch",
    "symbols=[SYA,SYXUSD]",
    "start=2024-02-20",
    "end=2024-03-08",
    "forecaster.calibrated=false",
]


def batch(folder: Path, output: Path | None = None) -> list[str]:
    return [*BATCH, f"forecaster.cache={folder}", *([f"output={output}"] if output else [])]


def test_resuming_a_partly_computed_forecast_changes_no_forecast(
    market: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads split a matrix, so the position of a window in a batch can change its last
    bit.
    """
    forecaster = Chronos2Forecaster(InferenceProfile(device="cpu"))
    monkeypatch.setattr("forecasting.chronos2.cached_forecaster.MAX_PORTION_FORECASTS", 100)
    windows = forecaster.build_windows(market, market.times[-80])
    portions = list(_portions(windows, np.arange(len(windows))))
    assert len(portions) == 2
    said: list[tuple[int, int]] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(2)

    def made(of: Sequence[Index]) -> list[Prediction]:
        said.clear()
        noted = lambda _, *counts: said.append(counts)  # noqa: E731
        return list(predict_locally(forecaster, windows, of, forecaster.profile, noted))

    (empty, *rest), whole = made(portions[1:]), made(portions)[1:]
    torch.set_num_threads(threads)
    assert said[-1] == (len(windows), len(windows))
    assert [len(each.quantiles) for each in whole] == [len(rows) for rows in portions]
    assert len(empty.window_indices) == 0
    assert all(each.specification == empty.specification for each in rest)
    for one, other in zip(rest, whole[1:], strict=True):
        np.testing.assert_array_equal(one.quantiles, other.quantiles)


@pytest.mark.slow
def test_killed_batch_rerun_produces_identical_bytes(tmp_path: Path) -> None:
    """The process gets kill -9 while it writes files; its files are complete, and the next run adds
    the rest.
    """
    whole = tmp_path / "whole"
    killed = tmp_path / "killed"
    run_command(batch(whole, tmp_path / "a.parquet"), cwd=tmp_path).check_returncode()
    for wanted in (1, 2):
        process = Started(batch(killed, tmp_path / "b.parquet"), cwd=tmp_path)
        deadline = time.monotonic() + 120
        while process.running and len(content(killed)) < wanted and time.monotonic() < deadline:
            time.sleep(0.002)
        process.kill()
    run_command(batch(killed, tmp_path / "b.parquet"), cwd=tmp_path).check_returncode()
    assert content(killed) == content(whole)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
def test_two_processes_share_the_cache_safely(tmp_path: Path) -> None:
    both = [
        Started(batch(tmp_path / "shared", tmp_path / f"{k}.parquet"), cwd=tmp_path) for k in (1, 2)
    ]
    assert [process.wait().returncode for process in both] == [0, 0]
    assert (tmp_path / "1.parquet").read_bytes() == (tmp_path / "2.parquet").read_bytes()
    assert content(tmp_path / "shared")


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory, market: Bars) -> Path:
    """A cache with portions of two months, the later one in two."""
    folder = tmp_path_factory.mktemp("computed")
    for end in (len(market.times) - 60, len(market.times)):
        CachedForecaster(Chronos2Forecaster(), folder).forecast(
            market.slice_rows(0, end), market.times[-240]
        )
    return folder


@pytest.fixture
def kept(computed: Path, tmp_path: Path) -> Path:
    """Such a cache of one's own."""
    return Path(shutil.copytree(computed, tmp_path / "kept"))


@pytest.mark.first_example
@pytest.mark.parametrize("what", ["cut", "garbage", "empty"])
def test_damaged_cache_file_is_recomputed(
    what: str, kept: Path, market: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = (
        CachedForecaster(Chronos2Forecaster(), kept)
        .forecast(market, market.times[-240])
        .all_quantiles
    )
    [path] = files(kept)
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "garbage": b"x" * 9999}.get(what, b""))
    asked = counting(monkeypatch)
    for computed in (True, False):
        table = CachedForecaster(Chronos2Forecaster(), kept).forecast(market, market.times[-240])
        np.testing.assert_allclose(table.all_quantiles, first, rtol=2e-7)
        assert (sum(asked) > 0) is computed
        asked.clear()


@pytest.mark.first_example
@pytest.mark.parametrize("what", ["issues", "moments", "quantiles", "gone"])
def test_cache_damaged_during_a_run_is_recomputed(
    what: str, kept: Path, market: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    since = market.times[-240]
    first = CachedForecaster(Chronos2Forecaster(), kept).forecast(market, since)
    moments = CachedForecaster(Chronos2Forecaster(), kept).forecast_moments(
        market, since, no_progress
    )
    [path] = files(kept)
    before = content(kept)
    largest = "number = (SELECT number FROM portions ORDER BY length(issues) DESC LIMIT 1)"
    if what == "gone":
        answered(path, f"DELETE FROM portions WHERE {largest}")
    else:
        query = f"SELECT number, {what} FROM portions WHERE {largest}"
        [(number, blob)] = answered(path, query)
        spoilt = bytearray(blob)
        spoilt[len(spoilt) // 3] ^= 0x55
        change = f"UPDATE portions SET {what} = ? WHERE number = ?"
        answered(path, change, bytes(spoilt), number)
    asked = counting(monkeypatch)
    again = CachedForecaster(Chronos2Forecaster(), kept)
    found = again.forecast_moments(market, since, no_progress)
    np.testing.assert_allclose(found.median, moments.median, atol=3e-7)
    np.testing.assert_allclose(found.log_variance, moments.log_variance, atol=1e-4)
    np.testing.assert_allclose(
        again.forecast(market, since).all_quantiles, first.all_quantiles, rtol=2e-7
    )
    assert 0 < sum(asked) <= len(first.windows), "once"
    assert content(kept).keys() == before.keys(), "it is kept again"


def unwritable(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """From now on no folder can be made, and no file grows, or what is kept can be read alone."""
    connect = sqlite3.connect

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    def connected(path: Path, **options: Any) -> sqlite3.Connection:
        if number != errno.ENOSPC:
            return connect(f"file:{path}?mode=ro", uri=True, **options)
        file = connect(path, **options)
        [[pages]] = file.execute("PRAGMA page_count")
        file.execute(f"PRAGMA max_page_count = {max(pages, 1)}")
        return file

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(sqlite3, "connect", connected)


@pytest.mark.first_example
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_unwritable_cache_keeps_forecasts_for_the_run(
    number: int,
    kept: Path,
    market: Bars,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    direct = Chronos2Forecaster().forecast(market, market.times[-264])
    before = content(kept)
    unwritable(monkeypatch, number)
    table = CachedForecaster(Chronos2Forecaster(), kept).forecast(market, market.times[-264])
    np.testing.assert_allclose(table.all_quantiles, direct.all_quantiles, rtol=2e-7)
    why = "database or disk is full" if number == errno.ENOSPC else "readonly database"
    assert caplog.text.count(f"{why}; forecasts are kept in memory") == 1
    assert content(kept) == before
    moments = CachedForecaster(Chronos2Forecaster(), kept).forecast_moments(
        market, market.times[-264], no_progress
    )
    expected = log_return_moments(direct.all_quantiles, table.windows.price)
    np.testing.assert_allclose(moments.median, expected[0], atol=3e-7)
    np.testing.assert_allclose(moments.log_variance, expected[1], atol=1e-4)
    _, months = CachedForecaster(Chronos2Forecaster(), kept).forecast_by_month(
        market, market.times[-264]
    )
    assert "cannot be written" in caplog.text
    assert caplog.text.count("forecasts are computed again later") == 1
    last = list(months)[-1]
    expected_last = direct.all_quantiles[np.isin(direct.windows.issued_at, last.windows.issued_at)]
    np.testing.assert_allclose(last.all_quantiles, expected_last, rtol=2e-7)


def test_empty_unwritable_cache_is_refused_before_any_work(
    tmp_path: Path, market: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = counting(monkeypatch)
    unwritable(monkeypatch, errno.EACCES)
    with refused(InputError, "forecaster.cache"):
        CachedForecaster(Chronos2Forecaster(), tmp_path).forecast(market, market.times[-3])
    assert asked == []


def put(partition: CachePartition, stamps: Instants, keys: WindowKeys, values: Array32) -> None:
    moments = np.zeros((len(keys), 2, HORIZON), dtype=np.float32)
    partition.add_portion(stamps, keys, moments, values)


def test_forecasts_of_other_weights_are_not_served(tmp_path: Path) -> None:
    stamps = np.datetime64("2024-01-01", "ns") + np.arange(4) * np.timedelta64(1, "h")
    keys = np.arange(4, dtype=np.uint64)
    values = np.ones((4, HORIZON, len(LEVELS)), dtype=np.float32)
    here, there = (
        CachePartition.for_specification(tmp_path, {"weights": weights}) for weights in "ab"
    )
    put(here, stamps, keys, values)
    put(here, stamps, keys, values)
    shutil.copy(here.folder / "2024.sqlite", there.folder)
    assert not there.locate(stamps, keys)[0].any()
    put(there, stamps, keys, 2 * values)
    assert len(content(here.folder)) == 1
    assert here.locate(stamps, keys)[0].all()
    number = int(there.locate(stamps, keys)[0][0])
    np.testing.assert_array_equal(there.read_portion(stamps, number, "quantiles"), 2 * values)


@pytest.mark.slow
def test_cached_forecasts_are_read_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from forecasting.settings import ForecasterSettings; from trainingdata.source"
        " import DataSettings;"
        "bars = DataSettings(start='2024-01-02', end='2024-03-08').load_panel(['SYA'], None, None);"
        "ForecasterSettings(cache='kept').build(bars.symbols).forecast(bars,"
        " bars.times[-30]).all_quantiles;"
        "print('torch' in sys.modules)"
    )
    line = [sys.executable, "-W", "ignore", "-c", code]
    said = [
        subprocess.run(
            line, cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout.strip()
        for _ in range(2)
    ]
    assert said == ["True", "False"]


def test_bf16_cache_partition_depends_on_batch_and_compilation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def specification(dtype: str, batch_size: int | None = None, **settings: object) -> object:
        profile = InferenceProfile(dtype=dtype, **settings)  # type: ignore[arg-type]
        return Chronos2Forecaster(profile, batch_size).build_specification(profile)

    monkeypatch.setattr(engines, "resolve_device", lambda device: "cuda")
    monkeypatch.setattr(engines, "default_batch_size", lambda *arguments: 64)
    assert specification("fp32") == specification("fp32", 7) == specification("fp32", compile=True)
    compiled = "cuda, compiled by layer, 64 windows a pass"
    assert specification("bf16")["computed"] == compiled  # type: ignore[index]
    different = [
        specification("bf16"),
        specification("bf16", 7),
        specification("bf16", compile=False),
    ]
    assert len({json.dumps(s) for s in different}) == 3
    assert specification("bf16") == specification("bf16", compile="auto")


@given(seed=st.integers(0, 2**16), count=st.integers(1, 4))
def test_cache_lookup_requires_matching_key_and_instant(seed: int, count: int) -> None:
    """Forecasts are found in files of different lengths; one that shares only its key or only its
    instant is not found.
    """
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        partition = CachePartition.for_specification(Path(folder), {"a": 1})
        counts = rng.integers(1, 6, count)
        total = int(counts.sum())
        keys = rng.permutation(2 * np.arange(total, dtype=np.uint64))
        stamps = np.datetime64("2024-01-01", "ns") + rng.integers(0, 600, total) * np.timedelta64(
            1, "h"
        )
        values = np.broadcast_to(
            np.arange(total, dtype=np.float32)[:, None, None], (total, HORIZON, len(LEVELS))
        )
        for part in np.split(np.arange(total), np.cumsum(counts)[:-1]):
            put(partition, stamps[part], keys[part], values[part])
        order = rng.permutation(total)
        portion, row = partition.locate(stamps[order], keys[order])
        read = [
            partition.read_portion(stamps, int(p), "quantiles")[r, 0, 0]
            for p, r in zip(portion, row, strict=True)
        ]
        np.testing.assert_array_equal(read, order)
        hour = np.timedelta64(1, "h")
        for others in ((stamps, keys + np.uint64(1)), (stamps + hour, keys)):
            assert not partition.locate(*others)[0].any()
