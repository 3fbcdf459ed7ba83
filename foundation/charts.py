"""Plots of a page without scripts: paths of an SVG, and the words beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from foundation.arrays import Array, Index

WIDTH = 1000.0  # of a plot, in the units of its paths
HEIGHT = 300.0
FLAT = 1e-6  # of the values of a curve
POINTS = 400  # of a curve at most
COLOURS = ("first", "second", "third", "fourth", "fifth", "sixth")  # of curves, in this order
BINS = 20  # of a probability integral transform


@dataclass(frozen=True, slots=True)
class Axis:
    """Values from the bottom to the top of a plot.

    ticks: at equal distances, the lowest and the highest included, increasing.
    """

    ticks: tuple[float, ...]

    def heights(self, values: Array) -> Array:
        """[T] distance of values from the top of the plot, in its units."""
        low, high = self.ticks[0], self.ticks[-1]
        return HEIGHT * (high - values) / (high - low)


@dataclass(frozen=True, slots=True)
class Line:
    """A curve.

    name: for the legend; empty for one that the legend leaves out.
    kind: which colour it has: `first` to `sixth`, `other`, `faint` or `limit`. `dots` beside it
        draws points, `area` fills what its path encloses, `deep` fills that more strongly.
    path: in units of the plot.
    """

    name: str
    kind: str
    path: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A plot and what stands around it.

    text: what it shows, for those who do not see it.
    lines: in the order in which they are drawn.
    ticks: labels from the top to the bottom.
    rules: heights of the lines behind the labels.
    labels: from the left to the right, at equal distances.
    """

    text: str
    lines: tuple[Line, ...]
    ticks: tuple[str, ...]
    rules: tuple[float, ...]
    labels: tuple[str, ...]


def chart_of(
    text: str, labels: tuple[str, ...], axis: Axis, label: Callable[[float], str], *lines: Line
) -> Chart:
    """A plot of lines over an axis; label: writes a value beside it."""
    heights = axis.heights(np.array(axis.ticks))
    return Chart(
        text=text,
        lines=lines,
        ticks=tuple(label(value) for value in reversed(axis.ticks)),
        rules=tuple(height for height in heights.tolist() if 0 < height < HEIGHT),
        labels=labels,
    )


def axis_of(low: float, high: float, parts: int = 4) -> Axis:
    """An axis of round values from at most `low` to at least `high`, about so many parts."""
    # A curve that is flat but for rounding is drawn flat.
    least = max(abs(low), abs(high), 1.0) * FLAT
    if high - low < least:
        low, high = low - least, high + least
    rough = (high - low) / parts
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(size * unit for size in (1.0, 2.0, 2.5, 5.0, 10.0) if size * unit >= rough * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return Axis(tuple(number * step for number in range(first, last + 1)))


def thinned(values: Array, most: int = POINTS) -> Index:
    """Numbers of at most so many values that show the curve of all, increasing.

    The first, the last, and the lowest and the highest of each stretch are among them.

    values: [T], T at least 1.
    """
    count = len(values)
    if count <= most:
        return np.arange(count)
    kept = {0, count - 1}
    bounds = np.linspace(0, count, most // 2, dtype=int)
    for begin, end in pairwise(bounds.tolist()):
        stretch = values[begin:end]
        if np.all(np.isnan(stretch)):
            continue
        kept |= {begin + int(np.nanargmin(stretch)), begin + int(np.nanargmax(stretch))}
    return np.array(sorted(kept))


def line_path(places: Array, heights: Array, *, steps: bool = False) -> str:
    """The path of a line through points; steps: each height holds until the next point.

    A point without a height interrupts the line.
    """
    parts: list[str] = []
    drawing = False
    for x, y in zip(places.tolist(), heights.tolist(), strict=True):
        if math.isnan(y):
            drawing = False
            continue
        if drawing and steps:
            parts.append(f"H{x:.1f}V{y:.1f}")
        else:
            parts.append(f"{'L' if drawing else 'M'}{x:.1f} {y:.1f}")
        drawing = True
    return "".join(parts)


def area_path(places: Array, heights: Array, base: float) -> str:
    """The path around what lies between a height and a curve of steps.

    A point without a height leaves a gap.

    Parameters
    ----------
    places: [T + 1] where steps begin, and where the last one ends.
    heights: [T] of the steps.
    base: the height that the area begins from.
    """
    parts: list[str] = []
    drawing = False
    steps = zip(places[:-1].tolist(), places[1:].tolist(), heights.tolist(), strict=True)
    for begin, end, y in steps:
        if math.isnan(y):
            parts.append(f"V{base:.1f}Z" if drawing else "")
            drawing = False
            continue
        parts.append(
            f"V{y:.1f}H{end:.1f}" if drawing else f"M{begin:.1f} {base:.1f}V{y:.1f}H{end:.1f}"
        )
        drawing = True
    return "".join(parts) + (f"V{base:.1f}Z" if drawing else "")


def band_path(places: Array, low: Array, high: Array) -> str:
    """The path around what lies between two curves; [T] each, without gaps."""
    upper = line_path(places, high)
    return f"{upper}L{line_path(places[::-1], low[::-1])[1:]}Z"


def percent_label(axis: Axis) -> Callable[[float], str]:
    """How fractions on an axis are written, with as many digits as tell its ticks apart."""
    digits = _digits((axis.ticks[1] - axis.ticks[0]) * 100)
    return lambda value: f"{value:.{digits}%}"


def price_label(axis: Axis) -> Callable[[float], str]:
    """How prices in USD on an axis are written, with as many digits as tell its ticks apart."""
    digits = _digits(axis.ticks[1] - axis.ticks[0])
    return lambda value: f"${value:,.{digits}f}"


def _digits(step: float) -> int:
    """Digits after the point that multiples of a step have; of 2.5 it is one more than of 2."""
    exponent = math.floor(math.log10(step) + 1e-9)
    return max(0, (abs(step / 10.0**exponent - 2.5) < 1e-6) - exponent)


def level_line(axis: Axis, value: float, kind: str, name: str = "") -> Line:
    """A line at one value, from edge to edge."""
    height = float(axis.heights(np.array([value]))[0])
    return Line(name, kind, f"M0 {height:.1f}H{WIDTH:.0f}")


def transform_chart(text: str, transforms: Sequence[Array], names: tuple[str, str]) -> Chart:
    """Densities of probability integral transforms: 1 in every bin where calibrated.

    Parameters
    ----------
    text: what the first one is of.
    transforms: [N] values from 0 to 1 of each, N at least 1; the first one is filled, the others
        are lines in the colours after the first.
    names: of the first one and of what is meant, for the legend; empty for none.
    """
    densities = [
        np.histogram(values, bins=BINS, range=(0.0, 1.0))[0] * BINS / len(values)
        for values in transforms
    ]
    axis = axis_of(0.0, max(1.2, *(float(density.max()) for density in densities)))
    edges = np.linspace(0.0, WIDTH, BINS + 1)
    lines = [Line(names[0], "first area", area_path(edges, axis.heights(densities[0]), HEIGHT))]
    for kind, density in reversed(list(zip(COLOURS[1:], densities[1:], strict=False))):
        heights = axis.heights(np.append(density, density[-1]))
        lines.append(Line("", kind, line_path(edges, heights, steps=True)))
    said = ", ".join(f"{value:.2f}" for value in densities[0])
    return chart_of(
        f"{text} in {BINS} bins: {said}",
        ("0", "0.5", "1"),
        axis,
        lambda value: f"{value:g}",
        *lines,
        level_line(axis, 1.0, "limit", names[1]),
    )


def dots_path(places: Array, heights: Array) -> str:
    """The path of points, which round ends of lines draw: no square and no scale of a page does."""
    pairs = zip(places.tolist(), heights.tolist(), strict=True)
    return "".join(f"M{x:.1f} {y:.1f}h0" for x, y in pairs)
