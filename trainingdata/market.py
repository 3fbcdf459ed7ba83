"""The market of a run: its bars, corporate actions and delistings, and its first instant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from trainingdata.bars import Bars, DataWarning
from trainingdata.corporate_actions import CorporateAction, adjust_for_splits
from trainingdata.delistings import Delisting, DelistingRules
from trainingdata.splits import find_actions_not_in_prices, refuse_jumps


@dataclass(frozen=True, eq=False, slots=True)
class Market:
    """Market data of a run: bars, corporate actions, and delistings.

    bars: bars of the history and of the run.
    start_row: index of the run's first instant.
    actions: dividends and splits that are booked on positions, because the prices do not include
        them; in time order.
    accepts_jumps: whether to apply splits that the prices contradict.
    delisting_rules: rules for delistings.
    finer_bars: finer bars for order fills, on a panel that includes all instants of `bars`; None:
        fills use `bars`.
    """

    bars: Bars
    start_row: int = 0
    actions: tuple[CorporateAction, ...] = ()
    accepts_jumps: bool = False
    delisting_rules: DelistingRules = field(default_factory=DelistingRules)
    finer_bars: Bars | None = None

    def __post_init__(self) -> None:
        count = len(self.bars.times)
        if not 0 <= self.start_row < count:
            raise ValueError(
                f"start_row must be the row of an instant, 0 to {count - 1}, got {self.start_row}"
            )

    @property
    def initial_history(self) -> Bars:
        """The bars known at the run's first instant."""
        return self.bars.slice_rows(0, self.start_row + 1)

    @property
    def run_bars(self) -> Bars:
        """The bars of the run, from its first instant on."""
        return self.bars.slice_rows(self.start_row, len(self.bars.times))

    @property
    def data_warnings(self) -> tuple[DataWarning, ...]:
        """Data warnings about the bars of the run."""
        return self.bars.data_warnings_between(
            np.datetime64(self.bars.times[self.start_row]), self.bars.last_instant
        )

    @property
    def execution_bars(self) -> Bars:
        return self.bars if self.finer_bars is None else self.finer_bars

    @property
    def splits(self) -> tuple[CorporateAction, ...]:
        """Splits for which the prices are not adjusted, in time order."""
        return tuple(action for action in self.actions if action.split_ratio != 1.0)

    @property
    def booked_delistings(self) -> tuple[Delisting, ...]:
        """Delistings booked in the run, in time order; each is known from its booking on."""
        begun = self.bars.times[self.start_row]
        return tuple(
            each
            for each in self.delisting_rules.booked_delistings(self.bars)
            if each.booked_at > begun
        )

    @property
    def cancelled_delistings(self) -> tuple[Delisting, ...]:
        """Delistings in the run that are cancelled because the symbol trades again."""
        begun = self.bars.times[self.start_row]
        return tuple(
            each
            for each in self.delisting_rules.cancelled_delistings(self.bars)
            if each.booked_at > begun
        )

    def with_bars(self, bars: Bars) -> Market:
        """Return the market of the same run with other bars, such as finer bars for fills."""
        first = int(np.searchsorted(bars.times, self.bars.times[self.start_row]))
        return replace(self, bars=bars, start_row=first, finer_bars=None)

    def visible_bars(self, end: int | None = None) -> Bars:
        """Return the bars visible to a decision at row `end` - 1; None: at the last row.

        Raw prices are adjusted for the splits that are known at this row, not for later splits.

        Raises DataError for a split that the prices contradict, unless `accepts_jumps` is set.
        """
        bars = self.bars.slice_rows(0, end or len(self.bars.times))
        # Only raw prices have splits left to apply.
        if self.splits:
            jumps = find_actions_not_in_prices(bars, self.actions, raw=True)
            refuse_jumps(jumps, accepted=self.accepts_jumps)
        return adjust_for_splits(bars, self.actions)

    def visible_bars_by_segment(self) -> Iterator[tuple[int, int, Bars]]:
        """Yield the segments of the run between splits: first row, end row, and visible bars.

        The end row is excluded. The bars are those visible to the segment's last decision, so that
        no split within the segment changes their units.
        """
        count = len(self.bars.times)
        opens = [split.effective_open for split in self.splits if split.symbol in self.bars.symbols]
        rows = np.searchsorted(self.bars.times, np.array(opens, dtype="datetime64[ns]")).tolist()
        inner = {row for row in rows if self.start_row < row < count}
        for begin, end in pairwise(sorted({self.start_row, count, *inner})):
            yield begin, end, self.visible_bars(end)
