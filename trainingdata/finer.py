"""Finer bars that orders meet in the place of those that are decided on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from foundation.arrays import Array, Instants, first_row
from foundation.errors import DataError
from trainingdata.bars import FIELDS, HIGH, LOW, VOLUME, Bars, panel
from trainingdata.instants import utc_text
from trainingdata.resampling import joined

# Of a price, by which the two may differ: they are rounded, or adjusted for splits, on their own.
ROUNDING = 1e-3


def finer_panel(finer: Bars, bars: Bars, first: int) -> Bars:
    """Finer bars within those of a panel, laid on one that has all of its instants.

    What lies within no bar of the panel is left out: no decision knows of it.

    finer: of the same symbols, from files.
    first: number of the instant from which on every bar needs some.
    """
    tables = []
    origins = []
    for s, item in enumerate(bars.instruments):
        number = finer.symbols.index(item.symbol)
        what = f"data.fills: {finer.origins[number].file}: {item.symbol}"
        times, values = bars.real_bars(s)
        starts = bars.clock(item.kind).started_at(times)
        ends, parts = finer.real_bars(number)
        begun = finer.clock(item.kind).started_at(ends)
        k = np.searchsorted(starts, begun, side="right") - 1
        within = (k >= 0) & (begun < times[k])
        k, ends, parts = k[within], ends[within], parts[within]
        lacking = ~np.isin(np.arange(len(times)), k) & (times > bars.times[first])
        if lacking.any():
            at = utc_text(starts[first_row(lacking)])
            raise DataError(
                f"{what} has no {finer.timeframe.minutes}-minute bar within"
                f" {bars.timeframe.bar} that starts at {at}; give files that hold the whole run, or"
                " a start and an end within them"
            )
        held = np.unique(k)
        _refuse_contradiction(what, bars, starts[held], values[held], joined(starts[k], parts)[1])
        tables.append((item, ends, parts))
        origins.append(finer.origins[number])
    met = panel(tables, finer.source, finer.timeframe, bars.times)
    return replace(met, origins=tuple(origins))


def _refuse_contradiction(
    what: str, bars: Bars, starts: Instants, values: Array, made: Array
) -> None:
    """Refuse finer bars that make others than these.

    starts: [N] of the bars. values: [N, 5] of them. made: [N, 5] what finer ones make.
    """
    apart = made[:, :VOLUME] / values[:, :VOLUME] - 1
    # A part without a trade has no bar, so less of a range may be there, but no more.
    apart[:, HIGH] = np.maximum(apart[:, HIGH], 0)
    apart[:, LOW] = np.minimum(apart[:, LOW], 0)
    wrong = np.abs(apart) > ROUNDING
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise DataError(
            f"{what}: {bars.timeframe.bar} that starts at {utc_text(starts[row])} has the"
            f" {FIELDS[column]} {values[row, column]:.10g}, and its finer bars make"
            f" {made[row, column]:.10g}; give both folders of one vendor, adjusted alike"
        )
