"""Charts of HTML pages: JSON data for the script that draws them, and a text description."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from foundation.arrays import Array, Index, Instants, Mask

MAX_CURVE_POINTS = 400  # maximum points of a curve
SERIES_COLOURS = ("first", "second", "third", "fourth", "fifth", "sixth")  # of curves, in order
PIT_BINS = 20  # bins of a probability integral transform
SIGNIFICANT_DIGITS = 8  # significant digits of a value
PRICE_DIGITS = 6  # significant digits of a price in a chart
FAINT_SIGNIFICANT_DIGITS = 4  # significant digits of series without a legend entry

SeriesForm = (
    Literal["line", "faint", "steps", "area", "bars", "dots", "dotted", "band", "whiskers"]
    | Literal["up", "down", "vertical"]
)
ValueUnit = Literal["plain", "percent", "usd", "multiple"]


@dataclass(frozen=True, eq=False, slots=True)
class Series:
    """One curve, band or set of bars of a chart.

    name: name in the legend; empty for a series without a legend entry.
    colour: `first` to `sixth`, `quiet`, or `limit`, which is dashed.
    x: [T] positions: instants, numbers, or indices of the chart's labels; increasing for lines.
    values: [T] heights; NaN leaves a gap.
    form: style of the series. `steps` last until the next value; `area` fills the space below such
        steps; `dotted` is a line through dots. `band` and `whiskers` reach from `lower_values` to
        `values`; `up` and `down` are triangles; `vertical` is a vertical line, whose legend shows
        its x.
    lower_values: [T] lower ends of `band` and `whiskers`.
    point_notes: [T] texts that the page shows near the pointer or by arrow keys; empty: none.
    significant_digits: significant digits of a value.
    """

    name: str
    colour: str
    x: Array | Instants
    values: Array
    form: SeriesForm = "line"
    lower_values: Array | None = None
    point_notes: Sequence[str] = ()
    significant_digits: int = SIGNIFICANT_DIGITS

    def downsample(self, max_points: int = MAX_CURVE_POINTS) -> Series:
        """Return the series with at most `max_points` values that keep the shape of the curve."""
        kept = select_downsample_indices(self.values, max_points)
        base = None if self.lower_values is None else self.lower_values[kept]
        return replace(self, x=self.x[kept], values=self.values[kept], lower_values=base)


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart: several series over one pair of axes.

    description: description for readers who cannot see the chart.
    series: series in drawing order; the legend lists the last one first.
    unit: format of values; `percent` shows fractions in percent.
    time_zone: time zone of instants; empty where x are not instants.
    x_labels: labels of the x positions 0, 1, …; empty where x are numbers or instants.
    offers_log_scale: whether the page offers a logarithmic scale.
    """

    description: str
    series: tuple[Series, ...]
    unit: ValueUnit = "plain"
    time_zone: str = ""
    x_labels: tuple[str, ...] = ()
    offers_log_scale: bool = False

    @property
    def json(self) -> str:
        """The chart as JSON for `foundation/templates/charts.js`.

        In the JSON, instants are epoch seconds, each as the difference to the previous instant. A
        series without x has the x values of the previous series.
        """
        written: list[dict[str, Any]] = []
        before: list[float | None] = []
        for series in self.series:
            each: dict[str, Any] = {
                "name": series.name,
                "colour": series.colour,
                "form": series.form,
                "y": _round_for_json(
                    series.values,
                    FAINT_SIGNIFICANT_DIGITS
                    if series.form == "faint"
                    else series.significant_digits,
                ),
            }
            if series.point_notes:
                each["notes"] = list(series.point_notes)
            if series.lower_values is not None:
                each["base"] = _round_for_json(series.lower_values)
            x = _places(series.x)
            if x != before:
                each["x"] = before = x
            written.append(each)
        values = {
            "unit": self.unit,
            "zone": self.time_zone,
            "labels": self.x_labels,
            "logarithmic": self.offers_log_scale,
            "series": written,
        }
        return json.dumps(values, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def horizontal_line(
    value: float, x: Array | Instants, colour: str, name: str = "", form: SeriesForm = "line"
) -> Series:
    """Return a horizontal line at `value` from the first x to the last x."""
    return Series(name, colour, x[[0, -1]], np.full(2, value), form)


def trade_series(
    at: Instants, prices: Array, quantities: Array, notes: Sequence[str]
) -> list[Series]:
    """Return the series of buys and of sells, as triangles with notes; none for an empty one.

    at, prices, quantities: [N] instant, price and signed quantity of each trade.
    notes: [N] note of each trade.
    """
    sides: Sequence[tuple[str, str, SeriesForm, Mask]] = (
        ("buys", "second", "up", quantities > 0),
        ("sells", "third", "down", quantities < 0),
    )
    return [
        Series(
            name,
            colour,
            at[chosen],
            prices[chosen],
            form,
            point_notes=[notes[k] for k in np.flatnonzero(chosen).tolist()],
            significant_digits=PRICE_DIGITS,
        )
        for name, colour, form, chosen in sides
        if chosen.any()
    ]


def select_downsample_indices(values: Array, max_points: int = MAX_CURVE_POINTS) -> Index:
    """Select at most `max_points` values that preserve a curve's shape; return increasing indices.

    The indices include the first and the last value, and the lowest and the highest value of each
    segment. Values between two equal neighbours are omitted.

    values: [T], T at least 1.
    """
    count = len(values)
    if count <= max_points:
        return np.arange(count)
    kept = {0, count - 1}
    bounds = np.linspace(0, count, max_points // 2, dtype=int)
    for begin, end in pairwise(bounds.tolist()):
        stretch = values[begin:end]
        if np.all(np.isnan(stretch)):
            continue
        kept |= {begin + int(np.nanargmin(stretch)), begin + int(np.nanargmax(stretch))}
    rows = np.array(sorted(kept))
    # A value between two equal neighbours does not change a line.
    same = np.diff(values[rows]) == 0
    return np.asarray(rows[~np.concatenate([[False], same[:-1] & same[1:], [False]])])


def build_pit_density_chart(
    description: str, pit_values: Sequence[Array], names: Sequence[str], target_name: str
) -> Chart:
    """Return a chart of the densities of probability integral transforms.

    The density of a calibrated forecaster is 1 in every bin.

    description: description of the chart; the densities of the first transform are appended to it.
    pit_values: values [N] from 0 to 1 of each forecaster, N at least 1; the first density is a
        filled area, the others are step lines in the following colours.
    names: name of each forecaster in the legend.
    target_name: name of the line at 1.
    """
    edges = np.linspace(0.0, 1.0, PIT_BINS + 1)
    samples = dict(zip(names, pit_values, strict=True))
    series = _bin_series(samples, edges, PIT_BINS, SERIES_COLOURS)
    shares = ", ".join(f"{value:.2f}" for value in series[0].values[:-1])
    return Chart(
        f"{description} in {PIT_BINS} bins: {shares}",
        (series[0], *series[:0:-1], horizontal_line(1.0, edges, "limit", target_name)),
    )


def build_histogram_chart(
    description: str,
    samples: Mapping[str, Array],
    edges: Array,
    colours: Sequence[str] = SERIES_COLOURS,
    lines: Sequence[Series] = (),
) -> Chart:
    """Return a histogram: the share of each sample in every bin.

    description: name of the values; the median of each sample is appended to it.
    samples: values by name; the first is a filled area.
    edges: [B + 1] edges of the bins; values beyond them are not shown.
    lines: further series.
    """
    series = _bin_series(samples, edges, 1.0, colours)
    medians = ", ".join(f"{name} {np.median(each):,.6g}" for name, each in samples.items())
    return Chart(
        f"{description}; median: {medians}", (series[0], *series[:0:-1], *lines), "percent"
    )


def vertical_line(x: float, height: float, colour: str, name: str) -> Series:
    """Return a vertical line at `x` from 0 to `height`."""
    return Series(name, colour, np.full(2, x), np.array([0.0, height]), "vertical")


def _bin_series(
    samples: Mapping[str, Array], edges: Array, factor: float, colours: Sequence[str]
) -> list[Series]:
    """Return the share of each sample in every bin, times a factor: an area, then step lines."""
    series: list[Series] = []
    for (name, values), colour in zip(samples.items(), colours, strict=False):
        share = np.histogram(values, bins=edges)[0] * factor / len(values)
        form: SeriesForm = "steps" if series else "area"
        series.append(Series(name, colour, edges, np.append(share, share[-1]), form))
    return series


def _round_for_json(values: Array, digits: int = SIGNIFICANT_DIGITS) -> list[float | None]:
    """Return values rounded to `digits` significant digits for JSON; None for NaN and infinity."""
    return [float(f"{v:.{digits}g}") if np.isfinite(v) else None for v in values.tolist()]


def _places(x: Array | Instants) -> list[float | None]:
    if np.issubdtype(x.dtype, np.datetime64):
        return list(np.diff(x.astype("datetime64[s]").astype(int), prepend=0).tolist())
    return _round_for_json(np.asarray(x, dtype=float))
