"""Names of array types by what they hold; shapes stand in the docstrings that use them."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Matrix = Annotated[Array, "two-dimensional"]
Cube = Annotated[Array, "three-dimensional"]
Array32 = npt.NDArray[np.float32]
Index = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Instants = npt.NDArray[np.datetime64]  # UTC, to the nanosecond
Records = npt.NDArray[np.void]


def concatenate_ranges(first: Index, stop: Index) -> Index:
    """The numbers first … stop - 1 of each span, one after another; of none where stop is less."""
    counts = np.maximum(stop - first, 0)
    begin = np.cumsum(counts) - counts
    return np.asarray(np.arange(counts.sum()) + np.repeat(first - begin, counts))


def first_true(rows: Mask) -> int:
    """Number of the first row that is marked."""
    return int(np.flatnonzero(rows)[0])
