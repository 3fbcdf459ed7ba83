"""Pages as readers see them, in a browser: a report, a comparison, an evaluation, on a phone and on
a desk, in the dark; and charts whose values are few, equal, missing, or far apart.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from markupsafe import Markup

from forecasting.evaluate import evaluate, evaluation_file_writers
from forecasting.settings import EvaluationSettings, ForecasterSettings
from foundation.arrays import Instants
from foundation.charts import Chart, Series, SeriesForm, trade_series
from foundation.compose import compose_config
from foundation.files import write_files_atomically
from foundation.page import (
    CHART_SCRIPTS,
    CHART_STYLES,
    build_content_policy_tag,
    build_script_tags,
    read_styles,
)
from marketsimulator.backtest import run_backtest
from marketsimulator.results.comparison import compare_records
from marketsimulator.results.report import result_file_writers
from marketsimulator.results.run_record import read_run_record
from marketsimulator.results.track_record import TrackRecord
from marketsimulator.settings import BacktestSettings
from tests.e2e.chromium import INKED, PLACE, Page, look_at_all_widths, look_at_charts
from tests.marketsimulator.run_folder_files import write_run
from trainingdata.sessions import sessions_between
from trainingdata.source import DataSettings

pytestmark = pytest.mark.usefixtures("chromium")

NONE = np.full(3, np.nan)
LEGENDS = "Array.from(document.querySelectorAll('.u-legend'), e => e.innerText)"


def hours(count: int) -> Instants:
    return np.datetime64("2024-03-04T14:30", "ns") + np.timedelta64(1, "h") * np.arange(count)


def curve(*values: float, form: SeriesForm = "line") -> Series:
    return Series("a", "first", hours(len(values)), np.array(values), form)


def over_time(*series: Series) -> Chart:
    return Chart("over time", series, "usd", "America/New_York", offers_log_scale=True)


CHARTS = {
    "one point": over_time(curve(1e5)),
    "nothing": over_time(curve(*NONE)),
    "a gap": over_time(curve(1.0, np.nan, 3.0), curve(1.0, 2.0, 3.0)),
    "flat": over_time(curve(1e5, 1e5, 1e5)),
    "ruin": over_time(curve(1e5, 5e4, -1e3, -1e3)),
    "wide": over_time(curve(*(1e5 * np.exp(np.linspace(0, 9, 300))))),
    "one size": Chart("sizes", (Series("a", "second", np.full(3, 10.0), np.ones(3), "dots"),)),
    "one bar": Chart(
        "hours",
        (Series("a", "third", np.zeros(1), -np.ones(1), "bars"),),
        "usd",
        x_labels=("10:30",),
    ),
    "whiskers": Chart(
        "steps",
        (
            Series("", "first", np.arange(3.0), NONE, "whiskers", NONE),
            Series("a", "first", np.arange(3.0), np.array([0.1, np.nan, 0.2]), "dotted"),
        ),
        "percent",
        x_labels=("1", "6", "24"),
    ),
}


def open_charts(browser: Page, folder: Path, *charts: Chart) -> None:
    """Open a page that contains only these charts."""
    figure = Markup('<figure class="chart" data-chart="{}"><figcaption></figcaption></figure>')
    figures = Markup("").join(figure.format(chart.json) for chart in charts)
    sheets = read_styles("foundation/colours.css", *CHART_STYLES)
    head = (
        build_content_policy_tag(*CHART_SCRIPTS) + Markup("<style>") + sheets + Markup("</style>")
    )
    file = folder / "charts.html"
    file.write_text(
        f"<!doctype html>{head}{figures}{build_script_tags(*CHART_SCRIPTS)}", encoding="utf-8"
    )
    browser.open(file.as_uri(), 1280)
    browser.settle()


def test_charts_of_few_equal_or_missing_values_render(browser: Page, tmp_path: Path) -> None:
    open_charts(browser, tmp_path, *CHARTS.values())
    for _ in ("linear", "logarithmic"):
        inked = browser.value(f"Array.from(document.querySelectorAll('canvas'), {INKED})")
        assert len(inked) == len(CHARTS)
        assert min(inked) > 200
        told = dict(zip(CHARTS, browser.value(LEGENDS), strict=True))
        assert "4 Mar 2024 09:30 EST" in told["one point"]
        assert "–" in told["nothing"]
        assert "-$1,000.00" in told["ruin"]
        assert "10:30" in told["one bar"]
        assert "20.00%" in told["whiskers"]
        assert browser.complaints == []
        browser.value("document.querySelectorAll('.chart button').forEach(e => e.click())")
        browser.settle()


LEGEND = """Object.fromEntries(Array.from(document.querySelectorAll('.u-legend .u-series'),
  e => [e.querySelector('.u-label').innerText, e.querySelector('.u-value').innerText]))"""


def legend_at(browser: Page, share: float | None) -> dict[str, str]:
    """Values of the legend with the pointer at a share of the plot's width; None: outside it."""
    left, top, width, height = browser.value(PLACE)
    x = 1.0 if share is None else left + share * width
    browser.mouse("Moved", x, top + (-2.0 if share is None else height / 2))
    browser.settle()
    values: dict[str, str] = browser.value(LEGEND)
    return values


def test_legend_shows_values_of_its_instant_alone(browser: Page, tmp_path: Path) -> None:
    """A trade has a value at its instant alone; a curve that has ended has no later value."""
    price = Series("price", "first", hours(5), np.arange(5.0) + 10)
    ended = Series("stop", "fourth", hours(3), np.arange(3.0) + 7)
    trades = trade_series(hours(5)[[1, 4]], np.array([11.5, 14.5]), np.array([1, -1]), ["", ""])
    chart = Chart("", (price, ended, *trades), "usd", "America/New_York")
    open_charts(browser, tmp_path, chart)
    last = {"at": "4 Mar 2024 13:30 EST", "price": "$14.00", "stop": "–"}
    assert browser.value(LEGEND) == {**last, "buys": "–", "sells": "$14.50"}
    assert legend_at(browser, 1.0) == {**last, "buys": "–", "sells": "$14.50"}
    middle = {"at": "4 Mar 2024 11:30 EST", "price": "$12.00", "stop": "$9.00"}
    assert legend_at(browser, 0.5) == {**middle, "buys": "–", "sells": "–"}
    assert legend_at(browser, 0.25)["buys"] == "$11.50"
    assert legend_at(browser, None) == {**last, "buys": "–", "sells": "$14.50"}


OVERFLOWING = """Array.from(document.querySelectorAll('.box')).filter(
  e => e.scrollWidth > e.clientWidth + 1).map(e => e.ariaLabel)"""


def assert_tables_fit_a_phone(browser: Page, page: Path) -> None:
    browser.open(page.as_uri(), 390)
    browser.value("document.querySelectorAll('details').forEach(e => e.open = true)")
    assert browser.value(OVERFLOWING) == []


SHOWN = "document.querySelectorAll('figure:not([hidden])').length"
PICTURE = "document.querySelector('canvas').toDataURL()"
WORDS = [
    *("start=2024-02-05", "end=2024-03-08", "data.start=2024-01-02", "data.end=2024-03-08"),
    *("symbols=[SYA,SYB,SYXUSD]", "forecaster=historical", "forecaster.calibrated=false"),
    *("data.information_coefficient=0.4", "prior.crypto_sharpe=0.5"),
]


@pytest.fixture(scope="module")
def report(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    results = run_backtest(BacktestSettings.from_config(compose_config("backtest", WORDS)))
    write_files_atomically(result_file_writers(results, results.summary()), folder)
    return folder / "report.html"


@pytest.mark.slow
def test_report_fits_every_width_and_follows_colour_scheme(browser: Page, report: Path) -> None:
    titles = ("No result", "Figures", "Where the money came from", "Orders and why")
    look_at_all_widths(browser, report, titles)
    assert_tables_fit_a_phone(browser, report)


def test_charts_render_and_equity_scale_toggles_by_click(browser: Page, report: Path) -> None:
    for width in (390, 1280):
        browser.open(report.as_uri(), width)
        look_at_charts(browser, browser.value(SHOWN))
    before = browser.value(PICTURE)
    browser.value("document.querySelector('.chart button').click()")
    assert browser.value("document.querySelector('.chart button').ariaPressed") == "true"
    logarithmic = browser.value(PICTURE)
    assert logarithmic != before
    browser.value("document.querySelector('.chart button').click()")
    assert browser.value(PICTURE) == before
    browser.scheme(dark=True)
    browser.settle()
    assert browser.value(PICTURE) != before
    browser.scheme(dark=False)
    browser.settle()
    assert browser.value(PICTURE) == before
    assert browser.complaints == []


KEY = "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {{key: '{}'}}))"
CHOSEN = "document.querySelector('.choice figure:not([hidden])')"


def test_chart_tooltips_work_with_pointer_and_keyboard(browser: Page, report: Path) -> None:
    for width in (390, 1280):
        browser.open(report.as_uri(), width)
        names = browser.value(
            "Array.from(document.querySelectorAll('.choice option'), e => e.text)"
        )
        assert sorted(names) == ["SYA", "SYB", "SYXUSD"]
        browser.value("document.querySelector('.choice select').focus()")
        browser.value("document.querySelector('.choice select').selectedIndex = 1")
        browser.value("document.querySelector('.choice select').dispatchEvent(new Event('change'))")
        browser.settle()
        assert browser.value(f"{CHOSEN}.dataset.name") == names[1]
        assert (
            browser.value("document.querySelectorAll('.choice figure:not([hidden])').length") == 1
        )
        assert names[1] in browser.value(f"{CHOSEN}.ariaLabel")
        browser.value(f"{CHOSEN}.focus()")
        note = f"{CHOSEN}.querySelector('[aria-live=polite]').textContent"
        notes = []
        for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
            browser.value(KEY.format(key))
            notes.append(browser.value(note))
        assert notes[0] == notes[2] != notes[1]
        assert re.match(r"\d+ \w+ 2024 \d\d:\d\d E[SD]T: enter (long|short): (buy|sell) ", notes[0])
        assert "weight " in notes[0]
        place = f"{CHOSEN}.querySelector('.u-cursor-x').getBoundingClientRect().x"
        browser.value(f"{CHOSEN}.scrollIntoView({{block: 'center'}})")
        x = browser.value(place)
        top = browser.value(f"{CHOSEN}.querySelector('.u-cursor-y').getBoundingClientRect().y")
        browser.mouse("Moved", x + 1, top + 1)
        browser.settle()
        assert "weight " in browser.value(note)
    assert browser.complaints == []


def test_charts_are_described_in_words_without_scripts(browser: Page, report: Path) -> None:
    browser.ask("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(report.as_uri(), 390)
    assert browser.value("document.querySelectorAll('canvas').length") == 0
    shown = browser.value("document.body.innerText")
    for words in ("Equity in USD; at the end: ", "Drawdown; at the end: ", "in 20 bins: "):
        assert words in shown


FIRST = (
    "Array.from(document.querySelectorAll('.sortable tbody tr')).map(r => r.cells[{}].innerText)"
)


def test_comparison_fits_any_width_and_sorts_by_click(browser: Page, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    folders = []
    for k in range(12):
        settings = {"sizing": {"fraction": 0.1 * (k % 4)}, "limits": {"symbol_cap": k // 4}}
        name = f"a-run-with-a-rather-long-name-{k}"
        returns = rng.normal(0.001, 0.01, 80)
        folders.append(write_run(tmp_path / name, returns=returns, settings=settings))
    write_files_atomically(
        compare_records([read_run_record(path) for path in folders]).file_writers(),
        tmp_path / "out",
    )
    assert_tables_fit_a_phone(browser, tmp_path / "out" / "comparison.html")
    look_at_all_widths(browser, tmp_path / "out" / "comparison.html", ("Runs", "Growth"))
    heads = browser.value("Array.from(document.querySelectorAll('thead button'), e => e.innerText)")
    look_at_charts(browser, 1)
    column = heads.index("Return")
    click = f"document.querySelectorAll('.sortable thead button')[{column}].click()"
    browser.value(click)
    falling = [float(text.strip("%")) for text in browser.value(FIRST.format(column))]
    assert falling == sorted(falling, reverse=True)
    browser.value(click)
    rising = [float(text.strip("%")) for text in browser.value(FIRST.format(column))]
    assert rising == sorted(rising)
    sides = "Array.from(document.querySelectorAll('[aria-sort]'), e => e.ariaSort)"
    assert browser.value(sides) == ["ascending"]
    browser.value("document.querySelector('.sortable thead button').click()")
    names = [text.partition("\n")[0] for text in browser.value(FIRST.format(0))]
    assert names[:2] == [f"a-run-with-a-rather-long-name-{k}" for k in (11, 10)]
    assert browser.complaints == []


def test_tearsheet_fits_any_width(browser: Page, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    index = pd.DatetimeIndex(sessions_between(*np.array(["2021-01-04", "2023-12-29"], "M8[D]")))
    market = pd.Series(rng.normal(4e-4, 0.011, len(index)), index, name="SPY")
    own = 0.6 * market + rng.normal(2e-4, 0.006, len(index))
    record = TrackRecord.from_returns(own, market, name="a fund with a long name", trials=30)
    write_files_atomically(record.file_writers(), tmp_path)
    page = tmp_path / "tearsheet.html"
    assert page.stat().st_size < 200_000
    titles = (
        "outperformance over SPY",
        "Figures",
        "Doubts",
        "Worst drawdowns",
        "Yearly returns",
        "Rolling figures",
    )
    look_at_all_widths(browser, page, titles)
    look_at_charts(browser, 6)
    assert_tables_fit_a_phone(browser, page)
    assert browser.complaints == []


def test_evaluation_page_fits_any_width(browser: Page, tmp_path: Path) -> None:
    settings = EvaluationSettings(
        symbols=("SYA", "SYXUSD"),
        start="2024-03-04",
        end="2024-03-22",
        steps=(1, 6, 24),
        baselines=("ewma",),
        data=DataSettings(start="2024-01-02", end="2024-03-29"),
        forecaster=ForecasterSettings(kind="mix", calibrated=False),
    )
    evaluation = evaluate(settings)
    write_files_atomically(
        evaluation_file_writers(evaluation, evaluation.build_figures()), tmp_path
    )
    titles = ("No result", "Legend", "Gain by step, coins")
    look_at_all_widths(browser, tmp_path / "evaluation.html", titles)
    legends = "document.querySelectorAll('.legend').length"
    assert browser.value(legends) == 1
    look_at_charts(browser, browser.value("document.querySelectorAll('figure').length"))
