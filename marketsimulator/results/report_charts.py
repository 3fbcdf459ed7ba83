"""The charts of a report: paths of an SVG, and the words beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtri

from foundation.arrays import Array, Instants, Mask
from foundation.charts import (
    FLAT,
    HEIGHT,
    WIDTH,
    Axis,
    Chart,
    Line,
    area_path,
    axis_of,
    chart_of,
    level_line,
    line_path,
    percent_label,
    price_label,
    thinned,
    transform_chart,
)
from marketsimulator.results.forecast_outcomes import ForecastOutcomes
from trainingdata.instants import NEW_YORK

KINDS = ("first", "other", "third")  # colours of the main run, the random walk, buy-and-hold
RATIOS = (1.01, 1.02, 1.05, 1.1, 1.2, 1.5, 2.0, 5.0, 10.0, 100.0)  # from line to line, logarithmic
LINES = 6  # of a logarithmic axis at most
CONES = 40  # intervals of a fan
CLOCK = np.timedelta64(4, "D")  # below it a plot has times beside its dates


@dataclass(frozen=True, eq=False, slots=True)
class Curve:
    """What a run was worth, or how far below its peak it was.

    name: of the run.
    at: [N] instants.
    values: [N] of each.
    """

    name: str
    at: Instants
    values: Array


def equity_chart(curves: Sequence[Curve], capital: float, *, logarithmic: bool) -> Chart:
    """Equity of the main run and of what it is compared with, USD.

    On a logarithmic axis lines lie as many percent apart as the axis says, from the capital on.
    """
    solvent = np.concatenate([curve.values[curve.values > 0] for curve in curves])
    low = float(solvent.min(initial=capital))
    high = float(solvent.max(initial=capital))
    if not logarithmic:
        low = min(low, *(float(curve.values.min()) for curve in curves))
        return _curves_chart("Equity in USD", curves, axis_of(low, high), _usd)
    ratio = next(
        (r for r in RATIOS if _parts(low, high, capital, r) <= LINES),
        RATIOS[-1],
    )
    first = math.floor(math.log(low / capital, ratio) + 1e-9)
    last = max(math.ceil(math.log(high / capital, ratio) - 1e-9), first + 1)
    ticks = tuple(math.log(capital) + k * math.log(ratio) for k in range(first, last + 1))
    logs = [Curve(curve.name, curve.at, _logarithms(curve.values)) for curve in curves]
    text = f"Equity in USD, {ratio - 1:.0%} from line to line"
    return _curves_chart(text, logs, Axis(ticks), lambda value: _usd(math.exp(value)))


def drawdown_chart(curves: Sequence[Curve]) -> Chart:
    """How far each run was below its earlier peak; values: fractions ≤ 0."""
    low = min(float(curve.values.min()) for curve in curves)
    axis = axis_of(min(low, -0.001), 0.0)
    return _curves_chart("Drawdown", curves, axis, percent_label(axis))


def rolling_chart(curve: Curve) -> Chart | None:
    """A rolling Sharpe ratio; none where it is never defined."""
    finite = curve.values[np.isfinite(curve.values)]
    if len(finite) < 2:
        return None
    axis = axis_of(min(float(finite.min()), 0.0), max(float(finite.max()), 0.0))
    places = places_of(curve.at, curve.at[0], curve.at[-1])
    kept = thinned(curve.values)
    return chart_of(
        f"Rolling Sharpe ratio, lowest {finite.min():.2f}, highest {finite.max():.2f}",
        span_labels(curve.at[0], curve.at[-1]),
        axis,
        lambda value: f"{value:g}",
        level_line(axis, 0.0, "other"),
        Line(curve.name, "first", line_path(places[kept], axis.heights(curve.values[kept]))),
    )


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
    top = [days.highest.max(), *(float(np.nanmax(values)) for _, values in days.ceilings)]
    axis = axis_of(0.0, max(float(np.nanmax(top)), 0.1))
    places = places_of(days.bounds, days.bounds[0], days.bounds[-1])
    highest = axis.heights(days.highest)
    held = axis.heights(days.held)
    ceilings = [
        Line(
            name,
            "limit" if number == 0 else "third",
            line_path(places, axis.heights(np.append(values, values[-1])), steps=True),
        )
        for number, (name, values) in enumerate(days.ceilings)
    ]
    return chart_of(
        f"Leverage in {what}: highest {days.highest.max():.2f} times equity",
        span_labels(days.bounds[0], days.bounds[-1]),
        axis,
        lambda value: f"{value:g}×",
        *ceilings[::-1],
        Line("highest of the day", "first area", area_path(places, highest, HEIGHT)),
        Line("held at 16:00", "first area deep", area_path(places, held, HEIGHT)),
    )


def pit_chart(pit: Array) -> Chart:
    """The probability integral transform [N] of what followed the run's forecasts."""
    text = "Probability of a lower return than the one that followed, by the forecast's normal,"
    return transform_chart(text, [pit], ("outcomes", "calibrated"))


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
    wide, narrow = (ndtri(0.5 + mass / 2) * outcomes.sigma[rows] * price for mass in (0.8, 0.5))
    low = float(min((middle - wide).min(), ends.min(), price.min()))
    high = float(max((middle + wide).max(), ends.max(), price.max()))
    axis = axis_of(low, high)
    places = np.linspace(0.0, WIDTH, len(rows) + 1)
    begins = axis.heights(price)

    def cones(half: Array) -> str:
        up = axis.heights(middle + half)
        down = axis.heights(middle - half)
        return "".join(
            f"M{places[k]:.1f} {begins[k]:.1f}L{places[k + 1]:.1f} {up[k]:.1f}V{down[k]:.1f}Z"
            for k in range(len(rows))
        )

    path = line_path(places, axis.heights(np.append(price, ends[-1])))
    symbol = outcomes.symbols[s]
    inside = int((np.abs(ends - middle) <= wide).sum())
    return chart_of(
        f"The last {len(rows)} forecasts of {symbol} up to the next decision, and what followed:"
        f" {inside} of {len(rows)} inside the 80 % interval",
        span_labels(outcomes.at[rows[0]], outcomes.until[rows[-1]]),
        axis,
        price_label(axis),
        Line("80 % of the forecast's normal", "first area", cones(wide)),
        Line("50 %", "first area deep", cones(narrow)),
        Line("price", "third", path),
    )


def hour_chart(hours: Sequence[str], usd: Sequence[float]) -> Chart:
    """What was earned at each hour of day; hours: [H] as 10:30, USD of each."""
    values = np.array(usd)
    axis = axis_of(min(0.0, *usd), max(0.0, *usd))
    places = np.linspace(0.0, WIDTH, len(values) + 1)
    zero = float(axis.heights(np.zeros(1))[0])

    def bars(kept: Mask) -> str:
        return area_path(places, axis.heights(np.where(kept, values, np.nan)), zero)

    said = ", ".join(f"{hour} {_usd(value)}" for hour, value in zip(hours, usd, strict=True))
    middle = hours[len(hours) // 2]
    return chart_of(
        f"Profit by hour of day, New York: {said}",
        (hours[0], middle, hours[-1]) if len(hours) > 2 else tuple(hours),
        axis,
        _usd,
        Line("losses", "third area deep", bars(values < 0)),
        Line("gains", "first area deep", bars(values > 0)),
    )


def places_of(at: Instants, first: np.datetime64, last: np.datetime64) -> Array:
    """[N] places of instants between the begin and the end of a plot."""
    whole = max(float((last - first) / np.timedelta64(1, "s")), 1.0)
    return np.asarray((at - first) / np.timedelta64(1, "s") * (WIDTH / whole))


def span_labels(first: np.datetime64, last: np.datetime64) -> tuple[str, ...]:
    """The begin, the middle and the end of a plot, New York's dates; its clock within days.

    The clock has its zone, as 4 Mar 09:30 EST.
    """
    middle = first + (last - first) / 2
    at = pd.DatetimeIndex([first, middle, last]).tz_localize("UTC").tz_convert(NEW_YORK)
    style = "%b %H:%M %Z" if last - first < CLOCK else "%b %Y"
    return tuple(f"{each.day} {each:{style}}" for each in at)


def spark_path(weights: Array, scale: float, zero: float) -> str:
    """Steps of one symbol's weights [D], filled from 0, in a plot 100 high.

    Parameters
    ----------
    scale: weight that reaches from 0 to the end of the plot.
    zero: height of 0, from the top.
    """
    places = np.linspace(0.0, WIDTH, len(weights) + 1)
    return area_path(places, zero * (1.0 - weights / scale), zero)


def _curves_chart(
    text: str, curves: Sequence[Curve], axis: Axis, label: Callable[[float], str]
) -> Chart:
    """Runs over each other, the main one on top."""
    first, last = curves[0].at[0], curves[0].at[-1]
    lines = []
    for number, (curve, kind) in enumerate(zip(curves, KINDS, strict=False)):
        kept = thinned(curve.values)
        places = places_of(curve.at[kept], first, last)
        path = line_path(places, axis.heights(curve.values[kept]))
        lines.append(Line(curve.name + _hidden_text(curve, curves[:number]), kind, path))
    ends = ", ".join(f"{curve.name} {_end_text(curve, label)}" for curve in curves)
    return chart_of(
        f"{text}; at the end: {ends}", span_labels(first, last), axis, label, *lines[::-1]
    )


def _hidden_text(curve: Curve, above: Sequence[Curve]) -> str:
    """Which of the curves that are drawn above it covers a curve whole; empty where none does."""
    for other in above:
        if np.array_equal(curve.at, other.at) and np.allclose(
            curve.values, other.values, rtol=FLAT, atol=0.0, equal_nan=True
        ):
            return f" (the same line, under {other.name})"
    return ""


def _end_text(curve: Curve, label: Callable[[float], str]) -> str:
    end = float(curve.values[-1])
    return label(end) if math.isfinite(end) else "nothing"


def _logarithms(values: Array) -> Array:
    """Of what is above 0, else NaN."""
    logs = np.full(len(values), np.nan)
    return np.log(values, out=logs, where=values > 0)


def _parts(low: float, high: float, capital: float, ratio: float) -> int:
    above = math.ceil(math.log(high / capital, ratio) - 1e-9)
    return above - math.floor(math.log(low / capital, ratio) + 1e-9)


def _usd(value: float) -> str:
    return f"${value:,.0f}" if value >= 0 else f"-${-value:,.0f}"
