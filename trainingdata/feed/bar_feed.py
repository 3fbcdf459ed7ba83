"""Bars for a live loop: requested once, then extended at each cycle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foundation.arrays import Array, Instants
from foundation.errors import DataError
from foundation.formatting import format_count
from trainingdata.bars import CLOSE, Bars, build_panel
from trainingdata.feed.market_data import MarketData
from trainingdata.instants import history_start
from trainingdata.instruments import Instrument, instrument, is_symbol
from trainingdata.last_trade import LastTrade

# Number of a symbol's last bars that are requested again each time, to detect changes.
REFETCHED_BARS = 14
# Smallest share of a symbol's known bars that a newly requested history must have; a shorter one is
# rejected.
MIN_REFETCHED_SHARE = 0.9


class BarFeed:
    """Current bars of symbols for a live loop, requested once and then extended.

    data: market data of the venue.
    symbols: the symbols.
    days: length of the history in whole UTC days before the day of a request.
    grace_seconds: seconds after a bar's close during which a missing or incomplete bar counts as
        late.
    """

    def __init__(
        self, data: MarketData, symbols: Sequence[str], days: int, grace_seconds: float = 0.0
    ) -> None:
        self._data = data
        self._symbols = symbols
        self._days = days
        self._patience = np.timedelta64(round(grace_seconds * 1000), "ms")
        self._tables: dict[Instrument, tuple[Instants, Array]] = {}
        self.rejected_histories: dict[str, str] = {}  # reason by symbol

    def bars(self, now: np.datetime64) -> Bars:
        """Return the bars of the history that are known at `now`.

        The result does not depend on how long the feed has run, since bars that have become too old
        are dropped. If older bars of a symbol have changed, as after a split, its history is
        requested again. If the venue returns only a part of that history, the symbol keeps its
        earlier bars.

        Raises DataError for bars that cannot be trusted, and if there are none; BrokerError for a
        venue that does not respond, or rejects a request.
        """
        since = history_start(now, self._days)
        self._drop_bars_before(since)
        self.rejected_histories = {}
        changed = self._append_new_bars(now)
        missing = [symbol for symbol in self._symbols if instrument(symbol) not in self._tables]
        if missing or changed:
            self._request_histories([*missing, *changed], since, now)
        if not self._tables:
            days = format_count(self._days, "day")
            raise DataError(
                f"{', '.join(self._symbols)}: the venue has no bars from the last {days}"
            )
        tables = [(item, *table) for item, table in self._tables.items()]
        return build_panel(tables, "bars of the venue", self._data.timeframe)

    def _request_histories(
        self, symbols: Sequence[str], since: np.datetime64, now: np.datetime64
    ) -> None:
        """Replace each symbol's whole history, unless the new one lacks too many known bars."""
        answers = self._data.bars_by_symbol(symbols, since, now, self._patience)
        listed = {item: (times, values) for item, times, values in answers}
        for item in map(instrument, symbols):
            count = len(listed[item][0]) if item in listed else 0
            before = len(self._tables[item][0]) if item in self._tables else 0
            if count >= MIN_REFETCHED_SHARE * before and item in listed:
                self._tables[item] = listed[item]
            elif before:
                self.rejected_histories[item.symbol] = (
                    f"the venue returned only {count} of the {before} known bars"
                )

    def _drop_bars_before(self, since: np.datetime64) -> None:
        """Drop bars that began before an instant."""
        for item, (times, values) in list(self._tables.items()):
            started = self._data.timeframe.clock(item.kind).starts_by_end(times)
            first = np.searchsorted(started, since)
            if first == len(times):
                del self._tables[item]
            elif first:
                self._tables[item] = times[first:], values[first:]

    def late_symbols(self, now: np.datetime64) -> tuple[str, ...]:
        """Return the symbols whose last bar closed within the grace period and is missing."""
        symbols = []
        for symbol in self._symbols:
            item = instrument(symbol)
            recent = now - self._last_known_bar_end(item, now) < self._patience
            if recent and not self._has_last_bar(item, now):
                symbols.append(symbol)
        return tuple(symbols)

    def known_closes(self, symbol: str, since: np.datetime64) -> tuple[Instants, Array]:
        """Return ends [T] and closes [T] of a symbol's bars after an instant, without a request."""
        item = instrument(symbol) if is_symbol(symbol) else None
        if item not in self._tables:
            return np.empty(0, "datetime64[ns]"), np.empty(0)
        times, values = self._tables[item]
        first = int(np.searchsorted(times, since, side="right"))
        return times[first:], values[first:, CLOSE]

    def prices(self, symbols: Sequence[str], now: np.datetime64) -> dict[str, float]:
        return self._data.prices(symbols, now)

    def last_trades(self, symbols: Sequence[str]) -> dict[str, LastTrade]:
        return self._data.last_trades(symbols)

    def _last_known_bar_end(self, item: Instrument, now: np.datetime64) -> np.datetime64:
        return self._data.timeframe.last_bar_end(item.kind, now)

    def _has_last_bar(self, item: Instrument, now: np.datetime64) -> bool:
        """Return whether a symbol's last bar that has closed by `now` is present."""
        table = self._tables.get(item)
        return table is not None and bool(table[0][-1] >= self._last_known_bar_end(item, now))

    def _append_new_bars(self, now: np.datetime64) -> list[str]:
        """Add new bars, and apply the venue's corrections of recent bars.

        Returns the symbols whose price units have changed; their bars are not updated.
        """
        due = [item for item in self._tables if not self._has_last_bar(item, now)]
        if not due:
            return []
        changed = []
        since = min(self._tables[item][0][-REFETCHED_BARS:][0] for item in due)
        symbols = [item.symbol for item in due]
        for item, times, values in self._data.bars_by_symbol(symbols, since, now, self._patience):
            old_times, old_values = self._tables[item]
            shared = np.flatnonzero(np.isin(times, old_times))
            # The venue corrects its latest bars. A bar that is many hours old changes only when the
            # whole history is adjusted again, and then no known bar fits the new ones.
            if len(shared):
                first = shared[0]
                old_row = np.searchsorted(old_times, times[first])
                if not np.array_equal(values[first], old_values[old_row]):
                    changed.append(item.symbol)
                    continue
            before = old_times < times[0]
            self._tables[item] = (
                np.concatenate([old_times[before], times]),
                np.concatenate([old_values[before], values]),
            )
        return changed
