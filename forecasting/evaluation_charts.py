"""The pictures of an evaluation, without scripts: gains, calibration, and a fan of quantiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from forecasting.forecast import HORIZON, LEVELS, MEDIAN
from foundation.arrays import Array
from foundation.charts import (
    COLOURS,
    WIDTH,
    Axis,
    Chart,
    Line,
    axis_of,
    band_path,
    chart_of,
    dots_path,
    level_line,
    line_path,
    percent_label,
    price_label,
    transform_chart,
)

BEFORE = HORIZON  # own bars that a fan shows of what was seen: it was issued in the middle
INSET = 25.0  # of the first and the last point from the edges of a plot
TRANSFORMS = 3  # forecasters whose transform is drawn
BANDS = (("80 %", "first area", 0.1), ("50 %", "first area deep", 0.25))  # lowest level of each
FIFTHS = ("calmest", "2", "3", "4", "wildest")
TARGETS = {"inside80": (0.8, 0.05), "scale": (1.0, 0.1)}  # what is meant, and how far around it


@dataclass(frozen=True, eq=False, slots=True)
class Fan:
    """A forecast of the evaluated forecaster, and what happened.

    symbol: that it is of.
    issued_at: the instant.
    closes: [B] last closes that it has seen, USD, the issuing bar's the last.
    quantiles: [H, Q] USD.
    outcome: [H] closes that followed, USD.
    """

    symbol: str
    issued_at: np.datetime64
    closes: Array
    quantiles: Array
    outcome: Array

    def inside(self) -> int:
        """How many of the outcomes lie in the central 80 %."""
        low, high = (self.quantiles[:, LEVELS.index(level)] for level in (0.1, 0.9))
        return int(((low <= self.outcome) & (self.outcome <= high)).sum())


def fan_chart(fan: Fan) -> Chart:
    """Quantiles by own bar, after what the forecast has seen; and what happened."""
    ahead = np.arange(HORIZON + 1)
    start = np.full((1, len(LEVELS)), fan.closes[-1])
    quantiles = np.concatenate([start, fan.quantiles])
    seen = len(fan.closes) - 1
    places = WIDTH * (seen + ahead) / (seen + HORIZON)
    followed = np.concatenate([fan.closes[-1:], fan.outcome])
    widest = quantiles[:, [LEVELS.index(0.05), LEVELS.index(0.95)]]
    drawn = np.concatenate([widest.ravel(), fan.closes, fan.outcome])
    axis = axis_of(float(drawn.min()), float(drawn.max()))
    bands = []
    for name, kind, level in BANDS:
        low, high = (quantiles[:, LEVELS.index(end)] for end in (level, 1 - level))
        path = band_path(places, axis.heights(low), axis.heights(high))
        bands.append(Line(name, kind, path))
    before = WIDTH * np.arange(seen + 1) / (seen + HORIZON)
    issued = pd.Timestamp(fan.issued_at).strftime("%d %b %Y %H:%MZ").lstrip("0")
    return chart_of(
        f"{fan.symbol}, forecast of {issued}: {fan.inside()} of {HORIZON} outcomes inside the 80 %"
        " interval",
        (f"{seen} bars before", f"issued {issued}", f"{HORIZON} bars after"),
        axis,
        price_label(axis),
        *bands,
        Line("median", "first", line_path(places, axis.heights(quantiles[:, MEDIAN]))),
        Line("", "other", line_path(before, axis.heights(fan.closes))),
        Line("what happened", "third", line_path(places, axis.heights(followed))),
    )


def gains_chart(group: dict[str, Any], against: Sequence[str], steps: Sequence[str]) -> Chart:
    """Share of each other forecaster's loss that is saved, by step; whiskers are its reach."""
    ends = [0.0]
    for name in against:
        for step in steps:
            gain = group[step]["skill"][name]
            ends += [gain["mean"] + sign * (gain["reach"] or 0.0) for sign in (-1, 1)]
    axis = axis_of(min(ends), max(ends))
    lines = [level_line(axis, 0.0, "other")]
    for number, name in enumerate(against):
        # Beside each other, whiskers of one step can be read.
        places = _places(len(steps)) + (number - (len(against) - 1) / 2) * 9
        gains = [group[step]["skill"][name] for step in steps]
        means = np.array([gain["mean"] for gain in gains])
        errors = np.array([gain["reach"] or 0.0 for gain in gains])
        kind = kind_of(number + 1)
        lines += _whiskers(axis, places, means, errors, kind)
    text = "Gain by step, " + "; ".join(
        f"{name} {', '.join(format(group[step]['skill'][name]['mean'], '.1%') for step in steps)}"
        for name in against
    )
    return chart_of(text, tuple(steps), axis, percent_label(axis), *lines)


def transforms_chart(frames: dict[str, pd.DataFrame], kind: str) -> Chart:
    """Probability integral transforms of the first forecasters on an asset class."""
    transforms = [
        frame.loc[frame["kind"] == kind, "pit"].to_numpy()
        for frame in list(frames.values())[:TRANSFORMS]
    ]
    return transform_chart("PIT of the evaluated forecaster", transforms, ("", ""))


def ranks_chart(scores: Sequence[dict[str, Any]], steps: Sequence[str]) -> Chart | None:
    """Rank correlation of expected and realised return by step; None for fewer than two."""
    means = np.array([np.nan if s["information"] is None else s["information"] for s in scores])
    errors = np.array([score["information_reach"] or 0.0 for score in scores])
    if np.isfinite(means).sum() < 2:
        return None
    axis = axis_of(min(0.0, np.nanmin(means - errors)), max(0.0, np.nanmax(means + errors)))
    places = _places(len(steps))
    return chart_of(
        "Rank correlation by step: " + ", ".join(f"{value:+.3f}" for value in means),
        tuple(steps),
        axis,
        lambda value: f"{value:g}",
        level_line(axis, 0.0, "other"),
        *_whiskers(axis, places, means, errors, "first"),
    )


def level_chart(text: str, labels: Sequence[str], values: Sequence[float], what: str) -> Chart:
    """Points by group, what is meant as a dashed line, and grey lines around it."""
    target, around = TARGETS[what]
    low = min(target - 2 * around, *values)
    axis = axis_of(low, max(target + 2 * around, *values))
    places = _places(len(values))
    heights = axis.heights(np.array(values))
    label = percent_label(axis) if what == "inside80" else lambda value: f"{value:g}"
    said = ", ".join(f"{name} {value:.3f}" for name, value in zip(labels, values, strict=True))
    shown = [labels[k] for k in np.unique(np.linspace(0, len(labels) - 1, 6, dtype=int))]
    return chart_of(
        f"{text}: {said}",
        tuple(shown if len(labels) > len(FIFTHS) + 3 else labels),
        axis,
        label,
        level_line(axis, target - around, "faint"),
        level_line(axis, target + around, "faint"),
        level_line(axis, target, "limit"),
        Line("", "first", line_path(places, heights)),
        Line("", "first dots", dots_path(places, heights)),
    )


def kind_of(number: int) -> str:
    """Colour of a forecaster, by its place."""
    return COLOURS[number] if number < len(COLOURS) else "other"


def _places(count: int) -> Array:
    """Where points stand above labels at equal distances."""
    return np.linspace(INSET, WIDTH - INSET, count) if count > 1 else np.array([WIDTH / 2])


def _whiskers(axis: Axis, places: Array, means: Array, errors: Array, kind: str) -> list[Line]:
    """A line through means, with a dot at each that is known and what it reaches."""
    ends = zip(places, axis.heights(means - errors), axis.heights(means + errors), strict=True)
    reaches = "".join(f"M{x:.1f} {low:.1f}V{high:.1f}" for x, low, high in ends if np.isfinite(low))
    known = np.isfinite(means)
    dots = dots_path(places[known], axis.heights(means[known]))
    line = line_path(places, axis.heights(means))
    return [Line("", kind, reaches), Line("", f"{kind} dots", dots), Line("", kind, line)]
