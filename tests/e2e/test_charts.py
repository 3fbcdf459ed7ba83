"""Charts in a browser whose values are few, equal, missing, or far apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from markupsafe import Markup

from foundation.arrays import Instants
from foundation.charts import Chart, Form, Series
from foundation.page import CHART_SCRIPTS, CHART_STYLES, content_policy, script, style
from tests.e2e.chromium import INKED, browsing, installed

NONE = np.full(3, np.nan)
LEGENDS = "Array.from(document.querySelectorAll('.u-legend'), e => e.innerText)"


def hours(count: int) -> Instants:
    return np.datetime64("2024-03-04T14:30", "ns") + np.timedelta64(1, "h") * np.arange(count)


def curve(*values: float, form: Form = "line") -> Series:
    return Series("a", "first", hours(len(values)), np.array(values), form)


def over_time(*series: Series) -> Chart:
    return Chart("over time", series, "usd", "America/New_York", logarithmic=True)


CHARTS = {
    "one point": over_time(curve(1e5)),
    "nothing": over_time(curve(*NONE)),
    "a gap": over_time(curve(1.0, np.nan, 3.0), curve(1.0, 2.0, 3.0)),
    "flat": over_time(curve(1e5, 1e5, 1e5)),
    "ruin": over_time(curve(1e5, 5e4, -1e3, -1e3)),
    "wide": over_time(curve(*(1e5 * np.exp(np.linspace(0, 9, 300))))),
    "one size": Chart("sizes", (Series("a", "second", np.full(3, 10.0), np.ones(3), "dots"),)),
    "one bar": Chart(
        "hours", (Series("a", "third", np.zeros(1), -np.ones(1), "bars"),), "usd", labels=("10:30",)
    ),
    "whiskers": Chart(
        "steps",
        (
            Series("", "first", np.arange(3.0), NONE, "whiskers", NONE),
            Series("a", "first", np.arange(3.0), np.array([0.1, np.nan, 0.2]), "dotted"),
        ),
        "percent",
        labels=("1", "6", "24"),
    ),
}


@pytest.fixture
def page_file(tmp_path: Path) -> Path:
    figure = Markup('<figure class="chart" data-chart="{}"></figure>')
    figures = Markup("").join(figure.format(chart.json) for chart in CHARTS.values())
    sheets = style("foundation/colours.css", *CHART_STYLES)
    head = content_policy(*CHART_SCRIPTS) + Markup("<style>") + sheets + Markup("</style>")
    file = tmp_path / "charts.html"
    file.write_text(f"<!doctype html>{head}{figures}{script(*CHART_SCRIPTS)}", encoding="utf-8")
    return file


def test_charts_of_few_equal_or_missing_values_are_drawn(page_file: Path) -> None:
    program = installed()
    if program is None:
        pytest.skip("no Chromium is installed")
    with browsing(program) as page:
        page.open(page_file.as_uri(), 1280)
        page.settle()
        for _ in ("linear", "logarithmic"):
            inked = page.value(f"Array.from(document.querySelectorAll('canvas'), {INKED})")
            assert len(inked) == len(CHARTS)
            assert min(inked) > 200
            told = dict(zip(CHARTS, page.value(LEGENDS), strict=True))
            assert "4 Mar 2024 09:30 EST" in told["one point"]
            assert "–" in told["nothing"]
            assert "-$1,000.00" in told["ruin"]
            assert "10:30" in told["one bar"]
            assert "20.00%" in told["whiskers"]
            assert page.complaints == []
            page.value("document.querySelectorAll('.chart button').forEach(e => e.click())")
            page.settle()
