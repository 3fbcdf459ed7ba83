"""Bars of stocks and crypto in one panel, and the validation of bars.

The panel lists each bar at the instant at which it became **known**. Missing bars are masked, never
filled.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Literal

import numpy as np

from foundation.arrays import Array, Instants, Mask, first_true_index
from foundation.errors import DataError
from trainingdata.instants import format_utc
from trainingdata.instruments import AssetClass, Instrument
from trainingdata.sessions import exchange_calendar, format_outside_calendar, is_in_session
from trainingdata.timeframe import HOURLY, Clock, Timeframe

OHLCV_FIELDS = ("open", "high", "low", "close", "volume")
OPEN, HIGH, LOW, CLOSE, VOLUME = range(5)
# USD. Below it an order of the largest quantity is worth less than a dollar, and a fill has too
# many parts.
MIN_PRICE = 1e-11
NO_INSTANTS: Instants = np.empty(0, dtype="datetime64[ns]")

DataWarningKind = Literal["split", "ratio", "move", "action", "left_out"]
MERGED_WARNING_KINDS = ("move", "left_out")  # kinds that `merge_warnings` merges
UnconfirmedBars = tuple[
    Instants, Array
]  # known-at instants [n] and values [n, 5] of a symbol's bars

# Fields that are the same for every part of a panel.
_SHARED_FIELDS = (
    "instruments",
    "source",
    "timeframe",
    "provenances",
    "unconfirmed_bars",
    "symbols",
    "crypto",
    "long_only",
    "tradable",
)

# Adjustment factors for splits and dividends may round a price past the high or low that it equals:
# by 2e-16 of it in 27 of 93,648 adjusted daily bars of a vendor. A tick is 1e-7 of the largest
# price and never this small.
OHLC_RTOL = 1e-9


@dataclass(frozen=True, slots=True)
class DataWarning:
    """A data warning: a possible fault of a symbol's bars, reported with every result.

    symbol: the symbol.
    bar_start: start of the suspect bar, or of the first of several.
    observation: the observed fact.
    effect: the effect on a run's results.
    remedy: possible causes, and advice.
    kind: `split`: a usual split ratio; `ratio`: a rare split ratio; `move`: another large move;
        `action`: a listed action that prices do not show; `left_out`: a bar that is not used.
    move_size: size of the price move, to rank warnings of one kind.
    """

    symbol: str
    bar_start: np.datetime64
    observation: str
    effect: str
    remedy: str
    kind: DataWarningKind
    move_size: float = 0.0

    def __str__(self) -> str:
        start = format_utc(self.bar_start)
        return f"{self.symbol}, {start}: {self.observation}; {self.effect}; {self.remedy}."

    def as_dict(self) -> dict[str, str]:
        """Return the data warning as a dictionary of texts."""
        return {
            "symbol": self.symbol,
            "at": format_utc(self.bar_start),
            "what": self.observation,
            "effect": self.effect,
            "cure": self.remedy,
        }


def merge_warnings(data_warnings: Iterable[DataWarning]) -> tuple[DataWarning, ...]:
    """Merge a symbol's warnings about moves into one warning, and those about unused bars into one.

    The merged warning is the one about the largest move; it states the number and the period of the
    merged warnings. Other kinds are not merged.
    """
    groups: dict[tuple[object, ...], list[DataWarning]] = {}
    for doubt in sorted(data_warnings, key=attrgetter("symbol", "bar_start")):
        place = (doubt.symbol, doubt.kind)
        alone = () if doubt.kind in MERGED_WARNING_KINDS else (doubt.bar_start,)
        groups.setdefault((*place, *alone), []).append(doubt)
    merged = []
    for group in groups.values():
        largest = max(group, key=attrgetter("move_size"))
        if len(group) > 1:
            span = f"{format_utc(group[0].bar_start)} to {format_utc(group[-1].bar_start)}"
            what = f"{largest.observation} (the largest of {len(group)} such bars, {span})"
            largest = replace(largest, observation=what)
        merged.append(largest)
    return tuple(merged)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Provenance of a symbol's bars: their file and its conventions.

    file: path of the file.
    time_zone: time zone of the timestamps, as text.
    row_minutes: length of a row in minutes; shorter than the bar if rows are aggregated.
    notes: descriptions of the parts of the file that are ignored or converted.
    stamps_are_ends: whether a timestamp is the end of its bar, not the start.
    data_warnings: data warnings about the bars, one per bar.
    is_volume_unit_known: whether the unit of volume is known.
    """

    file: str
    time_zone: str
    row_minutes: int
    notes: tuple[str, ...] = ()
    stamps_are_ends: bool = False
    data_warnings: tuple[DataWarning, ...] = ()
    is_volume_unit_known: bool = True

    @property
    def stamp_description(self) -> str:
        """Description of the timestamps: time zone, and start or end of the bar."""
        return f"{self.time_zone}, {'end' if self.stamps_are_ends else 'begin'}"


@dataclass(frozen=True, eq=False, slots=True)
class Bars:
    """A panel of bars: S symbols on one clock of T instants.

    instruments: instruments of the symbols, in panel order.
    times: [T] UTC `datetime64[ns]`, increasing; instants at which any symbol's bar became known.
    values: [S, T, 5] float64, open, high, low, close in USD, and volume; NaN where `mask` is false.
    mask: [S, T] whether the symbol has a bar at the instant.
    source: short description of the source, for reports.
    timeframe: length of a bar.
    provenances: provenance of each symbol's bars; empty if the bars are not from files.
    unconfirmed_bars: known-at instants [n] and values [n, 5] of each symbol's bars that are not
        used because no other bar confirms them; empty if all bars are used.
    symbols: symbols of the instruments.
    crypto: [S] whether the symbol is crypto.
    long_only: [S] whether the symbol cannot be sold short.
    tradable: [S] whether the venue accepts orders in the symbol.
    """

    instruments: tuple[Instrument, ...]
    times: Instants
    values: Array
    mask: Mask
    source: str
    timeframe: Timeframe = HOURLY
    provenances: tuple[Provenance, ...] = ()
    unconfirmed_bars: tuple[UnconfirmedBars, ...] = ()
    symbols: tuple[str, ...] = field(init=False)
    crypto: Mask = field(init=False)
    long_only: Mask = field(init=False)
    tradable: Mask = field(init=False)

    def __post_init__(self) -> None:
        expected = (len(self.instruments), len(self.times), len(OHLCV_FIELDS))
        if self.values.shape != expected:
            raise ValueError(
                f"values must have shape [S, T, 5] = {expected}, got {self.values.shape}"
            )
        if self.mask.shape != expected[:2]:
            raise ValueError(f"mask must have shape [S, T] = {expected[:2]}, got {self.mask.shape}")
        if self.provenances and len(self.provenances) != len(self.instruments):
            raise ValueError(
                f"origins must have length S = {expected[0]}, got {len(self.provenances)}"
            )
        if self.unconfirmed_bars and len(self.unconfirmed_bars) != len(self.instruments):
            raise ValueError(
                f"unconfirmed_bars must have length S = {expected[0]}, got"
                f" {len(self.unconfirmed_bars)}"
            )
        if len(self.times) == 0:
            raise ValueError("times is empty; a panel needs at least one instant")
        if not (np.diff(self.times) > np.timedelta64(0)).all():
            raise ValueError("times must be strictly increasing")
        items = self.instruments
        put = object.__setattr__
        put(self, "symbols", tuple(item.symbol for item in items))
        put(
            self, "crypto", np.array([item.kind is AssetClass.CRYPTO for item in items], dtype=bool)
        )
        put(self, "long_only", np.array([not item.is_shortable for item in items], dtype=bool))
        put(self, "tradable", np.array([item.is_tradable for item in items], dtype=bool))

    @property
    def data_warnings(self) -> tuple[DataWarning, ...]:
        """Data warnings about all bars, merged by `merge_warnings`."""
        return self.data_warnings_between(None, None)

    def data_warnings_between(
        self, first: np.datetime64 | None, last: np.datetime64 | None
    ) -> tuple[DataWarning, ...]:
        """Return the warnings about bars that became known in [first, last], as merged warnings.

        first, last: bounds of the known-at instants, both inclusive; None: no bound.
        """
        found = []
        for item, origin in zip(self.instruments, self.provenances, strict=bool(self.provenances)):
            starts = [doubt.bar_start for doubt in origin.data_warnings]
            known = self.clock(item.kind).ends_by_start(np.array(starts, dtype="datetime64[ns]"))
            inside = np.ones(len(known), dtype=bool)
            if first is not None:
                inside &= known >= first
            if last is not None:
                inside &= known <= last
            found += [origin.data_warnings[k] for k in np.flatnonzero(inside)]
        return merge_warnings(found)

    @property
    def has_bar(self) -> Mask:
        """Mask [S, T] of all bars in the files, including unconfirmed bars.

        In contrast to this mask, `mask` is false for unconfirmed bars, so that it does not show
        whether a symbol traded.
        """
        if not self.unconfirmed_bars:
            return self.mask
        present = self.mask.copy()
        for s, (times, _) in enumerate(self.unconfirmed_bars):
            present[s] |= np.isin(self.times, times)
        return present

    @property
    def last_instant(self) -> np.datetime64:
        return np.datetime64(self.times[-1])

    def clock(self, kind: AssetClass) -> Clock:
        return self.timeframe.clock(kind)

    def slice_rows(self, first: int, last: int) -> Bars:
        """Return the panel of instants `first` to `last` - 1 (indices), as unvalidated views."""
        part: Bars = object.__new__(Bars)
        put = object.__setattr__
        put(part, "times", self.times[first:last])
        put(part, "values", self.values[:, first:last])
        put(part, "mask", self.mask[:, first:last])
        for name in _SHARED_FIELDS:
            put(part, name, getattr(self, name))
        return part

    def select_last_row(self, symbols: Sequence[str]) -> Bars:
        """Return a panel of one instant, the last one, with these symbols in panel order."""
        return self.slice_rows(len(self.times) - 1, len(self.times)).select(symbols)

    def select(self, symbols: Sequence[str]) -> Bars:
        """Return the panel of these symbols only, in panel order."""
        wanted = frozenset(symbols)
        rows = [s for s, symbol in enumerate(self.symbols) if symbol in wanted]
        if len(rows) == len(self.symbols):
            return self
        items = tuple([self.instruments[s] for s in rows])
        return replace(
            self,
            instruments=items,
            values=self.values[rows],
            mask=self.mask[rows],
            provenances=(),
            unconfirmed_bars=tuple([self.unconfirmed_bars[s] for s in rows])
            if self.unconfirmed_bars
            else (),
        )

    def slice_until(self, now: np.datetime64) -> Bars:
        """Return the panel of all instants up to `now`."""
        return self.slice_rows(0, int(np.searchsorted(self.times, now, side="right")))

    def bars_of_symbol(self, symbol_index: int) -> tuple[Instants, Array]:
        """Return the bars of symbol `symbol_index`: known-at instants [N] and values [N, 5]."""
        rows = self.mask[symbol_index]
        return self.times[rows], self.values[symbol_index, rows]

    def drop_bars(self, unconfirmed: Mask) -> Bars:
        """Return the panel without the marked bars [S, T]; they are added to `unconfirmed_bars`."""
        if not unconfirmed.any():
            return self
        unconfirmed_bars = []
        for s in range(len(self.instruments)):
            times, values = self.times[unconfirmed[s]], self.values[s, unconfirmed[s]]
            if self.unconfirmed_bars:
                times = np.concatenate([self.unconfirmed_bars[s][0], times])
                values = np.concatenate([self.unconfirmed_bars[s][1], values])
            unconfirmed_bars.append((times, values))
        values = np.where(unconfirmed[:, :, None], np.nan, self.values)
        return replace(
            self,
            values=values,
            mask=self.mask & ~unconfirmed,
            unconfirmed_bars=tuple(unconfirmed_bars),
        )

    def with_unconfirmed_bars(self) -> Bars:
        """Return the panel with its unconfirmed bars restored, as in the files."""
        if not self.unconfirmed_bars:
            return self
        values = self.values.copy()
        mask = self.mask.copy()
        for s, (times, unconfirmed_bars) in enumerate(self.unconfirmed_bars):
            _, rows, places = np.intersect1d(
                self.times, times, assume_unique=True, return_indices=True
            )
            values[s, rows] = unconfirmed_bars[places]
            mask[s, rows] = True
        return replace(self, values=values, mask=mask, unconfirmed_bars=())

    def last_closes(self) -> Array:
        """Return each symbol's last close known at the panel's end, [S]; NaN without a bar."""
        # Nearly every symbol's last bar is among the latest rows: few need the whole history.
        length = 128
        while True:
            recent = self.mask[:, -length:]
            if recent.any(axis=1).all() or length >= len(self.times):
                break
            length *= 4
        back = recent[:, ::-1].argmax(axis=1) + 1
        closes = self.values[np.arange(len(self.instruments)), -back, CLOSE]
        return np.where(recent.any(axis=1), closes, np.nan)


def last_closes_by_symbol(bars: Bars) -> dict[str, float]:
    """Return the last known close in USD of every symbol that has a bar."""
    closes = zip(bars.symbols, bars.last_closes(), strict=True)
    return {symbol: float(close) for symbol, close in closes if not np.isnan(close)}


def build_panel(
    tables: Iterable[tuple[Instrument, Instants, Array]],
    source: str,
    timeframe: Timeframe = HOURLY,
    extra_instants: Instants = NO_INSTANTS,
) -> Bars:
    """Merge the bars of symbols into one panel on the union of their instants.

    tables: instrument, known-at instants [N] and values [N, 5] of each symbol.
    source: short description of the source.
    timeframe: length of a bar.
    extra_instants: further instants of the panel, with or without a bar.

    Raises DataError if `tables` is empty.
    """
    parts = sorted(tables, key=lambda part: part[0].symbol)
    if not parts:
        raise DataError("symbols: the list is empty; name at least one symbol")
    times = np.unique(np.concatenate([extra_instants, *(instants for _, instants, _ in parts)]))
    values = np.full((len(parts), len(times), len(OHLCV_FIELDS)), np.nan)
    mask = np.zeros((len(parts), len(times)), dtype=bool)
    for s, (_, instants, bars) in enumerate(parts):
        rows = np.searchsorted(times, instants)
        values[s, rows] = bars
        mask[s, rows] = True
    items = tuple(item for item, _, _ in parts)
    return Bars(items, times, values, mask, source, timeframe)


def keep_regular_hours(
    starts: Instants, values: Array, item: Instrument, timeframe: Timeframe, path: str
) -> tuple[Instants, Array]:
    """Return the known-at instants [N] and values [N, 5] of the bars in regular New York hours.

    Crypto bars are all kept.

    starts: start times of the bars.
    values: prices and volume of the bars.
    path: path of the file, for messages.

    Raises DataError for a bar off the timeframe's grid, and if no bar remains.
    """
    ends = timeframe.clock(item.kind).ends_by_start(starts)
    irregular = np.isnat(ends)
    # Feeds include hours before and after the session: those are dropped. A start within the
    # session that is no start of a regular bar means another grid, and its bars would get wrong
    # instants.
    misplaced = irregular & is_in_session(starts) if item.kind is AssetClass.STOCK else irregular
    if misplaced.any():
        row = first_true_index(misplaced)
        place = f"{format_utc(starts[row])} is not the start of {timeframe.singular_bar_text}"
        raise row_error(path, row, f"{place} {_grid_advice(item, timeframe)}")
    if irregular.all():
        raise no_regular_hours_error(starts, path)
    return ends[~irregular], values[~irregular]


def no_regular_hours_error(starts: Instants, path: str) -> DataError:
    """Return the DataError for bars that all lie outside regular New York hours."""
    days = exchange_calendar()
    outside = starts[0] >= days.closes[-1] or starts[-1] < days.opens[0]
    cure = format_outside_calendar(starts[0]) if outside else "is outside; check the time zone"
    return DataError(
        f"{path}: no row lies within regular New York hours; the first row,"
        f" {format_utc(starts[0])}, {cure}"
    )


def _grid_advice(item: Instrument, timeframe: Timeframe) -> str:
    """Return the expected grid of bars and a remedy, as the end of an error message."""
    coin = item.kind is AssetClass.CRYPTO
    grid = f"counted from {'midnight UTC' if coin else '09:30 New York'}"
    if timeframe == HOURLY:
        grid = "full hours" if coin else "09:30, 10:30 … New York"
    return f"({grid}); supply bars of 1 to 30 minutes, which will be aggregated"


def row_error(path: str, row: int, what: str) -> DataError:
    """Return the DataError about a row of a file.

    path: path of the file.
    row: index of the row, counted from 0.
    what: description of the error.
    """
    return DataError(f"{path}: row {row + 1}: {what}")


def check_bars(starts: Instants, values: Array, path: str) -> None:
    """Validate a file's bars.

    starts: [N] start times of the bars.
    values: [N, 5] prices and volume.
    path: path of the file, for messages.

    Raises DataError for unordered starts, prices out of range and negative volumes.
    """
    # NaT compares false with everything: without this check it would pass for increasing.
    if np.isnat(starts).any():
        raise row_error(path, first_true_index(np.isnat(starts)), "timestamp is empty")
    steps = np.diff(starts)
    if (steps <= np.timedelta64(0)).any():
        row = first_true_index(steps <= np.timedelta64(0)) + 1
        word = "is earlier than the previous row" if steps[row - 1] else "is listed twice"
        stamp = f"timestamp {format_utc(starts[row])}"
        raise row_error(path, row, f"{stamp} {word}; sort the rows by time and remove duplicates")
    for cells, words in (
        (~np.isfinite(values), "not a finite number"),
        (values[:, :VOLUME] <= 0, "but prices must be above 0"),
        (
            values[:, :VOLUME] < MIN_PRICE,
            f"below {MIN_PRICE:g} USD, the lowest price that can be traded (an order is at most"
            " 1e11 coins); remove these rows, or the symbol",
        ),
        (values < 0, "but volume must not be negative"),
    ):
        if cells.any():
            row, column = np.argwhere(cells)[0]
            raise row_error(
                path, row, f"{OHLCV_FIELDS[column]} is {values[row, column]:g}, {words}"
            )
    # Orders fill inside low … high: no open or close may lie outside.
    inner = (HIGH, OPEN, CLOSE)
    above = values[:, inner] > values[:, HIGH, None] * (1 + OHLC_RTOL)
    below = values[:, inner] < values[:, LOW, None] * (1 - OHLC_RTOL)
    if (above | below).any():
        row, column = np.argwhere(above | below)[0]
        side, edge = ("above", HIGH) if above[row, column] else ("below", LOW)
        price = f"{OHLCV_FIELDS[inner[column]]} {values[row, inner[column]]:.10g}"
        raise row_error(
            path, row, f"{price} is {side} {OHLCV_FIELDS[edge]} {values[row, edge]:.10g}"
        )
