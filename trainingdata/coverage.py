"""What was read for a run: a row a symbol, what its bars lack, and what of the range they lack."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from rich.console import RenderableType
from rich.table import Table

from foundation.arrays import Array, Index, Instants
from trainingdata.bars import CLOSE, Bars, Origin
from trainingdata.instants import HOUR, instant, utc_text
from trainingdata.instruments import Kind
from trainingdata.sessions import following_bar_ends, started_at, stock_grid

# Share of its price by which a bar's close differs from the one before it in a jump: a split that
# the prices are not adjusted for, a wrong row, or news.
JUMP = 0.2

_NAMED = 6
_MEANING = (
    "stamps: their zone in the file, and whether they are the begin or the end of a bar; gaps:"
    " stretches of bars that the calendar has and the file lacks, the longest in bars; jumps:"
    f" closes more than {JUMP:.0%} from the one before, as by a split, a wrong row or news, the"
    " largest with its date"
)


@dataclass(frozen=True, slots=True)
class Coverage:
    """What was read of a symbol.

    symbol: as everything here spells it.
    first: start of its first bar.
    last: start of its last bar.
    bars: number of its bars.
    gaps: number of stretches between them in which the calendar has bars that are missing.
    missing: number of these bars.
    longest: number of them in the longest gap.
    longest_at: start of the first bar that is missing in it; None without a gap.
    jumps: number of closes that differ from the one before by more than `JUMP` of it.
    largest: the largest change from close to close, signed, a fraction; 0 with a single bar.
    largest_at: start of the bar with it.
    origin: its file; None for bars of no file.
    """

    symbol: str
    first: np.datetime64
    last: np.datetime64
    bars: int
    gaps: int
    missing: int
    longest: int
    longest_at: np.datetime64 | None
    jumps: int
    largest: float
    largest_at: np.datetime64
    origin: Origin | None


def coverage(bars: Bars) -> tuple[Coverage, ...]:
    """A row for each symbol of a panel that has bars."""
    rows = []
    in_files = bars.with_unread()
    for s, item in enumerate(bars.instruments):
        times, values = bars.real_bars(s)
        if len(times):
            origin = bars.origins[s] if bars.origins else None
            listed, _ = in_files.real_bars(s)
            rows.append(_row(item.symbol, item.kind, listed, times, values[:, CLOSE], origin))
    return tuple(rows)


def _row(
    symbol: str,
    kind: Kind,
    listed: Instants,
    times: Instants,
    closes: Array,
    origin: Origin | None,
) -> Coverage:
    """Of a symbol's bars; listed: instants of those that are left out too, which no file lacks."""
    missing = np.diff(_bar_numbers(kind, listed)) - 1
    gap = int(missing.argmax()) if len(missing) and missing.max() > 0 else None
    starts = started_at(kind, times)
    after = None
    if gap is not None:
        after = started_at(kind, following_bar_ends(kind, listed[gap : gap + 1], 1)[0])[0]
    changes = np.append(0.0, closes[1:] / closes[:-1] - 1)
    largest = int(np.abs(changes).argmax())
    return Coverage(
        symbol,
        starts[0],
        starts[-1],
        len(times),
        int((missing > 0).sum()),
        int(missing.sum()),
        0 if gap is None else int(missing[gap]),
        after,
        int((np.abs(changes) > JUMP).sum()),
        float(changes[largest]),
        starts[largest],
        origin,
    )


def _bar_numbers(kind: Kind, times: Instants) -> Index:
    """The number of each bar on its calendar, [N]."""
    if kind is Kind.CRYPTO:
        return np.asarray((times - np.datetime64(0, "h")) // HOUR, dtype=np.int64)
    return np.asarray(np.searchsorted(stock_grid().ends, times), dtype=np.int64)


def clipped(bars: Bars, start: str | None, end: str | None) -> tuple[str, ...]:
    """What a range asks for that the bars do not have, at its begin, within and at its end.

    start, end: of the range, as a run's settings have them.
    """
    begins: dict[str, list[str]] = {}
    ends: dict[str, list[str]] = {}
    for s, item in enumerate(bars.instruments):
        times = bars.real_bars(s)[0]
        if not len(times):
            continue
        first, last = times[0], times[-1]
        if start and _has_bars(item.kind, instant(start, name="start"), first):
            begins.setdefault(utc_text(started_at(item.kind, times[:1])[0]), []).append(item.symbol)
        until = instant(end, name="end", end_of_day=True) if end else last
        if _has_bars(item.kind, last + np.timedelta64(1, "ns"), until + np.timedelta64(1, "ns")):
            ends.setdefault(utc_text(started_at(item.kind, times[-1:])[0]), []).append(item.symbol)
    lines = [f"start: asked from {start}; {_first(s)} from {at} on" for at, s in begins.items()]
    lines += [f"end: asked until {end}; {_first(s)} up to {at} only" for at, s in ends.items()]
    inside = _lacking(bars, start) if start else {}
    if inside:
        counts = ", ".join(f"{symbol} {count:,}" for symbol, count in inside.items())
        lines.append(f"bars that are missing from {start} on: {counts}")
    return tuple(lines)


def _lacking(bars: Bars, start: str) -> dict[str, int]:
    """Number of bars that are missing between bars of a symbol, from a start on."""
    counts = {}
    for s, item in enumerate(bars.instruments):
        times = bars.real_bars(s)[0]
        numbers = _bar_numbers(item.kind, times)
        least = _bar_numbers(item.kind, np.array([instant(start, name="start")]))[0]
        missing = numbers[1:] - np.maximum(numbers[:-1] + 1, least)
        if (count := int(missing[numbers[1:] >= least].sum())) > 0:
            counts[item.symbol] = count
    return counts


def _has_bars(kind: Kind, first: np.datetime64, end: np.datetime64) -> bool:
    """Whether the calendar has bars that become known from `first` to before `end`."""
    if kind is Kind.CRYPTO:
        hour = first.astype("datetime64[h]").astype("datetime64[ns]")
        return bool((hour if hour >= first else hour + HOUR) < end)
    grid = stock_grid().ends
    return bool(np.searchsorted(grid, first) < np.searchsorted(grid, end))


def _first(symbols: list[str]) -> str:
    """The first of some symbols, how many more there are, and that they have bars."""
    more = f" and {len(symbols) - _NAMED} more" if len(symbols) > _NAMED else ""
    return f"{', '.join(symbols[:_NAMED])}{more} {'has' if len(symbols) == 1 else 'have'} bars"


def coverage_parts(
    bars: Bars, start: str | None = None, end: str | None = None
) -> Iterator[RenderableType]:
    """What is in doubt of files, what was read of them, and what of a range the bars lack.

    start, end: of the range, as a run's settings have them.
    """
    if bars.origins:
        yield from (f"In doubt: {doubt}" for doubt in bars.doubts)
        rows = coverage(bars)
        yield _table(rows)
        yield from _grouped((note, row) for row in rows for note in _notes(row))
        yield _MEANING
    yield from clipped(bars, start, end)


def _table(rows: Iterable[Coverage]) -> Table:
    table = Table(title="Bars read")
    for name in ("symbol", "first bar, UTC", "last bar, UTC", "stamps"):
        table.add_column(name, overflow="fold")
    for name in ("bars", "gaps", "longest gap", f"jumps > {JUMP:.0%}"):
        table.add_column(name, overflow="fold", justify="right")
    for row in rows:
        table.add_row(
            row.symbol,
            _minute(row.first),
            _minute(row.last),
            row.origin.stamps if row.origin else "",
            f"{row.bars:,}",
            f"{row.gaps:,}",
            "" if row.longest_at is None else f"{row.longest:,} from {_day(row.longest_at)}",
            f"{row.jumps:,}: {row.largest:+.0%} {_day(row.largest_at)}" if row.jumps else "0",
        )
    return table


def _minute(at: np.datetime64) -> str:
    return utc_text(at)[:-1].replace("T", " ")


def _day(at: np.datetime64) -> str:
    return str(at.astype("datetime64[D]"))


def _notes(row: Coverage) -> tuple[str, ...]:
    return row.origin.notes if row.origin else ()


def _grouped(said: Iterable[tuple[str, Coverage]]) -> Iterator[str]:
    """What is said of rows, each once with the symbols it is about."""
    about: dict[str, list[str]] = {}
    for words, row in said:
        about.setdefault(words, []).append(row.symbol)
    for words, symbols in about.items():
        more = f" and {len(symbols) - _NAMED} more" if len(symbols) > _NAMED else ""
        yield f"{', '.join(symbols[:_NAMED])}{more}: {words}"
