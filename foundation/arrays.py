"""Type aliases of NumPy arrays by element type; docstrings state the shapes."""

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
StructuredArray = npt.NDArray[np.void]
ObjectArray = npt.NDArray[np.object_]


def concatenate_ranges(first: Index, stop: Index) -> Index:
    """Return the integers of the ranges [first[k], stop[k]), one range after the other.

    A range whose stop is not above its first is empty.
    """
    counts = np.maximum(stop - first, 0)
    begin = np.cumsum(counts) - counts
    return np.asarray(np.arange(counts.sum()) + np.repeat(first - begin, counts))


def first_true_index(mask: Mask) -> int:
    """Return the index of the first true row; at least one row must be true."""
    return int(np.flatnonzero(mask)[0])
