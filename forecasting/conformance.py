"""Whether a forecaster keeps what the system relies on: for one of a user's own, before money."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from forecasting.checked import KEY, scale_faults, table_faults, value_faults
from forecasting.forecast import Forecaster, ForecastTable
from forecasting.windows import Windows
from foundation.arrays import Array32, Index, Mask, first_row
from foundation.plugin import name_of, own_code
from trainingdata.bars import Bars
from trainingdata.synthetic import SyntheticMarket

CHECKED = 200  # forecasts whose values are compared, drawn at random
CUTS = 4  # panels that end earlier
BEFORE_A_CUT = 25  # last forecasts of each symbol before a cut: all that any look-ahead can reach
# Of a forecast's own width at each step: what another batch's order of sums may change, and far
# less than anything worth trading.
SAME = 1e-3


def check_forecaster(
    forecaster: Forecaster, bars: Bars | None = None, *, seed: int = 0
) -> tuple[str, ...]:
    """What a forecaster does that the system does not expect, a sentence each; none if it conforms.

    It is asked for panels that end earlier first, then for the last third of the whole one, twice,
    and from another instant on. What it says at an instant must depend neither on what came after
    it, nor on what else was asked for, nor on what was asked before.

    bars: none for five synthetic symbols over half a year.
    seed: of which forecasts are compared.

    Raises
    ------
    InputError
        for a forecaster that fails, with the file and the line.
    """
    panel = _half_a_year() if bars is None else bars
    with own_code(KEY, name_of(forecaster)):
        return tuple(dict.fromkeys(_faults(forecaster, panel, np.random.default_rng(seed))))


def _half_a_year() -> Bars:
    return SyntheticMarket(
        start="2024-01-02", end="2024-06-28", symbols=("SYA", "SYB", "SYC", "SYXUSD", "SYYUSD")
    ).bars()


def _faults(forecaster: Forecaster, bars: Bars, rng: np.random.Generator) -> Iterator[str]:
    name = getattr(forecaster, "name", None)
    if not isinstance(name, str) or not name.strip():
        yield "name: reports need a text that is not empty"
        return
    untouched = bars.values.copy()
    try:
        yield from _answer_faults(forecaster, bars, rng)
    except _Malformed as malformed:
        yield from malformed.faults
    if not np.array_equal(bars.values, untouched, equal_nan=True):
        yield "forecast changes the bars that it is given"


class _Malformed(Exception):
    """An answer that cannot be compared with others, and why."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__(*faults)
        self.faults = faults


def _answer_faults(forecaster: Forecaster, bars: Bars, rng: np.random.Generator) -> Iterator[str]:
    """What answers to one question differ in, a sentence each."""
    count = len(bars.times)
    since = bars.times[2 * count // 3]
    # The shorter panels come first: one that remembers the longest it has seen would pass else.
    cuts = np.linspace(2 * count // 3, count, CUTS + 2).astype(int)[1:-1]
    early = []
    for cut in cuts.tolist():
        shorter = _table(forecaster, bars.between(0, cut), since)
        rows = _last_of_each_symbol(shorter.windows)
        early.append((shorter.windows.part(rows), shorter.answer(rows)))
    table = _table(forecaster, bars, since)
    size = len(table.windows)
    rows = np.sort(rng.choice(size, min(CHECKED, size), replace=False))
    values = table.answer(rows)
    if faults := list(value_faults(values, table, rows)):
        raise _Malformed(faults)
    yield from scale_faults(values, table, rows)
    shuffled = rng.permutation(len(rows))
    if not _same(table.answer(rows[shuffled]), values[shuffled]).all():
        yield "a forecast depends on which others are asked for with it, or in which order"
    if not _same(_table(forecaster, bars, since).answer(rows), values).all():
        yield "the same question has two answers: whatever is drawn at random needs a seed"
    later = _table(forecaster, bars, bars.times[(2 * count // 3 + count) // 2])
    every = np.arange(len(later.windows))
    answers = later.answer(every)
    yield from value_faults(answers, later, every)
    yield from _differences(
        later.windows,
        answers,
        table,
        bars,
        "depends on the instant that forecasts are asked for from",
    )
    for windows, answers in early:
        yield from _differences(
            windows, answers, table, bars, "look-ahead: it is another where later bars are absent"
        )


def _table(forecaster: Forecaster, bars: Bars, since: np.datetime64) -> ForecastTable:
    """The forecaster's answer, which is a table of these bars."""
    table = forecaster.forecast(bars, since)
    if faults := list(table_faults(table, bars)):
        raise _Malformed(faults)
    return table


def _last_of_each_symbol(windows: Windows) -> Index:
    """Numbers of the last windows of every symbol."""
    parts = (np.arange(w.start, w.stop)[-BEFORE_A_CUT:] for w in windows.of_symbols())
    return np.concatenate(list(parts))


def _differences(
    windows: Windows, answers: Array32, table: ForecastTable, bars: Bars, fault: str
) -> Iterator[str]:
    """The first of these forecasts that the table has otherwise, or has not."""
    places = {
        (symbol, last): number
        for number, (symbol, last) in enumerate(
            zip(table.windows.symbol.tolist(), table.windows.last.tolist(), strict=True)
        )
    }
    keys = list(zip(windows.symbol.tolist(), windows.last.tolist(), strict=True))
    numbers = np.array([places.get(key, -1) for key in keys])
    there = np.flatnonzero(numbers >= 0)
    same = np.zeros(len(keys), dtype=bool)
    if len(there):
        same[there] = _same(table.answer(numbers[there]), answers[there])
    if not same.all():
        row = first_row(~same)
        yield f"{bars.symbols[windows.symbol[row]]} at {windows.issued_at[row]}: {fault}"


def _same(a: Array32, b: Array32) -> Mask:
    """Whether each forecast is the other, within a thousandth of its own width, [n]."""
    if a.shape != b.shape:
        return np.zeros(len(b), dtype=bool)
    width = b[..., -1:] - b[..., :1] + 1e-6 * np.abs(b[..., :1])
    with np.errstate(invalid="ignore"):
        far = np.abs(a - b) > SAME * width
    differs = far | (np.isnan(a) != np.isnan(b))
    return np.asarray(~differs.any(axis=(1, 2)))
