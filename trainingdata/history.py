"""Price history that a strategy sees: each symbol's own last bars up to a decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foundation.arrays import Array, Index, Instants
from trainingdata.bars import FIELDS, Bars

_NAT = np.datetime64("NaT", "ns")


@dataclass(frozen=True, eq=False, slots=True)
class PriceHistory:
    """The last T own bars of each of S symbols, oldest first, as known at a decision.

    A symbol with fewer bars has NaN, and NaT in `times`, before its first one. The last column is
    each symbol's latest bar. Prices are adjusted for the splits known at the decision. The arrays
    are read-only copies: they lead to no other bar.

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


class OwnBars:
    """The bars of a panel by symbol, without the instants at which a symbol has none.

    keep: number of last bars of each symbol that are kept; None: all.
    """

    def __init__(self, bars: Bars, keep: int | None = None) -> None:
        self._bars = bars
        self._first = 0 if keep is None else -keep
        self._position = {symbol: s for s, symbol in enumerate(bars.symbols)}
        self._loaded: dict[int, tuple[Index, Instants, Array]] = {}

    def history(self, symbols: Sequence[str], length: int, row: int | None = None) -> PriceHistory:
        """Return the last `length` bars of these symbols up to a row of the panel.

        A symbol that the panel lacks, or an empty name, has no bars.

        row: None stands for the last row.
        """
        if length == 0:
            return NO_HISTORY
        shape = len(symbols), length
        times = np.full(shape, _NAT)
        values = [np.full(shape, np.nan) for _ in FIELDS]
        for k, symbol in enumerate(symbols):
            if (s := self._position.get(symbol)) is None:
                continue
            rows, known, own = self._own(s)
            end = len(rows) if row is None else int(np.searchsorted(rows, row, side="right"))
            begin = max(end - length, 0)
            if begin == end:
                continue
            times[k, begin - end :] = known[begin:end]
            for column, field in zip(values, own, strict=True):
                column[k, begin - end :] = field[begin:end]
        for array in (times, *values):
            array.flags.writeable = False
        return PriceHistory(times, *values)

    def _own(self, s: int) -> tuple[Index, Instants, Array]:
        """Return the rows, the known-at instants and the values [5, N] of a symbol's bars."""
        if s not in self._loaded:
            rows = np.flatnonzero(self._bars.mask[s])[self._first :]
            values = np.ascontiguousarray(self._bars.values[s, rows].T)
            self._loaded[s] = rows, self._bars.times[rows], values
        return self._loaded[s]


NO_HISTORY = PriceHistory(np.empty((0, 0), "datetime64[ns]"), *[np.empty((0, 0)) for _ in FIELDS])
