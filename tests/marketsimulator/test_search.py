"""Walk-forward search: settings chosen on one span of days, tested on the next."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from foundation.settings import with_changes
from marketsimulator.backtest import run_backtest
from marketsimulator.results.metrics import measure_daily_performance
from marketsimulator.results.search.report import SearchReport
from marketsimulator.results.search.walk import (
    SearchResult,
    SpanChoice,
    compute_objective,
    cumulative_growth,
)
from marketsimulator.settings import BacktestSettings
from tests.e2e.refused import answer_of, refusal_of
from tests.support.messages import check_message
from tests.support.own_module import own_module
from tests.support.searches import MARKET, SMALL, SPACE, search_content, search_of, searched
from trainingdata.bars import CLOSE, OPEN
from trainingdata.market import Market
from trainingdata.sessions import sessions_between

MODULE = "marketsimulator.search"
NO_SPACE = (*MARKET, "output=out")


@pytest.fixture(scope="module")
def found() -> SearchResult:
    return searched()


@pytest.mark.slow
def test_same_seed_gives_same_result_with_two_workers(found: SearchResult) -> None:
    assert search_content(searched(*SMALL, "workers=2")) == search_content(found)
    other = searched(*SMALL, "seed=1", "data.seed=0")
    assert [each.params for each in other.choices] != [each.params for each in found.choices]


def test_later_bars_change_no_earlier_search_choice(
    found: SearchResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changed prices after the first test span leave earlier choices and returns as they were."""
    end = found.choices[1].fold.training_span.market.bars.last_instant
    whole: Callable[[BacktestSettings], Market] = BacktestSettings.load_market

    def altered(settings: BacktestSettings) -> Market:
        market = whole(settings)
        values = market.bars.values.copy()
        later = market.bars.times > end
        noise = np.random.default_rng(3).normal(0, 0.02, (len(values), later.sum(), 1))
        values[:, later, OPEN : CLOSE + 1] *= np.exp(noise.cumsum(axis=1))
        return market.with_bars(replace(market.bars, values=values))

    monkeypatch.setattr(BacktestSettings, "load_market", altered)
    changed = searched()
    assert search_content(changed)[:1] == search_content(found)[:1]
    assert search_content(changed)[1][:2] == search_content(found)[1][:2]
    assert search_content(changed)[1][2:] != search_content(found)[1][2:]


def backtest_objective(choice: SpanChoice, words: Sequence[str], objective: Any) -> float:
    """Return the objective of the backtest of a choice over its training span."""
    first, last = choice.fold.training_span.date_range
    changes = {**choice.params, "start": first, "end": last}
    settings = with_changes(search_of(*words).backtest_settings, changes)
    _, equity = run_backtest(settings).main_run.equity_curve()
    returns = choice.fold.training_span.daily_returns(equity, settings.capital)
    return compute_objective(returns, objective, 252)


def test_search_objective_equals_that_of_a_backtest(found: SearchResult) -> None:
    for choice in found.choices[1:]:
        assert choice.objective_value == backtest_objective(choice, SMALL, "sharpe")


def test_default_and_chosen_settings_trade_identical_test_days(found: SearchResult) -> None:
    settings = search_of(*SMALL).backtest_settings
    choice = found.choices[0]
    assert choice.fold.test_span is not None
    span = choice.fold.test_span
    begin = choice.fold.training_span.market.bars.last_instant
    assert span.market.bars.times[span.market.start_row] == begin
    for params, returns in (
        ({}, choice.default_test_returns),
        (choice.params, choice.test_returns),
    ):
        dates = {"start": str(begin) + "Z", "end": span.date_range[1]}
        run = run_backtest(with_changes(settings, {**params, **dates}))
        assert returns is not None
        total = cumulative_growth(returns)[-1] - 1
        assert run.run_figures(run.main_run)["total_return"] == pytest.approx(total, rel=1e-9)


def test_ledger_records_every_trial_with_its_span(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite"
    found = searched(*SMALL[:7], f"ledger={ledger}", *SMALL[8:])
    with closing(sqlite3.connect(ledger)) as file:
        rows = file.execute("SELECT last, count(*) FROM trials GROUP BY last ORDER BY 1").fetchall()
        configs = file.execute("SELECT count(DISTINCT config_hash) FROM trials").fetchone()[0]
    ends = [
        str(choice.fold.training_span.market.bars.last_instant)[:10] for choice in found.choices
    ]
    assert [last[:10] for last, _ in rows] == ends
    assert [count for _, count in rows] == [14, 14, 14 + 1]
    assert found.trial_count == configs == 3 * 14 + 1
    again = searched(*SMALL[:7], f"ledger={ledger}", *SMALL[8:])
    assert again.trial_count == found.trial_count, "a repeated trial is the same one"


def test_search_on_noise_reports_nothing_found() -> None:
    words = (*SMALL, "data.information_coefficient=0")
    report = SearchReport(searched(*words), has_ledger=False)
    assert report.failed_criteria
    assert report.verdict.claim.startswith("No result: the market is synthetic; nothing found: ")
    assert report.verdict.evidence.startswith("Nothing found because ")


FOLLOW = """
import numpy as np

def follow(inputs, weight=0.0):
    closes = inputs.history.closes
    return weight * np.sign(closes[:, -1] - closes[:, -2]) * inputs.universe
"""


@pytest.mark.slow
def test_search_finds_an_edge_planted_in_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Daily returns have an autocorrelation of 0.4; the default settings hold nothing."""
    name = own_module(FOLLOW, tmp_path, monkeypatch)
    bars = tmp_path / "bars"
    bars.mkdir()
    days = sessions_between(np.datetime64("2022-01-03"), np.datetime64("2023-12-29"))
    for k, symbol in enumerate(("AAA", "BBB", "CCC")):
        random = np.random.default_rng(k)
        moves = np.zeros(len(days) + 1)
        for t in range(1, len(moves)):
            moves[t] = 0.4 * moves[t - 1] + random.normal(0, 0.01)
        closes = 100 * np.exp(moves.cumsum())
        rows = [
            f"{day},{a:.4f},{max(a, b):.4f},{min(a, b):.4f},{b:.4f},1000000"
            for day, a, b in zip(days, closes[:-1], closes[1:], strict=True)
        ]
        text = "\n".join(["timestamp,open,high,low,close,volume", *rows, ""])
        (bars / f"{symbol}.csv").write_text(text)
    found = searched(
        *(f"data.dir={bars}", "start=2022-02-01", "forecaster=ewma", "forecaster.calibrated=false"),
        *(f"sizing._target_={name}.follow", "sizing.lookback=3", "ledger=null", "trials=12"),
        *("space={sizing.arguments.weight: [-0.5, 0.5]}", "spans=3"),
    )
    report = SearchReport(found, has_ledger=False)
    assert report.failed_criteria == []
    assert report.verdict.level == "good"
    assert report.verdict.claim.startswith("Found: on 2 test spans ")
    assert all(choice.params["sizing.arguments.weight"] > 0 for choice in found.choices)


@pytest.mark.slow
def test_log_growth_chooses_more_risk_than_sharpe(found: SearchResult) -> None:
    grown = searched(*SMALL, "objective=log_growth")
    last = grown.choices[-1]
    assert last.params["limits.symbol_cap"] > found.choices[-1].params["limits.symbol_cap"]
    assert last.objective_value == backtest_objective(last, SMALL, "log_growth")


@pytest.mark.slow
def test_window_setting_limits_the_training_span() -> None:
    found = searched(*SMALL, "window=1")
    for earlier, choice in zip(found.choices[:-1], found.choices[1:], strict=True):
        assert earlier.fold.test_span is not None
        assert choice.fold.training_span.date_range == earlier.fold.test_span.date_range


@pytest.mark.slow
def test_search_over_holding_settings_matches_the_backtest() -> None:
    space = "space={sizing.holding: [next, session, plan], sizing.fraction: [0.1, 1, log]}"
    found = searched(*MARKET, space, "spans=2", "trials=12")
    holdings = {choice.params["sizing.holding"] for choice in found.choices}
    assert holdings <= {"next", "session", "plan"}
    choice = found.choices[-1]
    assert choice.objective_value == backtest_objective(choice, (*MARKET, space), "sharpe")


@pytest.mark.slow
def test_search_page_begins_with_the_verdict(tmp_path: Path) -> None:
    code, printed, said = answer_of(MODULE, *SMALL, "output=out", cwd=tmp_path)
    assert code == 0, said
    assert printed.startswith("No result: the market is synthetic; nothing found: on 2 test spans")
    page = (tmp_path / "out" / "search.html").read_text()
    summary = json.loads((tmp_path / "out" / "search.json").read_text())
    claim = summary["verdict"].partition(". ")[0]
    assert claim in page
    assert page.index(claim) < page.index("the last training span after 43 trials")
    assert len(summary["spans"]) == 3
    for name in ("chosen settings", "default settings"):
        assert name in page
        assert summary["out_of_sample"][name]["days"] == 82


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("words", "facts"),
    [
        ([], ("space",)),
        (["space={}"], ("space",)),
        (["space={sizing.fracton: [0.1, 1.0]}"], ("space", "sizing.fracton", "sizing.fraction")),
        (["space={sizing.fraction: 0.5}"], ("space.sizing.fraction", "0.5", "[low, high]")),
        (["space={sizing.fraction: [0.5]}"], ("space.sizing.fraction", "[0.5]")),
        (["space={sizing.fraction: [1.0, 0.1]}"], ("space.sizing.fraction", "1.0", "0.1")),
        (["space={sizing.fraction: [0, 1.0, log]}"], ("space.sizing.fraction", "0")),
        (["space={limits.symbol_cap: [0.2, 9]}"], ("space", "limits.symbol_cap", "9.0", "4")),
        (["space={sizing.strategy: [kelly_25, kely]}"], ("space", "sizing.strategy", "'kely'")),
        (["space={sizing.strategy: [kelly_25, kelly_25]}"], ("kelly_25", "twice")),
        (["space={sizing.fraction: {values: [1, 2]}}"], ("{'values': [1, 2]}", "[low, high]")),
        (["space={start: [2024-01-02, 2024-02-01]}"], ("space.start",)),
        (["space={limits: [1, 2], limits.symbol_cap: [0.2, 0.4]}"], ("space.limits",)),
        ([SPACE, "trials=1"], ("trials", "1", "2")),
        ([SPACE, "trials=null"], ("trials", "None")),
        ([SPACE, "objective=return"], ("objective", "'return'", "sharpe", "log_growth")),
        ([SPACE, "spans=1"], ("spans", "1", "2")),
        ([SPACE, "spans=9"], ("spans", "9", "123 days", "13", "20")),
        ([SPACE, "spans=3", "window=3"], ("window", "3", "spans")),
        ([SPACE, "workers=0"], ("workers", "0", "1")),
        ([SPACE, "launcher=slurm"], ("launcher", "'slurm'", "local", "ray")),
        ([SPACE, "spans=2", "ledger=."], ("ledger", ".")),
        (["space=[1,2]"], ("space", "[1, 2]", "{NAME: value}")),
    ],
)
def test_invalid_search_is_refused_in_one_line(
    words: list[str], facts: tuple[str, ...], tmp_path: Path
) -> None:
    given = {word.partition("=")[0] for word in words}
    usual = [word for word in NO_SPACE if word.partition("=")[0] not in given]
    line = refusal_of(MODULE, *usual, *words, cwd=tmp_path)
    assert line.startswith("error: ")
    check_message(line, *facts)


def test_search_space_accepts_ranges_logarithms_and_choices() -> None:
    forms = {
        "sizing.signal_bars": ("[1, 5]", IntDistribution(1, 5)),
        "limits.symbol_cap": ("[0.2, 1]", FloatDistribution(0.2, 1.0)),
        "limits.intraday_leverage": ("[1, 4]", FloatDistribution(1.0, 4.0)),
        "sizing.fraction": ("[0.01, 1.0, log]", FloatDistribution(0.01, 1.0, log=True)),
        "sizing.lookback": ("[1, 500, log]", IntDistribution(1, 500, log=True)),
        "prior.horizon_days": ("{choices: [5, 28]}", CategoricalDistribution((5, 28))),
        "prior.crypto_sharpe": ("[null, 0, 0.3]", CategoricalDistribution((None, 0, 0.3))),
        "sizing.enhanced": ("[true, false]", CategoricalDistribution((True, False))),
    }
    words = ", ".join(f"{key}: {text}" for key, (text, _) in forms.items())
    space = search_of(*MARKET, f"space={{{words}}}").plan.space
    assert space.distributions == {key: each for key, (_, each) in forms.items()}


def test_search_output_folder_with_foreign_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    line = refusal_of(MODULE, *SMALL, "output=out", cwd=tmp_path)
    check_message(line, "output", "out", "notes.txt")


def test_search_result_covers_every_test_day(found: SearchResult) -> None:
    days = [
        len(each.fold.test_span.day_end_rows)
        for each in found.tested_choices
        if each.fold.test_span
    ]
    assert found.performance(found.chosen_returns).days == sum(days) == 82
    whole = measure_daily_performance(cumulative_growth(found.chosen_returns), found.days_per_year)
    assert whole == found.performance(found.chosen_returns)
