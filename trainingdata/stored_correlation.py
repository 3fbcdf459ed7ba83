"""A correlation matrix stored in files that cannot execute code: a Parquet and a JSON file.

The Parquet file has the values; the JSON file has the known-at instant and the source.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from foundation.arrays import Array32, Instants
from foundation.errors import InputError, invalid_choice_error, to_one_line
from foundation.files import write_files_atomically
from foundation.plugin import (
    HYDRA_TARGET_KEY,
    create_plugin,
    format_plugin_call,
    is_plugin,
    load_plugin,
    translate_plugin_errors,
)
from foundation.settings import setting, settings_class
from trainingdata.bars import Bars
from trainingdata.correlation import (
    CorrelationEstimator,
    CorrelationMatrix,
    CorrelationSource,
    MeanCorrelations,
)
from trainingdata.instants import format_utc, parse_instant


def write_correlation(
    matrix: CorrelationMatrix, metadata: Mapping[str, Any], path: Path
) -> tuple[Path, Path]:
    """Write a matrix as Parquet and JSON, each file atomically; return both paths.

    metadata: additional entries of the JSON file.
    path: path NAME of the files NAME.parquet and NAME.json.
    """
    import pandas as pd

    table, notes = matrix_paths(path)
    symbols = list(matrix.symbols)
    frame = pd.DataFrame(matrix.values, index=symbols, columns=symbols)
    text = (
        json.dumps({"as_of": format_utc(matrix.as_of), **metadata}, indent=2, allow_nan=False)
        + "\n"
    )
    writers: dict[str, Callable[[Path], object]] = {
        table.name: frame.to_parquet,
        notes.name: lambda part: part.write_text(text),
    }
    write_files_atomically(writers, table.parent, "--output")
    return table, notes


def read_correlation(path: Path) -> CorrelationMatrix:
    """Read the matrix in `NAME.parquet` and `NAME.json`.

    path: NAME, or the path of either file.

    Raises InputError for files that are missing or do not contain a correlation matrix.
    """
    import pandas as pd

    table, notes = matrix_paths(path)
    try:
        frame = pd.read_parquet(table)
        facts = json.loads(notes.read_text(encoding="utf-8"))
        as_of = parse_instant(str(facts["as_of"]), name="as_of")
        if list(frame.index) != list(frame.columns):
            raise ValueError("rows and columns have different symbols")
        symbols = tuple(map(str, frame.columns))
        return CorrelationMatrix(symbols, frame.to_numpy(dtype=np.float64), as_of)
    except FileNotFoundError:
        missing = f"{notes}, which belongs to {table.name}," if table.exists() else table
        raise InputError(
            f"correlation.file: {missing} does not exist; build the matrix first, or correct the"
            " path"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"correlation.file: {table} is not a valid correlation matrix: {error}"
        ) from error


def matrix_paths(path: Path) -> tuple[Path, Path]:
    """Return the paths NAME.parquet and NAME.json.

    path: NAME, or either of the two paths.
    """
    stem = path.with_suffix("") if path.suffix in (".parquet", ".json") else path
    return stem.parent / f"{stem.name}.parquet", stem.parent / f"{stem.name}.json"


@dataclass(frozen=True, eq=False, slots=True)
class StoredCorrelation:
    """A correlation source that returns one stored matrix from its known-at instant on.

    matrix: the stored matrix.
    """

    matrix: CorrelationMatrix

    @property
    def prior_means(self) -> MeanCorrelations:
        """The default prior means, since a stored matrix has none."""
        return MeanCorrelations()

    def matrix_at_end(self, bars: Bars) -> CorrelationMatrix:
        """Return the matrix restricted to the panel's symbols.

        Raises InputError if the matrix was not known at the panel's end, or lacks a symbol.
        """
        if self.matrix.as_of > bars.last_instant:
            as_of = format_utc(self.matrix.as_of)
            now = format_utc(bars.last_instant)
            raise InputError(
                f"correlation.file: the matrix is as of {as_of}, after the decision at {now}; use"
                " an earlier matrix or a later start"
            )
        missing = [symbol for symbol in bars.symbols if symbol not in self.matrix.symbols]
        if missing:
            raise InputError(
                f"correlation.file: {missing[0]} is missing from the matrix, which has"
                f" {', '.join(self.matrix.symbols)}; build it with this symbol"
            )
        rows = [self.matrix.symbols.index(symbol) for symbol in bars.symbols]
        values = self.matrix.values[np.ix_(rows, rows)]
        return CorrelationMatrix(bars.symbols, values, self.matrix.as_of)

    def matrices_at(self, bars: Bars, instants: Instants) -> Array32:
        """Return the matrix restricted to the panel's symbols, repeated for D instants, [D, S, S].

        Raises InputError if the matrix was not known at the first instant.
        """
        size = len(bars.symbols)
        if not len(instants):
            return np.empty((0, size, size), dtype=np.float32)
        values = self.matrix_at_end(bars.slice_until(instants[0])).values.astype(np.float32)
        return np.broadcast_to(values, (len(instants), size, size)).copy()


@settings_class("correlation")
class CorrelationSettings(CorrelationEstimator):
    """Settings of correlations: their estimate, a stored matrix, or a custom source.

    The inherited fields are described in `CorrelationEstimator`.
    """

    kind: str = setting(
        "estimate",
        "`estimate` from these windows and priors, or a custom `CorrelationSource` by _target_",
        key=False,
    )
    arguments: Mapping[str, Any] = setting({}, "arguments of the custom class, by name")
    file: str | None = setting(None, "file of a prebuilt matrix that replaces the estimate")

    def __post_init__(self) -> None:
        if self.kind != "estimate" and not is_plugin(self.kind):
            raise invalid_choice_error("correlation.kind", self.kind, ("estimate",))
        if is_plugin(self.kind) and self.file is not None:
            raise InputError(
                f"correlation.file: not used by {self.kind}; remove it, or remove"
                f" correlation.{HYDRA_TARGET_KEY}"
            )

    def build_source(self) -> CorrelationSource:
        if is_plugin(self.kind):
            return self._own()
        if self.file is None:
            return self
        return StoredCorrelation(read_correlation(Path(self.file).expanduser()))

    def _own(self) -> CorrelationSource:
        make = load_plugin("correlation", self.kind)
        name = format_plugin_call(self.kind, self.arguments)
        made = create_plugin("correlation", self.kind, make, self.arguments)
        with translate_plugin_errors("correlation", name):
            is_source = isinstance(made, CorrelationSource)
        if not is_source:
            returned = to_one_line(repr(made), 80)
            raise InputError(
                f"correlation.{HYDRA_TARGET_KEY}: {name} returned {returned}; return an object with"
                " matrix_at_end, matrices_at and prior_means"
            )
        return cast(CorrelationSource, made)
