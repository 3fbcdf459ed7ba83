"""The schedule of decisions: at every bar, once per week or month, or at times of day.

A decision belongs to the day of its fill. With hourly bars a week's first decision is the first
decision on Monday. With daily bars it is Friday's close, which fills at Monday's open.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from foundation.arrays import Index, Instants, Mask
from foundation.errors import InputError, closest_choices, format_suggestion, to_one_line
from trainingdata.instants import DAY, format_time_of_day, new_york_minutes_of_day
from trainingdata.instruments import AssetClass
from trainingdata.sessions import exchange_calendar, outside_calendar_error
from trainingdata.timeframe import Clock, HoldingRule, StockClock, Timeframe

DecisionFrequency = Literal["bars", "weekly", "monthly", "times"]
_NAMED_FREQUENCIES: tuple[DecisionFrequency, ...] = ("bars", "weekly", "monthly")

_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_CLASSES = {AssetClass.STOCK: "stocks", AssetClass.CRYPTO: "crypto"}
_MAX_DECISION_GAP = 45 * DAY  # largest distance of two decisions: a month, holidays on both sides
# Full sessions in New York's winter and summer.
_FULL_SESSION_DATES = (np.datetime64("2024-01-16", "ns"), np.datetime64("2024-07-16", "ns"))


@dataclass(frozen=True, slots=True)
class Schedule:
    """The schedule of decisions, a subset of the decisions of a bar clock.

    frequency: `bars`: every decision of the clock; `weekly` or `monthly`: the first decision that
        fills in a week or a month; `times_of_day_minutes`: given times of day.
    times_of_day_minutes: times of day, in minutes after New York's midnight.
    """

    frequency: DecisionFrequency = "bars"
    times_of_day_minutes: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Parse the text of the setting `schedule`.

        Raises InputError for an invalid text.
        """
        for period in _NAMED_FREQUENCIES:
            if text == period:
                return cls(period)
        found = [_TIME.fullmatch(part.strip()) for part in text.split(",")]
        times = [60 * int(each[1]) + int(each[2]) for each in found if each]
        for minutes in times:
            if times.count(minutes) > 1:
                repeated = format_time_of_day(minutes)
                raise InputError(f"schedule: New York time {repeated} is listed twice; remove one")
        if len(times) < len(found):
            hint = format_suggestion(closest_choices(text, _NAMED_FREQUENCIES))
            raise InputError(
                f"schedule: {text!r} is invalid; use bars, weekly, monthly, or New York times of"
                f" day such as 10:30,15:30{hint}"
            )
        return cls("times", tuple(sorted(times)))

    def check_decision_times(self, timeframe: Timeframe, kinds: Iterable[AssetClass]) -> None:
        """Validate the scheduled times of day against the possible decisions of asset classes.

        Raises InputError for a time at which no decision is possible, and for a class without
        scheduled decisions.
        """
        if self.frequency != "times":
            return
        grids = {kind: _decision_minutes_of_day(timeframe.clock(kind)) for kind in kinds}
        others = set(self.times_of_day_minutes).difference(*grids.values())
        for kind, grid in grids.items():
            if others or set(self.times_of_day_minutes).isdisjoint(grid):
                wrong = ", ".join(
                    map(format_time_of_day, sorted(others or self.times_of_day_minutes))
                )
                there = to_one_line(", ".join(map(format_time_of_day, grid)), 200) or "none"
                raise InputError(
                    f"schedule: no decision is possible at {wrong} with timeframe={timeframe.name};"
                    f" possible times for {_CLASSES[kind]}: {there}"
                )

    def is_scheduled(self, clock: Clock, instants: Instants) -> Mask:
        """Return whether an asset class has a scheduled decision at each instant, [N]."""
        decides = clock.is_decision(instants)
        if self.frequency == "bars":
            return decides
        if self.frequency == "times":
            return np.asarray(
                decides & np.isin(new_york_minutes_of_day(instants), self.times_of_day_minutes)
            )
        before = clock.previous_decisions(instants)
        here, there = (self._period_numbers(clock.fill_dates(each)) for each in (instants, before))
        return np.asarray(decides & (here != there))

    def holding_ends(self, clock: Clock, instants: Instants, holding: HoldingRule) -> Instants:
        """Return the end of the holding interval of a decision at each instant, [N].

        The interval ends at the first scheduled decision that is not before the clock's holding
        end.

        clock: clock of the asset class.
        holding: holding rule of the clock.

        Raises InputError for an interval that ends beyond the calendar.
        """
        ends = clock.holding_ends(instants, holding)
        if self.frequency == "bars" or not len(ends):
            return ends
        ahead = clock.decisions_between(ends.min(), ends.max() + _MAX_DECISION_GAP)
        decisions = ahead[self.is_scheduled(clock, ahead)]
        k = np.searchsorted(decisions, ends)
        if k.max() == len(decisions):
            raise outside_calendar_error(instants.max())
        return np.asarray(decisions[k])

    def holding_end(
        self, clock: Clock, now: np.datetime64, holding: HoldingRule = "next"
    ) -> np.datetime64:
        return np.datetime64(self.holding_ends(clock, np.array([now]), holding)[0])

    def is_last_decision_of_session(self, stocks: StockClock, instants: Instants) -> Mask:
        """Return whether each instant has no later stock decision in its session, [N]."""
        if not len(instants):
            return np.zeros(0, dtype=bool)
        closes = exchange_calendar().closes
        k = np.searchsorted(closes, instants, side="right")
        decisions = stocks.decisions_between(instants.min(), closes[k.max()])
        decisions = decisions[self.is_scheduled(stocks, decisions)]
        done = np.searchsorted(decisions, instants, side="right")
        return np.asarray(done == np.searchsorted(decisions, closes[k], side="right"))

    def _period_numbers(self, dates: npt.NDArray[np.datetime64]) -> Index:
        """Return the number of the week, or for `monthly` of the month, of each date, [N]."""
        if self.frequency == "monthly":
            return dates.astype("datetime64[M]").astype(np.int64)
        # 1970-01-01 was a Thursday, and weeks begin on Mondays.
        return np.asarray((dates.astype("datetime64[D]").astype(np.int64) + 3) // 7)


EVERY_BAR = Schedule()


def _decision_minutes_of_day(clock: Clock) -> Sequence[int]:
    """Return the times of day of decisions that occur in winter and in summer.

    They are minutes after New York's midnight.
    """
    winter, summer = (
        new_york_minutes_of_day(clock.decisions_between(day, day + DAY))
        for day in _FULL_SESSION_DATES
    )
    times: list[int] = np.intersect1d(winter, summer).tolist()
    return times
