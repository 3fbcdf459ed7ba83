"""One self-contained HTML page from an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd

from forecasting.forecast import reads_future
from foundation.charts import COLOURS, Chart, Series, level, transform_chart
from foundation.figures import FEWEST_WEEKS, Words, around, number, percent
from foundation.page import render_page
from foundation.tables import Cell, Table
from trainingdata.instants import NEW_YORK
from trainingdata.instruments import Kind
from trainingdata.timeframe import Clock, Timeframe

CLASSES = {"stock": "stocks", "crypto": "coins"}
REACH = (
    "± is half of a 95 % interval, by Student's t over weeks: forecasts of one week are one"
    f" observation. Below {FEWEST_WEEKS} weeks there is none, and no claim."
)
HEADS = ("loss", "80 % holds", "(return/σ)²", "rank correlation")  # that a terminal shows

_COUNT = partial(number, places=0)
_FOURTH = partial(number, places=4)
_THIRD = partial(number, places=3)
_COLUMNS: Mapping[str, tuple[str, Words]] = {  # score by head; gains stand behind the loss
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
BESIDE = 0.05  # between whiskers of one step, which can be read beside each other
TRANSFORMS = 3  # forecasters whose transform is drawn
HELD = 0.8  # of outcomes, by the interval that is drawn
CLAIMS = {1.0: "loses less than", -1.0: "loses more than", 0.0: "cannot be told apart from"}
TOO_FEW = "rests on too few weeks to be told from"


def cells_of(figures: dict[str, Any], scores: dict[str, Any]) -> dict[str, Cell]:
    """Each figure of a line of the tables, by its head."""
    main = scores[figures["forecaster"]]
    cells = {}
    for head, (name, words) in _COLUMNS.items():
        cells[head] = Cell(words(main[name]))
        for other in figures["against"] if name == "loss" else ():
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
    claims = []
    if reads_future(figures["forecaster"]):
        claims.append("No result: the forecaster reads the future.")
    elif figures["data"].startswith("synthetic"):
        claims.append("No result: the market is synthetic.")
    signs = [-1.0] * len(claims)
    for kind, named in CLASSES.items():
        said: dict[str, list[str]] = {}
        scores = figures["groups"].get(kind, {"all": {"skill": {}}})["all"]
        for name, gain in scores["skill"].items():
            signs.append(gain["beyond"])
            words = TOO_FEW if gain["reach"] is None else CLAIMS[gain["beyond"]]
            said.setdefault(words, []).append(name.replace(", ", " "))
        parts = [f"{words} {', '.join(names)}" for words, names in said.items()]
        claims += [f"On {named}: {'; '.join(parts)}."] if parts else []
    found: Literal["good", "bad", "open"] = "open"
    if signs and min(signs) != 0:
        found = "good" if min(signs) > 0 else "bad"
    return Judgement(found, " ".join(claims), REACH)


def span_text(figures: dict[str, Any]) -> str:
    """The New York dates between which forecasts were issued, both inclusive."""
    first, last = (
        pd.Timestamp(figures[key]).tz_convert(NEW_YORK).date() for key in ("start", "end")
    )
    return f"{first} to {last}"


def render(figures: dict[str, Any], frames: dict[str, pd.DataFrame], timeframe: Timeframe) -> str:
    """The page: the verdict, gains, calibration, and tables.

    figures: the content of `evaluation.json`.
    frames: forecaster's name → scores of each forecast.
    timeframe: of the bars.
    """
    names = [figures["forecaster"], *figures["against"]]
    return render_page(
        "forecasting/evaluation.html.j2",
        f=figures,
        span=span_text(figures),
        classes=CLASSES,
        verdict=judgement(figures),
        legend=[(name, colour_of(number)) for number, name in enumerate(names)],
        panels=[panel for kind in Kind for panel in _panels(figures, frames, kind, timeframe)],
        tables=[score_table(figures, group) for group in figures["groups"]],
    )


def _panels(
    figures: dict[str, Any], frames: dict[str, pd.DataFrame], kind: Kind, timeframe: Timeframe
) -> list[tuple[str, Chart]]:
    """Title and chart of each panel of a class; none where nothing of it was scored."""
    group = figures["groups"].get(kind)
    if group is None:
        return []
    steps = [step for step in group if step.isdigit()]
    transforms = [
        frame.loc[frame["kind"] == kind, "pit"].to_numpy()
        for frame in list(frames.values())[:TRANSFORMS]
    ]
    charts = {
        "Gain by step": gains_chart(group, figures["against"], steps),
        "Probability integral transform": transform_chart(
            "PIT of the evaluated forecaster", transforms, list(frames), "calibrated"
        ),
        f"80 % interval holds, step {steps[0]}, by hour": held_chart(
            timeframe.clock(kind), group[steps[0]]["hours"]
        ),
    }
    return [(f"{title}, {CLASSES[kind]}", chart) for title, chart in charts.items()]


def gains_chart(group: dict[str, Any], against: Sequence[str], steps: Sequence[str]) -> Chart:
    """Share of each other forecaster's loss that is saved, by step; whiskers are its reach."""
    places = np.arange(float(len(steps)))
    series = [level(0.0, places, "quiet")]
    said = []
    for k, name in enumerate(against):
        gains = [group[step]["skill"][name] for step in steps]
        means = np.array([gain["mean"] for gain in gains])
        reach = np.array([gain["reach"] or 0.0 for gain in gains])
        beside = places + (k - (len(against) - 1) / 2) * BESIDE
        colour = colour_of(k + 1)
        series.append(Series("", colour, beside, means + reach, "whiskers", means - reach))
        series.append(Series(name, colour, beside, means, "dotted"))
        said.append(f"{name} {', '.join(format(mean, '.1%') for mean in means)}")
    text = f"Gain by step, {'; '.join(said)}"
    return Chart(text, tuple(series), "percent", labels=tuple(steps))


def held_chart(clock: Clock, hours: dict[str, Any]) -> Chart:
    """What the 80 % interval holds by hour, and what is meant as a dashed line."""
    places = np.arange(float(len(hours)))
    held = np.array([scores["inside80"] for scores in hours.values()])
    weekend = {place: ", weekend" if clock.on_weekend(int(place)) else "" for place in hours}
    labels = [clock.place_text(int(place)) + weekend[place] for place in hours]
    said = ", ".join(f"{at} {number(value, 3)}" for at, value in zip(labels, held, strict=True))
    return Chart(
        f"Held by hour: {said}",
        (level(HELD, places, "limit", "meant"), Series("is", "first", places, held, "dotted")),
        "percent",
        labels=tuple(labels),
    )


def colour_of(number: int) -> str:
    return COLOURS[number] if number < len(COLOURS) else "quiet"
