"""A forecaster of a user's own, whose every answer is looked at before anything rests on it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

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
from foundation.arrays import Array32, Index, Instants, Mask, first_row
from foundation.counts import counted
from foundation.errors import InputError
from foundation.plugin import own_code
from trainingdata.bars import CLOSE, Bars
from trainingdata.instants import utc_text

log = logging.getLogger(__name__)

KEY = "forecaster.kind"
RECENT = 100  # own bars that a forecast's width is compared with
FEWEST = 20  # forecasts whose widths say something together: no live decision is refused for one
# Instants whose medians say something together: news of one instant may move every symbol at once.
FEWEST_INSTANTS = 5
LOOKED_AT = 200  # forecasts that are looked at, at most
# As many times wider or narrower than the recent bars no forecast of a bar is: percent are a
# hundred times too wide, widths in USD as many times as the price is. So far from the last close,
# in deviations of these bars, no honest median is at most instants.
SCALE = 30.0
# A median as far from the last close at most instants is a claim that no bar has made. It is no
# more than a warning: calibration may make something of a centre that is only a score.
CLAIM = 10.0
TWICE = np.log(2.0)


@dataclass(frozen=True, slots=True)
class CheckedForecaster:
    """Answers as `inner` does, or says what is wrong with its answer.

    inner: the forecaster.
    origin: what named it, for the message.
    """

    inner: Forecaster
    origin: str

    @property
    def name(self) -> str:
        """What reports call it."""
        with own_code(KEY, self.origin):
            return str(self.inner.name)

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = silent
    ) -> ForecastTable:
        """The inner forecaster's table, whose values are checked when they are asked for.

        Raises
        ------
        InputError
            naming the forecaster and what its table or its values break.
        """
        with own_code(KEY, self.origin):
            table = self.inner.forecast(_read_only(bars), since, progress)
        self._refuse(table_faults(table, bars))
        warned = False

        def answer(rows: Index) -> Array32:
            nonlocal warned
            with own_code(KEY, self.origin):
                values = np.asarray(table.answer(rows))
            self._refuse(value_faults(values, table, rows))
            self._refuse(scale_faults(values, table, rows))
            if not warned and (claim := centre_claim(values, table, rows)):
                log.warning("%s: %s: %s", KEY, self.origin, claim)
                warned = True
            return values

        return replace(table, answer=answer)

    def _refuse(self, faults: Iterator[str]) -> None:
        fault = next(faults, None)
        if fault is not None:
            raise InputError(f"{KEY}: {self.origin}: {fault}")


def _read_only(bars: Bars) -> Bars:
    """The same bars, in which nothing can be written."""
    view = bars.between(0, len(bars.times))
    for array in (view.times, view.values, view.mask):
        array.setflags(write=False)
    return view


def table_faults(table: object, bars: Bars) -> Iterator[str]:
    """What a table of these bars breaks, a sentence each."""
    if not isinstance(table, ForecastTable):
        yield f"forecast returns a {type(table).__name__} instead of a ForecastTable"
        return
    if table.symbols != bars.symbols:
        yield f"symbols are {table.symbols}, the panel's are {bars.symbols}"
        return
    if not np.array_equal(table.clock, bars.times):
        yield "clock is not that of the panel: its table is of other bars"
        return
    windows = table.windows
    count = len(windows)
    if not count:
        yield f"nothing is forecast in a panel of {counted(len(bars.times), 'instant')}"
        return
    for name in ("price", "persistence", "worth", "skill"):
        shape = np.shape(getattr(table, name))
        if shape != (count,):
            yield f"{name} must have shape [N] = ({count},), it has {shape}"
            return
    yield from _window_faults(table, bars)
    if not np.array_equal(table.latest, windows.latest(bars.times)):
        yield "latest is not the last window issued by each instant"
    left = table.persistence
    for name, bad, needed in (
        ("persistence", ~((left >= 0) & (left < 1)), "from 0 to below 1"),
        ("skill", ~np.isfinite(table.skill), "a number"),
        ("worth", np.isinf(table.worth), "a number, or NaN"),
    ):
        if bad.any():
            row = first_row(bad)
            yield f"{name} is {getattr(table, name)[row]:g} for {_issue(table, row)}, not {needed}"


def _window_faults(table: ForecastTable, bars: Bars) -> Iterator[str]:
    windows = table.windows
    for number, rows in enumerate(windows.of_symbols()):
        times, values = bars.real_bars(number)
        last = windows.last[rows]
        symbol = bars.symbols[number]
        if len(last) and (last.min() < 0 or last.max() >= len(times)):
            yield f"{symbol}: a window ends at a bar that is not there"
        elif not np.array_equal(windows.issued_at[rows], times[last]):
            yield f"{symbol}: a forecast is issued at another instant than its last bar's"
        elif (np.diff(last) <= 0).any():
            yield f"{symbol}: windows are not in the order of time, or stand twice"
        elif not np.allclose(table.price[rows], values[last, CLOSE], rtol=1e-6):
            yield f"{symbol}: price is not the close of the last bar of each window"


def value_faults(values: Array32, table: ForecastTable, rows: Index) -> Iterator[str]:
    """What the quantiles of windows number `rows` [n] of a table break, a sentence each."""
    shape = (len(rows), HORIZON, len(LEVELS))
    if values.shape != shape:
        yield f"quantiles must have shape [n, H, Q] = {shape}, they have {values.shape}"
        return
    if values.dtype != np.float32:
        yield f"quantiles must be float32, they are {values.dtype}"
        if values.dtype.kind != "f":
            return
    there = np.isfinite(values)
    whole = there.all(axis=2)
    with np.errstate(invalid="ignore"):
        falls = np.diff(values, axis=2) < 0
        low = values <= 0
        away = np.abs(np.log(np.where(low, np.nan, values)[:, 0, MEDIAN] / table.price[rows]))
    for bad, what in (
        (np.isinf(values).any(axis=2), "a quantile is infinite"),
        (~(whole | ~there.any(axis=2)), "a step must have all of its quantiles or none"),
        (~there[:, :1].all(axis=2), "a forecast must have its first step"),
        (low.any(axis=2), "quantiles are prices in USD: some are not above zero"),
        (falls.any(axis=2), "quantiles must not fall along the levels"),
    ):
        if bad.any():
            yield f"{what}: {_seen(values, table, rows, np.asarray(bad))}"
    if len(rows) and np.median(away) > TWICE:
        row = int(np.nanargmax(away > TWICE))
        yield (
            f"quantiles are closes in USD: the first step's median is {values[row, 0, MEDIAN]:g}"
            f" for {_issue(table, rows[row])}, whose last close is {table.price[rows[row]]:g}"
        )


def _seen(values: Array32, table: ForecastTable, rows: Index, bad: Mask) -> str:
    """The first bad step [n, H] in words: what stands there, of which symbol, when."""
    row, step = (int(place[0]) for place in bad.nonzero())
    quantiles = values[row, step]
    if np.isnan(quantiles).any():
        seen = "NaN"
    elif np.isinf(quantiles).any():
        seen = "infinity"
    else:
        seen = f"{quantiles[0]:g} … {quantiles[MEDIAN]:g} … {quantiles[-1]:g}"
    return f"{seen} for {_issue(table, rows[row])}, step {step + 1}"


def _issue(table: ForecastTable, row: int) -> str:
    """Symbol and instant of a window."""
    windows = table.windows
    return f"{table.symbols[windows.symbol[row]]} at {utc_text(windows.issued_at[row])}"


@dataclass(frozen=True, slots=True)
class _FirstStep:
    """The first step of a forecast beside the bars before it.

    row: number of its window.
    width: its deviation, a share of the price.
    away: how far its median lies from the last close, the same.
    moved: deviation of the returns of the recent bars, above 0.
    """

    row: int
    width: float
    away: float
    moved: float

    @property
    def wide(self) -> float:
        """How many times as wide as the recent bars it is."""
        return self.width / self.moved

    @property
    def far(self) -> float:
        """How many deviations of the recent bars its median lies from the last close."""
        return self.away / self.moved


def scale_faults(values: Array32, table: ForecastTable, rows: Index) -> Iterator[str]:
    """What of forecasts is of another scale than the bars before them, a sentence each.

    values: [n, H, Q] of windows number `rows` [n].
    """
    steps = _first_steps(values, table, rows)
    if len(steps) >= FEWEST:
        middle = sorted(steps, key=lambda step: step.wide)[len(steps) // 2]
        if not 1 / SCALE < middle.wide < SCALE:
            yield (
                f"a forecast of one bar deviates by {middle.width:.2g} of the price"
                f" ({_issue(table, middle.row)}), {middle.wide:.2g} times what its last {RECENT}"
                f" bars did ({middle.moved:.2g}): quantiles are closes in USD, and their spread is"
                " that of one bar's return, in neither percent nor USD"
            )
    farthest = _usual_distance(steps, table)
    if farthest is not None and farthest.far >= SCALE:
        yield f"{_distance_text(farthest, table)}: quantiles are closes in USD"


def centre_claim(values: Array32, table: ForecastTable, rows: Index) -> str:
    """What medians claim that no bar has done, in a sentence; empty where they do not.

    values: [n, H, Q] of windows number `rows` [n].
    """
    step = _usual_distance(_first_steps(values, table, rows), table)
    if step is None or step.far <= CLAIM:
        return ""
    return f"{_distance_text(step, table)}: no bar has moved so"


def _first_steps(values: Array32, table: ForecastTable, rows: Index) -> list[_FirstStep]:
    """First steps of some of the forecasts, as far as their symbols have recent bars that moved."""
    windows = table.windows
    steps = []
    for k in np.unique(np.linspace(0, len(rows) - 1, min(len(rows), LOOKED_AT)).astype(int)):
        row = int(rows[k])
        last = int(windows.last[row]) + 1
        closes = windows.closes[windows.symbol[row]][max(last - RECENT, 0) : last]
        moved = float(np.diff(np.log(closes)).std()) if len(closes) > RECENT // 2 else 0.0
        if moved > 0:
            price = table.price[row]
            width = float(volatility(values[k, 0], price, "normal"))
            steps.append(_FirstStep(row, width, abs(values[k, 0, MEDIAN] / price - 1), moved))
    return steps


def _usual_distance(steps: list[_FirstStep], table: ForecastTable) -> _FirstStep | None:
    """The step whose median lies as far away as is usual at an instant; None where few are seen."""
    of_instants: dict[np.datetime64, list[_FirstStep]] = {}
    for step in steps:
        of_instants.setdefault(table.windows.issued_at[step.row], []).append(step)
    if len(steps) < FEWEST or len(of_instants) < FEWEST_INSTANTS:
        return None
    usual = [_middle_distance(each) for each in of_instants.values()]
    return _middle_distance(usual)


def _middle_distance(steps: list[_FirstStep]) -> _FirstStep:
    # The lower of two in the middle: half of the instants are not most of them.
    return sorted(steps, key=lambda step: step.far)[(len(steps) - 1) // 2]


def _distance_text(step: _FirstStep, table: ForecastTable) -> str:
    return (
        f"the first step's median lies {step.away:.2g} of the price from the last close"
        f" ({_issue(table, step.row)}), {step.far:.2g} times the deviation of its last {RECENT}"
        f" bars ({step.moved:.2g}), and as far at most instants"
    )
