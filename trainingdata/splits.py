"""Jumps between bars that look like a split the prices are not adjusted for, or like wrong rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from foundation.arrays import Array, Instants
from foundation.counts import counted
from trainingdata.actions import Action
from trainingdata.bars import CLOSE, OPEN, Bars, Doubt
from trainingdata.sessions import started_at

BEYOND = 0.4  # share of its price by which a bar's close differs from the one before it
NEAR = 0.1  # of the logarithm: how near a ratio of closes is to one that splits have
GAP = 0.1  # the same, of the open over the close before: a split is made while nobody trades
FEW = 7  # bars within which a price is back where it was: no split is undone
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

    @property
    def doubt(self) -> Doubt:
        """The same as what it means for figures."""
        ratio = f"{self.ratio.numerator}:{self.ratio.denominator}"
        return Doubt(
            self.symbol,
            self.at,
            f"looks like a split of {ratio} that the prices are not adjusted for"
            f" ({self.after:,.2f} after {self.before:,.2f})",
            f"what is held over it books {self.after / self.before - 1:+.0%} that nobody earned",
            "adjust the file's bars for it, or in a backtest give data.adjustment=raw and the split"
            " in data.actions",
            jump=True,
        )


@dataclass(frozen=True, slots=True)
class WrongRows:
    """A jump by the ratio of a split and its way back, `FEW` bars later at most.

    symbol: whose.
    at: start of the first bar between the two.
    count: bars between them.
    before, close, after: closes before the jump, after it and after the way back, USD.
    """

    symbol: str
    at: np.datetime64
    count: int
    before: float
    close: float
    after: float

    @property
    def doubt(self) -> Doubt:
        """The same as what it means for figures."""
        prices = f"{self.close:,.2f} between {self.before:,.2f} and {self.after:,.2f}"
        return Doubt(
            self.symbol,
            self.at,
            f"{counted(self.count, 'bar')} of wrong prices? ({prices})",
            "what is decided, filled or marked there rests on them, but for bars that are left out",
            "mend the file's bars there, or take them out",
        )


def unlike_trading(bars: Bars, actions: Sequence[Action] = ()) -> tuple[SplitLike | WrongRows, ...]:
    """Every jump of a symbol's prices that looks like a split or a wrong row, by symbol and time.

    actions: splits among them that are known are left out.
    """
    found: list[SplitLike | WrongRows] = []
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
) -> list[SplitLike | WrongRows]:
    closes = values[:, CLOSE]
    found: list[SplitLike | WrongRows] = []
    back = 0
    for k in np.flatnonzero(np.abs(closes[1:] / closes[:-1] - 1) > BEYOND).tolist():
        if k < back or any(starts[k] < opens <= starts[k + 1] for opens in known):
            continue
        ratio = _ratio(values, k)
        place = _way_back(closes, k)
        # A row's open may be right and its close wrong: its way back is the jump between bars.
        if place is not None and (ratio or _ratio(values, place - 1)):
            back = place
            at = np.datetime64(starts[k + 1])
            prices = (float(closes[row]) for row in (k, k + 1, back))
            found.append(WrongRows(symbol, at, back - k - 1, *prices))
        elif ratio:
            at = np.datetime64(starts[k + 1])
            found.append(SplitLike(symbol, at, ratio, float(closes[k]), float(closes[k + 1])))
    return found


def _ratio(values: Array, k: int) -> Fraction | None:
    """The ratio of a split that the jump from a bar to the next looks like."""
    change = np.log(values[k + 1, CLOSE] / values[k, CLOSE])
    gap = np.log(values[k + 1, OPEN] / values[k, CLOSE])
    # A price falls as shares become more.
    nearest = int(np.abs(_LOGS + change).argmin())
    alike = abs(_LOGS[nearest] + change) <= NEAR and abs(_LOGS[nearest] + gap) <= GAP
    return RATIOS[nearest] if alike else None


def _way_back(closes: Array, k: int) -> int | None:
    """The bar, soon after a jump from this one, in which prices are back and stay."""
    later = closes[k + 2 : k + 2 + FEW]
    alike = np.flatnonzero(np.abs(np.log(later / closes[k])) <= GAP)
    if not len(alike):
        return None
    place = k + 2 + int(alike[0])
    # A wrong row soon after a split shows the price before it once more.
    stays = abs(np.median(closes[place : place + FEW]) / closes[k] - 1) <= BEYOND
    return place if stays else None
