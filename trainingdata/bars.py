"""Hourly bars of stocks and coins in one panel, and the reader that turns files into it.

A file holds one symbol: `timestamp` (the bar's start, with a zone), open, high, low, close, volume,
as Parquet, CSV or gzipped CSV. The panel marks a bar at the instant it became **known**; what is
missing is masked, never filled.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from foundation.arrays import Array, Instants, Mask
from foundation.errors import DataError
from trainingdata.instruments import Instrument, Kind, instrument, is_symbol
from trainingdata.sessions import in_session, known_at, utc_text

log = logging.getLogger(__name__)


FIELDS = ("open", "high", "low", "close", "volume")
_OF_A_PANEL = (
    "instruments",
    "source",
    "symbols",
    "crypto",
    "long_only",
    "tradable",
)  # whatever its rows
OPEN, HIGH, LOW, CLOSE, VOLUME = range(5)
SUFFIXES = (".parquet", ".csv", ".csv.gz")

# Factors for splits and dividends round a price past the high or low that it equals: by 2e-16 of it
# in 27 of 93,648 adjusted daily bars of a vendor. A tick is 1e-7 of the dearest price and never
# this small.
ROUNDING = 1e-9


@dataclass(frozen=True, eq=False, slots=True)
class Bars:
    """A panel of bars.

    times [T]: UTC `datetime64[ns]`, increasing; the instants at which a bar of any symbol became
    known. values [S, T, 5] float64: open, high, low, close in USD and volume; NaN where `mask` [S,
    T] is false. source: where the bars come from, in a few words, for every report made of them.
    symbols, crypto, long_only, tradable [S]: of the instruments, in panel order; which are coins,
    which cannot be sold short, which take orders.
    """

    instruments: tuple[Instrument, ...]
    times: Instants
    values: Array
    mask: Mask
    source: str
    symbols: tuple[str, ...] = field(init=False)
    crypto: Mask = field(init=False)
    long_only: Mask = field(init=False)
    tradable: Mask = field(init=False)

    def __post_init__(self) -> None:
        expected = (len(self.instruments), len(self.times), len(FIELDS))
        if self.values.shape != expected:
            raise ValueError(
                f"values must have shape [S, T, 5] = {expected}, got {self.values.shape}"
            )
        if self.mask.shape != expected[:2]:
            raise ValueError(f"mask must have shape [S, T] = {expected[:2]}, got {self.mask.shape}")
        if len(self.times) == 0:
            raise ValueError("a panel needs at least one instant")
        if not (np.diff(self.times) > np.timedelta64(0)).all():
            raise ValueError("times must increase")
        for name, value in (
            ("symbols", tuple(i.symbol for i in self.instruments)),
            ("crypto", np.array([i.kind is Kind.CRYPTO for i in self.instruments], dtype=bool)),
            ("long_only", np.array([not i.shortable for i in self.instruments], dtype=bool)),
            ("tradable", np.array([i.tradable for i in self.instruments], dtype=bool)),
        ):
            object.__setattr__(self, name, value)

    @property
    def now(self) -> np.datetime64:
        """The last instant the panel knows."""
        return np.datetime64(self.times[-1])

    def between(self, first: int, last: int) -> Bars:
        """Rows first … last - 1 as views; nothing is copied or checked again."""
        part: Bars = object.__new__(Bars)
        put = object.__setattr__
        put(part, "times", self.times[first:last])
        put(part, "values", self.values[:, first:last])
        put(part, "mask", self.mask[:, first:last])
        for name in _OF_A_PANEL:
            put(part, name, getattr(self, name))
        return part

    def until(self, now: np.datetime64) -> Bars:
        """What was known at `now`."""
        return self.between(0, int(np.searchsorted(self.times, now, side="right")))

    def own(self, s: int) -> tuple[Instants, Array]:
        """The real bars of symbol number `s`: known-at instants [N] and values [N, 5]."""
        rows = self.mask[s]
        return self.times[rows], self.values[s, rows]

    def last_closes(self) -> Array:
        """[S] the last known close of each symbol; NaN for one that has no bar yet."""
        length = 128
        while True:
            recent = self.mask[:, -length:]
            if recent.any(axis=1).all() or length >= len(self.times):
                break
            length *= 4
        back = recent[:, ::-1].argmax(axis=1) + 1
        closes = self.values[np.arange(len(self.instruments)), -back, CLOSE]
        return np.where(recent.any(axis=1), closes, np.nan)


def closes_of(bars: Bars) -> dict[str, float]:
    """The last known close of every symbol that has one, USD."""
    return {s: float(p) for s, p in zip(bars.symbols, bars.last_closes(), strict=True) if p == p}


def panel(tables: Iterable[tuple[Instrument, Instants, Array]], source: str) -> Bars:
    """Lay per-symbol bars (known-at instants [N], values [N, 5]) on the union of their instants."""
    parts = sorted(tables, key=lambda part: part[0].symbol)
    if not parts:
        raise DataError("symbols: none were asked for")
    times = np.unique(np.concatenate([t for _, t, _ in parts]))
    values = np.full((len(parts), len(times), len(FIELDS)), np.nan)
    mask = np.zeros((len(parts), len(times)), dtype=bool)
    for s, (_, t, v) in enumerate(parts):
        rows = np.searchsorted(times, t)
        values[s, rows] = v
        mask[s, rows] = True
    return Bars(tuple(i for i, _, _ in parts), times, values, mask, source)


def find_files(folders: Sequence[Path], symbols: Sequence[str] | None) -> dict[str, Path]:
    """One bar file per symbol in the folders; every file there when `symbols` is None.

    Raises
    ------
    DataError
        for a folder that is none, a symbol without a file, or two files for one symbol (both are
        named).
    """
    asked = None if symbols is None else [instrument(s).symbol for s in symbols]
    found: dict[str, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"data.dir: {folder} is no folder")
        for symbol, path in _bar_files(folder):
            if symbol in found and (asked is None or symbol in asked):
                raise DataError(f"{symbol}: two files, {found[symbol]} and {path}; keep one")
            found[symbol] = path
    where = ", ".join(str(f) for f in folders)
    if asked is None and not found:
        raise DataError(f"data.dir: no .parquet, .csv or .csv.gz file in {where}")
    wanted = list(found) if asked is None else asked
    for symbol in wanted:
        if symbol not in found:
            raise DataError(f"{symbol}: no {symbol}.parquet, .csv or .csv.gz in {where}")
        if not is_symbol(symbol):
            raise DataError(
                f"{found[symbol]}: {symbol!r} is no symbol; name the symbols you want, or move the"
                " file"
            )
    return {symbol: found[symbol] for symbol in wanted}


def _bar_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """(symbol, path) of every file in a folder that ends as a bar file does."""
    for path in sorted(folder.iterdir()):
        suffix = next((s for s in SUFFIXES if path.name.lower().endswith(s)), None)
        if suffix is not None:
            yield path.name[: -len(suffix)].upper().replace("-USD", "USD"), path


def read_bars(
    folders: Sequence[Path],
    symbols: Sequence[str] | None,
    *,
    start: np.datetime64 | None = None,
    end: np.datetime64 | None = None,
) -> Bars:
    """Read the panel of `symbols` up to `end`, history before `start` included.

    Raises
    ------
    DataError
        for anything in a file that cannot be trusted, and for a symbol without a bar between start
        and end.
    """
    files = find_files(folders, symbols)
    parts = []
    for symbol, path in files.items():
        item = instrument(symbol)
        times, values = bars_of(_read_frame(path), item, str(path))
        kept = times <= end if end is not None else np.ones(len(times), dtype=bool)
        if not (kept & (times >= start) if start is not None else kept).any():
            since = "its beginning" if start is None else utc_text(start)
            until = "its end" if end is None else utc_text(end)
            holds = f"{utc_text(times[0])} to {utc_text(times[-1])}"
            raise DataError(
                f"{path}: {symbol} has no bars between {since} and {until}; the file holds {holds}"
            )
        parts.append((item, times[kept], values[kept]))
    return panel(parts, "files: " + ", ".join(sorted({str(p.parent) for p in files.values()})))


def bars_of(frame: pd.DataFrame, item: Instrument, path: str) -> tuple[Instants, Array]:
    """Known-at instants [N] and values [N, 5] of a table with `timestamp` (a bar's start) and a
    column a field.

    path: where the table is from, for messages.

    Raises
    ------
    DataError
        for anything in it that cannot be trusted.
    """
    missing = [c for c in ("timestamp", *FIELDS) if c not in frame.columns]
    if missing:
        raise DataError(
            f"{path}: column {missing[0]!r} is missing; it has {', '.join(map(str, frame.columns))}"
        )
    doubled = frame.columns[frame.columns.duplicated()].intersection(["timestamp", *FIELDS])
    if len(doubled):
        raise DataError(f"{path}: column {doubled[0]!r} is there twice; keep one")
    if frame.empty:
        raise DataError(f"{path}: the file holds no bars")
    return bars_from(_read_starts(path, frame["timestamp"]), _read_values(path, frame), item, path)


def bars_from(
    starts: Instants, values: Array, item: Instrument, path: str
) -> tuple[Instants, Array]:
    """Known-at instants [N] and values [N, 5] of bars that start at `starts`; those outside regular
    hours are left out.

    Raises
    ------
    DataError
        for anything in them that cannot be trusted.
    """
    check_bars(starts, values, path)
    known = known_at(item.kind, starts)
    off = np.isnat(known)
    astray = off & in_session(starts) if item.kind is Kind.STOCK else off
    if astray.any():
        row = int(np.flatnonzero(astray)[0])
        grid = "09:30, 10:30 … New York" if item.kind is Kind.STOCK else "full hours"
        raise DataError(
            f"{path}: row {row + 1}: {utc_text(starts[row])} is no start of an hourly bar ({grid});"
            " resample the file"
        )
    if off.all():
        raise DataError(
            f"{path}: no row lies within regular New York hours; first {utc_text(starts[0])}"
        )
    if off.any():
        log.warning(
            "%s: %d rows outside regular New York hours are left out, first %s",
            path,
            off.sum(),
            utc_text(starts[off][0]),
        )
    return known[~off], values[~off]


def _read_frame(path: Path) -> pd.DataFrame:
    try:
        frame = (
            pd.read_parquet(path)
            if path.name.lower().endswith(".parquet")
            else pd.read_csv(path, dtype={"timestamp": str})
        )
    except pd.errors.EmptyDataError:
        raise DataError(f"{path}: the file is empty") from None
    except (OSError, ValueError, UnicodeDecodeError, EOFError) as error:
        raise DataError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from error
    frame.columns = [str(c).strip().lower() for c in frame.columns]
    if "timestamp" not in frame.columns and frame.index.name == "timestamp":
        frame = frame.reset_index()
    return frame


def _read_starts(path: str, column: pd.Series) -> Instants:
    """UTC start stamps, strictly increasing."""
    if pd.api.types.is_string_dtype(column) or column.dtype == object:
        text = column.astype(str).str.strip()
        naive = ~text.str.contains(r"(?:Z|[+-]\d{2}:?\d{2})$")
        parsed = pd.to_datetime(text, utc=True, errors="coerce", format="ISO8601")
        bad = parsed.isna()
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise DataError(
                f"{path}: row {row + 1}: timestamp {column.iloc[row]!r} is no date and time"
            )
        if naive.any():
            row = int(np.flatnonzero(naive)[0])
            raise DataError(
                f"{path}: row {row + 1}: timestamp {column.iloc[row]!r} has no zone; write it in"
                " UTC, ending in Z"
            )
        stamps = parsed
    elif isinstance(column.dtype, pd.DatetimeTZDtype):
        stamps = column
    elif pd.api.types.is_datetime64_any_dtype(column):
        raise DataError(
            f"{path}: row 1: timestamp {column.iloc[0]} has no zone; store the column in UTC"
        )
    else:
        raise DataError(f"{path}: row 1: timestamp {column.iloc[0]} is no date and time")
    if stamps.isna().any():
        raise DataError(
            f"{path}: row {int(np.flatnonzero(stamps.isna())[0]) + 1}: timestamp is empty"
        )
    starts: Instants = stamps.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("datetime64[ns]")
    return starts


def check_bars(starts: Instants, values: Array, path: str) -> None:
    """Refuse starts that do not increase, prices that are none or outside their range, volumes
    below zero.

    Raises
    ------
    DataError
        naming the row.
    """
    if np.isnat(starts).any():
        row = int(np.flatnonzero(np.isnat(starts))[0])
        raise DataError(f"{path}: row {row + 1}: timestamp is empty")
    step = np.diff(starts)
    if (step <= np.timedelta64(0)).any():
        row = int(np.flatnonzero(step <= np.timedelta64(0))[0]) + 1
        word = "repeats" if step[row - 1] == np.timedelta64(0) else "is earlier than the row before"
        raise DataError(
            f"{path}: row {row + 1}: timestamp {starts[row]}Z {word}; rows must increase in time"
        )
    if not np.isfinite(values).all():
        row, field = np.argwhere(~np.isfinite(values))[0]
        raise DataError(
            f"{path}: row {row + 1}: {FIELDS[field]} is {values[row, field]}, not a number"
        )
    low = values[:, :VOLUME] <= 0
    if low.any():
        row, field = np.argwhere(low)[0]
        raise DataError(
            f"{path}: row {row + 1}: {FIELDS[field]} is {values[row, field]:g}, a price must be"
            " above 0"
        )
    if (values[:, VOLUME] < 0).any():
        row = int(np.flatnonzero(values[:, VOLUME] < 0)[0])
        raise DataError(f"{path}: row {row + 1}: volume is {values[row, VOLUME]:g}, below 0")
    crossed = values[:, HIGH] < values[:, LOW]
    if crossed.any():
        row = int(np.flatnonzero(crossed)[0])
        raise DataError(
            f"{path}: row {row + 1}: high {values[row, HIGH]:g} is below low {values[row, LOW]:g}"
        )
    _check_range(values, path)


def _check_range(values: Array, path: str) -> None:
    """Refuse an open or close outside low … high: orders fill inside that range."""
    ends = values[:, [OPEN, CLOSE]]
    above = ends > values[:, HIGH, None] * (1 + ROUNDING)
    below = ends < values[:, LOW, None] * (1 - ROUNDING)
    if not (above | below).any():
        return
    row, column = np.argwhere(above | below)[0]
    field = (OPEN, CLOSE)[column]
    side, edge = ("above", HIGH) if above[row, column] else ("below", LOW)
    price = values[row, field]
    bound = values[row, edge]
    raise DataError(
        f"{path}: row {row + 1}: {FIELDS[field]} {price:.10g} is {side} {FIELDS[edge]} {bound:.10g}"
    )


def _read_values(path: str, frame: pd.DataFrame) -> Array:
    """[N, 5] float64, finite."""
    columns = []
    for name in FIELDS:
        numbers = pd.to_numeric(frame[name], errors="coerce").to_numpy(
            dtype=np.float64, na_value=np.nan
        )
        if not np.isfinite(numbers).all():
            row = int(np.flatnonzero(~np.isfinite(numbers))[0])
            value = frame[name].iloc[row]
            shown = repr(value) if isinstance(value, str) else str(value)
            raise DataError(f"{path}: row {row + 1}: {name} is {shown}, not a number")
        columns.append(numbers)
    return np.stack(columns, axis=1)
