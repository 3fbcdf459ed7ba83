"""Pages of comparisons and evaluations as readers see them: on a phone, on a desk, in the dark."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from event_contracts.compare import ComparisonSettings, compare
from event_contracts.simulation.comparison_page import report_of
from event_contracts.simulation.settings import EpisodeSettings
from event_contracts.simulation.synthetic import SyntheticMarket
from forecasting.evaluate import EvaluationSettings, evaluate, evaluation_files
from forecasting.settings import ForecasterSettings
from foundation.files import write_whole
from marketsimulator.results.comparison import compared
from marketsimulator.results.run_record import read_run
from tests.e2e.chromium import browsing, installed, look_at_all_widths, look_at_charts
from tests.marketsimulator.run_folder_files import write_run
from trainingdata.source import DataSettings

# Tables of a page that go on beyond the box that they stand in, or beyond the page.
BEYOND = """Array.from(document.querySelectorAll('table')).filter(e =>
  e.scrollWidth > e.parentElement.clientWidth + 1).map(e => e.parentElement.className)"""
FIRST = (
    "Array.from(document.querySelectorAll('.sortable tbody tr')).map(r => r.cells[{}].innerText)"
)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page_of_runs(
        tmp_path_factory.mktemp("runs"),
        lambda k: {"sizing": {"fraction": 0.1 * (k % 4)}, "limits": {"symbol_cap": k // 4}},
    )


def page_of_runs(folder: Path, settings_of: Callable[[int], dict[str, Any]]) -> Path:
    """The page of twelve runs, each with its own settings."""
    rng = np.random.default_rng(2)
    folders = []
    for k in range(12):
        settings = settings_of(k)
        name = f"a-run-with-a-rather-long-name-{k}"
        returns = rng.normal(0.001, 0.01, 80)
        folders.append(write_run(folder / name, returns=returns, settings=settings))
    comparison = compared([read_run(path) for path in folders])
    write_whole(comparison.files(), folder / "out")
    return folder / "out" / "comparison.html"


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation")
    settings = EvaluationSettings(
        symbols=("SYA", "SYXUSD"),
        start="2024-03-04",
        end="2024-03-22",
        steps=(1, 6, 24),
        against=("ewma",),
        raw=False,
        data=DataSettings(start="2024-01-02", end="2024-03-29"),
        forecaster=ForecasterSettings(kind="mix", calibrated=False),
    )
    evaluation = evaluate(settings)
    write_whole(evaluation_files(evaluation, evaluation.figures()), folder)
    return folder / "evaluation.html"


def test_in_a_browser_a_comparison_reads_at_any_width_and_sorts_by_a_click(
    comparison: Path,
) -> None:
    program = installed()
    if program is None:
        pytest.skip("no Chromium is installed")
    with browsing(program) as page:
        look_at_all_widths(page, comparison, ("Runs", "Sharpe ratio by", "Growth", "Drawdown"))
        heads = page.value(
            "Array.from(document.querySelectorAll('thead button'), e => e.innerText)"
        )
        look_at_charts(page, 2)
        column = heads.index("return")
        click = f"document.querySelectorAll('.sortable thead button')[{column}].click()"
        page.value(click)
        falling = [float(text.strip("%")) for text in page.value(FIRST.format(column))]
        assert falling == sorted(falling, reverse=True)
        page.value(click)
        rising = [float(text.strip("%")) for text in page.value(FIRST.format(column))]
        assert rising == sorted(rising)
        sides = "Array.from(document.querySelectorAll('[aria-sort]'), e => e.ariaSort)"
        assert page.value(sides) == ["ascending"]
        page.value("document.querySelector('.sortable thead button').click()")
        names = page.value(FIRST.format(0))
        assert names[:2] == [f"a-run-with-a-rather-long-name-{k}" for k in (11, 10)]
        assert page.complaints == []


def test_in_a_browser_no_table_of_a_comparison_is_cut_off_on_a_desk(tmp_path: Path) -> None:
    program = installed()
    if program is None:
        pytest.skip("no Chromium is installed")
    runs = page_of_runs(
        tmp_path / "runs",
        lambda k: {
            "sizing": {"fraction": 0.1 * (k % 4), "strategy": f"equal_weight_{k}", "band": k / 8},
            "limits": {"symbol_cap": k // 4, "overnight_leverage": k % 3},
            "forecaster": {"context_length": 100 + k},
        },
    )
    events = tmp_path / "events.html"
    market = SyntheticMarket(steps=20, edge=0.2, memory=0.99)
    sizes = ComparisonSettings(episode=EpisodeSettings(market=market), sessions=25, runs=2)
    events.write_text(report_of(compare(sizes)).page(), encoding="utf-8")
    with browsing(program) as page:
        for file in (runs, events):
            page.open(file.as_uri(), 1280)
            assert page.value("document.querySelectorAll('table').length") > 0
            assert page.value(BEYOND) == []
        page.open(events.as_uri(), 390)
        look_at_charts(page, page.value("document.querySelectorAll('figure').length"))


def test_in_a_browser_an_evaluation_reads_at_any_width(evaluation: Path) -> None:
    program = installed()
    if program is None:
        pytest.skip("no Chromium is installed")
    titles = ("No result", "Forecasts and what happened", "Legend", "Gain by step, coins")
    with browsing(program) as page:
        look_at_all_widths(page, evaluation, titles)
        legends = "document.querySelectorAll('.legend').length"
        assert page.value(legends) == 1
        look_at_charts(page, page.value("document.querySelectorAll('figure').length"))
