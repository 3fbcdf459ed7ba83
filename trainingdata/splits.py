"""Jumps between bars that look like a split that the prices are not adjusted for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from foundation.arrays import Array, Instants
from trainingdata.actions import Action
from trainingdata.bars import CLOSE, OPEN, Bars
from trainingdata.sessions import started_at

BEYOND = 0.4  # share of its price by which a bar's close differs from the one before it
NEAR = 0.05  # of the logarithm: how near a ratio of closes is to one that splits have
GAP = 0.1  # the same, of the open over the close before: a split is made while nobody trades
# New shares for one old share, and the other way round; 3:2 moves a price by less than `BEYOND`.
_WHOLE = (2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 16, 20, 25, 30, 40, 50, 100)
RATIOS = (*map(Fraction, _WHOLE), *(Fraction(1, k) for k in _WHOLE))
_LOGS = np.log([float(ratio) for ratio in RATIOS])


@dataclass(frozen=True, slots=True)
class SplitLike:
    """A jump from one bar to the next.

    symbol: whose.
    at: start of the bar after it.
    ratio: new shares for one old share that it looks like.
    before, after: closes around it, USD.
    """

    symbol: str
    at: np.datetime64
    ratio: Fraction
    before: float
    after: float

    def __str__(self) -> str:
        day = str(self.at.astype("datetime64[D]"))
        ratio = f"{self.ratio.numerator}:{self.ratio.denominator}"
        return f"{day} looks like a split of {ratio} ({self.after:,.2f} after {self.before:,.2f})"


def split_like(bars: Bars, actions: Sequence[Action] = ()) -> tuple[SplitLike, ...]:
    """Every jump of a symbol's prices that looks like a split, by symbol and time.

    actions: splits among them that are known are left out.
    """
    found = []
    for s, item in enumerate(bars.instruments):
        times, values = bars.real_bars(s)
        starts = started_at(item.kind, times)
        known = [
            action.opens for action in actions if action.symbol == item.symbol and action.ratio != 1
        ]
        found += list(_of_symbol(item.symbol, starts, values, known))
    return tuple(found)


def _of_symbol(
    symbol: str, starts: Instants, values: Array, known: Sequence[np.datetime64]
) -> list[SplitLike]:
    closes = values[:, CLOSE]
    change = closes[1:] / closes[:-1]
    found = []
    for k in np.flatnonzero(np.abs(change - 1) > BEYOND):
        # A price falls as shares become more.
        nearest = int(np.abs(_LOGS + np.log(change[k])).argmin())
        gap = np.log(values[k + 1, OPEN] / closes[k])
        if (
            abs(_LOGS[nearest] + np.log(change[k])) <= NEAR
            and abs(_LOGS[nearest] + gap) <= GAP
            and not any(starts[k] < opens <= starts[k + 1] for opens in known)
        ):
            at = np.datetime64(starts[k + 1])
            found.append(
                SplitLike(symbol, at, RATIOS[nearest], float(closes[k]), float(closes[k + 1]))
            )
    return found
