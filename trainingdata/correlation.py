"""Correlation of returns as it could be known: from bars before an instant, shrunk, positive
definite.

Within a class from hourly returns on the class's own clock; between stocks and coins from returns
between 16:00 and 16:00 New York on session days, because hourly grids of different markets
understate it. Estimates change once a day, at 16:00.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from foundation.arrays import Array, Instants, Mask
from foundation.errors import InputError
from trainingdata.bars import CLOSE, Bars
from trainingdata.sessions import (
    DAY,
    four_pm,
    last_four_pm,
    last_four_pms,
    new_york_date,
    sessions_between,
)

WITHIN_STOCKS = 0.4
WITHIN_CRYPTO = 0.6  # priors, where nothing else is known
SMALLEST_EIGENVALUE = 1e-3
# A log return, or a deviation of returns, that is the rounding of prices and no move: adjusted
# prices leave 1e-15, one tick of the dearest coin in 500 bars 5e-9.
STILL = 1e-9
# Of a symbol's own variance, what it has at least in rows in which it moves: rounding leaves 1e-13
# of it.
SMALLEST_SHARE_OF_VARIANCE = 1e-10
FEWEST_ROWS = 3  # two returns have correlation one


@dataclass(frozen=True, eq=False, slots=True)
class CorrelationMatrix:
    """values [S, S] float64: symmetric, unit diagonal, positive definite; built from bars known by
    `as_of`.

    Every value is one that a float32 holds, so that a history of matrices may be kept in half the
    space.
    """

    symbols: tuple[str, ...]
    values: Array
    as_of: np.datetime64

    def __post_init__(self) -> None:
        n = len(self.symbols)
        if self.values.shape != (n, n):
            raise ValueError(f"values must have shape [S, S] = {(n, n)}, got {self.values.shape}")
        if not np.isfinite(self.values).all() or not np.array_equal(self.values, self.values.T):
            raise ValueError("values must be finite and symmetric")
        if not np.allclose(np.diag(self.values), 1.0):
            raise ValueError("values must have a unit diagonal")
        if np.linalg.eigvalsh(self.values)[0] <= 0:
            raise ValueError("values must be positive definite")


class Correlations(Protocol):
    """Anything that answers with the correlation known at the end of a panel."""

    def at(self, bars: Bars) -> CorrelationMatrix:
        """The matrix for the panel's symbols as of its last instant."""
        ...

    @property
    def within(self) -> tuple[float, float]:
        """Prior correlations within stocks and within coins."""
        ...


@dataclass(frozen=True, slots=True)
class CorrelationEstimator:
    """Ledoit-Wolf on a window per block, leaning on a prior in proportion to what the window lacks.

    hourly_window: hourly returns within a class; session_window: 16:00-16:00 returns between the
    classes. within_stocks, within_crypto, across: prior correlations.
    """

    hourly_window: int = 500
    session_window: int = 120
    within_stocks: float = WITHIN_STOCKS
    within_crypto: float = WITHIN_CRYPTO
    across: float = 0.2

    def __post_init__(self) -> None:
        for name in ("hourly_window", "session_window"):
            if getattr(self, name) < 2:
                raise InputError(f"correlation.{name}: {getattr(self, name)} is below 2")
        for name in ("within_stocks", "within_crypto", "across"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"correlation.{name}: {getattr(self, name)} is outside 0 … 1")

    @property
    def within(self) -> tuple[float, float]:
        """Prior correlations within stocks and within coins."""
        return self.within_stocks, self.within_crypto

    @property
    def _reach(self) -> np.timedelta64:
        """Calendar time that holds both windows, weekends and holidays included."""
        return int(30 + 1.6 * max(self.session_window, self.hourly_window / 6)) * DAY

    def at(self, bars: Bars) -> CorrelationMatrix:
        """The matrix of the last 16:00 New York at or before the panel's end; a function of the
        bars up to then.
        """
        values, boundary = self.estimate(bars)
        rounded = positive_definite(values).astype(np.float32).astype(np.float64)
        return CorrelationMatrix(bars.symbols, rounded, boundary)

    def estimate(self, bars: Bars) -> tuple[Array, np.datetime64]:
        """The estimate [S, S] before its repair, which may have negative eigenvalues, and the
        16:00 it belongs to.
        """
        boundary = last_four_pm(bars.now)
        first, last = np.searchsorted(
            bars.times, (boundary - self._reach, boundary + np.timedelta64(1, "ns"))
        )
        recent = bars.between(int(first), int(last))
        crypto = bars.crypto
        values = np.where(crypto[:, None] & crypto[None, :], self.within_crypto, self.within_stocks)
        values[crypto[:, None] != crypto[None, :]] = self.across
        np.fill_diagonal(values, 1.0)
        if len(recent.times):
            for members in (np.flatnonzero(~crypto), np.flatnonzero(crypto)):
                returns = hourly_returns(recent, members, self.hourly_window)
                values[np.ix_(members, members)] = _lean(
                    returns, values[np.ix_(members, members)], self.hourly_window
                )
            if crypto.any() and not crypto.all():
                daily = session_returns(recent, boundary, self.session_window)
                joint = _lean(daily, values, self.session_window)
                across = crypto[:, None] != crypto[None, :]
                values[across] = joint[across]
        return values, boundary


def correlations_over(
    estimator: Correlations, bars: Bars, instants: Instants
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """What the estimator answers at each instant of a history: number [T] of the matrix in force,
    and matrices [D, S, S].

    A matrix holds from one 16:00 to the next: each is asked for once.
    """
    boundaries = last_four_pms(instants)
    _, first, number = np.unique(boundaries, return_index=True, return_inverse=True)
    matrices = np.empty((len(first), len(bars.symbols), len(bars.symbols)), dtype=np.float32)
    for k, row in enumerate(first):
        matrices[k] = estimator.at(bars.until(instants[row])).values
    return number.astype(np.int64), matrices


def positive_definite(values: Array) -> Array:
    """The matrix with its eigenvalues raised to a floor and its diagonal put back to one;
    unchanged if above it.
    """
    symmetric = (values + values.T) / 2
    eigenvalues, vectors = np.linalg.eigh(symmetric)
    if eigenvalues[0] >= SMALLEST_EIGENVALUE:
        return np.asarray(symmetric)
    raised = (vectors * np.maximum(eigenvalues, SMALLEST_EIGENVALUE)) @ vectors.T
    root = np.sqrt(np.diag(raised))
    scaled = raised / root[:, None] / root[None, :]
    np.fill_diagonal(scaled, 1.0)
    return np.asarray((scaled + scaled.T) / 2)


def hourly_returns(bars: Bars, members: npt.NDArray[np.int64], window: int) -> Array:
    """Last `window` log returns [N, M] on the members' common clock; NaN where either bar is
    missing.
    """
    rows = np.flatnonzero(bars.mask[members].any(axis=0))[-(window + 1) :]
    closes = bars.values[members][:, rows, CLOSE].T
    return np.diff(np.log(closes), axis=0)


def session_returns(bars: Bars, boundary: np.datetime64, window: int) -> Array:
    """Last `window` log returns [N, S] from 16:00 to 16:00 on session days; NaN where a symbol
    had no bar in the day.
    """
    return np.diff(np.log(session_closes(bars, boundary, window + 1)[1]), axis=0)


def session_closes(
    bars: Bars, boundary: np.datetime64, most: int | None = None
) -> tuple[Instants, Array]:
    """16:00 on the session days up to a boundary, the last `most` of them, and closes then [N, S].

    NaN where a symbol had no bar in the day.
    """
    today = new_york_date(np.array([boundary]))[0]
    days = sessions_between(new_york_date(bars.times[:1])[0], today)
    marks: Instants = four_pm(days)
    marks = marks[marks >= bars.times[0]]
    marks = marks if most is None else marks[-most:]
    closes = np.full((len(marks), len(bars.symbols)), np.nan)
    for s in range(len(bars.symbols)):
        times, values = bars.own(s)
        k = np.searchsorted(times, marks, side="right") - 1
        fresh = (
            (k >= 0) & (marks - times[np.maximum(k, 0)] < DAY)
            if len(times)
            else np.zeros(len(marks), dtype=bool)
        )
        closes[fresh, s] = values[k[fresh], CLOSE]
    return marks, closes


def _lean(returns: Array, prior: Array, window: int) -> Array:
    """Shrunk correlation of the returns [N, M], pair by pair mixed with the prior: weight n /
    window to the data.

    A pair uses the rows in which both are present, and has the prior where one of them does not
    move in those rows.
    """
    present = np.isfinite(returns)
    standard = _standardised(returns, present)
    shared = present.T.astype(float) @ present
    sample = _pairwise_correlation(standard, present, shared)
    counted = _counted(returns, shared, np.isfinite(sample), window)
    sample *= 1 - _ledoit_wolf_intensity(standard, shared, counted)
    known = np.isfinite(sample)
    trust = np.where(known, shared / window, 0.0)
    mixed = trust * np.where(known, sample, 0.0) + (1 - trust) * prior
    np.fill_diagonal(mixed, 1.0)
    return np.asarray(mixed)


def _standardised(returns: Array, present: Mask) -> Array:
    """Returns [N, M] with mean 0 and deviation 1 over a symbol's own rows; 0 where it has none
    or stands still.
    """
    rows = np.maximum(present.sum(axis=0), 1)
    centred = np.where(present, returns, 0.0)
    centred = np.where(present, centred - centred.sum(axis=0) / rows, 0.0)
    deviation = np.sqrt((centred**2).sum(axis=0) / rows)
    return np.asarray(centred / np.where(deviation > STILL, deviation, np.inf))


def _pairwise_correlation(standard: Array, present: Mask, shared: Array) -> Array:
    """Sample correlation [M, M] over the rows a pair shares; NaN where these are too few or one
    does not move in them.
    """
    weight = present.astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (standard.T @ weight) / shared
        variance = (standard**2).T @ weight / shared - mean**2
        cross = (standard.T @ standard) / shared - mean * mean.T
        moves = variance > SMALLEST_SHARE_OF_VARIANCE
        known = moves & moves.T & (shared >= FEWEST_ROWS)
        return np.where(known, np.clip(cross / np.sqrt(variance * variance.T), -1, 1), np.nan)


def _counted(returns: Array, shared: Array, known: Mask, window: int) -> Mask:
    """[M, M] the pairs, and the symbols in any of them, on which the intensity is estimated.

    They share half the window and both move in a tenth of it. A symbol without variance, with few
    bars or with a few ticks is in none: it changes the others' correlations not at all. The
    standardised fourth moment of a single tick is the length of the window, which alone would
    shrink a small class to nothing. A symbol that is in some takes part in the intensity, as Ledoit
    and Wolf's formula has it: the others change by that factor.
    """
    with np.errstate(invalid="ignore"):
        busy = (np.abs(returns) > STILL).sum(axis=0) >= window / 10
    counted = known & (shared >= window / 2) & busy[:, None] & busy[None, :]
    np.fill_diagonal(counted, False)
    np.fill_diagonal(counted, counted.any(axis=1))
    return np.asarray(counted)


def _ledoit_wolf_intensity(standard: Array, shared: Array, counted: Mask) -> float:
    """Σ variance of a sample covariance / Σ its squared distance from the identity, over the
    counted pairs, at most 1.

    Ledoit and Wolf 2004, a well-conditioned estimator for large-dimensional covariance matrices,
    section 3.2, with each pair's own rows; where no row is missing it is theirs.
    """
    if not counted.any():
        return 0.0
    rows = np.where(counted, shared, 1.0)
    covariance = (standard.T @ standard) / rows
    square = standard**2
    variance = ((square.T @ square) / rows - covariance**2) / rows
    distance = (covariance - np.eye(len(counted))) ** 2
    noise = variance[counted].sum()
    signal = distance[counted].sum()
    return float(min(noise, signal) / signal) if signal > 0 else 0.0
