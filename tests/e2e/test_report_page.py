"""The report of a backtest as a reader sees it: in a browser, on a phone and on a desk."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundation.compose import composed_config
from foundation.files import write_whole
from marketsimulator.backtest import run_backtest
from marketsimulator.results.summary import result_files
from marketsimulator.settings import BacktestSettings
from tests.e2e.chromium import browsing, installed, look_at_all_widths

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
