"""Price history that a strategy sees: the last bars of each symbol up to a decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from foundation.arrays import Array, Index, Instants
from trainingdata.bars import OHLCV_FIELDS, Bars

_NAT = np.datetime64("NaT", "ns")


@dataclass(frozen=True, eq=False, slots=True)
class PriceHistory:
    """The last T bars of each of S symbols, oldest first, as known at a decision.

    Each symbol has its own T bars, so that a column holds bars of different instants. The last
    column is each symbol's latest bar. A symbol with fewer bars has NaN, and NaT in `times`, before
    its first bar. Prices are adjusted for the splits known at the decision. The arrays are
    read-only copies, so that they give no access to later bars.

    times: [S, T] UTC `datetime64[ns]`, instants at which the bars became known.
    opens, highs, lows, closes: [S, T] USD.
    volumes: [S, T] shares or coins.
    """

    times: Instants
    opens: Array
    highs: Array
    lows: Array
    closes: Array
    volumes: Array


class BarsBySymbol:
    """The bars of a panel by symbol, without the instants at which a symbol has no bar.

    keep: number of last bars of each symbol that are kept; None: all.
    """

    def __init__(self, bars: Bars, keep: int | None = None) -> None:
        self._bars = bars
        self._keep = len(bars.times) if keep is None else keep
        self._row = {symbol: s for s, symbol in enumerate(bars.symbols)}
        self._padded: _PaddedBars | None = None

    def history(self, symbols: Sequence[str], length: int, row: int | None = None) -> PriceHistory:
        """Return the last `length` bars of each of these symbols, up to a row of the panel.

        A symbol that the panel lacks, or an empty name, has no bars.

        row: index of the row; None: the last row.
        """
        if length == 0:
            return NO_HISTORY
        if self._padded is None or self._padded.length != length:
            self._padded = _PaddedBars.of(self._bars, self._keep, length)
        row = -1 if row is None else row
        common = self._padded.common_counts[row]
        place: tuple[slice, slice] | tuple[Index, Index]
        if common >= 0 and tuple(symbols) == self._bars.symbols:
            # Slices are copied faster than single bars.
            place = slice(len(symbols)), slice(common, common + length)
        else:
            counts = self._padded.counts[row]
            rows = np.array([self._row.get(symbol, -1) for symbol in symbols], dtype=np.int64)
            place = rows[:, None], counts[rows, None] + np.arange(length)
        columns = [column[place].copy() for column in (self._padded.times, *self._padded.values)]
        for array in columns:
            array.flags.writeable = False
        return PriceHistory(*columns)


class _PaddedBars(NamedTuple):
    """The own bars of S symbols side by side, behind `length` empty bars; an empty row is last.

    counts: [T, S + 1] number of own bars until each instant; the last bars until then end before
        column `length` plus this number.
    common_counts: number of own bars of every symbol until each of T instants; -1 if they differ.
    times: [S + 1, N] known-at instants.
    values: [5, S + 1, N] open, high, low, close in USD, and volume.
    """

    length: int
    counts: Index
    common_counts: list[int]
    times: Instants
    values: Array

    @classmethod
    def of(cls, bars: Bars, keep: int, length: int) -> _PaddedBars:
        """Return the last `keep` own bars of each symbol of a panel."""
        size, instants = bars.mask.shape
        counts = np.zeros((size + 1, instants), dtype=np.int64)
        np.cumsum(bars.mask, axis=1, out=counts[:size])
        counts = np.maximum(counts - np.maximum(counts[:, -1:] - keep, 0), 0)
        symbol, instant = np.nonzero(bars.mask & (counts[:size] > 0))
        column = length + counts[symbol, instant] - 1
        width = length + int(counts.max())
        times = np.full((size + 1, width), _NAT)
        times[symbol, column] = bars.times[instant]
        values = np.full((len(OHLCV_FIELDS), size + 1, width), np.nan)
        values[:, symbol, column] = bars.values[symbol, instant].T
        same = (counts[:size] == counts[0]).all(axis=0)
        common = np.where(same, counts[0], -1).tolist()
        return cls(length, np.ascontiguousarray(counts.T), common, times, values)


NO_HISTORY = PriceHistory(
    np.empty((0, 0), "datetime64[ns]"), *[np.empty((0, 0)) for _ in OHLCV_FIELDS]
)
