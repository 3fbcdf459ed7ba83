"""What was read for a run: a row a symbol, what its bars lack, and what of the range they lack."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from rich.console import RenderableType

from foundation.tables import Table
from trainingdata.bars import CLOSE, Bars, Origin
from trainingdata.instants import instant, utc_text
from trainingdata.timeframe import nth_end_after

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
    first, last: starts of its first and its last bar.
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
    # What is left out no file lacks.
    in_files = bars.with_unread()
    for s, item in enumerate(bars.instruments):
        times, values = bars.real_bars(s)
        if not len(times):
            continue
        clock = bars.clock(item.kind)
        listed, _ = in_files.real_bars(s)
        missing = np.diff(clock.bars_ended(listed)) - 1
        gap = int(missing.argmax()) if missing.any() else None
        starts = clock.started_at(times)
        changes = np.append(0.0, values[1:, CLOSE] / values[:-1, CLOSE] - 1)
        largest = int(np.abs(changes).argmax())
        after = None
        if gap is not None:
            after = clock.started_at(nth_end_after(clock, listed[gap : gap + 1], 1))[0]
        row = Coverage(
            symbol=item.symbol,
            first=starts[0],
            last=starts[-1],
            bars=len(times),
            gaps=int((missing > 0).sum()),
            missing=int(missing.sum()),
            longest=0 if gap is None else int(missing[gap]),
            longest_at=after,
            jumps=int((np.abs(changes) > JUMP).sum()),
            largest=float(changes[largest]),
            largest_at=starts[largest],
            origin=bars.origins[s] if bars.origins else None,
        )
        rows.append(row)
    return tuple(rows)


def clipped(bars: Bars, start: str | None, end: str | None) -> tuple[str, ...]:
    """What a range asks for that the bars do not have, at its begin, within and at its end.

    start, end: of the range, as a run's settings have them.
    """
    begins: dict[str, list[str]] = {}
    ends: dict[str, list[str]] = {}
    inside = []
    for s, item in enumerate(bars.instruments):
        times, _ = bars.real_bars(s)
        if not len(times):
            continue
        clock = bars.clock(item.kind)
        first, last = map(utc_text, clock.started_at(times[[0, -1]]))
        numbers = clock.bars_ended(times)
        if start:
            before = instant(start, name="start") - np.timedelta64(1, "ns")
            least = clock.bars_ended(np.array([before]))[0] + 1
            if least < numbers[0]:
                begins.setdefault(first, []).append(item.symbol)
            lacking = numbers[1:] - np.maximum(numbers[:-1] + 1, least)
            if count := int(np.maximum(lacking, 0).sum()):
                inside.append(f"{item.symbol} {count:,}")
        until = np.array([instant(end, name="end", end_of_day=True)]) if end else times[-1:]
        if clock.bars_ended(until)[0] > numbers[-1]:
            ends.setdefault(last, []).append(item.symbol)
    lines = [f"start: asked from {start}; {_first(s)} from {at} on" for at, s in begins.items()]
    lines += [f"end: asked until {end}; {_first(s)} up to {at} only" for at, s in ends.items()]
    if inside:
        lines.append(f"bars that are missing from {start} on: {', '.join(inside)}")
    return tuple(lines)


def _first(symbols: list[str]) -> str:
    """The first of some symbols, how many more there are, and that they have bars."""
    more = f" and {len(symbols) - _NAMED} more" if len(symbols) > _NAMED else ""
    return f"{', '.join(symbols[:_NAMED])}{more} {'has' if len(symbols) == 1 else 'have'} bars"


def coverage_parts(
    bars: Bars, start: str | None = None, end: str | None = None
) -> Iterator[RenderableType]:
    """How long bars of files last, what is in doubt of them, what was read and what a range lacks.

    start, end: of the range, as a run's settings have them.
    """
    if bars.origins:
        yield f"Bars are {bars.timeframe.bars}: timeframe={bars.timeframe.name}."
        yield from (f"In doubt: {doubt}" for doubt in bars.doubts)
        rows = coverage(bars)
        yield _table(rows)
        yield from _grouped((note, row) for row in rows for note in _notes(row))
        yield _MEANING
    yield from clipped(bars, start, end)


def _table(rows: Iterable[Coverage]) -> Table:
    heads = ("symbol", "first bar, UTC", "last bar, UTC", "stamps", "bars", "gaps", "longest gap")
    texts = [
        (
            row.symbol,
            _minute(row.first),
            _minute(row.last),
            row.origin.stamps if row.origin else "",
            f"{row.bars:,}",
            f"{row.gaps:,}",
            "" if row.longest_at is None else f"{row.longest:,} from {_day(row.longest_at)}",
            f"{row.jumps:,}: {row.largest:+.0%} {_day(row.largest_at)}" if row.jumps else "0",
        )
        for row in rows
    ]
    return Table("Bars read", (*heads, f"jumps > {JUMP:.0%}"), texts, words=(1, 2, 3))


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
