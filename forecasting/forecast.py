"""Quantile forecasts: the interface of forecasters, and the table of a history's forecasts.

Dimensions: S symbols, T instants, N windows, H steps, Q quantile levels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from tempfile import TemporaryFile, gettempdir
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from forecasting.windows import Windows
from foundation.arrays import Array, Array32, Index, Instants
from foundation.errors import InputError
from trainingdata.bars import Bars
from trainingdata.instants import format_utc

# Steps of every forecast. The number is fixed: with another one Chronos-2 gives another step 1,
# because its attention over future patches is bidirectional.
HORIZON = 24
NO_FORECAST = "none"  # kind and name of the forecaster of runs without forecasts
# Chronos-2's own levels, [Q = 21].
LEVELS = (0.01, 0.05, *(round(0.05 * k, 2) for k in range(2, 19)), 0.95, 0.99)
MEDIAN_INDEX = LEVELS.index(0.5)
WINDOWS_PER_CHUNK = 4096  # windows processed at a time in a scan of a table
MIN_MEMORY_MAPPED_BYTES = (
    256 * 2**20
)  # size in bytes from which an array is memory-mapped to a file

Progress = Callable[[str, int, int], None]  # kind of work, done, total
VolatilityRule = Literal["original", "normal", "quantile"]  # rule that derives sigma from quantiles


def interpolate_quantiles(values: Array32, levels: Sequence[float]) -> Array32:
    """Interpolate quantiles linearly at other levels; return […, K].

    values: […, Q] quantiles at `LEVELS`.
    levels: [K] requested levels, 0.01 … 0.99.
    """
    wanted = np.asarray(levels)
    upper = np.clip(np.searchsorted(LEVELS, wanted), 1, len(LEVELS) - 1)
    lower = upper - 1
    share = (wanted - np.take(LEVELS, lower)) / np.diff(LEVELS)[lower]
    at: Array = values[..., lower] * (1.0 - share) + values[..., upper] * share
    return at.astype(np.float32)


def no_progress(task: str, done: int, total: int) -> None:
    """Progress callback that does nothing; the default."""


def empty_array(*shape: int) -> Array32:
    """Return an uninitialised float32 array.

    An array of at least `MIN_MEMORY_MAPPED_BYTES` is memory-mapped to a temporary file. Raises
    InputError if the temporary folder has too little space.
    """
    size = 4 * prod(shape)
    if size < MIN_MEMORY_MAPPED_BYTES:
        return np.empty(shape, dtype=np.float32)
    try:
        with TemporaryFile() as file:
            # A full disk would kill a process that writes to a mapped file: all of its space is
            # reserved now.
            os.posix_fallocate(file.fileno(), 0, size)
            return np.asarray(np.memmap(file, dtype=np.float32, mode="r+", shape=shape))
    except OSError as error:
        raise InputError(
            f"TMPDIR: {gettempdir()} has no space for {size / 1e9:.1f} GB of forecasts:"
            f" {error.strerror}; set TMPDIR to another folder"
        ) from error


@dataclass(frozen=True, eq=False, slots=True)
class LocationScaleQuantiles:
    """Quantiles [N, H, Q] in factored form: price · exp(median + scale · shape).

    The class is indexed like an array. `[rows]` returns the quantiles of these windows, [n, H, Q]
    float32. `[rows, step]` returns the quantiles of one step, [n, Q]. `[rows, step, level]` returns
    one quantile level of a step, [n].

    price: [N] last close of each window, in USD.
    median, scale: [N, H] median and scale of the log return after each step; NaN without a
        forecast.
    shape_quantiles: [W, H, Q] standardised quantiles: quantiles of (log return - median) / scale.
    shape_index: [N] index of each window's shape in `shape_quantiles`, where windows share shapes
        to save memory.
    """

    price: Array
    median: Array | Array32
    scale: Array | Array32
    shape_quantiles: Array | Array32
    shape_index: Index

    def __post_init__(self) -> None:
        steps = (len(self.price), HORIZON)
        if not self.median.shape == self.scale.shape == steps or len(self.shape_index) != steps[0]:
            raise ValueError(f"median and scale must have shape [N, H] = {steps}")
        if (self.scale < 0).any() or (np.diff(self.shape_quantiles, axis=-1) < 0).any():
            raise ValueError("quantiles must not decrease along the levels")

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.price), *self.shape_quantiles.shape[1:]

    def __getitem__(
        self, at: Index | slice | tuple[Index, int] | tuple[Index, int, int]
    ) -> Array32:
        rows, step, *level = at if isinstance(at, tuple) else (at, slice(None))
        shape = self.shape_quantiles[self.shape_index[rows], step, *level]
        each = (..., *[None] * (1 - len(level)))  # axes of the levels that are read
        move = self.scale[rows, step][each] * shape
        move += self.median[rows, step][each]
        np.exp(move, out=move)
        price = self.price[rows].reshape(-1, *(1,) * (move.ndim - 1))
        return np.asarray((price * move).astype(np.float32))


@dataclass(frozen=True, eq=False, slots=True)
class QuantileView:
    """The quantiles of selected windows, which are read step by step on demand.

    quantiles: [N, H, Q] quantiles of a table.
    window_indices: [n] indices of the selected windows.
    """

    quantiles: Array32 | LocationScaleQuantiles
    window_indices: Index

    def __getitem__(self, at: tuple[Index, int] | tuple[Index, int, int]) -> Array32:
        """Return quantiles of some windows at one step: all levels, [m, Q], or one level, [m].

        at: indices of the windows within the selection, the step and, for one level, the level.
        """
        rows, *rest = at
        chosen: Any = (self.window_indices[rows], *rest)
        return self.quantiles[chosen]


@dataclass(frozen=True, eq=False, slots=True)
class ForecastTable:
    """Validated forecasts of all windows of a history; a table is itself a `Forecaster`.

    name: name of the forecaster.
    symbols: [S] symbols of the panel.
    panel_times: [T] instants of the panel.
    latest_window_index: [S, T] index of the last window issued at or before each instant; -1 before
        the first window.
    windows: input of each forecast.
    price: [N] last close of each window, in USD.
    quantiles: [N, H, Q] float32 quantiles of the close in USD at each of the symbol's next H bars,
        nondecreasing along Q; NaN at all levels of a step without a forecast.
    persistence: [N] lag-1 autocorrelation of the first-step median; 0 if unknown.
    shrinkage: [N] factor by which calibration multiplied the base forecast's median; NaN without
        calibration.
    information_coefficient: [N] conservative estimate of the first step's information coefficient;
        0 if unknown.
    source_digest: digest of inputs, other than bars, that can change although the name stays the
        same, such as model weights; empty if there are none.
    """

    name: str
    symbols: tuple[str, ...]
    panel_times: Instants
    latest_window_index: npt.NDArray[np.int32]
    windows: Windows
    price: Array
    quantiles: Array32 | LocationScaleQuantiles
    persistence: Array
    shrinkage: Array
    information_coefficient: Array
    source_digest: str = ""

    def __post_init__(self) -> None:
        count = len(self.windows)
        for column in ("price", "persistence", "shrinkage", "information_coefficient"):
            values = getattr(self, column)
            if np.shape(values) != (count,) or not (
                column == "shrinkage" or np.isfinite(values).all()
            ):
                raise ValueError(
                    f"{column} must have one finite number per window, shape ({count},), got"
                    f" {np.shape(values)}"
                )
        if np.shape(self.latest_window_index) != (len(self.symbols), len(self.panel_times)):
            raise ValueError("latest_window_index must have shape [S, T]")
        expected = (count, HORIZON, len(LEVELS))
        if np.shape(self.quantiles) != expected:
            raise ValueError(
                f"quantiles must have shape [N, H, Q] = {expected}, got {np.shape(self.quantiles)}"
            )
        self.check_quantiles(-np.inf)

    @classmethod
    def from_quantiles(
        cls,
        name: str,
        bars: Bars,
        windows: Windows,
        quantiles: Array32 | LocationScaleQuantiles,
        *,
        persistence: Array | None = None,
        shrinkage: Array | None = None,
        information_coefficient: Array | None = None,
        source_digest: str = "",
    ) -> ForecastTable:
        """Build a table from the quantiles of windows and the panel of bars.

        The arguments have the shapes of the fields of the same names. Raises ValueError for
        inconsistent shapes, and for quantiles that are not prices or decrease along the levels.
        """
        count = len(windows)
        return cls(
            name=name,
            symbols=bars.symbols,
            panel_times=bars.times,
            latest_window_index=windows.latest_window_indices(bars.times),
            windows=windows,
            price=windows.price,
            quantiles=quantiles,
            persistence=np.zeros(count) if persistence is None else persistence,
            shrinkage=np.broadcast_to(np.nan, count) if shrinkage is None else shrinkage,
            information_coefficient=np.zeros(count)
            if information_coefficient is None
            else information_coefficient,
            source_digest=source_digest,
        )

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = no_progress
    ) -> ForecastTable:
        """Return this table; the arguments are ignored, because it contains all its forecasts."""
        return self

    @property
    def all_quantiles(self) -> Array32:
        """All quantiles as one array, [N, H, Q], which needs two kilobytes per window."""
        if not isinstance(self.quantiles, LocationScaleQuantiles):
            return self.quantiles
        out = empty_array(*self.quantiles.shape)
        for first in range(0, len(out), WINDOWS_PER_CHUNK):
            out[first : first + WINDOWS_PER_CHUNK] = self.quantiles[
                first : first + WINDOWS_PER_CHUNK
            ]
        return out

    def check_quantiles(self, lower_bound: float) -> None:
        """Check that quantiles are finite, nondecreasing along the levels, and above a bound.

        lower_bound: exclusive lower bound in USD. Use minus infinity for a network, which may
            forecast prices below zero in a crash.

        Raises ValueError with the symbol, instant and step of the first invalid quantile.
        """
        quantiles = self.quantiles
        if isinstance(quantiles, LocationScaleQuantiles):
            return
        if quantiles.dtype != np.float32:
            raise ValueError(f"quantiles must be float32, got {quantiles.dtype}")
        for first in range(0, len(quantiles), WINDOWS_PER_CHUNK):
            part = quantiles[first : first + WINDOWS_PER_CHUNK]
            sides = (
                part[..., 1:] >= part[..., :-1],
                part[..., 0] > lower_bound,
                part[..., -1] < np.inf,
            )
            if all(side.all() for side in sides):
                continue
            sound = sides[0].all(axis=2) & sides[1] & sides[2] | np.isnan(part).all(axis=2)
            if not sound.all():
                row, step = np.argwhere(~sound)[0]
                symbol = self.symbols[self.windows.symbol_index[first + row]]
                at = format_utc(self.windows.issued_at[first + row])
                values = part[row, step]
                invalid = ~((values > lower_bound) & (values < np.inf))
                if invalid.any():
                    q = int(invalid.argmax())
                    fault = f"quantile {LEVELS[q]:g} is {values[q]:g}, not a finite price above 0"
                else:
                    q = int((values[1:] < values[:-1]).argmax())
                    fault = (
                        f"quantiles must not decrease, but fall from {values[q]:g} at {LEVELS[q]:g}"
                        f" to {values[q + 1]:g} at {LEVELS[q + 1]:g}"
                    )
                raise ValueError(f"{symbol} at {at}, step {step + 1}: {fault}")


CALIBRATED_SUFFIX = ", calibrated"  # end of a calibrated forecaster's name


def is_calibrated(name: str) -> bool:
    """Return whether a forecaster's name is that of a calibrated one."""
    return name.endswith(CALIBRATED_SUFFIX)


LOOK_AHEAD_NOTE = "reads the future; not a result"


ORACLE_KIND = "oracle"  # `forecaster=oracle`, whose name in the trial ledger is this word


def has_look_ahead(name: str) -> bool:
    """Return whether a forecaster's name has the mark of a look-ahead forecaster."""
    return LOOK_AHEAD_NOTE in name or name == ORACLE_KIND


def mark_as_look_ahead(name: str) -> str:
    """Add the look-ahead mark to a forecaster's name; a marked name is unchanged."""
    return name if has_look_ahead(name) else f"{name} ({LOOK_AHEAD_NOTE})"


def is_hindsight(forecaster: Forecaster) -> bool:
    """Return whether the forecasts may have been made when their outcome was known.

    That is so for look-ahead forecasters, and for files that were not sealed in time.
    """
    base = getattr(forecaster, "base", forecaster)
    return has_look_ahead(forecaster.name) or bool(getattr(base, "is_unsealed", False))


class Forecaster(Protocol):
    """Interface of a forecaster: price quantiles for the next 24 bars, without look-ahead."""

    @property
    def name(self) -> str:
        """Name of the forecaster in reports."""
        ...

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = no_progress
    ) -> ForecastTable:
        """Forecast every symbol at each of its bars from `since` on.

        The forecast at each symbol's last bar before `since` is included.

        bars: panel of S symbols; a forecast reads only bars up to its own.
        since: one instant for all symbols, or one per symbol, [S].
        progress: callback with the kind of work, the number of units done, and their total.
        """
        ...
