"""The report of a backtest as a reader sees it: in a browser, on a phone and on a desk."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundation.compose import composed_config
from foundation.files import write_whole
from marketsimulator.backtest import run_backtest
from marketsimulator.results.report import result_files
from marketsimulator.settings import BacktestSettings
from tests.e2e.chromium import browsing, installed, look_at_all_widths, look_at_charts

PICTURE = "document.querySelector('canvas').toDataURL()"
WORDS = [
    *("start=2024-02-05", "end=2024-03-08", "data.start=2024-01-02", "data.end=2024-03-08"),
    *("symbols=[SYA,SYB,SYXUSD]", "forecaster=historical", "forecaster.calibrated=false"),
    *("data.edge=0.4", "prior.crypto_sharpe=0.5"),
]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    results = run_backtest(BacktestSettings.of(composed_config("backtest", WORDS)))
    write_whole(result_files(results, results.summary()), folder)
    return folder / "report.html"


@pytest.mark.slow
def test_in_a_browser_nothing_is_cut_off_at_any_width_and_the_page_follows_the_scheme(
    page_file: Path,
) -> None:
    program = installed()
    if program is None:
        pytest.skip("no Chromium is installed")
    titles = ("No result", "Figures", "Where the money came from", "Orders and why")
    with browsing(program) as page:
        look_at_all_widths(page, page_file, titles)


def test_the_charts_are_drawn_and_the_equity_changes_its_scale_by_a_click(page_file: Path) -> None:
    program = installed()
    if program is None:
        pytest.skip("no Chromium is installed")
    with browsing(program) as page:
        for width in (390, 1280):
            page.open(page_file.as_uri(), width)
            look_at_charts(page, page.value("document.querySelectorAll('figure').length"))
        before = page.value(PICTURE)
        page.value("document.querySelector('.chart button').click()")
        assert page.value("document.querySelector('.chart button').ariaPressed") == "true"
        logarithmic = page.value(PICTURE)
        assert logarithmic != before
        page.value("document.querySelector('.chart button').click()")
        assert page.value(PICTURE) == before
        page.scheme(dark=True)
        page.settle()
        assert page.value(PICTURE) != before
        page.scheme(dark=False)
        page.settle()
        assert page.value(PICTURE) == before
        assert page.complaints == []


def test_without_a_script_every_chart_says_in_words_what_it_shows(page_file: Path) -> None:
    program = installed()
    if program is None:
        pytest.skip("no Chromium is installed")
    with browsing(program) as page:
        page.ask("Emulation.setScriptExecutionDisabled", value=True)
        page.open(page_file.as_uri(), 390)
        assert page.value("document.querySelectorAll('canvas').length") == 0
        shown = page.value("document.body.innerText")
        for words in ("Equity in USD; at the end: ", "Drawdown; at the end: ", "in 20 bins: "):
            assert words in shown
