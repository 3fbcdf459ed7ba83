"""Price history that a strategy sees: the last bars of each symbol up to a decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from foundation.arrays import Array, Index, Instants
from trainingdata.bars import FIELDS, Bars

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
        self._first = 0 if keep is None else -keep
        self._position = {symbol: s for s, symbol in enumerate(bars.symbols)}
        self._loaded: dict[str, _SymbolBars] = {}

    def history(self, symbols: Sequence[str], length: int, row: int | None = None) -> PriceHistory:
        """Return the last `length` bars of each of these symbols, up to a row of the panel.

        A symbol that the panel lacks, or an empty name, has no bars.

        row: index of the row; None: the last row.
        """
        if length == 0:
            return NO_HISTORY
        row = len(self._bars.times) - 1 if row is None else row
        times = np.full((len(symbols), length), _NAT)
        values = np.full((len(symbols), len(FIELDS), length), np.nan)
        for k, symbol in enumerate(symbols):
            if symbol in self._position:
                own = self._load_symbol_bars(symbol)
                end = int(own.counts[row])
                begin = max(end - length, 0)
                if begin < end:
                    times[k, begin - end :] = own.times[begin:end]
                    values[k, :, begin - end :] = own.values[:, begin:end]
        columns = [values[:, field].copy() for field in range(len(FIELDS))]
        for array in (times, *columns):
            array.flags.writeable = False
        return PriceHistory(times, *columns)

    def _load_symbol_bars(self, symbol: str) -> _SymbolBars:
        if (found := self._loaded.get(symbol)) is not None:
            return found
        s = self._position[symbol]
        present = self._bars.mask[s]
        rows = np.flatnonzero(present)[self._first :]
        counts = np.cumsum(present)
        loaded = _SymbolBars(
            np.maximum(counts - (counts[-1] - len(rows)), 0),
            self._bars.times[rows],
            np.ascontiguousarray(self._bars.values[s, rows].T),
        )
        return self._loaded.setdefault(symbol, loaded)


class _SymbolBars(NamedTuple):
    """The N bars of one symbol, placed on a panel of T instants.

    counts: [T] number of the symbol's bars up to each instant.
    times: [N] known-at instants.
    values: [5, N] open, high, low, close in USD, and volume.
    """

    counts: Index
    times: Instants
    values: Array


NO_HISTORY = PriceHistory(np.empty((0, 0), "datetime64[ns]"), *[np.empty((0, 0)) for _ in FIELDS])
