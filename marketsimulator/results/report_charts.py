"""The charts of a report."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from scipy.special import ndtri

from foundation.arrays import Array, Instants
from foundation.charts import Chart, Form, Series, Unit, transform_chart
from foundation.figures import number, percent, usd
from foundation.tables import Shape
from marketsimulator.results.forecast_outcomes import ForecastOutcomes
from trainingdata.instants import NEW_YORK

CLOCK = NEW_YORK.key  # of every chart
RUNS = ("first", "quiet", "third")  # colours of the main run, the random walk, buy-and-hold
SAME = 1e-6  # of the values of two curves that are one line
CONES = 40  # intervals of a fan
CONE = 0.98  # of the way to the next decision, where a cone ends so that the next can begin


Curve = tuple[Instants, Array]  # instants [N], and what a run was worth at each


def equity_chart(names: Sequence[str], curves: Sequence[Curve]) -> Chart:
    """Equity of the main run and of what it is compared with, USD."""
    return _curves_chart("Equity in USD", names, curves, "usd", partial(usd, places=0))


def drawdown_chart(names: Sequence[str], curves: Sequence[Curve]) -> Chart:
    """How far each run was below its earlier peak; values: fractions ≤ 0."""
    return _curves_chart("Drawdown", names, curves, "percent", percent)


@dataclass(frozen=True, eq=False, slots=True)
class DailyLeverage:
    """Gross exposure over equity of one asset class by day, and what it may be.

    bounds: [D + 1] the run's first instant, and 16:00 New York of each day.
    highest: [D] of each day.
    held: [D] at 16:00.
    ceilings: (name, [D]) of each ceiling.
    """

    bounds: Instants
    highest: Array
    held: Array
    ceilings: tuple[tuple[str, Array], ...]


def leverage_chart(days: DailyLeverage, what: str) -> Chart:
    """Steps by day, filled: the day's highest, and what was held at 16:00, under the ceilings."""

    def by_day(name: str, colour: str, values: Array, form: Form) -> Series:
        return Series(name, colour, days.bounds, np.append(values, values[-1]), form).thinned()

    ceilings = [
        by_day(name, colour, values, "steps")
        for (name, values), colour in zip(days.ceilings, ("limit", "third"), strict=False)
    ]
    return Chart(
        f"Leverage in {what}: highest {number(days.highest.max())} times equity",
        (
            *reversed(ceilings),
            by_day("highest of the day", "first", days.highest, "area"),
            by_day("held at 16:00", "first", days.held, "area"),
        ),
        "multiple",
        CLOCK,
    )


def pit_chart(pit: Array) -> Chart:
    """The probability integral transform [N] of what followed the run's forecasts."""
    text = "Probability of a lower return than the one that followed, by the forecast's normal,"
    return transform_chart(text, [pit], ["outcomes"], "calibrated")


def fan_chart(outcomes: ForecastOutcomes, s: int) -> Chart | None:
    """The last forecasts of a symbol, each a cone up to the next decision, and what happened.

    None for a symbol with fewer than two.
    """
    rows = np.flatnonzero(outcomes.symbol == s)[-CONES:]
    if len(rows) < 2:
        return None
    price = outcomes.price[rows]
    ends = price * (1 + outcomes.outcome[rows])
    middle = price * (1 + outcomes.mu[rows])
    deviation = outcomes.sigma[rows] * price
    decisions = np.arange(len(rows) + 1.0)
    places = np.column_stack([decisions[:-1], decisions[:-1] + CONE]).ravel()

    def cones(name: str, mass: float) -> Series:
        half = ndtri(0.5 + mass / 2) * deviation
        high, low = (np.column_stack([price, middle + sign * half]).ravel() for sign in (1, -1))
        return Series(name, "first", places, high, "band", low)

    inside = int((np.abs(ends - middle) <= ndtri(0.9) * deviation).sum())
    at = pd.DatetimeIndex([*outcomes.at[rows], outcomes.until[rows[-1]]]).tz_localize("UTC")
    return Chart(
        f"The last {len(rows)} forecasts of {outcomes.symbols[s]} up to the next decision, and what"
        f" followed: {inside} of {len(rows)} inside the 80 % interval",
        (
            cones("80 % of the forecast's normal", 0.8),
            cones("50 %", 0.5),
            Series("price", "third", decisions, np.append(price, ends[-1])),
        ),
        "usd",
        labels=tuple(f"{each.day} {each:%b %H:%M}" for each in at.tz_convert(NEW_YORK)),
    )


def hour_chart(hours: Sequence[str], earned: Sequence[float]) -> Chart:
    """What was earned at each hour of day; hours: [H] as 10:30; earned: USD of each."""
    values = np.array(earned)
    places = np.arange(float(len(values)))
    said = ", ".join(f"{hour} {usd(value, 0)}" for hour, value in zip(hours, earned, strict=True))
    return Chart(
        f"Profit by hour of day, New York: {said}",
        (
            Series("losses", "third", places, np.minimum(values, 0.0), "bars"),
            Series("gains", "first", places, np.maximum(values, 0.0), "bars"),
        ),
        "usd",
        labels=tuple(hours),
    )


def spark(weights: Array, every: Array) -> tuple[Shape, ...]:
    """Steps of one symbol's weights [D], filled from 0, on the scale of those of all, [S, D]."""
    scale = max(float(np.abs(every).max(initial=0.0)), 1e-9)
    # Where nothing was short, the half below 0 would be empty.
    zero = 50.0 if (every < 0).any() else 100.0
    axis = ("axis", f"M0 {zero}H1000")
    if not weights.any():
        return (axis,)
    ends = np.linspace(0.0, 1000.0, len(weights) + 1)[1:].tolist()
    heights = (zero * (1.0 - weights / scale)).tolist()
    steps = (f"V{y:.1f}H{x:.1f}" for x, y in zip(ends, heights, strict=True))
    return axis, ("area", f"M0 {zero}{''.join(steps)}V{zero}Z")


def _curves_chart(
    text: str,
    names: Sequence[str],
    curves: Sequence[Curve],
    unit: Unit,
    written: Callable[[float], str],
) -> Chart:
    """Runs over each other, the main one on top."""
    series: list[Series] = []
    ends = []
    for name, colour, (at, values) in zip(names, RUNS, curves, strict=False):
        over = _hidden_text(names, curves[: len(series)], at, values)
        series.append(Series(name + over, colour, at, values).thinned())
        ends.append(f"{name} {written(values[-1]) if math.isfinite(values[-1]) else 'nothing'}")
    said = f"{text}; at the end: {', '.join(ends)}"
    return Chart(said, tuple(series[::-1]), unit, CLOCK, logarithmic=unit == "usd")


def _hidden_text(names: Sequence[str], above: Sequence[Curve], at: Instants, values: Array) -> str:
    """Which of the curves that are drawn above it covers a curve whole; empty where none does."""
    for name, (other, worth) in zip(names, above, strict=False):
        if np.array_equal(at, other) and np.allclose(
            values, worth, rtol=SAME, atol=0.0, equal_nan=True
        ):
            return f" (the same line, under {name})"
    return ""
