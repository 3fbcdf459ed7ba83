"""Data frames of closes and covariates, read symbol by symbol into what a model takes.

C covariates, L rows of a symbol, H steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from forecasting.frame_clock import Clock, clock_instants, off_clock, places_of, wall_clock
from foundation.arrays import Array, Index, Instants, first_row
from foundation.counts import counted
from foundation.errors import InputError
from trainingdata.instants import Unzoned, cell_text, has_zone, instants_of, utc_text

KEYS = ("symbol", "timestamp")
CLOSE = "close"
FEWEST = 3  # rows of a symbol that tell its clock
LARGEST = 1e18  # sizes of numbers that can be squared in float32
# Columns that are made of what a clock shows.
CALENDAR: Mapping[str, Callable[[pd.DatetimeIndex], pd.Index]] = {
    "hour": lambda shown: shown.hour + shown.minute / 60,
    "weekday": lambda shown: shown.day_of_week,
    "day": lambda shown: shown.day,
    "month": lambda shown: shown.month,
}


@dataclass(frozen=True, eq=False, slots=True)
class FrameSeries:
    """The rows of one symbol.

    symbol: as the frame has it.
    values: [1 + C, L] float64, close and covariates by time; L is at most the context's length.
    future: [1 + C, H] float64, what is known of them at the steps ahead, NaN where nothing is.
    issued_at: the last timestamp.
    target_at: [H] timestamps of the steps ahead.
    """

    symbol: str
    values: Array
    future: Array
    issued_at: np.datetime64
    target_at: Instants


@dataclass(frozen=True, slots=True)
class FrameReading:
    """What is read of frames.

    covariates: columns that are known up to a symbol's last row.
    calendar: columns that are made of the timestamps, of `CALENDAR`.
    steps: H, of the forecast.
    context: rows of a symbol that are kept at most.
    unzoned: what timestamps without a zone mean.
    clock: that a symbol's rows keep.
    skip_gaps: whether rows that are missing are passed over.
    """

    covariates: tuple[str, ...]
    calendar: tuple[str, ...]
    steps: int
    context: int
    unzoned: Unzoned
    clock: Clock
    skip_gaps: bool

    def series(self, df: pd.DataFrame, future_df: pd.DataFrame | None) -> list[FrameSeries]:
        """The rows of every symbol, by their first appearance.

        future_df: rows of steps ahead, whose columns are covariates that are known there.

        Raises
        ------
        InputError
            naming the frame, the symbol, the row and what is wrong with it.
        """
        past = _Sheet.of("df", df, self.unzoned)
        ahead = None if future_df is None else _Sheet.of("future_df", future_df, self.unzoned)
        known = self._known_columns(past, ahead)
        numbers = {}
        for name in (CLOSE, *self.covariates, *known):
            numbers[name] = past.numbers(name)
            past.refuse_unusable(name, numbers[name], np.arange(len(df)))
        known_numbers = {name: ahead.numbers(name) for name in known} if ahead else {}
        # Symbols of a market share their timestamps: what follows them is found once.
        targets: dict[bytes, Instants] = {}
        made = []
        for symbol, rows in past.rows.items():
            stamps, rows = past.in_time(rows)
            same = stamps.tobytes()
            if same not in targets:
                targets[same] = self._targets(past, stamps, rows)
            target = targets[same]
            rows = rows[-self.context :]
            values = [column[rows] for column in numbers.values()]
            future = [np.full(self.steps, np.nan)] * (1 + len(self.covariates))
            if ahead is not None:
                places = _rows_at(ahead, symbol, target)
                for name, column in known_numbers.items():
                    ahead.refuse_unusable(name, column, places)
                    future.append(column[places])
            values += self._calendar_columns(past, stamps[-self.context :])
            future += self._calendar_columns(past, target)
            made.append(FrameSeries(symbol, np.array(values), np.array(future), stamps[-1], target))
        return made

    def _known_columns(self, past: _Sheet, ahead: _Sheet | None) -> list[str]:
        known = [] if ahead is None else [str(name) for name in ahead.frame if name not in KEYS]
        if ahead is not None and not known:
            raise InputError("future_df: it has no column beside symbol and timestamp")
        if CLOSE in known:
            raise InputError("future_df: column 'close' is what is to be forecast; drop it")
        for name in (CLOSE, *self.covariates, *known):
            if name not in past.frame:
                why = f", and future_df has {name!r}: its past is needed" if name in known else ""
                raise InputError(f"df: column {name!r} is missing{why}")
        names = [*KEYS, CLOSE, *self.covariates, *known, *self.calendar]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise InputError(
                f"covariates: {twice[0]!r} is named twice; a column is close, a covariate whose"
                " future is not known, one of future_df or one of the calendar"
            )
        return known

    def _targets(self, past: _Sheet, stamps: Instants, rows: Index) -> Instants:
        """Timestamps [H] of the steps after a symbol's rows."""
        if len(rows) < FEWEST:
            raise past.fault(
                int(rows[0]),
                f"it has {counted(len(rows), 'row')}, {FEWEST} are needed to tell its clock",
            )
        repeated = np.flatnonzero(stamps[1:] == stamps[:-1])
        if len(repeated):
            row = int(repeated[0]) + 1
            raise past.fault(int(rows[row]), f"timestamp {utc_text(stamps[row])} stands twice")
        instants = clock_instants(stamps, self.steps, past.zone, self.clock)
        if instants is None:
            raise self._off_clock(past, stamps, rows)
        places = places_of(stamps, instants)
        assert places is not None
        gaps = np.diff(places) - 1
        if gaps.any() and not self.skip_gaps:
            row = first_row(gaps > 0)
            raise past.fault(
                int(rows[row + 1]),
                f"no row for {counted(int(gaps[row]), 'step')} of its clock between"
                f" {utc_text(stamps[row])} and {utc_text(stamps[row + 1])}; fill the gap, or pass"
                " gaps over: skip_gaps=True",
            )
        return np.asarray(instants[places[-1] + 1 : places[-1] + 1 + self.steps])

    def _off_clock(self, past: _Sheet, stamps: Instants, rows: Index) -> InputError:
        off = off_clock(stamps, past.zone, self.clock)
        row = first_row(off)
        kinds = {"auto": "a regular one or the exchange's hours", "regular": "a regular one"}
        wanted = kinds.get(self.clock, "the exchange's hours")
        return past.fault(
            int(rows[row]),
            f"timestamp {utc_text(stamps[row])} is off the clock of most rows, {wanted}, as"
            f" {counted(int(off.sum()), 'row')} of {len(off):,} are; days of a place need"
            " zone=America/New_York or its like",
        )

    def _calendar_columns(self, past: _Sheet, stamps: Instants) -> list[Array]:
        if not self.calendar:
            return []
        shown = pd.DatetimeIndex(wall_clock(stamps, past.zone))
        return [CALENDAR[name](shown).to_numpy(dtype=np.float64) for name in self.calendar]


@dataclass(frozen=True, eq=False, slots=True)
class _Sheet:
    """A frame with symbols and timestamps.

    name: of the argument, for messages.
    frame: its columns.
    unzoned: what timestamps without a zone mean.
    rows: numbers of each symbol's rows, by its first appearance.
    """

    name: str
    frame: pd.DataFrame
    unzoned: Unzoned
    rows: dict[str, Index]

    @classmethod
    def of(cls, name: str, frame: pd.DataFrame, unzoned: Unzoned) -> _Sheet:
        if not isinstance(frame, pd.DataFrame):
            raise InputError(f"{name}: it is no data frame but a {type(frame).__name__}")
        missing = [key for key in KEYS if key not in frame]
        if missing:
            raise InputError(
                f"{name}: column {missing[0]!r} is missing; it has {', '.join(map(str, frame))}"
            )
        if not frame.columns.is_unique:
            again = frame.columns[frame.columns.duplicated()][0]
            raise InputError(f"{name}: column {again!r} is there twice")
        if not len(frame):
            raise InputError(f"{name}: it has no rows")
        empty = frame["symbol"].isna().to_numpy()
        if empty.any():
            raise InputError(f"{name}.iloc[{first_row(empty)}]: symbol is empty")
        codes, symbols = pd.factorize(frame["symbol"].astype(str))
        order = np.argsort(codes, kind="stable")
        rows = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
        sheet = cls(name, frame, unzoned, dict(zip(symbols, rows, strict=True)))
        sheet._refuse_mixed_zones()
        return sheet

    @property
    def zone(self) -> tzinfo:
        """Whose clock says what a day and an hour are."""
        if self.unzoned.zone is not None:
            return ZoneInfo(self.unzoned.zone)
        typed = self.frame["timestamp"].dtype
        return typed.tz if isinstance(typed, pd.DatetimeTZDtype) else UTC

    def fault(self, row: int, what: str) -> InputError:
        return InputError(f"{self.name}.iloc[{row}] ({self.frame['symbol'].iloc[row]}): {what}")

    def numbers(self, name: str) -> Array:
        """A column of numbers [n], NaN where there is none."""
        column = self.frame[name]
        if pd.api.types.is_bool_dtype(column):
            raise InputError(f"{self.name}: column {name!r} is true or false; write it as 1 and 0")
        return pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)

    def refuse_unusable(self, name: str, numbers: Array, rows: Index) -> None:
        """Name the first of these rows without a number that a model can take."""
        bad = ~(np.abs(numbers[rows]) < LARGEST)
        if bad.any():
            row = int(rows[first_row(bad)])
            value = cell_text(self.frame[name].iloc[row])
            raise self.fault(row, f"{name} {value} is no number below {LARGEST:g}")

    def in_time(self, rows: Index) -> tuple[Instants, Index]:
        """Timestamps [n] of a symbol's rows and the rows, by time."""
        column = self.frame["timestamp"].iloc[rows]

        def fault(place: int, what: str) -> InputError:
            value = cell_text(column.iloc[place])
            return self.fault(int(rows[place]), f"timestamp {what.format(value=value)}")

        stamps = instants_of(column, self.unzoned, fault)
        order = np.argsort(stamps, kind="stable")
        return stamps[order], rows[order]

    def _refuse_mixed_zones(self) -> None:
        column = self.frame["timestamp"]
        if not (pd.api.types.is_string_dtype(column) or column.dtype == object):
            return
        text = column.astype(str).str.strip()
        zoned = has_zone(text)
        bare = ~zoned & text.str.match(r"\d{4}-\d{2}-\d{2}").to_numpy(dtype=bool)
        if zoned.any() and bare.any():
            row = first_row(bare)
            raise self.fault(
                row,
                f"timestamp {cell_text(column.iloc[row])} has no zone and others have; write all"
                " in UTC, ending in Z",
            )


def _rows_at(ahead: _Sheet, symbol: str, target: Instants) -> Index:
    """Numbers [H] of a symbol's rows at these timestamps; others are not read."""
    rows = ahead.rows.get(symbol)
    if rows is None:
        raise InputError(f"future_df: it has no rows of {symbol}")
    stamps, rows = ahead.in_time(rows)
    first = np.searchsorted(stamps, target)
    last = np.searchsorted(stamps, target, side="right")
    if (last == first).any():
        step = first_row(last == first)
        raise InputError(
            f"future_df: it has no row of {symbol} at {utc_text(target[step])}, its step {step + 1}"
        )
    if (last > first + 1).any():
        row = int(first[first_row(last > first + 1)]) + 1
        raise ahead.fault(int(rows[row]), f"timestamp {utc_text(stamps[row])} stands twice")
    return rows[first]
