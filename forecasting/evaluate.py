"""Score a forecaster against classical forecasters on realised bars: a table, JSON, and a page.

    python -m forecasting.evaluate 'symbols=[NVDA,BTCUSD]' 'data.dir=[DIR]' start=D end=D
    [forecaster=…] [output=DIR]

All forecasters are scored on the same symbols and bars, namely those for which all of them issue a
forecast.
"""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("forecasting.evaluate")

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from rich.console import RenderableType

from forecasting.forecast import Forecaster, Progress, has_look_ahead, is_calibrated, no_progress
from forecasting.scores import gain_over_baseline, score_common_forecasts, summarise_scores
from forecasting.settings import EvaluationSettings, ForecasterSettings
from foundation.charts import (
    SERIES_COLOURS,
    Chart,
    Series,
    build_pit_density_chart,
    horizontal_line,
)
from foundation.cli import Result
from foundation.formatting import (
    MIN_WEEKS_FOR_INTERVALS,
    NumberFormatter,
    format_number,
    format_percent,
    format_plus_minus,
)
from foundation.page import render_page
from foundation.tables import Cell, Row, Table
from trainingdata.instants import NEW_YORK, format_utc
from trainingdata.instruments import AssetClass
from trainingdata.source import resolve_range
from trainingdata.timeframe import Timeframe

ASSET_CLASS_LABELS = {"stock": "stocks", "crypto": "coins"}
INTERVAL_NOTE = (
    "± is the half-width of a 95 % confidence interval, by Student's t over weeks: the forecasts of"
    f" a week are one observation. With fewer than {MIN_WEEKS_FOR_INTERVALS} weeks, no interval and"
    " no verdict are given."
)
TERMINAL_COLUMNS = (
    "loss",
    "80 % holds",
    "(return/σ)²",
    "rank correlation",
)  # columns shown on a terminal

_FORMAT_COUNT = partial(format_number, places=0)
_FORMAT_4_PLACES = partial(format_number, places=4)
_FORMAT_3_PLACES = partial(format_number, places=3)
_SCORE_COLUMNS: Mapping[
    str, tuple[str, NumberFormatter]
] = {  # score and its format by column heading; gains follow the loss
    "forecasts": ("forecasts", _FORMAT_COUNT),
    "loss": ("loss", _FORMAT_4_PLACES),
    "CRPS": ("crps", _FORMAT_4_PLACES),
    "80 % interval score": ("score80", _FORMAT_3_PLACES),
    "80 % holds": ("inside80", _FORMAT_3_PLACES),
    "90 % holds": ("inside90", _FORMAT_3_PLACES),
    "98 % holds": ("inside98", _FORMAT_3_PLACES),
    "(return/σ)²": ("scale", format_number),
    "PIT mean": ("pit_mean", _FORMAT_3_PLACES),
    "PIT distance": ("pit_distance", _FORMAT_3_PLACES),
}
WHISKER_OFFSET = 0.05  # distance between whiskers of one step
MAX_PIT_CURVES = 3  # maximum number of forecasters whose transform is drawn
CLAIM_PHRASES = {
    1.0: "lower loss than",
    -1.0: "higher loss than",
    0.0: "no significant difference from",
}
TOO_FEW_WEEKS_PHRASE = "too few weeks for a comparison with"


@dataclass(frozen=True, eq=False, slots=True)
class Evaluation:
    """Scores of several forecasters over the same symbols and bars.

    score_frames: score frames by forecaster name. All frames have the same symbols, instants and
        steps in the same rows. The first frame is the evaluated forecaster's.
    data_source: source of the bars.
    timeframe: timeframe of the bars.
    start, end: first and last instant at which forecasts are issued, both inclusive.
    """

    score_frames: dict[str, pd.DataFrame]
    data_source: str
    timeframe: Timeframe
    start: np.datetime64
    end: np.datetime64

    @property
    def forecaster_name(self) -> str:
        """Name of the evaluated forecaster."""
        return next(iter(self.score_frames))

    def build_figures(self) -> dict[str, Any]:
        """Compute the content of `evaluation.json`: scores and gains."""
        main = self.score_frames[self.forecaster_name]
        groups = {kind: main["kind"] == kind for kind in sorted(main["kind"].unique())}
        groups |= {symbol: main["symbol"] == symbol for symbol in sorted(main["symbol"].unique())}
        return {
            "forecaster": self.forecaster_name,
            "baselines": list(self.score_frames)[1:],
            "data": self.data_source,
            "start": format_utc(self.start),
            "end": format_utc(self.end),
            "groups": {name: self._group_scores(chosen) for name, chosen in groups.items()},
        }

    def _group_scores(self, chosen: pd.Series) -> dict[str, Any]:
        """Return the scores of a group of rows: over all steps, by step, and overnight for stocks.

        chosen: mask of the rows, such as those of an asset class or a symbol.
        """
        main = self.score_frames[self.forecaster_name]
        parts = {"all": chosen}
        for step in sorted(main["step"].unique()):
            parts[str(step)] = chosen & (main["step"] == step)
        # The interval from a full session's last decision to the next one's first (with hourly bars
        # from 15:30 to 10:30) has about ten times the variance of the next bar. Its forecast
        # decides which stocks are held overnight.
        clock = self.timeframe.stock_clock
        place = clock.bars_per_day - 2
        night = chosen & (main["kind"] == "stock") & (main["slot"] == place) & (main["step"] == 2)
        if night.any():
            parts[f"{clock.slot_label(place)} to {clock.slot_label(0)}"] = night
        # A class may lack outcomes at a step that another has.
        return {label: self._score_figures(rows) for label, rows in parts.items() if rows.any()}

    def _score_figures(self, rows: pd.Series) -> dict[str, Any]:
        """Return the scores of all forecasters on these rows, and the evaluated one's gains.

        The gains are over each baseline.

        rows: mask of the rows.
        """
        main = self.score_frames[self.forecaster_name][rows]
        figures: dict[str, Any] = {}
        for name, frame in self.score_frames.items():
            figures[name] = summarise_scores(frame[rows])
        others = [name for name in self.score_frames if name != self.forecaster_name]
        figures["skill"] = {
            name: gain_over_baseline(main, self.score_frames[name][rows]) for name in others
        }
        return figures


def evaluate(settings: EvaluationSettings, progress: Progress = no_progress) -> Evaluation:
    """Compute the forecasts of all compared forecasters, and score them."""
    settings.forecaster.check()
    bars = settings.load_bars()
    first, last = resolve_range(bars, settings.start, settings.end)
    tables = [
        each.forecast(bars, first, progress) for each in build_compared(settings, bars.symbols)
    ]
    frames = score_common_forecasts(bars, tables, first, last, settings.steps, progress)
    named = {table.name: frame for table, frame in zip(tables, frames, strict=True)}
    return Evaluation(named, bars.source, bars.timeframe, first, last)


def build_compared(settings: EvaluationSettings, symbols: Sequence[str]) -> list[Forecaster]:
    """Build the evaluated forecaster, then the baselines, each with a name of its own.

    Baselines of a calibrated forecaster are calibrated like it. They come before the uncalibrated
    ones, which show what calibration itself gains.
    """
    own = settings.forecaster
    baselines = [ForecasterSettings(kind=kind, calibrated=False) for kind in settings.baselines]
    raw = [replace(own, calibrated=False), *baselines]
    evaluated = own.build(symbols)
    compared = raw
    if is_calibrated(evaluated.name):  # by its name, because a file may hold calibrated forecasts
        compared = [
            replace(each, calibrated=True, calibration=own.calibration) for each in baselines
        ]
        compared += raw
    built = {evaluated.name: evaluated}
    for each in compared:
        forecaster = each.build(symbols)
        built.setdefault(forecaster.name, forecaster)
    return list(built.values())


def select_comparable_baselines(figures: dict[str, Any]) -> list[str]:
    """Return the baselines that are calibrated if the forecaster is, else the uncalibrated ones.

    Without any, all baselines are returned.

    figures: content of `evaluation.json`.
    """
    names: list[str] = figures["baselines"]
    calibrated = is_calibrated(figures["forecaster"])
    return [name for name in names if is_calibrated(name) == calibrated] or names


def evaluation_file_writers(
    evaluation: Evaluation, figures: dict[str, Any]
) -> dict[str, Callable[[Path], object]]:
    """Return functions that write `evaluation.json` and `evaluation.html`, by file name.

    figures: content of `evaluation.json`.
    """
    text = json.dumps(figures, indent=1, default=float, allow_nan=False)
    page = render_evaluation(figures, evaluation.score_frames)
    return {
        "evaluation.json": lambda path: path.write_text(f"{text}\n"),
        "evaluation.html": lambda path: path.write_text(page, encoding="utf-8"),
    }


def render_terminal_parts(figures: dict[str, Any]) -> list[RenderableType]:
    """Build the terminal output: a score table with one row per asset class and step."""
    loss, *rest = TERMINAL_COLUMNS
    comparable = select_comparable_baselines(figures)
    heads = [loss, *(f"gain on {name}" for name in comparable), *rest]
    rows: list[Row] = []
    for group, named in ASSET_CLASS_LABELS.items():
        for step, scores in figures["groups"].get(group, {}).items():
            cells = format_score_cells(figures, scores)
            rows.append((named, step, *(cells[head] for head in heads)))
    title = f"{figures['forecaster']}, {format_date_range(figures)}, {figures['data']}"
    table = Table("", ("", "step", *heads), rows, left_aligned_columns=(1,))
    return [title, table, INTERVAL_NOTE]


def run(settings: EvaluationSettings, progress: Progress) -> Result:
    """Score all forecasters and return a report."""
    evaluation = evaluate(settings, progress)
    figures = evaluation.build_figures()
    files = evaluation_file_writers(evaluation, figures)
    return Result(render_terminal_parts(figures), file_writers=files)


def format_score_cells(figures: dict[str, Any], scores: dict[str, Any]) -> dict[str, Cell]:
    """Return the cells of a row of a score table, by column heading.

    figures: content of `evaluation.json`.
    scores: scores of one group and step, as in `figures`.
    """
    main = scores[figures["forecaster"]]
    cells = {}
    for head, (name, words) in _SCORE_COLUMNS.items():
        cells[head] = Cell(words(main[name]))
        for other in figures["baselines"] if name == "loss" else ():
            skill = scores["skill"][other]
            text = format_percent(skill["mean"], sign=True) + format_plus_minus(
                skill["reach"], format_percent
            )
            cells[f"gain on {other}"] = Cell(text, {1: "good", 0: "", -1: "bad"}[skill["beyond"]])
    rank = "none"
    if main["information"] is not None:
        rank = format_number(main["information"], 3, sign=True) + format_plus_minus(
            main["information_reach"], _FORMAT_3_PLACES
        )
    return {**cells, "rank correlation": Cell(rank)}


def build_score_table(figures: dict[str, Any], group: str) -> Table:
    """Return the score table of a group (an asset class or a symbol), one row per step."""
    lines = {
        name: format_score_cells(figures, each) for name, each in figures["groups"][group].items()
    }
    heads = ("step", *next(iter(lines.values())))
    return Table(group, heads, [(step, *cells.values()) for step, cells in lines.items()])


@dataclass(frozen=True, slots=True)
class EvaluationVerdict:
    """Verdict on the evaluated forecaster.

    level: `good` if the loss is significantly smaller than that of every comparable baseline;
        `bad` if it is significantly larger than that of one, or if the run is not valid evidence;
        else `open`.
    claim: verdict in one line.
    evidence: explanation of the intervals.
    """

    level: Literal["good", "bad", "open"]
    claim: str
    evidence: str


def judge_scores(figures: dict[str, Any]) -> EvaluationVerdict:
    """Return the verdict on the evaluated forecaster.

    figures: content of `evaluation.json`.
    """
    claims = []
    if has_look_ahead(figures["forecaster"]):
        claims.append("No result: the forecaster reads the future.")
    elif figures["data"].startswith("synthetic"):
        claims.append("No result: the market is synthetic.")
    signs = [-1.0] * len(claims)
    for kind, named in ASSET_CLASS_LABELS.items():
        names_by_range: dict[str, list[str]] = {}
        for name, skill in _comparable_skill(figures, kind).items():
            signs.append(skill["beyond"])
            words = (
                TOO_FEW_WEEKS_PHRASE if skill["reach"] is None else CLAIM_PHRASES[skill["beyond"]]
            )
            names_by_range.setdefault(words, []).append(name.replace(", ", " "))
        parts = [f"{words} {', '.join(names)}" for words, names in names_by_range.items()]
        claims += [f"On {named}: {'; '.join(parts)}."] if parts else []
    found: Literal["good", "bad", "open"] = "open"
    if signs and min(signs) != 0:
        found = "good" if min(signs) > 0 else "bad"
    return EvaluationVerdict(found, " ".join(claims), INTERVAL_NOTE)


def _comparable_skill(figures: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return the gains of an asset class over all steps, by comparable baseline.

    figures: content of `evaluation.json`.
    """
    if kind not in figures["groups"]:
        return {}
    skill = figures["groups"][kind]["all"]["skill"]
    return {name: skill[name] for name in select_comparable_baselines(figures)}


def format_date_range(figures: dict[str, Any]) -> str:
    """Return the first and last New York date of the forecasts as text, both inclusive."""
    first, last = (
        pd.Timestamp(figures[key]).tz_convert(NEW_YORK).date() for key in ("start", "end")
    )
    return f"{first} to {last}"


def render_evaluation(figures: dict[str, Any], frames: dict[str, pd.DataFrame]) -> str:
    """Render the HTML page: verdict, gains, calibration, and tables.

    figures: content of `evaluation.json`.
    frames: score frames by forecaster name.
    """
    names = [figures["forecaster"], *select_comparable_baselines(figures)]
    return render_page(
        "forecasting/evaluation.html.j2",
        f=figures,
        span=format_date_range(figures),
        classes=ASSET_CLASS_LABELS,
        verdict=judge_scores(figures),
        legend=[(name, series_colour(number)) for number, name in enumerate(names)],
        panels=[panel for kind in AssetClass for panel in _class_charts(figures, frames, kind)],
        tables=[build_score_table(figures, group) for group in figures["groups"]],
    )


def _class_charts(
    figures: dict[str, Any], frames: dict[str, pd.DataFrame], kind: AssetClass
) -> list[tuple[str, Chart]]:
    """Return the charts of an asset class with their titles; empty if it has no scores.

    figures: content of `evaluation.json`.
    frames: score frames by forecaster name.
    """
    group = figures["groups"].get(kind)
    if group is None:
        return []
    steps = [step for step in group if step.isdigit()]
    transforms = {
        name: frame.loc[frame["kind"] == kind, "pit"].to_numpy()
        for name, frame in list(frames.items())[:MAX_PIT_CURVES]
    }
    charts = {
        "Gain by step": build_gains_chart(group, select_comparable_baselines(figures), steps),
        "Probability integral transform": build_pit_density_chart(
            "PIT of the evaluated forecaster",
            list(transforms.values()),
            list(transforms),
            "calibrated",
        ),
    }
    return [(f"{title}, {ASSET_CLASS_LABELS[kind]}", chart) for title, chart in charts.items()]


def build_gains_chart(
    group: dict[str, Any], baselines: Sequence[str], steps: Sequence[str]
) -> Chart:
    """Return the chart of gains over baselines by step; whiskers show 95 % intervals.

    group: scores of an asset class, from `evaluation.json`.
    """
    places = np.arange(float(len(steps)))
    series = [horizontal_line(0.0, places, "quiet")]
    texts = []
    for k, name in enumerate(baselines):
        gains = [group[step]["skill"][name] for step in steps]
        means = np.array([gain["mean"] for gain in gains])
        reach = np.array([gain["reach"] or 0.0 for gain in gains])
        beside = places + (k - (len(baselines) - 1) / 2) * WHISKER_OFFSET
        colour = series_colour(k + 1)
        series.append(Series("", colour, beside, means + reach, "whiskers", means - reach))
        series.append(Series(name, colour, beside, means, "dotted"))
        texts.append(f"{name} {', '.join(format(mean, '.1%') for mean in means)}")
    text = f"Gain by step, {'; '.join(texts)}"
    return Chart(text, tuple(series), "percent", x_labels=tuple(steps))


def series_colour(number: int) -> str:
    """Return the colour of a forecaster's series; number 0 is the evaluated forecaster."""
    return SERIES_COLOURS[number] if number < len(SERIES_COLOURS) else "quiet"
