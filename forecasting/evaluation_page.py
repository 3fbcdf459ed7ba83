"""One self-contained HTML page from an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd

from forecasting.forecast import HORIZON, LEVELS, MEDIAN, reads_future
from foundation.arrays import Array
from foundation.charts import COLOURS, Chart, Series, level, transform_chart
from foundation.counts import counted
from foundation.figures import Words, around, number, percent
from foundation.page import render_page
from foundation.sample_size import FEWEST_WEEKS
from foundation.tables import Cell, Table
from trainingdata.instants import NEW_YORK
from trainingdata.instruments import Kind
from trainingdata.timeframe import Clock, Timeframe

CLASSES = {"stock": "stocks", "crypto": "coins"}
REACH = (
    "± is half of a 95 % interval, by Student's t over weeks: forecasts of one week are one"
    f" observation. Below {FEWEST_WEEKS} weeks there is none, and no claim."
)

_COUNT = partial(number, places=0)
_FOURTH = partial(number, places=4)
_THIRD = partial(number, places=3)
_COLUMNS: Mapping[str, tuple[str, Words]] = {  # score by head; gains stand behind the CRPS
    "forecasts": ("forecasts", _COUNT),
    "loss": ("loss", _FOURTH),
    "CRPS": ("crps", _FOURTH),
    "80 % interval score": ("score80", _THIRD),
    "80 % holds": ("inside80", _THIRD),
    "90 % holds": ("inside90", _THIRD),
    "98 % holds": ("inside98", _THIRD),
    "(return/σ)²": ("scale", number),
    "PIT mean": ("pit_mean", _THIRD),
    "PIT distance": ("pit_distance", _THIRD),
}
BEFORE = HORIZON  # own bars that a fan shows of what was seen: it was issued in the middle
BESIDE = 0.05  # between whiskers of one step, which can be read beside each other
TRANSFORMS = 3  # forecasters whose transform is drawn
BANDS = {"80 %": 0.1, "50 %": 0.25}  # lowest level of each
FIFTHS = ("calmest", "2", "3", "4", "wildest")
TARGETS = {"inside80": (0.8, 0.05), "scale": (1.0, 0.1)}  # what is meant, and how far around it


def cells_of(figures: dict[str, Any], scores: dict[str, Any]) -> dict[str, Cell]:
    """Each figure of a line of the tables, by its head."""
    main = scores[figures["forecaster"]]
    cells = {}
    for head, (name, words) in _COLUMNS.items():
        cells[head] = Cell(words(main[name]))
        for other in figures["against"] if name == "crps" else ():
            gain = scores["skill"][other]
            text = percent(gain["mean"], sign=True) + around(gain["reach"], percent)
            cells[f"gain on {other}"] = Cell(text, {1: "good", 0: "", -1: "bad"}[gain["beyond"]])
    rank = "none"
    if main["information"] is not None:
        rank = number(main["information"], 3, sign=True) + around(main["information_reach"], _THIRD)
    return {**cells, "rank correlation": Cell(rank)}


def score_table(figures: dict[str, Any], group: str) -> Table:
    """A line a step of a group."""
    lines = {name: cells_of(figures, each) for name, each in figures["groups"][group].items()}
    heads = ("step", *next(iter(lines.values())))
    return Table(group, heads, [(step, *cells.values()) for step, cells in lines.items()])


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the scores amount to.

    level: `good` where less is lost than by every other forecaster beyond error, `bad` where more
        is by any, or it is no result; `open` otherwise.
    claim: in a line.
    rest: what it rests on.
    """

    level: Literal["good", "bad", "open"]
    claim: str
    rest: str


def judgement(figures: dict[str, Any]) -> Judgement:
    """The verdict on a forecaster, from the content of its `evaluation.json`."""
    kinds = [kind for kind in CLASSES if kind in figures["groups"]]
    claims = []
    signs = []
    for kind in kinds:
        skill = figures["groups"][kind]["all"]["skill"]
        better = [name for name, gain in skill.items() if gain["beyond"] > 0]
        worse = [name for name, gain in skill.items() if gain["beyond"] < 0]
        insufficient_data = [name for name, gain in skill.items() if gain["reach"] is None]
        alike = [
            n for n, gain in skill.items() if gain["beyond"] == 0 and n not in insufficient_data
        ]
        signs += [gain["beyond"] for gain in skill.values()]
        said = [
            _said("loses less than", better),
            _said("loses more than", worse),
            _said("cannot be told apart from", alike),
            _said("rests on too few weeks to be told from", insufficient_data),
        ]
        words = "; ".join(text for text in said if text) or "there is nothing to compare it with"
        claims.append(f"On {CLASSES[kind]}: {words}.")
    reason = _no_result(figures)
    level: Literal["good", "bad", "open"] = "open"
    if signs and all(sign > 0 for sign in signs):
        level = "good"
    if reason or any(sign < 0 for sign in signs):
        level = "bad"
    claim = " ".join(filter(None, [reason, *claims]))
    return Judgement(level, claim, " ".join(_held(figures, kind) for kind in kinds))


def _said(words: str, names: Sequence[str]) -> str:
    if not names:
        return ""
    # A name may have a comma: what follows it goes into brackets.
    parts = [name.partition(", ") for name in names]
    labels = [f"{first} ({rest})" if rest else first for first, _, rest in parts]
    return f"{words} {' and '.join(filter(None, [', '.join(labels[:-1]), labels[-1]]))}"


def _no_result(figures: dict[str, Any]) -> str:
    if reads_future(figures["forecaster"]):
        return "No result: the forecaster reads the future."
    if figures["data"].startswith("synthetic"):
        return "No result: the market is synthetic."
    return ""


def _held(figures: dict[str, Any], kind: str) -> str:
    """What the 80 % interval held, and what that rests on."""
    main = figures["groups"][kind]["all"][figures["forecaster"]]
    held = percent(main["inside80"], 1)
    half = around(main["inside80_reach"], partial(percent, places=1))
    outcomes = counted(main["forecasts"], "outcome")
    return (
        f"The 80 % interval held {held}{half} of {outcomes} of {CLASSES[kind]} in"
        f" {counted(main['weeks'], 'week')}."
    )


def span_text(figures: dict[str, Any]) -> str:
    """The New York dates between which forecasts were issued, both inclusive."""
    first, last = (
        pd.Timestamp(figures[key]).tz_convert(NEW_YORK).date() for key in ("start", "end")
    )
    return f"{first} to {last}"


def render(
    figures: dict[str, Any],
    frames: dict[str, pd.DataFrame],
    fans: Sequence[Fan],
    timeframe: Timeframe,
) -> str:
    """The page: the verdict, fans, gains, calibration by hour and volatility, and tables.

    figures: the content of `evaluation.json`.
    frames: forecaster's name → scores of each forecast.
    fans: forecasts with what happened.
    timeframe: of the bars.
    """
    names = [figures["forecaster"], *figures["against"]]
    return render_page(
        "forecasting/evaluation.html.j2",
        f=figures,
        span=span_text(figures),
        reach=REACH,
        classes=CLASSES,
        verdict=judgement(figures),
        warnings=_warnings(figures),
        fans=[(fan.symbol, fan_chart(fan)) for fan in fans],
        legend=[(name, colour_of(number)) for number, name in enumerate(names)],
        panels=[panel for kind in Kind for panel in _panels(figures, frames, kind, timeframe)],
        tables=[score_table(figures, group) for group in figures["groups"]],
    )


def _warnings(figures: dict[str, Any]) -> list[str]:
    if figures["data"].startswith("synthetic"):
        return [f"The bars are a {figures['data']}: the scores say nothing about any real market."]
    return []


def _panels(
    figures: dict[str, Any], frames: dict[str, pd.DataFrame], kind: Kind, timeframe: Timeframe
) -> list[tuple[str, Chart]]:
    """Title and chart of each panel of a class; none where nothing of it was scored."""
    group = figures["groups"].get(kind)
    if group is None:
        return []
    steps = [step for step in group if step.isdigit()]
    first = group[steps[0]]
    charts = {
        "Gain by step": gains_chart(group, figures["against"], steps),
        "Probability integral transform": transforms_chart(frames, kind),
        "Rank correlation by step": ranks_chart(
            [group[step][figures["forecaster"]] for step in steps], steps
        ),
        **_held_by_hour(timeframe.clock(kind), steps[0], first["hours"]),
        "80 % interval holds, calmest to wildest fifth": level_chart(
            "Held by volatility", *_fifths(first, "inside80"), "inside80"
        ),
        "(return/σ)², calmest to wildest fifth": level_chart(
            "Size by volatility", *_fifths(first, "scale"), "scale"
        ),
    }
    return [(f"{title}, {CLASSES[kind]}", chart) for title, chart in charts.items() if chart]


def _fifths(scores: dict[str, Any], what: str) -> tuple[Sequence[str], Sequence[float]]:
    values = scores["fifths"][what]
    return FIFTHS[: len(values)], values


def _held_by_hour(clock: Clock, step: str, hours: dict[str, Any]) -> dict[str, Chart]:
    """Title and chart of what the 80 % interval holds by hour, a coin's weekends apart."""
    charts = {}
    for days, weekend in (("", False), (", Saturdays and Sundays", True)):
        held = {
            int(place): scores["inside80"]
            for place, scores in hours.items()
            if clock.on_weekend(int(place)) == weekend
        }
        if len(held) > 1:
            labels = [clock.place_text(place) for place in held]
            charts[f"80 % interval holds, step {step}, by hour{days}"] = level_chart(
                f"Held by hour{days}", labels, list(held.values()), "inside80"
            )
    return charts


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
