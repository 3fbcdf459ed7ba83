"""The report of a backtest as a reader sees it: in a browser, on a phone and on a desk."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundation.compose import composed_config
from marketsimulator.backtest import run_backtest
from marketsimulator.results.summary import write_results
from marketsimulator.settings import BacktestSettings
from tests.e2e.chromium import browsing, installed

WORDS = [
    *("start=2024-02-05", "end=2024-03-08", "data.start=2024-01-02", "data.end=2024-03-08"),
    *("symbols=[SYA,SYB,SYXUSD]", "forecaster=historical", "forecaster.calibrated=false"),
    *("data.edge=0.4", "prior.crypto_sharpe=0.5"),
]
ROOT = "document.documentElement"
# What sticks out of the page, though it lies in no box that scrolls by itself.
CUT = """Array.from(document.querySelectorAll('body *')).filter(e => !e.closest('.box, pre')
  && e.getClientRects().length && e.getBoundingClientRect().right
  > document.documentElement.clientWidth + 1).map(e => e.outerHTML.slice(0, 80))"""
SMALL = """Array.from(document.querySelectorAll('figure svg')).filter(e =>
  e.getClientRects().length && e.getBoundingClientRect().width < 150).length"""


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    results = run_backtest(BacktestSettings.of(composed_config("backtest", WORDS)))
    write_results(results, results.summary(), folder)
    return folder / "report.html"


def test_in_a_browser_nothing_is_cut_off_at_any_width_and_the_page_follows_the_scheme(
    page_file: Path,
) -> None:
    program = installed()
    if program is None:
        pytest.skip("no Chromium is installed")
    with browsing(program) as page:
        for width in (390, 768, 1280):
            for dark in (False, True):
                page.open(page_file.as_uri(), width, dark=dark)
                ground = page.value("getComputedStyle(document.body).backgroundColor")
                assert ground == ("rgb(14, 19, 27)" if dark else "rgb(255, 255, 255)")
                # Everything that can be opened is.
                page.value("document.querySelectorAll('details').forEach(e => e.open = true)")
                assert page.value(f"{ROOT}.scrollWidth <= {ROOT}.clientWidth")
                assert page.value(CUT) == []
                assert page.value(SMALL) == 0
                shown = page.value("document.body.innerText")
                for title in ("No result", "Figures", "Round trips", "Orders and why"):
                    assert title in shown
        assert page.complaints == []


def test_the_equity_changes_its_scale_without_a_script(page_file: Path) -> None:
    program = installed()
    if program is None:
        pytest.skip("no Chromium is installed")
    visible = "Array.from(document.querySelectorAll('.panel')).map(e => e.offsetHeight > 100)"
    with browsing(program) as page:
        page.open(page_file.as_uri(), 768)
        assert page.value(visible) == [True, False]
        page.value("document.querySelector('label[for=log]').click()")
        assert page.value(visible) == [False, True]
        assert page.value("document.scripts.length") == 0
        assert page.complaints == []
