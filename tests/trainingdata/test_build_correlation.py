"""The correlation matrix a user builds from files, and the files it is kept in."""

from __future__ import annotations

import json
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from foundation.errors import InputError
from tests.e2e.refused import answer_of, refusal_of
from tests.support.commands import run_command
from tests.support.messages import check_message, refused
from trainingdata.bars import OHLCV_FIELDS, Bars
from trainingdata.correlation import CorrelationEstimator, CorrelationMatrix
from trainingdata.stored_correlation import (
    CorrelationSettings,
    StoredCorrelation,
    read_correlation,
    write_correlation,
)
from trainingdata.timeframe import HOURLY

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = ROOT / "trainingdata" / "build_correlation_matrix_from_csvs.py"
MODULE = "trainingdata.build_correlation_matrix_from_csvs"
ESTIMATOR = CorrelationEstimator(hourly_window=100, session_window=24)


@pytest.fixture(scope="module")
def folder(market: Bars, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic market as CSV files with the bars' starts."""
    where = tmp_path_factory.mktemp("csvs")
    for s, item in enumerate(market.instruments):
        times, values = market.bars_of_symbol(s)
        starts = HOURLY.clock(item.kind).starts_by_end(times)
        frame = pd.DataFrame(values, columns=list(OHLCV_FIELDS))
        frame.insert(0, "timestamp", pd.DatetimeIndex(starts).tz_localize("UTC"))
        frame.to_csv(where / f"{item.symbol}.csv", index=False)
    return where


@pytest.mark.wire
def test_built_matrix_equals_the_estimate_and_is_readable(
    folder: Path, market: Bars, tmp_path: Path
) -> None:
    words = ["--input", str(folder), "--output", "made/matrix", "--lookback", "24"]
    done = run_command([str(SCRIPT), *words, "--as-of", "2024-03-01"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    kept = read_correlation(tmp_path / "made" / "matrix")
    expected = ESTIMATOR.matrix_at_end(market.slice_until(np.datetime64("2024-03-02T05:00", "ns")))
    assert kept.symbols == expected.symbols
    np.testing.assert_array_equal(kept.values, expected.values)
    assert kept.as_of == np.datetime64("2024-03-01T21:00", "ns")
    assert "SYA" in done.stdout
    settings = CorrelationSettings(file=str(tmp_path / "made" / "matrix.parquet"))
    few = Bars(market.instruments[1:4], market.times, market.values[1:4], market.mask[1:4], "test")
    np.testing.assert_array_equal(
        settings.build_source().matrix_at_end(few).values, expected.values[1:4, 1:4]
    )


def test_later_or_incomplete_matrix_is_refused(market: Bars) -> None:
    """A backtest must not use data from its future."""
    stored = StoredCorrelation(ESTIMATOR.matrix_at_end(market))
    with refused(InputError):
        stored.matrix_at_end(market.slice_until(np.datetime64("2024-02-20T21:00", "ns")))
    without = StoredCorrelation(
        CorrelationMatrix(("SYA",), np.eye(1), np.datetime64("2024-01-01", "ns"))
    )
    with refused(InputError, "SYB", "SYA"):
        without.matrix_at_end(market)


def test_foreign_files_are_overwritten_only_with_overwrite_flag(
    folder: Path, tmp_path: Path
) -> None:
    """A file of another kind is refused as well, because nobody would look for a matrix
    beside it.
    """
    notes = tmp_path / "matrix.json"
    (tmp_path / "README.md").write_text("mine")
    for output, facts in (("README.md", ("README.md",)), (".", ())):
        words = ["--input", str(folder), "--output", output]
        check_message(refusal_of(MODULE, *words, cwd=tmp_path), *facts)
    notes.write_text("mine")
    words = ["--input", str(folder), "--output", "matrix"]
    check_message(
        refusal_of(MODULE, *words, cwd=tmp_path), "--output", "matrix.json", "--overwrite"
    )
    assert notes.read_text() == "mine"
    assert answer_of(MODULE, *words, "--overwrite", cwd=tmp_path)[0] == 0
    assert "as_of" in json.loads(notes.read_text())
    assert answer_of(MODULE, *words, cwd=tmp_path)[0] == 0


def test_pickle_is_refused_and_never_read(tmp_path: Path) -> None:
    (tmp_path / "matrix.pkl").write_bytes(b"cos\nsystem\n(S'touch hacked'\ntR.")
    with chdir(tmp_path), refused(InputError, "matrix.pkl.parquet"):
        CorrelationSettings(file="matrix.pkl").build_source()
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize(
    ("content", "facts"), [(b"not parquet", ()), ([[1.0, 2.0], [2.0, 1.0]], ()), (None, ("as_of",))]
)
def test_invalid_correlation_matrix_file_is_named_in_error(
    content: Any, facts: tuple[str, ...], tmp_path: Path, market: Bars
) -> None:
    table, notes = write_correlation(ESTIMATOR.matrix_at_end(market), {}, tmp_path / "m")
    if content is None:
        notes.write_text(json.dumps({"as_of": "yesterday"}))
    elif isinstance(content, bytes):
        table.write_bytes(content)
    else:
        pd.DataFrame(content, index=["A", "B"], columns=["A", "B"]).to_parquet(table)
    with refused(InputError, "correlation.file", *facts, varies="Could not open .*"):
        read_correlation(tmp_path / "m")
    alone = write_correlation(ESTIMATOR.matrix_at_end(market), {}, tmp_path / "alone")
    alone[1].unlink()
    with refused(InputError, "alone.parquet", "alone.json"):
        read_correlation(tmp_path / "alone")


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        (["--lookback", "1"], ("--lookback", "1", "2")),
        (["--as-of", "soon"], ("--as-of", "'soon'")),
        (["--symbols", "ZZZ"], ("ZZZ", "ZZZ.parquet")),
        (["--input", "nowhere"], ()),
    ],
)
def test_invalid_arguments_give_a_one_line_error(
    words: list[str], facts: tuple[str, ...], folder: Path, tmp_path: Path
) -> None:
    given = ("--input", str(folder), "--output", "m", *words)
    check_message(refusal_of(MODULE, *given, cwd=tmp_path), *facts)
    assert list(tmp_path.iterdir()) == []
