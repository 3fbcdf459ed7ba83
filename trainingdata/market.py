"""The market of a run: bars, corporate actions, ends of symbols, and the run's first instant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from trainingdata.bars import Bars, Doubt
from trainingdata.corporate_actions import CorporateAction, adjust_for_splits
from trainingdata.delistings import Delisting, Delistings
from trainingdata.splits import find_actions_not_in_prices, refuse_jumps


@dataclass(frozen=True, eq=False, slots=True)
class Market:
    """Market data of a run: bars, corporate actions, and ends of symbols.

    bars: bars of the history and of the run.
    first: index of the run's first instant.
    actions: dividends and splits to apply to positions in these prices, in time order.
    accept_jumps: whether to apply splits that the prices contradict.
    endings: rules for ends of symbols.
    finer: finer bars for order fills, on a panel that includes all instants of `bars`.
    """

    bars: Bars
    first: int = 0
    actions: tuple[CorporateAction, ...] = ()
    accept_jumps: bool = False
    endings: Delistings = field(default_factory=Delistings)
    finer: Bars | None = None

    def __post_init__(self) -> None:
        count = len(self.bars.times)
        if not 0 <= self.first < count:
            raise ValueError(f"first must be 0 to {count - 1}, an instant's, got {self.first}")

    @property
    def history(self) -> Bars:
        """The bars known at the run's first instant."""
        return self.bars.slice_rows(0, self.first + 1)

    @property
    def period(self) -> Bars:
        """The bars of the run, from its first instant on."""
        return self.bars.slice_rows(self.first, len(self.bars.times))

    @property
    def doubts(self) -> tuple[Doubt, ...]:
        """Data warnings about the bars of the run."""
        return self.bars.doubts_between(np.datetime64(self.bars.times[self.first]), self.bars.now)

    @property
    def execution_bars(self) -> Bars:
        return self.bars if self.finer is None else self.finer

    @property
    def splits(self) -> tuple[CorporateAction, ...]:
        """Splits for which the prices are not adjusted."""
        return tuple(action for action in self.actions if action.ratio != 1.0)

    @property
    def ended(self) -> tuple[Delisting, ...]:
        """Ends of symbols booked in the run, in time order; each is known at its booking."""
        begun = self.bars.times[self.first]
        return tuple(
            each for each in self.endings.booked_until_end(self.bars) if each.booked > begun
        )

    @property
    def returned(self) -> tuple[Delisting, ...]:
        """Ends in the run that are cancelled because the symbol trades again."""
        begun = self.bars.times[self.first]
        return tuple(each for each in self.endings.returned(self.bars) if each.booked > begun)

    def on(self, bars: Bars) -> Market:
        """Return the same run on other bars, such as finer bars for fills."""
        first = int(np.searchsorted(bars.times, self.bars.times[self.first]))
        return replace(self, bars=bars, first=first, finer=None)

    def view(self, end: int | None = None) -> Bars:
        """Return the bars visible to a decision at row `end` - 1, or at the last row (None).

        Raw prices are adjusted for splits that are known at this row, not for later splits.
        """
        bars = self.bars.slice_rows(0, end or len(self.bars.times))
        # Only raw prices have splits left to apply.
        if self.splits:
            jumps = find_actions_not_in_prices(bars, self.actions, raw=True)
            refuse_jumps(jumps, accepted=self.accept_jumps)
        return adjust_for_splits(bars, self.actions)

    def views(self) -> Iterator[tuple[int, int, Bars]]:
        """Yield row ranges [begin, end) of the run between splits, each with its visible bars."""
        count = len(self.bars.times)
        opens = [split.opens for split in self.splits if split.symbol in self.bars.symbols]
        rows = np.searchsorted(self.bars.times, np.array(opens, dtype="datetime64[ns]")).tolist()
        inner = {row for row in rows if self.first < row < count}
        for begin, end in pairwise(sorted({self.first, count, *inner})):
            yield begin, end, self.view(end)
