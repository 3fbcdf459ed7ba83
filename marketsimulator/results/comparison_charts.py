"""The pictures of a comparison: curves over each other, and a map of two settings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from foundation.arrays import Array, Instants
from foundation.charts import COLOURS, Chart, Series
from foundation.figures import number, percent
from foundation.tables import Cell, Row, Table
from marketsimulator.results.run_set import RunSet
from trainingdata.instants import NEW_YORK

GREY = 60  # curves without a colour at most
GREY_POINTS = 120  # of each of them at most
MOST_VALUES = 24  # of a setting on a side of the map


def coloured(runs: RunSet, pinned: str = "") -> dict[int, str]:
    """Colour by number of run: the best six, or the best five and the pinned one."""
    ranking = runs.ranking()
    chosen = ranking[: len(COLOURS)]
    if pinned in runs.names and runs.names.index(pinned) not in chosen:
        chosen = [*chosen[: len(COLOURS) - 1], runs.names.index(pinned)]
    return dict(zip(chosen, COLOURS, strict=False))


def growth_chart(runs: RunSet, colours: Mapping[int, str]) -> Chart:
    """Growth of every run from the begin on, the others in grey."""
    at, growth = runs.growth()
    return _curves("Growth since the begin", runs, at, growth, colours)


def falls_chart(runs: RunSet, colours: Mapping[int, str]) -> Chart:
    return _curves("Drawdown", runs, runs.at, runs.falls(), colours)


def grey_text(runs: RunSet, colours: Mapping[int, str]) -> str:
    """How many curves have no colour, and how many of them are drawn; empty where none is."""
    count = len(runs.names) - len(colours)
    shown = f"{GREY} of {count:,}" if count > GREY else f"{count:,}"
    return f"{shown} other{'s' if count > 1 else ''} in grey." if count else ""


def _curves(
    text: str, runs: RunSet, at: Instants, values: Array, colours: Mapping[int, str]
) -> Chart:
    others = [k for k in runs.ranking() if k not in colours]
    spread = np.linspace(0, len(others) - 1, min(GREY, len(others)), dtype=int)
    grey = [Series("", "quiet", at, values[others[j]], "faint") for j in spread]
    named = [Series(runs.names[k], colour, at, values[k]) for k, colour in colours.items()]
    ends = ", ".join(f"{runs.names[k]} {percent(values[k, -1])}" for k in colours)
    return Chart(
        f"{text}; at the end: {ends}. {grey_text(runs, colours)}".rstrip(". "),
        (
            *(series.thinned(GREY_POINTS) for series in grey),
            *(series.thinned() for series in reversed(named)),
        ),
        "percent",
        NEW_YORK.key,
    )


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Sharpe ratios by two settings; returns where no run is long enough for ratios.

    figure: which of them the cells show.
    down, across: names of the settings.
    table: a row a value of the one down, a column a value of the one across.
    runs: most that share a cell, which shows their median.
    """

    figure: str
    down: str
    across: str
    table: Table
    runs: int


def heat_map(runs: RunSet) -> HeatMap | None:
    """The two settings with the most values, where their combinations have run; else None.

    With more than two varied, every combination of the two has to have.
    """
    kinds = {name: _in_order(values) for name, values in runs.varied.items()}
    names = sorted((n for n in kinds if len(kinds[n]) > 1), key=lambda n: -len(kinds[n]))[:2]
    if len(names) < 2 or any(len(kinds[name]) > MOST_VALUES for name in names):
        return None
    across, down = names
    values = np.where(runs.annual, runs.sharpes, np.nan)
    if not runs.annual.any():
        values = runs.totals
    figures: dict[tuple[str, str], list[float]] = {}
    for y, x, figure in zip(runs.varied[down], runs.varied[across], values.tolist(), strict=True):
        figures.setdefault((value_text(y), value_text(x)), []).append(figure)
    cells = list(product(map(value_text, kinds[down]), map(value_text, kinds[across])))
    filled = sum(cell in figures for cell in cells)
    if filled <= max(len(kinds[down]), len(kinds[across])) or (
        len(runs.varied) > 2 and filled < len(cells)
    ):
        return None
    medians = {cell: _median(figures.get(cell, [])) for cell in cells}
    scale = max((abs(m) for m in medians.values() if math.isfinite(m)), default=0.0)
    name, words = "Sharpe ratio", number
    if not runs.annual.any():
        name, words = "Return", partial(percent, sign=True)
    rows: list[Row] = [
        (
            y,
            *(
                Cell(words(medians[y, x]), shade=_shade(medians[y, x], scale))
                for x in map(value_text, kinds[across])
            ),
        )
        for y in map(value_text, kinds[down])
    ]
    heads = (f"{down} ↓ {across} →", *map(value_text, kinds[across]))
    table = Table(f"{name} by two settings", heads, rows)
    return HeatMap(name, down, across, table, max(map(len, figures.values())))


def value_text(value: Any) -> str:
    """A setting's value as people write it on a command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(value_text, value))}]"
    return str(value)


def setting_text(setting: str, value: Any) -> str:
    """A setting by its last word, with its value, as names of runs have it."""
    return f"{setting.rpartition('.')[2]}={value_text(value)}"


def _in_order(values: Sequence[Any]) -> list[Any]:
    """Different values: numbers by size, then words as they came."""
    unique = list({value_text(value): value for value in values}.values())
    numbers = [v for v in unique if isinstance(v, (int, float)) and not isinstance(v, bool)]
    return sorted(numbers) + [value for value in unique if value not in numbers]


def _median(figures: Sequence[float]) -> float:
    finite = [figure for figure in figures if math.isfinite(figure)]
    return float(np.median(finite)) if finite else math.nan


def _shade(figure: float, scale: float) -> float:
    return figure / scale if scale and math.isfinite(figure) else 0.0
