"""Bars on which protective orders are tried."""

from __future__ import annotations

import numpy as np

from trainingdata.bars import LOW, Bars


def split(bars: Bars, fall: str = "2024-02-21T16:30") -> Bars:
    """SYA trades at a quarter of its price from 2024-02-21 on, and falls by a fifth in a bar."""
    values = bars.values.copy()
    after = bars.times > np.datetime64("2024-02-21", "ns")
    values[bars.symbols.index("SYA"), after, :4] /= 4
    row = int(np.searchsorted(bars.times, np.datetime64(fall, "ns")))
    values[bars.symbols.index("SYA"), row, LOW] *= 0.8
    return bars.__class__(bars.instruments, bars.times, values, bars.mask, bars.source)
