"""Calibration: any forecaster's quantiles corrected by what its class of symbols did in the last
bars, week by week.

Every Friday at 16:00 New York each asset class learns anew from the last 1,000 own bars of its
symbols, and the forecasts of the following week use that: where a run started makes no difference.
For each step

1. spread: the log of the realised variance is regressed on the logs of the base forecaster's
   variance and of classical averages (`variance`), the day's pattern divided out of all; ridge
   towards the classical averages alone;
2. shape: quantiles of what remains, pooled and symmetric, drawn towards a Student-t(5) by how
   little has been seen;
3. corrections by decision hour, volatility regime and symbol, each kept only where it has helped;
4. centre: the base forecaster's median times what it has been worth (`centre`).

Quantile = price · exp(centre + deviation · shape). S symbols, N windows, H steps, Q levels, A
weeks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from forecasting.calibration.centre import autocorrelation, worth
from forecasting.calibration.dispersion import Dispersion, DispersionSample
from forecasting.calibration.variance import SPANS, DayPattern, averages, bar_variance
from forecasting.forecast import (
    HORIZON,
    LEVELS,
    MEDIAN,
    Forecaster,
    ForecastTable,
    Progress,
    silent,
)
from forecasting.moments import volatility
from forecasting.windows import Windows
from foundation.arrays import Array, Array32, Index, Instants
from foundation.errors import InputError
from trainingdata.bars import CLOSE, Bars
from trainingdata.instruments import Kind
from trainingdata.sessions import BARS_A_DAY, bar_slots, week_before

_Key = tuple[str, str]  # source of the base forecasts, digest of the bars

# forecasts a lesson learns from at most: symbols of a class move together, more say little more
LESSON = 100_000
LESSONS = 64  # kept in memory
# own bars before a lesson's window that its first forecasts and averages look back on, at most
DEEP = 1024
STANDING_STILL = 2 * np.log(
    1e-7
)  # log variance a bar below which nothing can be learned from a symbol


@dataclass(frozen=True, slots=True)
class CalibrationSettings:
    """window: own bars of each symbol that are learned from. confidence: standard errors by which a
    centre's worth must exceed zero to count."""

    window: int = 1000
    confidence: float = 3.0

    def __post_init__(self) -> None:
        if self.window < 100:
            raise InputError(f"forecaster.calibration.window: {self.window} is below 100")
        if self.confidence < 0:
            raise InputError(f"forecaster.calibration.confidence: {self.confidence} is below 0")


@dataclass(frozen=True, eq=False, slots=True)
class _History:
    """One symbol's own bars and its base forecasts.

    times, close (log), variance [M]; total [M + 1]: variance of the bars before each; slots [M, 1 +
    H]; column [M]: number on the class's clock. first: own bar of the first base forecast; median,
    log_variance [M - first, H]: of the base forecast's log return.
    """

    times: Instants
    close: Array
    variance: Array
    total: Array
    slots: npt.NDArray[np.int8]
    column: Index
    first: int
    median: Array32
    log_variance: Array32

    def first_steps(self, part: slice) -> Array:
        """The base forecasts' first-step centres at own bars `part`, in units of their
        deviation; NaN where it stands still.
        """
        bars = np.arange(max(part.start, self.first), max(part.stop, self.first))
        rows = bars - self.first
        before = np.maximum(bars + 1 - SPANS[-1], 0)
        mean = (self.total[bars + 1] - self.total[before]) / (bars + 1 - before)
        centre = np.asarray(
            self.median[rows, 0] / np.exp(self.log_variance[rows, 0] / 2), dtype=np.float64
        )
        return np.where(mean < np.exp(STANDING_STILL), np.nan, centre)


@dataclass(frozen=True, eq=False, slots=True)
class _Lesson:
    """What one class learned in one week. slopes [H]: of the centre. begin [S]: first own bar
    anything is computed from.

    persistence: of the base forecaster's first-step centre from one bar to the next. skill: of the
    shrunk one, its root mean square over that of the returns: the information coefficient, as far
    as the slope is believed.
    """

    pattern: DayPattern
    spread: Dispersion
    slopes: Array
    begin: tuple[int, ...]
    persistence: float
    skill: float


@dataclass(frozen=True, eq=False, slots=True)
class CalibratedForecaster:
    """A forecaster whose quantiles are corrected by what came true."""

    base: Forecaster
    settings: CalibrationSettings = field(default_factory=CalibrationSettings)
    _lessons: dict[_Key, _Lesson] = field(default_factory=dict, init=False, repr=False)

    @property
    def name(self) -> str:
        """What reports call it."""
        return f"{self.base.name}, calibrated"

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = silent
    ) -> ForecastTable:
        """Calibrated forecasts of every symbol's bars from `since` on and of its last one
        before.
        """
        since = np.broadcast_to(since, len(bars.symbols))
        raw = self._raw(bars, since, progress)
        windows = raw.windows.part(_answered(raw.windows, since))
        histories = _histories(bars, raw)
        centre, deviation = (
            np.full((len(windows), HORIZON), np.nan, dtype=np.float32) for _ in range(2)
        )
        lesson_of = np.zeros(len(windows), dtype=np.int64)
        told = np.zeros((3, len(windows)))
        shapes: list[Array] = []
        for kind, members in (
            (Kind.STOCK, np.flatnonzero(~bars.crypto)),
            (Kind.CRYPTO, np.flatnonzero(bars.crypto)),
        ):
            pupils = [histories[s] for s in members]
            for rows, week in _by_week(windows, members, kind, progress):
                key = raw.source, self._key(bars, members, week)
                if (lesson := self._lessons.get(key)) is None:
                    lesson = self._learn(kind, pupils, week)
                    self._keep(key, lesson)
                which = np.searchsorted(members, windows.symbol[rows])
                sample, median = _sample(
                    pupils, lesson.begin, which, windows.last[rows], lesson.pattern
                )
                deviation[rows] = lesson.spread.deviation(sample)
                centre[rows] = lesson.slopes * median
                lesson_of[rows] = len(shapes)
                told[:, rows] = np.array([lesson.persistence, lesson.slopes[0], lesson.skill])[
                    :, None
                ]
                shapes.append(lesson.spread.shape)
        price = windows.price
        shape = np.array(shapes, dtype=np.float32).reshape(-1, HORIZON, len(LEVELS))

        def answer(wanted: Index) -> Array32:
            move = centre[wanted, :, None] + deviation[wanted, :, None] * shape[lesson_of[wanted]]
            return np.asarray(price[wanted, None, None] * np.exp(move), dtype=np.float32)

        return ForecastTable.of(
            self.name, bars, windows, answer, persistence=told[0], worth=told[1], skill=told[2]
        )

    def _raw(self, bars: Bars, since: Instants, progress: Progress) -> ForecastTable:
        """The base forecasts from `since` [S] on, and those before that a lesson has to be learned
        from.

        A lesson learned from other weights is none: what is kept counts only for the source it came
        from.
        """
        kept = next(reversed(self._lessons), None)
        if kept is not None and self._knows_all(bars, since, kept[0]):
            raw = self.base.forecast(bars, since, progress)
            if raw.source == kept[0]:
                return raw
        return self.base.forecast(bars, self._learned_since(bars, since), progress)

    def _key(self, bars: Bars, members: Index, week: np.datetime64) -> str:
        """Digest of everything a class's lesson comes from: the last own bars of its symbols,
        and their numbers.
        """
        digest = hashlib.sha256()
        for s in members.tolist():
            times, values = bars.own(s)
            known = int(np.searchsorted(times, week, side="right"))
            part = slice(max(known - self.settings.window - DEEP, 0), known)
            digest.update(f"{bars.symbols[s]} {known} ".encode())
            digest.update(np.ascontiguousarray(times[part]).tobytes())
            digest.update(np.ascontiguousarray(values[part]).tobytes())
        return digest.hexdigest()

    def _keep(self, key: _Key, lesson: _Lesson) -> None:
        """A lesson is given once a week; who decides every hour asks for it again and again."""
        if len(self._lessons) >= LESSONS:
            del self._lessons[next(iter(self._lessons))]
        self._lessons[key] = lesson

    def _knows_all(self, bars: Bars, since: Instants, source: str) -> bool:
        """Whether every lesson that forecasts from `since` [S] on use is kept: then nothing
        older has to be forecast.
        """
        for members in (np.flatnonzero(~bars.crypto), np.flatnonzero(bars.crypto)):
            weeks: set[np.datetime64] = set()
            for s in members.tolist():
                times = bars.own(s)[0]
                weeks |= set(
                    week_before(times[max(int(np.searchsorted(times, since[s])) - 1, 0) :])
                )
            if not all((source, self._key(bars, members, week)) in self._lessons for week in weeks):
                return False
        return True

    def _learned_since(self, bars: Bars, since: Instants) -> Instants:
        """[S] where each symbol's learning for its first answered bar begins."""
        begin = np.full(len(since), bars.now)
        for s in range(len(since)):
            times = bars.own(s)[0]
            if len(times):
                first = times[max(int(np.searchsorted(times, since[s])) - 1, 0)]
                known = int(np.searchsorted(times, week_before(np.array([first]))[0], side="right"))
                begin[s] = times[max(known - self.settings.window, 0)]
        return begin

    def _learn(self, kind: Kind, histories: list[_History], week: np.datetime64) -> _Lesson:
        """What a class knows at the week's beginning: a function of the last bars of its
        symbols and of nothing else.
        """
        window = self.settings.window
        slots = BARS_A_DAY[kind]
        known = [int(np.searchsorted(h.times, week, side="right")) for h in histories]
        learned = [slice(max(k - window, 0), k) for k in known]
        parts = list(zip(histories, learned, strict=True))
        pattern = DayPattern.of(
            [h.variance[part] for h, part in parts],
            [h.slots[part, 0] for h, part in parts],
            [h.column[part] for h, part in parts],
            slots,
        )
        begin = tuple(max(part.start - SPANS[-1], 0) for part in learned)
        rows = _thinned([np.arange(max(part.start, h.first), part.stop) for h, part in parts])
        which = np.concatenate([np.full(len(r), s) for s, r in enumerate(rows)])
        sample, median = _sample(histories, begin, which, np.concatenate(rows), pattern)
        outcomes = [_outcomes(h, r, k) for h, r, k in zip(histories, rows, known, strict=True)]
        move, variance = (np.concatenate(part) for part in zip(*outcomes, strict=True))
        move[sample.logs[:, len(SPANS) - 1, 0] < STANDING_STILL] = np.nan
        spread = Dispersion.fit(sample, variance, move, slots, len(histories))
        carried = autocorrelation([h.first_steps(part) for h, part in parts])
        deviation = spread.deviation(sample)
        slopes = self._slopes(sample, deviation, median, move)
        skill = (
            slopes[0] * _size(median, deviation) / _size(move, deviation) if slopes[0] > 0 else 0.0
        )
        return _Lesson(pattern, spread, slopes, begin, carried, float(np.float32(skill)))

    def _slopes(
        self, sample: DispersionSample, deviation: Array, median: Array, move: Array
    ) -> Array:
        """[H] what the base forecaster's median has been worth at each step."""
        slopes = np.zeros(HORIZON)
        for h in range(HORIZON):
            seen = np.isfinite(move[:, h]) & np.isfinite(median[:, h])
            unit = deviation[seen, h]
            forecast = median[seen, h] / unit
            realised = move[seen, h] / unit
            slopes[h] = worth(
                forecast, realised, sample.instant[seen], h + 1, self.settings.confidence
            )
        return slopes


def _size(first: Array, deviation: Array) -> float:
    """Root mean square of what a first step [n, H] is in deviations, where it is known."""
    known = (first[:, 0] / deviation[:, 0])[np.isfinite(first[:, 0])]
    return float(np.sqrt(np.mean(known**2))) if len(known) else 0.0


def _thinned(rows: list[Index]) -> list[Index]:
    """Every k-th own bar of each symbol, counted from the last and taken in turns, so that a
    lesson has LESSON rows at most.
    """
    stride = -(-sum(len(own) for own in rows) // LESSON)
    return (
        rows
        if stride <= 1
        else [own[::-1][s % stride :: stride][::-1] for s, own in enumerate(rows)]
    )


def _by_week(
    windows: Windows, members: Index, kind: Kind, progress: Progress
) -> Iterator[tuple[Index, np.datetime64]]:
    """(numbers of a class's windows, the Friday their forecasts learn by), week by week."""
    mine = np.flatnonzero(np.isin(windows.symbol, members))
    weeks, week_of, counts = np.unique(
        week_before(windows.issued_at[mine]), return_inverse=True, return_counts=True
    )
    parts = (
        np.split(mine[np.argsort(week_of, kind="stable")], np.cumsum(counts)[:-1])
        if len(mine)
        else []
    )
    for number, (week, rows) in enumerate(zip(weeks, parts, strict=True)):
        yield rows, week
        progress(f"calibration, {kind.value}", number + 1, len(weeks))


def _answered(windows: Windows, since: Instants) -> Index:
    """Numbers of the windows issued from `since` [S] on, and of each symbol's last one before."""
    parts = []
    for mine, begin in zip(windows.of_symbols(), since, strict=True):
        before = int(np.searchsorted(windows.issued_at[mine], begin)) - 1
        parts.append(np.arange(mine.start + max(before, 0), mine.stop))
    return np.concatenate(parts)


def _histories(bars: Bars, raw: ForecastTable) -> list[_History]:
    """Every symbol's bars beside the median and the variance of its base forecasts."""
    n = len(raw.windows)
    median, log_variance = (np.empty((n, HORIZON), dtype=np.float32) for _ in range(2))
    for rows, values in raw.chunks():
        price = raw.price[rows].astype(np.float32)  # as exact as the values: no edge is 0, not 1e-8
        median[rows] = np.log(values[..., MEDIAN] / price[:, None])
        log_variance[rows] = 2 * np.log(
            np.maximum(volatility(values, price[:, None], "quantile"), 1e-9)
        )
    clocks = [bars.times[bars.mask[bars.crypto == crypto].any(axis=0)] for crypto in (False, True)]
    histories = []
    for s, (item, part) in enumerate(zip(bars.instruments, raw.windows.of_symbols(), strict=True)):
        times, own = bars.own(s)
        first = int(raw.windows.last[part.start]) if part.start < part.stop else len(times)
        variance = bar_variance(own)
        histories.append(
            _History(
                times=times,
                close=np.log(own[:, CLOSE]),
                variance=variance,
                total=np.append(0.0, np.cumsum(variance)),
                slots=bar_slots(item.kind, times, HORIZON),
                column=np.searchsorted(clocks[item.kind is Kind.CRYPTO], times),
                first=first,
                median=median[part],
                log_variance=log_variance[part],
            )
        )
    return histories


def _sample(
    histories: list[_History],
    begin: tuple[int, ...],
    which: Index,
    last: Index,
    pattern: DayPattern,
) -> tuple[DispersionSample, Array]:
    """What is known at own bars `last` [n] of symbols `which` [n], rising; and the base
    forecaster's medians [n, H].
    """
    logs = []
    season = []
    slot = []
    instant = []
    median = []
    bounds = np.searchsorted(which, np.arange(1, len(histories)))
    for s, (history, rows) in enumerate(zip(histories, np.split(last, bounds), strict=True)):
        if not len(rows):
            continue
        span = slice(begin[s], int(rows[-1]) + 1)
        flat = history.variance[span] / pattern.factor[history.slots[span, 0]]
        sums = np.cumsum(pattern.factor[history.slots[rows, 1:]], axis=1)
        past = np.log(averages(flat)[rows - begin[s]])
        base = history.log_variance[rows - history.first] - np.log(sums)
        logs.append(
            np.concatenate([np.repeat(past[:, :, None], HORIZON, axis=2), base[:, None]], axis=1)
        )
        season.append(sums)
        slot.append(history.slots[rows, 0].astype(np.int64))
        instant.append(history.column[rows])
        median.append(history.median[rows - history.first].astype(np.float64))
    if not logs:
        none = np.empty((0, HORIZON))
        nothing = np.empty(0, dtype=np.int64)
        return DispersionSample(
            np.empty((0, len(SPANS) + 1, HORIZON)), none, nothing, nothing, nothing
        ), none
    sample = DispersionSample(
        np.concatenate(logs),
        np.concatenate(season),
        np.concatenate(slot),
        which,
        np.concatenate(instant),
    )
    return sample, np.concatenate(median)


def _outcomes(history: _History, rows: Index, known: int) -> tuple[Array, Array]:
    """(log return, realised variance) after each step from own bars `rows` [n], [n, H]; NaN
    beyond what is known.
    """
    steps = rows[:, None] + np.arange(1, HORIZON + 1)
    there = steps < known
    steps = np.minimum(steps, len(history.close) - 1)
    move = np.where(there, history.close[steps] - history.close[rows][:, None], np.nan)
    return move, np.where(
        there, history.total[steps + 1] - history.total[rows + 1][:, None], np.nan
    )
