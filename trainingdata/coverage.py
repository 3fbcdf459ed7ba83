"""A report on loaded bars: one row per symbol with its gaps, and ranges without bars."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from rich.console import RenderableType

from foundation.tables import Table
from trainingdata.bars import CLOSE, Bars, DataWarning
from trainingdata.instants import format_utc, parse_instant

# Relative difference of a close from the one before that counts as a jump: an unadjusted split, a
# wrong row, or news.
MIN_JUMP_FRACTION = 0.2

_MAX_NAMED_SYMBOLS = 6
_HEADS = ("symbol", "first bar, UTC", "last bar, UTC", "timestamps", "bars", "missing", "gaps")
_TIMESTAMPS_LEGEND = (
    "timestamps: their time zone in the file, and whether they mark the begin or the end of a bar;"
    " missing: bars that the exchange calendar expects but the file lacks; jumps: closes more than"
    f" {MIN_JUMP_FRACTION:.0%} from the previous close"
)


def coverage_rows(bars: Bars) -> list[tuple[str, ...]]:
    """Return the rows of the coverage table, one for each symbol with bars."""
    rows = []
    present = bars.has_bar
    for s, item in enumerate(bars.instruments):
        values = bars.bars_of_symbol(s)[1]
        if not len(values):
            continue
        clock = bars.clock(item.kind)
        times = bars.times[present[s]]
        missing = np.diff(clock.count_ended_bars(times)) - 1
        changes = np.abs(values[1:, CLOSE] / values[:-1, CLOSE] - 1)
        first, last = (
            format_utc(at)[:-1].replace("T", " ") for at in clock.starts_by_end(times[[0, -1]])
        )
        stamps = bars.provenances[s].stamp_description if bars.provenances else ""
        counts = (
            len(values),
            missing.sum(),
            (missing > 0).sum(),
            (changes > MIN_JUMP_FRACTION).sum(),
        )
        rows.append((item.symbol, first, last, stamps, *(f"{count:,}" for count in counts)))
    return rows


def format_missing_ranges(bars: Bars, start: str | None, end: str | None) -> tuple[str, ...]:
    """Describe the stretches without bars at the start and the end of the requested range.

    start, end: bounds of the range, as in the settings of a run; None: not checked.
    """
    gaps: list[tuple[str, str]] = []
    for s, item in enumerate(bars.instruments):
        times = bars.times[bars.has_bar[s]]
        if not len(times):
            continue
        clock = bars.clock(item.kind)
        first, last = map(format_utc, clock.starts_by_end(times[[0, -1]]))
        numbers = clock.count_ended_bars(times[[0, -1]])
        if start:
            before = np.array([parse_instant(start, name="start") - np.timedelta64(1, "ns")])
            if clock.count_ended_bars(before)[0] + 1 < numbers[0]:
                gaps.append(
                    (f"start: {start} is requested, but bars start only at {first}", item.symbol)
                )
        if end:
            until = np.array([parse_instant(end, name="end", end_of_day=True)])
            if clock.count_ended_bars(until)[0] > numbers[1]:
                gaps.append((f"end: {end} is requested, but bars end at {last}", item.symbol))
    return tuple(_group_by_text(gaps))


def coverage_report(
    bars: Bars,
    start: str | None = None,
    end: str | None = None,
    data_warnings: Iterable[DataWarning] = (),
) -> Iterator[RenderableType]:
    """Yield the report's parts: bar length, data warnings, table, and ranges without bars.

    start, end: bounds of the range, as in the settings of a run.
    data_warnings: data warnings about bars in the range.
    """
    if bars.provenances:
        yield f"Bars are {bars.timeframe.plural_bar_text}: timeframe={bars.timeframe.name}."
        yield from (f"In doubt: {doubt}" for doubt in data_warnings)
        yield Table(
            "Bars read",
            (*_HEADS, f"jumps > {MIN_JUMP_FRACTION:.0%}"),
            coverage_rows(bars),
            left_aligned_columns=(1, 2, 3),
        )
        origins = zip(bars.symbols, bars.provenances, strict=True)
        yield from _group_by_text(
            (note, symbol) for symbol, origin in origins for note in origin.notes
        )
        yield _TIMESTAMPS_LEGEND
    yield from format_missing_ranges(bars, start, end)


def _group_by_text(gaps: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield each distinct text once, preceded by its symbols.

    gaps: pairs of text and symbol.
    """
    about: dict[str, list[str]] = {}
    for words, symbol in gaps:
        about.setdefault(words, []).append(symbol)
    for words, symbols in about.items():
        more = (
            f" and {len(symbols) - _MAX_NAMED_SYMBOLS} more"
            if len(symbols) > _MAX_NAMED_SYMBOLS
            else ""
        )
        yield f"{', '.join(symbols[:_MAX_NAMED_SYMBOLS])}{more}: {words}"
