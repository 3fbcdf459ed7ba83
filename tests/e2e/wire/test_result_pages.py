"""Pages of spreads, Monte Carlo and stress, and stops on a chart: phone and desk, in the dark."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from foundation.compose import compose_config
from foundation.settings import settings_from_config
from marketsimulator.backtest import run_backtest
from marketsimulator.results.report import render_report
from marketsimulator.results.stress.outcomes import run_stress
from marketsimulator.results.stress.report import render_stress_page
from marketsimulator.results.stress.scenarios import Scenario
from marketsimulator.settings import BacktestSettings
from option_spreads import backtest as spread_backtest
from option_spreads import monte_carlo
from option_spreads.simulation.settings import MonteCarloSettings, SpreadSettings
from tests.e2e.chromium import Page, look_at_all_widths, look_at_charts
from tests.marketsimulator.proofs import CERTAINTY, panel, planted, proved, sealed
from tests.marketsimulator.stressed import book_of, terms
from tests.support.pages import charts_of, text_of, without_scripts

pytestmark = pytest.mark.usefixtures("chromium")

MAX_BYTES = 500_000
SHOWN = "document.querySelectorAll('figure:not([hidden])').length"
CHOSEN = "document.querySelector('.choice figure:not([hidden])')"
NOTE = "document.querySelector('figure[tabindex] [aria-live=polite]').textContent"
KEY = "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'}))"


def look_at(browser: Page, path: Path, page: str, *titles: str) -> None:
    """The page is small, offline, drawn and described at every width, in light and dark."""
    path.write_text(page, encoding="utf-8")
    assert len(page.encode()) <= MAX_BYTES
    assert not re.search(r"\b(?:src|href)=|url\(", without_scripts(page))
    assert page.count("<figcaption>") == len(charts_of(page))
    look_at_all_widths(browser, path, titles)
    for width in (390, 1280):
        browser.open(path.as_uri(), width)
        look_at_charts(browser, browser.value(SHOWN))


@pytest.fixture(scope="module")
def spreads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of a year of spreads, sold at a premium so that the account lives."""
    words = ["years=1", "start=2022-01-03", "index.volatility_premium=0.4"]
    config = compose_config("spreads", words)
    result = spread_backtest.run(settings_from_config(SpreadSettings, config), lambda *_: None)
    folder = tmp_path_factory.mktemp("spreads")
    for name, write in result.file_writers.items():
        write(folder / name)
    return folder


def test_spread_page_fits_any_width_and_names_trades(
    browser: Page, spreads: Path, tmp_path: Path
) -> None:
    page = (spreads / "spreads.html").read_text()
    titles = ("Balance", "Drawdown", "Yearly returns", "Profit by strategy", "Index and trades")
    look_at(browser, tmp_path / "spreads.html", page, *titles)
    browser.value("document.querySelector('figure[tabindex]').focus()")
    browser.value(KEY)
    note = r"\d+ \w+ 2022 \d\d:\d\d E[SD]T: sell \d+ contracts? \w+ [\d/.]+ at \$"
    assert re.match(note, browser.value(NOTE))
    assert browser.complaints == []


def test_monte_carlo_page_shows_fan_and_distributions(
    browser: Page, spreads: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    settings = MonteCarloSettings(trades=str(spreads / "trades.csv"), runs=300, days=90)
    files = monte_carlo.run(settings, lambda *_: None).file_writers
    files["monte_carlo.html"](tmp_path / "made.html")
    page = (tmp_path / "made.html").read_text()
    look_at(browser, tmp_path / "page.html", page, "Balance by day", "Maximum drawdown")
    fans = [each for each in charts_of(page) if each["unit"] == "usd"]
    assert len(fans) == 3
    for fan in fans:
        outer, inner = (each for each in fan["series"] if each["form"] == "band")
        median = fan["series"][-1]
        ordered = [outer["base"], inner["base"], median["y"], inner["y"], outer["y"]]
        assert (np.diff(np.array(ordered), axis=0) >= 0).all()
        assert median["y"][0] == settings.STARTING_CAPITAL
        assert median["x"][-1] == 90
    finals = next(each for each in charts_of(page) if each["series"][0]["name"] == "one by one")
    shares = np.array(finals["series"][0]["y"][:-1])
    assert 0.98 <= shares.sum() <= 1.0
    browser.value("document.querySelector('.choice select').selectedIndex = 2")
    browser.value("document.querySelector('.choice select').dispatchEvent(new Event('change'))")
    assert browser.value(f"{CHOSEN}.dataset.name") == "with maximum losses"


def test_stress_page_fits_any_width_and_describes_scenarios(browser: Page, tmp_path: Path) -> None:
    held = {"AAA": (400.0, 100.0), "BBB": (-50.0, 80.0), "BTCUSD": (0.2, 60_000.0)}
    scenarios = [Scenario(**each) for each in compose_config("stress", []).scenarios]
    result = run_stress(book_of(held, 30_000.0), scenarios, terms())
    page = render_stress_page(result)
    look_at(browser, tmp_path / "stress.html", page, "Equity by scenario", "Scenarios")
    after, losses = charts_of(page)
    assert after["labels"] == [each.name for each in result.outcomes]
    assert after["series"][0]["y"] == [float(each.equity_after) for each in result.outcomes]
    assert result.worst_outcome is not None
    assert sum(losses["series"][0]["y"]) == pytest.approx(float(result.worst_outcome.loss))


def test_price_chart_shows_and_describes_stops(browser: Page, tmp_path: Path) -> None:
    words = ["start=2024-02-05", "end=2024-02-23", "forecaster=ewma", "symbols=[SYA,SYXUSD]"]
    words += ["sizing._target_=examples.rsi_reversal.RsiReversal", "trials=null", "sizing.band=0"]
    results = run_backtest(BacktestSettings.from_config(compose_config("backtest", words)))
    path = tmp_path / "report.html"
    path.write_text(render_report(results.summary(), results, "", ()), encoding="utf-8")
    assert "; stops from $" in text_of(path.read_text())
    browser.open(path.as_uri(), 390, dark=True)
    assert "stop" in browser.value(f"{CHOSEN}.querySelector('.u-legend').innerText")
    assert "; stops from $" in browser.value(f"{CHOSEN}.ariaLabel")
    browser.value(f"{CHOSEN}.focus()")
    browser.value(KEY)
    assert ", stop at $" in browser.value(f"{CHOSEN}.querySelector('.note').textContent")
    assert browser.complaints == []


def test_proof_page_fits_any_width_and_shows_evidence(browser: Page, tmp_path: Path) -> None:
    bars = panel()
    folder, witness = tmp_path / "a folder with a rather long name", tmp_path / "witness"
    sealed(planted(bars, CERTAINTY), folder, witness)
    planted(bars, -1.0).to_csv(folder / "late.csv", index=False)
    proved(str(folder), f"witness={witness}").file_writers["proof.html"](tmp_path / "made.html")
    page = (tmp_path / "made.html").read_text()
    titles = ("this forecast has earned", "Evidence, in hindsight", "Earned of full Kelly")
    look_at(browser, tmp_path / "proof.html", page, *titles)
    evidence = charts_of(page)[0]
    needed, growth = evidence["series"]
    assert needed["y"] == pytest.approx([np.log10(40)] * 2)
    assert growth["y"][-1] > needed["y"][0]
