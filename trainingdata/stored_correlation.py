"""A correlation matrix in files that cannot execute code: values in Parquet, what is known
about it in JSON beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foundation.errors import InputError
from foundation.files import write_whole
from trainingdata.bars import Bars
from trainingdata.correlation import (
    WITHIN_CRYPTO,
    WITHIN_STOCKS,
    CorrelationEstimator,
    CorrelationMatrix,
    Correlations,
)
from trainingdata.sessions import instant, utc_text

PICKLES = (".pkl", ".pickle", ".joblib")


def write_correlation(
    matrix: CorrelationMatrix, facts: Mapping[str, Any], path: Path
) -> tuple[Path, Path]:
    """Write `path` as Parquet and JSON, each put in place whole; both paths.

    Raises
    ------
    InputError
        for a path that cannot be written, or whose ending asks for a pickle.
    """
    refuse_pickle(path, "--output")
    stem = path.with_suffix("") if path.suffix in (".parquet", ".json") else path
    names = stem.with_name(f"{stem.name}.parquet"), stem.with_name(f"{stem.name}.json")
    frame = pd.DataFrame(matrix.values, index=list(matrix.symbols), columns=list(matrix.symbols))
    text = json.dumps({"as_of": utc_text(matrix.as_of), **facts}, indent=2, allow_nan=False) + "\n"
    write_whole(
        {names[0].name: frame.to_parquet, names[1].name: lambda path: path.write_text(text)},
        stem.parent,
        "--output",
    )
    return names


def read_correlation(path: Path) -> CorrelationMatrix:
    """The matrix of `NAME.parquet` and the `NAME.json` beside it.

    Raises
    ------
    InputError
        for files that are not there, hold no correlation matrix, or are pickles.
    """
    refuse_pickle(path, "correlation.file")
    stem = path.with_suffix("") if path.suffix in (".parquet", ".json") else path
    table = stem.with_name(f"{stem.name}.parquet")
    facts = stem.with_name(f"{stem.name}.json")
    try:
        frame = pd.read_parquet(table)
        known = json.loads(facts.read_text(encoding="utf-8"))
        as_of = instant(str(known["as_of"]), name="as_of")
        if list(frame.index) != list(frame.columns):
            raise ValueError("rows and columns are not the same symbols")
        return CorrelationMatrix(
            tuple(map(str, frame.columns)), frame.to_numpy(dtype=np.float64), as_of
        )
    except FileNotFoundError:
        raise InputError(
            f"correlation.file: there is no {table} with a {facts.name} beside it"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"correlation.file: {table} holds no correlation matrix: {error}"
        ) from error


def refuse_pickle(path: Path, name: str) -> None:
    """Refuse a pickle: reading one runs whatever code its author put into it.

    Raises
    ------
    InputError
        with the command that turns a trusted one into something safe.
    """
    if path.suffix.lower() in PICKLES:
        stem = str(path.with_suffix(""))
        built = (
            datetime.fromtimestamp(path.stat().st_mtime, UTC)
            if path.is_file()
            else datetime.now(UTC)
        )
        known = json.dumps({"as_of": f"{built:%Y-%m-%dT%H:%MZ}"})
        raise InputError(
            f"{name}: {path} is a pickle, which can execute code when it is read; build the matrix"
            " anew with"
            " trainingdata/build_correlation_matrix_from_csvs.py, or, if you trust the file,"
            " convert it once:"
            " python -c 'import pandas;"
            f' pandas.DataFrame(pandas.read_pickle("{path}")).to_parquet("{stem}.parquet")\''
            f" && echo '{known}' > {stem}.json"
        )


@dataclass(frozen=True, eq=False, slots=True)
class StoredCorrelation:
    """One matrix for every instant after the one it was built at."""

    matrix: CorrelationMatrix

    @property
    def within(self) -> tuple[float, float]:
        """Prior correlations within stocks and within coins: a matrix that was built elsewhere
        says nothing of its own.
        """
        return WITHIN_STOCKS, WITHIN_CRYPTO

    def at(self, bars: Bars) -> CorrelationMatrix:
        """The rows of the panel's symbols.

        Raises
        ------
        InputError
            where the panel ends before the matrix could be known, or has a symbol that it lacks.
        """
        if self.matrix.as_of > bars.now:
            known = utc_text(self.matrix.as_of)
            now = utc_text(bars.now)
            raise InputError(
                f"correlation.file: the matrix is as of {known}; a decision at {now} could not have"
                " known it"
            )
        missing = [s for s in bars.symbols if s not in self.matrix.symbols]
        if missing:
            raise InputError(
                f"correlation.file: the matrix has no {missing[0]}, it has"
                f" {', '.join(self.matrix.symbols)}"
            )
        rows = [self.matrix.symbols.index(s) for s in bars.symbols]
        return CorrelationMatrix(
            bars.symbols, self.matrix.values[np.ix_(rows, rows)], self.matrix.as_of
        )


@dataclass(frozen=True, slots=True)
class CorrelationSettings(CorrelationEstimator):
    """Windows and priors of the estimate; or file: a matrix built before, instead of estimating
    one.
    """

    file: str | None = None

    def source(self) -> Correlations:
        """What answers with a matrix.

        Raises
        ------
        InputError
            for a file that cannot be used.
        """
        if self.file is None:
            return self
        return StoredCorrelation(read_correlation(Path(self.file).expanduser()))
