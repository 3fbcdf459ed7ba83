"""Values of a panel known at each midnight: closes, volatility, traded value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foundation.arrays import Array, Index, Mask, Matrix
from foundation.compiled import compiled
from trainingdata.bars import CLOSE, VOLUME, Bars
from trainingdata.instants import Dates, new_york_midnight
from trainingdata.sessions import exchange_calendar
from trainingdata.timeframe import MARKET_DAYS_PER_YEAR


@dataclass(frozen=True, eq=False, slots=True)
class MidnightValues:
    """Values of S symbols at the midnights of R days, from the bars of D New York days.

    bars: the panel.
    days: [R] days whose midnights are evaluated, increasing.
    window_days: length of the window that ends at each midnight, in calendar days.
    first_day: first of the D days, the day before the first window.
    bar_counts: [D + 1, S] number of bars known at each midnight from `first_day` on.
    closes: [D + 1, S] last close known at each midnight; NaN before the first close.
    traded_usd: [D, S] traded value of each day, USD.
    """

    bars: Bars
    days: Dates
    window_days: int
    first_day: np.datetime64
    bar_counts: Index
    closes: Array
    traded_usd: Array

    @classmethod
    def from_bars(cls, bars: Bars, days: Dates, window: int) -> MidnightValues:
        """Compute the values for windows that end at the midnight of each of `days`."""
        begin = days[0] - window - 1
        midnights = new_york_midnight(np.arange(begin, days[-1] + 1))
        # A bar that ends at a midnight belongs to the day before it, and is known then.
        rows = np.searchsorted(bars.times, midnights, side="right").astype(np.int64)
        history = bars.slice_rows(0, rows[0])
        size = len(bars.symbols)
        counts = np.zeros((len(rows), size), dtype=np.int64)
        closes = np.full((len(rows), size), np.nan)
        traded = np.zeros((len(rows) - 1, size))
        if len(history.times):
            counts[0] = np.count_nonzero(history.mask, axis=1)
            closes[0] = history.last_closes()
        part = slice(rows[0], rows[-1])
        mask = np.ascontiguousarray(bars.mask[:, part].T)
        close = np.ascontiguousarray(bars.values[:, part, CLOSE].T)
        volume = np.ascontiguousarray(bars.values[:, part, VOLUME].T)
        _write_daily_values(mask, close, volume, rows - rows[0], counts, closes, traded)
        return cls(bars, days, window, begin, counts, closes, traded)

    def bar_counts_at(self, days: Dates) -> Index:
        return self.bar_counts[self._places(days)]

    def closes_at(self, days: Dates) -> Array:
        """Return the last close known at each day's midnight, [R, S]; NaN without a close."""
        return self.closes[self._places(days)]

    def annualised_volatility(self) -> Array:
        """Return the annualised volatility of the daily returns in each window, [R, S].

        It is NaN for fewer than two returns.
        """
        a_year = np.array([MARKET_DAYS_PER_YEAR[item.kind] for item in self.bars.instruments])
        last = self._places(self.days)
        variance = _window_variances(self.bar_counts, self.closes, last - self.window_days, last)
        return np.asarray(np.sqrt(variance * a_year))

    def median_dollar_volume(self) -> Array:
        """Return the median daily traded USD in each window, [R, S]; -inf without a trade."""
        found = np.full((len(self.days), len(self.bars.symbols)), -np.inf)
        last = self._places(self.days)
        sessions = np.isin(np.arange(self.first_day, self.days[-1]), exchange_calendar().dates)
        for members, open_days in (
            (~self.bars.crypto, sessions),
            (self.bars.crypto, np.ones_like(sessions)),
        ):
            place = np.concatenate([[0], np.cumsum(open_days)])
            daily = np.ascontiguousarray(self.traded_usd[np.ix_(open_days, members)].T)
            found[:, members] = _window_medians(daily, place[last - self.window_days], place[last])
        return np.where(found > 0.0, found, -np.inf)

    def _places(self, days: Dates) -> Index:
        return (days - self.first_day).astype(np.int64)


@compiled
def _write_daily_values(
    mask: Mask,
    close: Array,
    volume: Array,
    rows: Index,
    counts: Index,
    closes: Array,
    traded: Array,
) -> None:
    """Write counts, closes and traded values, as in `MidnightValues`, after each of D days.

    The arrays are written in place.

    mask, close, volume: [T, S] the bars of these days.
    rows: [D + 1] number of bar rows known by each midnight.
    counts, closes: [D + 1, S] result; the first row is given.
    traded: [D, S] result.
    """
    for d in range(len(traded)):
        for s in range(counts.shape[1]):
            counts[d + 1, s] = counts[d, s]
            closes[d + 1, s] = closes[d, s]
        for t in range(rows[d], rows[d + 1]):
            for s in range(counts.shape[1]):
                if mask[t, s]:
                    counts[d + 1, s] += 1
                    closes[d + 1, s] = close[t, s]
                    traded[d, s] += close[t, s] * volume[t, s]


@compiled
def _window_variances(counts: Index, closes: Array, first: Index, last: Index) -> Matrix:
    """Return the mean squared daily log return in each window, [R, S]; NaN below two returns.

    counts, closes: [D + 1, S] number of bars and last close at each midnight.
    first, last: [R] first day of each window, and the day after it, as indices.
    """
    moves = np.full((len(closes) - 1, closes.shape[1]), np.nan)
    for d in range(len(moves)):
        for s in range(moves.shape[1]):
            if counts[d + 1, s] > counts[d, s]:
                moves[d, s] = np.log(closes[d + 1, s] / closes[d, s]) ** 2
    found = np.full((len(first), moves.shape[1]), np.nan)
    for r in range(len(first)):
        total = np.zeros(moves.shape[1])
        count = np.zeros(moves.shape[1])
        for d in range(first[r], last[r]):
            for s in range(moves.shape[1]):
                if not np.isnan(moves[d, s]):
                    total[s] += moves[d, s]
                    count[s] += 1.0
        for s in range(moves.shape[1]):
            if count[s] > 1.0:
                found[r, s] = total[s] / count[s]
    return found


@compiled
def _window_medians(daily: Array, first: Index, last: Index) -> Matrix:
    """Return the median of daily[s, first:last] for each window and symbol, [R, S]; -inf if empty.

    daily: [S, D] daily values.
    first, last: [R] bounds of the windows, `last` excluded; both must be non-decreasing.
    """
    found = np.full((len(first), len(daily)), -np.inf)
    ordered = np.empty(daily.shape[1])
    for s in range(len(daily)):
        begin = end = size = 0
        for r in range(len(first)):
            # The window's values stay sorted: insertion and removal shift the others.
            while end < last[r]:
                k = size
                while k > 0 and ordered[k - 1] > daily[s, end]:
                    ordered[k] = ordered[k - 1]
                    k -= 1
                ordered[k] = daily[s, end]
                size += 1
                end += 1
            while begin < first[r]:
                size -= 1
                for k in range(np.searchsorted(ordered[: size + 1], daily[s, begin]), size):
                    ordered[k] = ordered[k + 1]
                begin += 1
            if size > 0:
                found[r, s] = (ordered[(size - 1) // 2] + ordered[size // 2]) / 2.0
    return found
