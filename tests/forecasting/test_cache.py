"""Computed once, ever: what is kept is found, whatever is killed, damaged or done twice at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from forecasting import cache, cache_file, store
from forecasting.cache import prune, shelf_rows
from forecasting.cache_file import fault, read_values
from forecasting.calibration.kept import folder_of_code
from forecasting.chronos2 import cached
from forecasting.chronos2.cached import CachedForecaster
from forecasting.chronos2.forecaster import Chronos2Forecaster
from forecasting.chronos2.profile import Profile
from forecasting.forecast import HORIZON, LEVELS
from forecasting.moments import log_moments
from forecasting.store import LESSONS, Reader, Shelf
from forecasting.windows import Windows
from foundation.errors import DataError, InputError
from tests.commands import Started, run_command
from trainingdata.bars import CLOSE, Bars


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.parquet"))}


def counting(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Windows the network is asked for, call by call."""
    asked: list[int] = []
    real = Chronos2Forecaster.answer

    def answer(
        self: Chronos2Forecaster, windows: Windows, rows: np.ndarray, *rest: object
    ) -> np.ndarray:
        asked.append(len(rows))
        return real(self, windows, rows, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Chronos2Forecaster, "answer", answer)
    return asked


def test_what_was_forecast_is_read_and_is_the_same(
    tmp_path: Path, market: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    since = market.times[-400]
    direct = Chronos2Forecaster().forecast(market, since).values
    asked = counting(monkeypatch)
    first = CachedForecaster(Chronos2Forecaster(), tmp_path).forecast(market, since)
    assert sum(asked) == len(first.windows)
    asked.clear()
    again = CachedForecaster(Chronos2Forecaster(), tmp_path).forecast(market, since)
    np.testing.assert_array_equal(again.values, first.values)
    np.testing.assert_allclose(
        again.values, direct, rtol=2e-7
    )  # the last bit of a float32 price: other batch-mates
    part = CachedForecaster(Chronos2Forecaster(), tmp_path).forecast(
        market.between(0, len(market.times) - 100), since
    )
    assert asked == []
    rows = np.flatnonzero(np.isin(first.windows.issued_at, part.windows.issued_at))
    assert len(part.windows) == len(rows)


def test_the_progress_of_a_resumed_run_says_how_much_comes_from_the_cache(
    tmp_path: Path, market: Bars
) -> None:
    said: list[tuple[str, int, int]] = []

    def progress(work: str, done: int, total: int) -> None:
        said.append((work, done, total))

    forecaster = CachedForecaster(Chronos2Forecaster(), tmp_path)
    part = len(forecaster.forecast(market, market.times[-30], progress).windows)
    assert said[-1] == ("forecasts", part, part)
    said.clear()
    whole = len(forecaster.forecast(market, market.times[-60], progress).windows)
    work = f"forecasts, {part:,} of {whole:,} from cache, new ones"
    assert said[-1] == (work, whole - part, whole - part)
    said.clear()
    forecaster.forecast(market, market.times[-60], progress)
    assert said == [(f"forecasts, {whole:,} of {whole:,} from cache", whole, whole)]


def test_a_new_hour_adds_one_small_file(
    tmp_path: Path, market: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    since = market.times[-300]
    CachedForecaster(Chronos2Forecaster(), tmp_path).forecast(
        market.between(0, len(market.times) - 1), since
    )
    before = content(tmp_path)
    asked = counting(monkeypatch)
    CachedForecaster(Chronos2Forecaster(), tmp_path).forecast(market, since)
    new = set(content(tmp_path)) - set(before)
    assert len(new) == 1
    assert asked == [int(market.mask[:, -1].sum())]
    assert len(content(tmp_path)[new.pop()]) < 40_000


@pytest.mark.first_example
@pytest.mark.parametrize(
    "change", ["close", "model", "dtype", "context_length", "augmentation", "group"]
)
def test_everything_a_forecast_depends_on_is_part_of_its_address(
    change: str, tmp_path: Path, market: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    from forecasting.chronos2.checkpoint import SHIPPED

    since = market.times[-30]
    CachedForecaster(Chronos2Forecaster(), tmp_path).forecast(market, since)
    asked = counting(monkeypatch)
    other = market
    profile = Profile()
    group = "none"
    if change == "close":
        values = market.values.copy()
        values[0, np.flatnonzero(market.mask[0])[-50], CLOSE] *= 1.0001
        other = Bars(market.instruments, market.times, values, market.mask, "test")
    elif change == "model":
        folder = tmp_path / "other"
        folder.mkdir()
        for file in SHIPPED.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        text = (folder / "config.json").read_text()
        (folder / "config.json").write_text(
            text.replace('"dropout_rate": 0.0', '"dropout_rate": 0.1')
        )
        profile = Profile(model=str(folder))
    elif change == "group":
        group = "instant"
    else:
        given = {"dtype": "bf16", "context_length": 64, "augmentation": "log"}
        profile = Profile(**{change: given[change]})  # type: ignore[arg-type]
    table = CachedForecaster(Chronos2Forecaster(profile, group=group), tmp_path).forecast(
        other, since
    )  # type: ignore[arg-type]
    if change == "close":
        mine = other.real_bars(0)[0][-30:]
        assert 0 < sum(asked) < len(table.windows)
        assert sum(asked) == np.isin(table.windows.issued_at[table.windows.symbol == 0], mine).sum()
    else:
        assert sum(asked) == len(table.windows)


@given(
    seed=st.integers(0, 2**16),
    length=st.integers(3, 40),
    place=st.integers(0, 39),
    sign=st.booleans(),
)
def test_a_key_changes_with_any_close_and_with_nothing_else(
    seed: int, length: int, place: int, sign: bool
) -> None:
    rng = np.random.default_rng(seed)
    closes = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, 120)))
    times = np.datetime64("2024-01-01", "ns") + np.arange(120) * np.timedelta64(1, "h")

    def keys(values: np.ndarray, first: int) -> np.ndarray:
        rows = np.arange(max(first, length - 1), len(values))
        return Windows((values,), np.array([length]), np.zeros_like(rows), rows, times[rows]).keys()

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


@pytest.mark.slow
def test_killed_anywhere_and_run_again_the_bytes_are_the_same(tmp_path: Path) -> None:
    """kill -9 while files are being written; what a run leaves is whole, and the next one
    completes it.
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
        assert not any(fault(p) for p in killed.rglob("*.parquet"))
    run_command(batch(killed, tmp_path / "b.parquet"), cwd=tmp_path).check_returncode()
    assert content(killed) == content(whole)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
def test_two_processes_at_once_do_no_harm(tmp_path: Path) -> None:
    both = [
        Started(batch(tmp_path / "shared", tmp_path / f"{k}.parquet"), cwd=tmp_path) for k in (1, 2)
    ]
    assert [process.wait().returncode for process in both] == [0, 0]
    assert (tmp_path / "1.parquet").read_bytes() == (tmp_path / "2.parquet").read_bytes()
    assert not any(fault(p) for p in (tmp_path / "shared").rglob("*.parquet"))
    assert not list((tmp_path / "shared").rglob("*.part"))


@pytest.fixture
def kept(tmp_path: Path, market: Bars) -> Path:
    """A cache with two months' files, the later month in two."""
    for end in (len(market.times) - 200, len(market.times)):
        CachedForecaster(Chronos2Forecaster(), tmp_path).forecast(
            market.between(0, end), market.times[-700]
        )
    return tmp_path


def test_a_damaged_file_is_never_believed(
    kept: Path, market: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = CachedForecaster(Chronos2Forecaster(), kept).forecast(market, market.times[-700]).values
    path = sorted(kept.rglob("*.parquet"))[0]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    asked = counting(monkeypatch)
    again = CachedForecaster(Chronos2Forecaster(), kept).forecast(market, market.times[-700])
    assert sum(asked) > 0
    np.testing.assert_allclose(again.values, first, rtol=2e-7)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 3] ^= 0xFF
    path.write_bytes(bytes(damaged))
    assert fault(path) == "damaged"
    with pytest.raises(DataError, match=r"damaged: .*prune"):
        read_values(path)


@pytest.mark.first_example
@pytest.mark.parametrize("column", [b"issued_at", b"key", b"values"])
def test_a_file_that_has_lost_the_name_of_a_column_is_damaged(
    column: bytes, kept: Path, market: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    since = market.times[-700]
    first = CachedForecaster(Chronos2Forecaster(), kept).forecast(market, since).values
    path = sorted(kept.rglob("*.parquet"))[0]
    path.write_bytes(path.read_bytes().replace(column, column[:-1] + b"_"))
    assert fault(path) == "damaged"
    asked = counting(monkeypatch)
    again = CachedForecaster(Chronos2Forecaster(), kept).forecast(market, since)
    np.testing.assert_allclose(again.values, first, rtol=2e-7)
    assert sum(asked) > 0
    whole = path.read_bytes()
    path.write_bytes(whole.replace(column, column[:-1] + b"_"))
    assert prune(kept)["damaged"] == 1


def test_the_cache_is_listed_verified_and_pruned(
    kept: Path, market: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = CachedForecaster(Chronos2Forecaster(), kept).forecast(market, market.times[-700]).values
    (row,) = shelf_rows(kept)
    assert row["forecasts"] == len(first)
    assert row["files"] > row["months"] > 1
    sample = sorted(kept.rglob("*.parquet"))[0]
    unfinished = sample.with_name(".x.parquet.1.part")
    unfinished.write_bytes(b"half")
    os.utime(unfinished, (0, 0))
    broken = sample.with_name("0" * 32 + ".parquet")
    broken.write_bytes(b"PAR1")
    done = prune(kept)
    assert done["damaged"] == done["unfinished"] == 1
    assert done["joined"] >= 2
    (row,) = shelf_rows(kept)
    assert row["files"] == row["months"]
    asked = counting(monkeypatch)
    np.testing.assert_array_equal(
        CachedForecaster(Chronos2Forecaster(), kept).forecast(market, market.times[-700]).values,
        first,
    )
    assert asked == []
    assert prune(kept, unused_days=0.0)["shelves"] == 1
    assert list(shelf_rows(kept)) == []


def test_a_file_pruned_under_a_run_is_looked_for_again(
    kept: Path, market: Bars, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    since = market.times[-700]
    first = CachedForecaster(Chronos2Forecaster(), kept).forecast(market, since).values
    table = CachedForecaster(Chronos2Forecaster(), kept).forecast(market, since)
    assert prune(kept)["joined"] >= 2
    asked = counting(monkeypatch)
    np.testing.assert_array_equal(table.values, first)
    assert asked == [], "the joined file has it"
    assert "went away while it was being used" in caplog.text


@pytest.mark.first_example
@pytest.mark.parametrize("whole", ["values", "log_moments"])
def test_one_damaged_value_is_computed_again_and_the_run_goes_on(
    whole: str, kept: Path, market: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    since = market.times[-700]
    prune(kept)
    first = CachedForecaster(Chronos2Forecaster(), kept).forecast(market, since)
    medians, log_variances = first.log_moments(np.arange(len(first.windows)))  # type: ignore[misc]
    path = max(kept.rglob("*.parquet"), key=lambda file: file.stat().st_size)
    spoilt = bytearray(path.read_bytes())
    place = len(spoilt) // 3 if whole == "values" else column_begin(path, "log_moments") + 200
    spoilt[place] ^= 0xFF
    table = CachedForecaster(Chronos2Forecaster(), kept).forecast(market, since)
    path.write_bytes(bytes(spoilt))
    asked = counting(monkeypatch)
    every = np.arange(len(table.windows))
    if whole == "values":
        np.testing.assert_allclose(table.values, first.values, rtol=2e-7)
    again = table.log_moments(every)  # type: ignore[misc]
    np.testing.assert_allclose(again[0], medians, atol=3e-7)
    np.testing.assert_allclose(again[1], log_variances, atol=1e-4)
    assert sum(asked) == cache_file.count(path) < len(every)
    assert fault(path) is None


def column_begin(path: Path, name: str) -> int:
    """Where a column's first page lies in a file."""
    group = parquet.read_metadata(path).row_group(0)
    columns = [group.column(k) for k in range(group.num_columns)]
    (found,) = (c for c in columns if c.path_in_schema.startswith(name))
    return int(found.data_page_offset)


@pytest.fixture
def read_only(kept: Path, market: Bars, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds one file a month, and can be read and not be written."""
    prune(kept)

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    for name in ("touch", "mkdir", "write_bytes", "unlink", "replace"):
        monkeypatch.setattr(Path, name, refuse)
    return kept


def test_a_shelf_that_cannot_be_written_can_be_read_and_is_not_asked_for_much_more(
    read_only: Path, market: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = counting(monkeypatch)
    CachedForecaster(Chronos2Forecaster(), read_only).forecast(market, market.times[-700])
    assert asked == []
    monkeypatch.setattr(cached, "MOST_IN_MEMORY", 10)
    with pytest.raises(InputError, match=r"forecaster.cache: .* cannot be written: Permission"):
        CachedForecaster(Chronos2Forecaster(), read_only).forecast(market, market.times[-1200])
    assert asked == [], "said before the work"


def test_an_empty_cache_that_cannot_be_written_is_refused_before_the_work(
    read_only: Path, market: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = counting(monkeypatch)
    with pytest.raises(InputError, match=r"forecaster.cache: .* cannot be written: Permission"):
        CachedForecaster(Chronos2Forecaster(), read_only / "none").forecast(
            market, market.times[-3]
        )
    assert asked == []


def test_the_day_that_a_read_only_cache_lacks_is_held_in_memory(
    read_only: Path,
    market: Bars,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    direct = Chronos2Forecaster().forecast(market, market.times[-724])
    before = content(read_only)
    table = CachedForecaster(Chronos2Forecaster(), read_only).forecast(market, market.times[-724])
    np.testing.assert_allclose(table.values, direct.values, rtol=2e-7)
    every = np.arange(len(table.windows))
    medians, log_variances = table.log_moments(every)  # type: ignore[misc]
    expected = log_moments(direct.values, table.windows.price)
    np.testing.assert_allclose(medians, expected[0], atol=3e-7)
    np.testing.assert_allclose(log_variances, expected[1], atol=1e-4)
    assert caplog.text.count("for this run alone") == 1
    assert content(read_only) == before


@pytest.mark.first_example
@pytest.mark.parametrize("column", ["values", "key"])
def test_a_damaged_file_of_a_read_only_cache_is_computed_in_memory(
    column: str,
    read_only: Path,
    market: Bars,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    since = market.times[-700]
    first = CachedForecaster(Chronos2Forecaster(), read_only).forecast(market, since)
    values = first.values
    path = max(read_only.rglob("*.parquet"), key=lambda file: file.stat().st_size)
    spoilt = bytearray(path.read_bytes())
    spoilt[column_begin(path, column) + 200] ^= 0xFF
    with path.open("wb") as stream:
        stream.write(spoilt)
    damaged = cache_file.count(path)
    asked = counting(monkeypatch)
    table = CachedForecaster(Chronos2Forecaster(), read_only).forecast(market, since)
    np.testing.assert_allclose(table.values, values, rtol=2e-7)
    np.testing.assert_allclose(table.values, values, rtol=2e-7)
    assert sum(asked) == damaged < len(values), "once"
    assert f"{path}: damaged" in caplog.text
    assert path.read_bytes() == spoilt
    assert table.source == first.source


def test_lessons_of_other_code_and_old_ones_are_pruned(kept: Path) -> None:
    folder = kept / LESSONS
    ours = folder / folder_of_code() / "a.npz"
    old = folder / folder_of_code() / "b.npz"
    other = folder / "0" / "c.npz"
    for path in (ours, old, other):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"lesson")
    os.utime(old, (0, 0))
    assert prune(kept)["lessons"] == 1
    assert (ours.exists(), old.exists(), other.exists()) == (True, True, False)
    assert prune(kept, unused_days=30)["lessons"] == 1
    assert (ours.exists(), old.exists()) == (True, False)


def test_a_reader_keeps_no_more_than_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf.of(tmp_path, {"a": 1})
    stamps = np.datetime64("2024-01-01", "ns") + np.arange(30) * np.timedelta64(1, "h")
    values = np.sort(
        np.random.default_rng(0).normal(size=(30, HORIZON, len(LEVELS))), axis=-1
    ).astype(np.float32)
    keys = np.arange(30, dtype=np.uint64)
    for k in range(0, 30, 10):
        part = slice(k, k + 10)
        shelf.add(np.repeat("A", 10), stamps[part], keys[part], values[part])
    monkeypatch.setattr(store, "READER_BYTES", 2 * values[:10].nbytes)
    reader = Reader()
    found = shelf.find(stamps, keys)
    np.testing.assert_array_equal(reader.values(found, np.arange(30)), values)
    assert len(reader.recent) == 2
    last = [path for path in found.files if path in reader.recent]
    reader.values(found, np.arange(10))
    assert len(set(reader.recent) & set(last)) == 1, "what was read last stays"
    assert list(reader.recent)[-1] not in last
    (older,) = set(reader.recent) & set(last)
    reader.values(found, np.array([k for k in range(30) if found.files[found.file[k]] == older]))
    reader.values(
        found, np.array([k for k in range(30) if found.files[found.file[k]] not in reader.recent])
    )
    assert older in reader.recent, "asked for again, it is not the oldest"
    assert shelf.find(stamps + np.timedelta64(1, "h"), keys).missing.tolist() == list(range(30))


def test_what_a_run_computes_lies_in_files_and_not_in_memory(tmp_path: Path, market: Bars) -> None:
    forecaster = CachedForecaster(Chronos2Forecaster(), tmp_path)
    table = forecaster.forecast(market, market.times[-700])
    assert forecaster.reader.recent == {}
    table.at(market.times[-1])
    assert len(forecaster.reader.recent) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["list", "--folder", "nowhere"], "--folder: nowhere is no folder"),
        (
            ["prune", "--folder", ".", "--unused-days", "-1"],
            "--unused-days: -1.0 is no number of days",
        ),
        (["prune", "--folder", ".", "--unused-days", "nan"], "nan is no number of days"),
        (["burn"], "invalid choice: 'burn'"),
    ],
)
def test_cache_commands_name_what_is_wrong(
    words: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["cache", *words])
    with pytest.raises(SystemExit) as end:
        cache.main()
    assert end.value.code == 2
    assert says in capsys.readouterr().err


def test_cache_commands_answer(
    kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["cache", *words, "--folder", str(kept)])
        try:
            cache.main()
        except SystemExit as end:
            return int(end.code or 0), capsys.readouterr().out
        return 0, capsys.readouterr().out

    count = len(list(kept.rglob("*.parquet")))
    code, text = run("list")
    assert code == 0
    for word in ("none", "fp32", f" {count} ", "forecasts"):
        assert word in text
    assert run("verify") == (0, f"{count} files, 0 damaged, 0 misplaced\n")
    (sorted(kept.rglob("*.parquet"))[0]).write_bytes(b"PAR1")
    code, text = run("verify")
    assert code == 1
    assert f"{count} files, 1 damaged, 0 misplaced; prune removes them\n" in text
    assert "1 damaged" in run("prune")[1]
    assert run("verify")[0] == 0
    assert "0 shelves" in run("prune", "--unused-days", "1")[1]
    assert "1 shelf, 0 lessons, 0 damaged" in run("prune", "--unused-days", "0")[1]


@pytest.mark.slow
def test_what_is_kept_is_read_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from forecasting.settings import ForecasterSettings; from trainingdata.source"
        " import DataSettings;"
        "bars = DataSettings(start='2024-01-02', end='2024-03-08').bars(['SYA'], None, None);"
        "ForecasterSettings(cache='kept').build(bars.symbols).forecast(bars,"
        " bars.times[-30]).values;"
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


@pytest.fixture
def two_shelves(tmp_path: Path, market: Bars) -> tuple[Path, Path, Path]:
    """A cache with two shelves of the same windows: (folder, a file of the first, the second's
    folder).
    """
    for length in (100, 64):
        forecaster = Chronos2Forecaster(Profile(context_length=length))
        CachedForecaster(forecaster, tmp_path).forecast(market, market.times[-6])
    here = CachedForecaster(Chronos2Forecaster(), tmp_path)._shelf(Profile()).folder
    there = next(p.parent for p in tmp_path.glob("*/specification.json") if p.parent != here)
    return tmp_path, next(here.rglob("*.parquet")), there


@pytest.mark.parametrize("how", ["copied", "moved", "taken for the shelf's own"])
def test_a_file_is_refused_on_another_shelf(
    how: str,
    two_shelves: tuple[Path, Path, Path],
    market: Bars,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One line names it, its forecasts are computed again, and the commands know about it."""
    folder, file, there = two_shelves
    shorter = CachedForecaster(Chronos2Forecaster(Profile(context_length=64)), folder)
    right = shorter.forecast(market, market.times[-6]).values
    mine = next(there.rglob("*.parquet"))
    if how == "copied":
        alien = Path(shutil.copy(file, mine.parent))
    elif how == "moved":
        alien = file.rename(mine.parent / file.name)
    else:
        alien = Path(shutil.copy(file, mine))
    caplog.clear()
    asked = counting(monkeypatch)
    again = CachedForecaster(shorter.forecaster, folder).forecast(market, market.times[-6])
    np.testing.assert_allclose(again.values, right, rtol=2e-7)
    assert (sum(asked) > 0) == (how == "taken for the shelf's own")
    lines = {r.getMessage() for r in caplog.records if "belongs on the shelf" in r.getMessage()}
    assert len(lines) == 1
    assert str(alien) in lines.pop()
    if how == "taken for the shelf's own":
        assert fault(mine) is None, "what was computed again has taken its place"
        return
    with pytest.raises(
        DataError, match=f"belongs on the shelf {file.parent.parent.name}.*not used; .*prune"
    ):
        read_values(alien)
    answer = run_command([*CACHE, "verify", "--folder", str(folder)])
    assert answer.returncode == 1
    assert f"misplaced: {alien}" in answer.stdout
    assert "0 damaged, 1 misplaced; prune removes them" in answer.stdout
    done = prune(folder)
    assert (done["misplaced"], done["damaged"]) == (1, 0)
    assert not alien.exists()
    assert mine.exists()
    answer = run_command([*CACHE, "verify", "--folder", str(folder)])
    assert (answer.returncode, "0 damaged, 0 misplaced" in answer.stdout) == (0, True)


CACHE = ["-m", "forecasting.cache"]


def test_same_windows_of_other_weights_are_refused_though_their_keys_fit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stamps = np.datetime64("2024-01-01", "ns") + np.arange(4) * np.timedelta64(1, "h")
    keys = np.arange(4, dtype=np.uint64)
    values = np.ones((4, HORIZON, len(LEVELS)), dtype=np.float32)
    here, there = (Shelf.of(tmp_path, {"weights": weights}) for weights in "ab")
    file = here.add(np.repeat("A", 4), stamps, keys, values)
    assert len(here.find(stamps, keys).missing) == 0
    copy = there.folder / file.parent.name / file.name
    copy.parent.mkdir(parents=True)
    shutil.copy(file, copy)
    assert len(there.find(stamps, keys).missing) == 4
    assert len([r for r in caplog.records if r.levelname == "WARNING"]) == 1
    assert there.add(np.repeat("A", 4), stamps, keys, values).name != file.name


def test_a_file_that_names_no_specification_is_refused(tmp_path: Path) -> None:
    from pyarrow import parquet

    shelf = Shelf.of(tmp_path, {"a": 1})
    stamps = np.array(["2024-01-01"], dtype="datetime64[ns]")
    keys = np.ones(1, dtype=np.uint64)
    file = shelf.add(
        np.array(["A"]), stamps, keys, np.ones((1, HORIZON, len(LEVELS)), dtype=np.float32)
    )
    assert json.loads(parquet.read_metadata(file).metadata[b"specification"]) == {"a": 1}
    parquet.write_table(parquet.read_table(file).replace_schema_metadata(None), file)
    assert fault(file) == "misplaced"
    with pytest.raises(DataError, match="names no specification"):
        read_values(file)
    assert len(shelf.find(stamps, keys).missing) == 1


def test_a_file_whose_specification_was_altered_is_no_longer_the_one_its_name_says(
    tmp_path: Path,
) -> None:
    from pyarrow import parquet

    here, there = (Shelf.of(tmp_path, {"a": a}) for a in (1, 2))
    stamps = np.array(["2024-01-01"], dtype="datetime64[ns]")
    keys = np.ones(1, dtype=np.uint64)
    file = here.add(
        np.array(["A"]), stamps, keys, np.ones((1, HORIZON, len(LEVELS)), dtype=np.float32)
    )
    moved = there.folder / "2024-01" / file.name
    moved.parent.mkdir(parents=True)
    forged = parquet.read_table(file).replace_schema_metadata(
        {b"specification": there.specification.encode()}
    )
    parquet.write_table(forged, moved)
    assert fault(moved) == "damaged"


def test_the_commands_list_what_forecasts_depend_on(two_shelves: tuple[Path, Path, Path]) -> None:
    folder, file, there = two_shelves
    CachedForecaster(
        Chronos2Forecaster(Profile(dtype="bf16", device="cpu"), batch_size=9), folder
    )._shelf(Profile(dtype="bf16", device="cpu")).open()
    shutil.copy(file, next(there.rglob("*.parquet")).parent)
    answer = run_command([*CACHE, "list", "--folder", str(folder)])
    answer.check_returncode()
    for word in ("cpu, eager, 9 windows a pass", "bf16", "fp32"):
        assert word in answer.stdout
    assert "belongs on the shelf" in answer.stderr
    rows = {row["shelf"]: row for row in shelf_rows(folder)}
    assert rows[there.name]["forecasts"] == rows[file.parent.parent.name]["forecasts"], (
        "a misplaced file's are not counted"
    )


def test_bf16_is_kept_by_how_it_was_computed_and_fp32_is_not() -> None:
    def specification(dtype: str, batch_size: int | None = None, **settings: object) -> object:
        profile = Profile(dtype=dtype, **{"device": "cpu", **settings})  # type: ignore[arg-type]
        return Chronos2Forecaster(profile, batch_size).specification(profile)

    assert specification("fp32") == specification("fp32", 7) == specification("fp32", compile=True)
    assert specification("bf16")["computed"] == "cpu, eager, 64 windows a pass"  # type: ignore[index]
    different = [
        specification("bf16"),
        specification("bf16", 7),
        specification("bf16", compile=True),
    ]
    assert len({json.dumps(s) for s in different}) == 3
    assert specification("bf16") == specification("bf16", device="cpu", compile=False)


@given(seed=st.integers(0, 2**16), files=st.integers(1, 4))
def test_a_forecast_is_found_by_its_key_and_its_instant_together(seed: int, files: int) -> None:
    """In files of different lengths, found where it lies; one that shares its key or its
    instant with another is not found.
    """
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        shelf = Shelf.of(Path(folder), {"a": 1})
        counts = rng.integers(1, 6, files)
        total = int(counts.sum())
        keys = rng.permutation(2 * np.arange(total, dtype=np.uint64))
        stamps = np.datetime64("2024-01-01", "ns") + rng.integers(0, 600, total) * np.timedelta64(
            1, "h"
        )
        values = np.broadcast_to(
            np.arange(total, dtype=np.float32)[:, None, None], (total, HORIZON, len(LEVELS))
        )
        for part in np.split(np.arange(total), np.cumsum(counts)[:-1]):
            shelf.add(np.repeat("A", len(part)), stamps[part], keys[part], values[part])
        order = rng.permutation(total)
        found = shelf.find(stamps[order], keys[order])
        assert found.missing.tolist() == []
        np.testing.assert_array_equal(Reader().values(found, np.arange(total))[:, 0, 0], order)
        assert len(shelf.find(stamps, keys + np.uint64(1)).missing) == total
        assert len(shelf.find(stamps + np.timedelta64(1, "h"), keys).missing) == total


def test_joined_files_hold_each_forecast_once_in_order_and_only_two_need_joining(
    tmp_path: Path,
) -> None:
    shelf = Shelf.of(tmp_path, {"a": 1})
    shelf.open()
    stamps = np.datetime64("2024-01-01", "ns") + np.array([3, 1, 1, 2]) * np.timedelta64(1, "h")
    names = np.array(["B", "B", "A", "C"])
    keys = np.arange(4, dtype=np.uint64)
    values = np.broadcast_to(
        np.arange(4, dtype=np.float32)[:, None, None], (4, HORIZON, len(LEVELS))
    )
    both = [shelf.add(names[p], stamps[p], keys[p], values[p]) for p in (slice(0, 3), slice(1, 4))]
    assert prune(tmp_path)["joined"] == 2
    (joined,) = shelf.files()
    assert joined not in both
    table = cache_file.read(joined, ["symbol", "issued_at", "key", "values"])
    assert table.column("symbol").to_pylist() == ["A", "B", "C", "B"]
    assert cache_file.keys(table).tolist() == [2, 1, 3, 0]
    assert cache_file.quantiles(table)[:, 0, 0].tolist() == [2, 1, 3, 0]
    assert prune(tmp_path)["joined"] == 0
    assert fault(joined) is None


def test_a_shelf_that_is_used_and_a_file_that_is_being_written_stay(tmp_path: Path) -> None:
    shelf = Shelf.of(tmp_path, {"a": 1})
    shelf.open()
    part = shelf.folder / ".x.parquet.1.part"
    part.write_bytes(b"half")
    assert prune(tmp_path, unused_days=1.0) == {
        "shelves": 0,
        "lessons": 0,
        "damaged": 0,
        "misplaced": 0,
        "unfinished": 0,
        "joined": 0,
    }
    assert part.exists()
    os.utime(shelf.folder / "specification.json", (0, 0))
    assert prune(tmp_path, unused_days=1.0)["shelves"] == 1
    assert not shelf.folder.exists()
