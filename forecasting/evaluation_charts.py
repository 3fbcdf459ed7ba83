"""The charts of an evaluation: gains, calibration, and a fan of quantiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from forecasting.forecast import HORIZON, LEVELS, MEDIAN
from foundation.arrays import Array
from foundation.charts import COLOURS, Chart, Series, level, transform_chart
from foundation.figures import number

BEFORE = HORIZON  # own bars that a fan shows of what was seen: it was issued in the middle
BESIDE = 0.05  # between whiskers of one step, which can be read beside each other
TRANSFORMS = 3  # forecasters whose transform is drawn
BANDS = {"80 %": 0.1, "50 %": 0.25}  # lowest level of each
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
    seen = len(fan.closes) - 1
    before = np.arange(seen + 1.0)
    after = seen + np.arange(HORIZON + 1.0)
    start = np.full((1, len(LEVELS)), fan.closes[-1])
    quantiles = np.concatenate([start, fan.quantiles])

    def band(name: str, lowest: float) -> Series:
        low, high = (quantiles[:, LEVELS.index(end)] for end in (lowest, 1 - lowest))
        return Series(name, "first", after, high, "band", low)

    issued = pd.Timestamp(fan.issued_at).strftime("%d %b %Y %H:%MZ").lstrip("0")
    return Chart(
        f"{fan.symbol}, forecast of {issued}: {fan.inside()} of {HORIZON} outcomes inside the 80 %"
        " interval",
        (
            *(band(name, lowest) for name, lowest in BANDS.items()),
            Series("median", "first", after, quantiles[:, MEDIAN]),
            Series("seen", "quiet", before, fan.closes),
            Series("what happened", "third", after, np.append(fan.closes[-1], fan.outcome)),
        ),
        "usd",
        labels=tuple(f"{bar:+d}" if bar else "issued" for bar in range(-seen, HORIZON + 1)),
    )


def gains_chart(group: dict[str, Any], against: Sequence[str], steps: Sequence[str]) -> Chart:
    """Share of each other forecaster's loss that is saved, by step; whiskers are its reach."""
    places = np.arange(float(len(steps)))
    series = [_zero(places)]
    for k, name in enumerate(against):
        gains = [group[step]["skill"][name] for step in steps]
        means = np.array([gain["mean"] for gain in gains])
        errors = np.array([gain["reach"] or 0.0 for gain in gains])
        beside = places + (k - (len(against) - 1) / 2) * BESIDE
        series += _whiskers(name, colour_of(k + 1), beside, means, errors)
    text = "Gain by step, " + "; ".join(
        f"{name} {', '.join(format(group[step]['skill'][name]['mean'], '.1%') for step in steps)}"
        for name in against
    )
    return Chart(text, tuple(series), "percent", labels=tuple(steps))


def transforms_chart(frames: dict[str, pd.DataFrame], kind: str) -> Chart:
    """Probability integral transforms of the first forecasters on an asset class."""
    transforms = [
        frame.loc[frame["kind"] == kind, "pit"].to_numpy()
        for frame in list(frames.values())[:TRANSFORMS]
    ]
    return transform_chart(
        "PIT of the evaluated forecaster", transforms, list(frames), "calibrated"
    )


def ranks_chart(scores: Sequence[dict[str, Any]], steps: Sequence[str]) -> Chart | None:
    """Rank correlation of expected and realised return by step; None for fewer than two."""
    means = np.array([np.nan if s["information"] is None else s["information"] for s in scores])
    errors = np.array([score["information_reach"] or 0.0 for score in scores])
    if np.isfinite(means).sum() < 2:
        return None
    places = np.arange(float(len(steps)))
    return Chart(
        "Rank correlation by step: " + ", ".join(number(value, 3, sign=True) for value in means),
        (_zero(places), *_whiskers("rank correlation", "first", places, means, errors)),
        labels=tuple(steps),
    )


def level_chart(text: str, labels: Sequence[str], values: Sequence[float], what: str) -> Chart:
    """Points by group, what is meant as a dashed line, and grey lines around it."""
    target, around = TARGETS[what]
    places = np.arange(float(len(values)))
    said = ", ".join(
        f"{name} {number(value, 3)}" for name, value in zip(labels, values, strict=True)
    )
    return Chart(
        f"{text}: {said}",
        (
            level(target - around, places, "quiet", form="faint"),
            level(target + around, places, "quiet", form="faint"),
            level(target, places, "limit", "meant"),
            Series("is", "first", places, np.array(values), "dotted"),
        ),
        "percent" if what == "inside80" else "plain",
        labels=tuple(labels),
    )


def colour_of(number: int) -> str:
    return COLOURS[number] if number < len(COLOURS) else "quiet"


def _zero(places: Array) -> Series:
    return level(0.0, places, "quiet")


def _whiskers(
    name: str, colour: str, places: Array, means: Array, errors: Array
) -> tuple[Series, Series]:
    """A line through means with a dot at each, and what each reaches."""
    reach = Series("", colour, places, means + errors, "whiskers", means - errors)
    return reach, Series(name, colour, places, means, "dotted")
