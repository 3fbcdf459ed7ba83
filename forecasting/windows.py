"""Input windows of a history's forecasts, and the keys under which forecasts are cached.

Dimensions: S symbols, T instants, N windows, L bars in a window.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from foundation.arrays import Array, Index, Instants, concatenate_ranges
from trainingdata.bars import CLOSE, Bars

WindowKeys = npt.NDArray[np.uint64]


@dataclass(frozen=True, eq=False, slots=True)
class Windows:
    """Input windows of N forecasts: each contains a symbol's last closes up to the issuing bar.

    closes: [S] arrays with the closes of all bars of each symbol, USD.
    window_lengths: [S] number of bars in each symbol's windows.
    symbol_index: [N] index of each window's symbol, nondecreasing.
    last_bar_index: [N] index of the issuing bar among the symbol's bars.
    issued_at: [N] instant at which the issuing bar became known.
    """

    closes: tuple[Array, ...]
    window_lengths: Index
    symbol_index: Index
    last_bar_index: Index
    issued_at: Instants

    @classmethod
    def from_bars(
        cls, bars: Bars, since: np.datetime64 | Instants, window_lengths: int | Index
    ) -> Windows:
        """Return the windows issued at or after `since`, and each symbol's last window before it.

        since: first instant of issue: one for all symbols, or one per symbol [S].
        window_lengths: number of bars per window: one for all symbols, or one per symbol [S]. A
            symbol has no window until it has that many bars.
        """
        count = len(bars.symbols)
        window_lengths = np.broadcast_to(np.asarray(window_lengths, dtype=np.int64), count)
        own = bars.mask.sum(axis=1)
        before = (bars.mask & (bars.times < np.broadcast_to(since, count)[:, None])).sum(axis=1)
        # The last window before `since` is kept: it is the symbol's latest one until its next bar.
        first = np.maximum(window_lengths, before) - 1
        symbol = np.repeat(np.arange(count), np.maximum(own - first, 0))
        last = concatenate_ranges(first, own)
        ends = np.cumsum(own)
        known = np.broadcast_to(bars.times, bars.mask.shape)[bars.mask]
        return cls(
            closes=tuple(np.split(bars.values[..., CLOSE][bars.mask], ends[:-1])),
            window_lengths=window_lengths,
            symbol_index=symbol,
            last_bar_index=last,
            issued_at=known[(ends - own)[symbol] + last],
        )

    def __len__(self) -> int:
        return len(self.symbol_index)

    def select(self, indices: Index) -> Windows:
        """Return the windows with these indices."""
        symbol = self.symbol_index[indices]
        last = self.last_bar_index[indices]
        issued = self.issued_at[indices]
        return Windows(self.closes, self.window_lengths, symbol, last, issued)

    def indices_since(self, since: np.datetime64 | Instants) -> Index:
        """Return the indices of windows issued from `since` on, and each symbol's last before it.

        since: one instant for all symbols, or one per symbol, [S].
        """
        parts = self.slices_by_symbol()
        begins = np.broadcast_to(since, len(parts))
        chosen = [
            np.arange(part.start + last_index_before(self.issued_at[part], begin), part.stop)
            for part, begin in zip(parts, begins, strict=True)
        ]
        return np.concatenate(chosen)

    def slices_by_symbol(self) -> list[slice]:
        """Return the slice of each symbol's windows, [S]."""
        bounds = np.searchsorted(self.symbol_index, np.arange(len(self.closes) + 1))
        return [slice(first, last) for first, last in pairwise(bounds.tolist())]

    def group_by_month(self) -> list[Index]:
        """Group windows by month of issue; return the indices of each month, increasing."""
        if not len(self):
            return []
        first, last = self.issued_at.min(), self.issued_at.max()
        months = np.arange(first, last + np.timedelta64(31, "D"), dtype="datetime64[M]")
        return [
            month for month in self.group_by_interval(months.astype("datetime64[ns]")) if len(month)
        ]

    def group_by_interval(self, interval_starts: Instants) -> list[Index]:
        """Group windows by intervals of issue; return the indices of the windows in each interval.

        interval_starts: increasing instants at which intervals begin. The last interval has no end,
            and windows before the first mark are skipped.
        """
        parts = self.slices_by_symbol()
        begins = [
            np.searchsorted(self.issued_at[part], interval_starts) + part.start for part in parts
        ]
        ends = np.array([part.stop for part in parts])
        return [
            concatenate_ranges(first, stop) for first, stop in pairwise([*np.array(begins).T, ends])
        ]

    @property
    def price(self) -> Array:
        """Last close of each window, in USD, [N]."""
        prices = np.empty(len(self))
        for closes, part in zip(self.closes, self.slices_by_symbol(), strict=True):
            prices[part] = closes[self.last_bar_index[part]]
        return prices

    def contexts(self, rows: Index) -> Array:
        """Return the closes [n, L] of the windows with indices `rows` [n].

        Raises ValueError for windows of different lengths.
        """
        symbol = self.symbol_index[rows]
        last = self.last_bar_index[rows]
        length = int(self.window_lengths[symbol[0]]) if len(rows) else 0
        batch = np.empty((len(rows), length))
        for s in np.unique(symbol):
            if self.window_lengths[s] != length:
                raise ValueError(
                    f"windows of {length} and {self.window_lengths[s]} bars cannot share a batch;"
                    " they"
                    " must have the same length"
                )
            chosen = symbol == s
            view = np.lib.stride_tricks.sliding_window_view(self.closes[s], length)
            batch[chosen] = view[last[chosen] - length + 1]
        return batch

    def realised_log_returns(self, bars: Bars, steps: int, before: np.datetime64) -> Array:
        """Return the log returns from each window's last close to its next ones, [N, steps].

        They are the targets of a training that ends at `before`: a return whose close is not known
        until later is NaN.

        bars: panel from which the windows were made.
        steps: number of the symbol's bars ahead.
        before: exclusive bound of the instants at which closes become known.
        """
        returns = np.full((len(self), steps), np.nan)
        for s, rows in enumerate(self.slices_by_symbol()):
            known = int(np.searchsorted(bars.bars_of_symbol(s)[0], before))
            logs = np.append(np.log(self.closes[s][:known]), np.full(steps + 1, np.nan))
            last = np.minimum(self.last_bar_index[rows], known)
            returns[rows] = logs[last[:, None] + np.arange(1, steps + 1)] - logs[last, None]
        return returns

    def latest_window_indices(self, clock: Instants) -> npt.NDArray[np.int32]:
        """Return the index of each symbol's last window issued at or before each instant, [S, T].

        It is -1 before the symbol's first window.

        clock: [T] instants.
        """
        rows = np.full((len(self.closes), len(clock)), -1, dtype=np.int32)
        column = np.searchsorted(clock, self.issued_at)
        rows[self.symbol_index, column] = np.arange(len(self), dtype=np.int32)
        return np.maximum.accumulate(rows, axis=1, out=rows)

    def content_keys(self) -> WindowKeys:
        """Return a 64-bit key of each window, [N]: a hash of its closes and its instant."""
        addresses = np.empty(len(self), dtype=np.uint64)
        parts = zip(self.closes, self.window_lengths.tolist(), self.slices_by_symbol(), strict=True)
        for closes, length, part in parts:
            if part.start < part.stop:
                first = int(self.last_bar_index[part.start]) - length + 1
                hashed = _rolling_hash(mix_bits(closes[first:].view(np.uint64)), length)
                stamps = self.issued_at[part].astype("datetime64[ns]").view(np.uint64)
                content = hashed[self.last_bar_index[part] - length + 1 - first]
                addresses[part] = mix_bits(content ^ mix_bits(stamps))
        return addresses


def last_index_before(times: Instants, since: np.datetime64) -> int:
    """Return the index of the last instant before `since`, or 0 without one.

    times: increasing instants.
    """
    return max(int(np.searchsorted(times, since)) - 1, 0)


def mix_bits(bits: WindowKeys) -> WindowKeys:
    """Mix the bits of 64-bit integers, as the finaliser of SplitMix64 (Steele et al. 2014) does."""
    x = bits + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _rolling_hash(values: WindowKeys, length: int) -> WindowKeys:
    """Return a polynomial modulo 2^64 of each run of consecutive values.

    The result has N - length + 1 entries for N values.

    length: number of values in a run.
    """
    # Every window is summed from scratch: its key then depends on its own bars alone, not on the
    # start of the history.
    count = len(values) - length + 1
    total = np.zeros(count, dtype=np.uint64)
    for k in range(length):
        total = total * np.uint64(0xD1342543DE82EF95) + values[k : k + count]
    return total
