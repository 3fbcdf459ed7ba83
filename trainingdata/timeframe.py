"""Timeframes: the length of bars, which determines their grid, known-at instants and decisions.

A stock's bars start at the session's open; the last bar ends with the session, on half-days too. A
daily bar is the session. Crypto bars follow one another without a gap; crypto days are UTC days, or
end at 16:00 New York. All instants are UTC `datetime64[ns]`.

Daily bars with fills in the closing auction (`fill="close"`) have another grid. Such a bar begins
with a closing auction, includes the night, and ends a quarter of an hour before the next closing
auction, when it becomes known and a decision is made. So with this grid, too, a decision is filled
at the next bar's open.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from foundation.arrays import Array, Index, Instants, Mask, first_true_index
from foundation.errors import InputError
from trainingdata.instants import (
    DAY,
    MINUTES_PER_DAY,
    NEW_YORK,
    format_time_of_day,
    new_york_date,
    new_york_minutes_of_day,
)
from trainingdata.instruments import AssetClass
from trainingdata.sessions import FULL_SESSION_LENGTH, exchange_calendar, outside_calendar_error

HoldingRule = Literal["next", "session", "plan"]
TimeframeName = Literal["1d", "1h", "30m", "15m", "5m"]
FillTime = Literal["open", "close"]

BarLengthName = TimeframeName | Literal["1m"]

_MINUTES_BY_UNIT = {"m": 1, "h": 60, "d": MINUTES_PER_DAY}  # by the letter that ends a name
_BAR = {"1h": "an hourly bar", "1d": "a daily bar"}
_UNIT = {"1h": "hour", "1d": "day"}
# Days a year on which the market of a class is open.
MARKET_DAYS_PER_YEAR = {AssetClass.STOCK: 252.0, AssetClass.CRYPTO: 365.25}
_HOURS_PER_DAY = 24  # hours of a day in crypto's daily pattern; weekends have their own
# Time before the close of the decision on a closing auction, which accepts orders until ten minutes
# before the close.
CLOSE_DECISION_LEAD = np.timedelta64(15 * 60 * 10**9, "ns")
# No vendor has bars of a minute, 390 a session, from before this date.
_MINUTE_BARS_START = np.datetime64("1990-01-01")
_NEVER = np.datetime64("NaT", "ns")
_EPOCH = np.datetime64(0, "ns")

SlotIndices = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Timeframe:
    """Length of bars, and fill of daily decisions.

    name: name in settings; `1m` bars may fill orders, but have no decisions.
    fill: fill of a daily decision on stocks: at the next open, or in the closing auction of the
        same day.
    """

    name: BarLengthName
    fill: FillTime = "open"

    def __post_init__(self) -> None:
        if self.fill != "open" and not self.is_daily:
            raise InputError(
                f"fill: {self.fill} applies only to daily decisions; set timeframe=1d and supply"
                " intraday bars, or set fill=open"
            )

    @property
    def auction_time_in_force(self) -> Literal["opg", "cls"] | None:
        """Time in force of orders for the auction with which a stock bar begins.

        It is `opg` for the opening auction and `cls` for the closing auction; None without an
        auction.
        """
        if not self.is_daily:
            return None
        return "opg" if self.fill == "open" else "cls"

    def begins_with_auction(self, start: np.datetime64) -> bool:
        """Return whether a daily bar of stocks, and so an opening auction, starts at an instant."""
        ends = self.stock_clock.ends_by_start(np.array([start]))
        return self.is_daily and not bool(np.isnat(ends[0]))

    @property
    def fills_at_close(self) -> bool:
        return self.fill == "close"

    @property
    def minutes(self) -> int:
        """Longest duration of a bar in minutes; for daily bars the duration of a crypto day."""
        return int(self.name[:-1]) * _MINUTES_BY_UNIT[self.name[-1]]

    @property
    def length(self) -> np.timedelta64:
        return np.timedelta64(self.minutes * 60 * 10**9, "ns")

    @property
    def is_daily(self) -> bool:
        return self.name == "1d"

    @property
    def singular_bar_text(self) -> str:
        return _BAR.get(self.name, f"a {self.minutes}-minute bar")

    @property
    def unit_name(self) -> str:
        return _UNIT.get(self.name, "bar")

    @property
    def plural_bar_text(self) -> str:
        return f"{self.unit_name}s" if self.name in _UNIT else f"{self.minutes}-minute bars"

    @property
    def stock_clock(self) -> StockClock:
        return _build_closing_clock() if self.fills_at_close else _build_stock_clock(self.name)

    def clock(self, kind: AssetClass) -> Clock:
        """Return the bar clock of an asset class."""
        if kind is AssetClass.STOCK:
            return self.stock_clock
        return CryptoClock(self.length)

    def requested_timeframe(self, kind: AssetClass) -> Timeframe:
        """Return the timeframe to request from Alpaca for bars that are aggregated to this one.

        Alpaca's hourly stock bars lie on clock hours and include time before the open, so that only
        its half-hour bars fit a grid from 09:30. Alpaca's crypto days do not begin at midnight UTC,
        so that hourly bars are requested. A decision for a closing auction falls on a quarter of an
        hour, so that quarter-hour bars are requested.
        """
        if kind is AssetClass.CRYPTO:
            return HOURLY if self.minutes > HOURLY.minutes else self
        if self.is_daily:
            return Timeframe("15m") if self.fills_at_close else self
        return Timeframe("30m") if self.minutes >= HOURLY.minutes else self

    def last_bar_end(self, kind: AssetClass, now: np.datetime64) -> np.datetime64:
        """Return the end of the last bar that is complete at `now`; the bar became known then."""
        clock = self.clock(kind)
        here = np.array([now])
        return np.datetime64(clock.ends_by_number(clock.count_ended_bars(here), here)[0])


HOURLY = Timeframe("1h")
DAILY = Timeframe("1d")
ONE_MINUTE = Timeframe("1m")
TIMEFRAMES = tuple(map(Timeframe, get_args(TimeframeName)))


def next_bar_ends(clock: Clock, instants: Instants, ahead: int) -> Instants:
    """Return the known-at instants [N, ahead] of the next calendar bars after each instant."""
    numbers = clock.count_ended_bars(instants)[:, None] + np.arange(1, 1 + ahead)
    return clock.ends_by_number(numbers, instants)


def nth_next_bar_end(clock: Clock, instants: Instants, ahead: int) -> Instants:
    """Return the known-at instant [N] of the `ahead`-th calendar bar after each instant."""
    return clock.ends_by_number(clock.count_ended_bars(instants) + ahead, instants)


@dataclass(frozen=True, eq=False, slots=True)
class StockClock:
    """The clock of stocks: N bars within sessions, and K decisions.

    The end of every daily bar is a decision.

    starts: [N] start of each bar.
    ends: [N] end of each bar, at which it becomes known.
    session_indices: [N] index of each bar's session.
    decision_instants: [K] ends of bars at which a decision is possible, because a later bar can
        fill it.
    decision_session_indices: [K] index of the session of each decision.
    bars_per_day: number of bars of a full session.
    """

    starts: Instants
    ends: Instants
    session_indices: npt.NDArray[np.int64]
    decision_instants: Instants
    decision_session_indices: npt.NDArray[np.int64]
    bars_per_day: int

    def ends_by_start(self, starts: Instants) -> Instants:
        """Return the end of the bar that starts at each instant, [N]; the bar becomes known then.

        The end is NaT if no bar starts at the instant.
        """
        k = np.minimum(np.searchsorted(self.starts, starts), len(self.starts) - 1)
        return np.where(self.starts[k] == starts, self.ends[k], _NEVER)

    def starts_by_end(self, ends: Instants) -> Instants:
        """Return the start of the bar that ends at each instant, [N]; NaT if no bar ends then.

        This is the inverse of `ends_by_start`.
        """
        k = np.minimum(np.searchsorted(self.ends, ends), len(self.ends) - 1)
        return np.where(self.ends[k] == ends, self.starts[k], _NEVER)

    def count_ended_bars(self, instants: Instants) -> Index:
        """Return the number of calendar bars that have ended by each instant, [N]."""
        return np.asarray(np.searchsorted(self.ends, instants, side="right"), dtype=np.int64)

    def ends_by_number(self, numbers: Index, instants: Instants) -> Instants:
        """Return the end times of calendar bars by their numbers.

        numbers: numbers of the bars, counted from 1.
        instants: the last of these is named in the error message.

        Raises InputError for a bar beyond the calendar.
        """
        if numbers.size and numbers.max() > len(self.ends):
            raise outside_calendar_error(instants.max())
        return np.asarray(self.ends[numbers - 1])

    def bars_elapsed(self, instants: Instants) -> Array:
        """Return the number of bars elapsed at each instant, [N]; a bar in progress counts partly.

        The number is constant while the market is closed.
        """
        done = self.count_ended_bars(instants)
        k = np.minimum(done, len(self.starts) - 1)
        share = (instants - self.starts[k]) / (self.ends[k] - self.starts[k])
        return np.asarray(done + np.clip(share, 0.0, 1.0) * (done < len(self.starts)))

    def is_decision(self, instants: Instants) -> Mask:
        """Return whether a decision is possible at each instant, [N].

        A decision is possible where a bar ends and a later bar can fill it.
        """
        k = np.minimum(
            np.searchsorted(self.decision_instants, instants), len(self.decision_instants) - 1
        )
        return np.asarray(self.decision_instants[k] == instants)

    def decisions_between(self, first: np.datetime64, last: np.datetime64) -> Instants:
        """Return all decisions in [first, last]."""
        begin = np.searchsorted(self.decision_instants, first)
        end = np.searchsorted(self.decision_instants, last, side="right")
        return self.decision_instants[begin:end]

    def previous_decisions(self, instants: Instants) -> Instants:
        """Return the last decision before each instant, [N]; NaT before the first decision."""
        k = np.searchsorted(self.decision_instants, instants)
        return np.where(k > 0, self.decision_instants[k - 1], _NEVER)

    def fill_dates(self, instants: Instants) -> npt.NDArray[np.datetime64]:
        """Return the New York date on which a decision at each instant is filled, [N].

        It is the date on which the next bar starts.
        """
        k = np.minimum(self.count_ended_bars(instants), len(self.starts) - 1)
        return new_york_date(self.starts[k])

    def holding_ends(self, instants: Instants, holding: HoldingRule = "next") -> Instants:
        """Return the end of the holding interval of a decision at each instant, [N].

        With `next` the interval ends at the next decision; with `plan` this is the end of the
        plan's first period. With `session` it ends at the same decision of the next session, or at
        that session's last decision.

        Raises InputError for an interval that ends beyond the calendar.
        """
        k = np.searchsorted(self.decision_instants, instants, side="right")
        beyond = k >= len(self.decision_instants) - 10
        if beyond.any():
            raise outside_calendar_error(instants[first_true_index(beyond)])
        if holding != "session":
            return np.asarray(self.decision_instants[k])
        sessions = self.decision_session_indices[k - 1][:, None] + np.arange(3)
        first, next_first, next_end = np.searchsorted(self.decision_session_indices, sessions).T
        place = k - 1 - first
        return np.asarray(self.decision_instants[np.minimum(next_first + place, next_end - 1)])

    @property
    def bars_per_year(self) -> float:
        return self.bars_per_day * MARKET_DAYS_PER_YEAR[AssetClass.STOCK]

    @property
    def slot_count(self) -> int:
        """Number of different values that `slot_indices` can have."""
        return self.bars_per_day

    def slot_indices(self, ends: Instants, ahead: int) -> SlotIndices:
        """Return the slots of the bar ending at each instant and of the next bars, [N, 1 + ahead].

        The next bars are calendar bars. A slot is a bar's index within its session; slot 0 includes
        the night before.

        Raises InputError for bars beyond the calendar.
        """
        place = _bar_numbers_in_session(self)
        k = np.searchsorted(self.ends, ends)
        if len(k) and k.max() + ahead >= len(place):
            raise outside_calendar_error(ends.max())
        return np.asarray(place[k[:, None] + np.arange(1 + ahead)])

    def slot_label(self, slot: int) -> str:
        """Return the New York time at which bars of a slot have ended, such as 10:30."""
        opens, closes = self.starts[0], self.ends[self.bars_per_day - 1]
        ended = min(opens + (slot + 1) * (self.ends[0] - opens), closes)
        return format_time_of_day(int(new_york_minutes_of_day(np.array([ended]))[0]))

    def intraday_ceiling_applies(self, instants: Instants) -> Mask:
        """Return whether the intraday ceiling on stock exposure applies at each instant, [N].

        It applies while a later decision of the session can still reduce the book. From the
        session's last decision to the next open, the overnight ceiling applies. With daily bars the
        intraday ceiling never applies.
        """
        if self.bars_per_day == 1:
            return np.zeros(len(instants), dtype=bool)
        days = exchange_calendar()
        k = np.searchsorted(days.opens, instants, side="right") - 1
        # In a shortened session the last decision but one makes the cut. Feeds often lack the half
        # hour that would fill the orders of the last decision.
        shortened = days.closes[k] - days.opens[k] < FULL_SESSION_LENGTH
        end = np.searchsorted(self.decision_session_indices, k, side="right")
        return np.asarray((k >= 0) & (instants < self.decision_instants[end - 1 - shortened]))


@dataclass(frozen=True, slots=True)
class CryptoClock:
    """The clock of crypto: consecutive bars from midnight UTC on.

    length: length of a bar; a day has a whole number of bars.
    """

    length: np.timedelta64

    @property
    def bars_per_day(self) -> int:
        return int(DAY // self.length)

    @property
    def bars_per_year(self) -> float:
        return self.bars_per_day * MARKET_DAYS_PER_YEAR[AssetClass.CRYPTO]

    @property
    def slot_count(self) -> int:
        return 2 if self.bars_per_day == 1 else 2 * _HOURS_PER_DAY

    def ends_by_start(self, starts: Instants) -> Instants:
        return np.where(self.is_decision(starts), starts + self.length, _NEVER)

    def starts_by_end(self, ends: Instants) -> Instants:
        return np.where(self.is_decision(ends), ends - self.length, _NEVER)

    def count_ended_bars(self, instants: Instants) -> Index:
        return np.asarray((instants - _EPOCH) // self.length, dtype=np.int64)

    def ends_by_number(self, numbers: Index, instants: Instants) -> Instants:
        del instants
        return np.asarray(_EPOCH + numbers * self.length)

    def bars_elapsed(self, instants: Instants) -> Array:
        return np.asarray((instants - _EPOCH) / self.length)

    def slot_indices(self, ends: Instants, ahead: int) -> SlotIndices:
        """Return the slots of the bar ending at each instant and of the next bars, [N, 1 + ahead].

        A slot is the New York hour of the bar's start, or 0 for daily bars; weekends have separate
        slots.
        """
        import pandas as pd

        if not len(ends):
            return np.empty((0, 1 + ahead), dtype=np.int8)
        first = ends.min() - self.length
        starts = np.arange(first, ends.max() + ahead * self.length, self.length)
        begun = pd.DatetimeIndex(starts)
        if self.bars_per_day == 1:
            place = (begun.day_of_week >= 5).astype(np.int8)
        else:
            local = begun.tz_localize("UTC").tz_convert(NEW_YORK)
            weekend = _HOURS_PER_DAY * (local.day_of_week >= 5)
            place = (local.hour + weekend).to_numpy(dtype=np.int8)
        k = ((ends - self.length - first) // self.length).astype(np.int64)
        return np.asarray(place[k[:, None] + np.arange(1 + ahead)])

    def is_decision(self, instants: Instants) -> Mask:
        return np.asarray((instants - _EPOCH) % self.length == np.timedelta64(0))

    def decisions_between(self, first: np.datetime64, last: np.datetime64) -> Instants:
        begin = _EPOCH - (_EPOCH - first) // self.length * self.length
        return np.arange(begin, last + np.timedelta64(1, "ns"), self.length)

    def previous_decisions(self, instants: Instants) -> Instants:
        before = instants - np.timedelta64(1, "ns")
        return np.asarray(before - (before - _EPOCH) % self.length)

    def fill_dates(self, instants: Instants) -> npt.NDArray[np.datetime64]:
        return np.asarray(instants.astype("datetime64[D]"))

    def holding_ends(self, instants: Instants, holding: HoldingRule = "next") -> Instants:
        begun = instants - (instants - _EPOCH) % self.length
        return np.asarray(begun + (DAY if holding == "session" else self.length))


Clock = StockClock | CryptoClock


@cache
def _build_stock_clock(name: BarLengthName) -> StockClock:
    days = exchange_calendar()
    step = Timeframe(name).length
    # Six and a half hours make seven bars of an hour: the floor of a negative quotient rounds up.
    counts = -((days.opens - days.closes) // step)
    if name == ONE_MINUTE.name:
        counts[days.dates < _MINUTE_BARS_START] = 0
    session = np.repeat(np.arange(len(days.opens)), counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    starts = days.opens[session] + (np.arange(len(session)) - first) * step
    ends = np.minimum(starts + step, days.closes[session])
    # With several bars a session there is no decision at the close, since no later bar of the
    # session can fill an order. An order decided at a daily bar's end fills at the next open.
    whole = int(-(-FULL_SESSION_LENGTH // step))
    followed = np.append(session[1:] == session[:-1], False) | (whole == 1)
    return StockClock(starts, ends, session, ends[followed], session[followed], whole)


@cache
def _build_closing_clock() -> StockClock:
    days = exchange_calendar()
    ends = days.closes[1:] - CLOSE_DECISION_LEAD
    session = np.arange(1, len(days.closes))
    return StockClock(days.closes[:-1], ends, session, ends, session, 1)


@cache
def _bar_numbers_in_session(clock: StockClock) -> SlotIndices:
    session = clock.session_indices
    return (np.arange(len(session)) - np.searchsorted(session, session)).astype(np.int8)
