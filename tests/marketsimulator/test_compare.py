"""Strategies side by side over the same forecasts."""

# Private access: earlier tests of the process have allowed names that this one must refuse.

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forecasting.settings import ForecasterSettings
from foundation import plugin
from foundation.compose import compose_config
from foundation.errors import InputError
from foundation.files import write_files_atomically
from foundation.formatting import format_percent
from foundation.settings import with_changes
from marketsimulator.backtest import run_backtest
from marketsimulator.compare import ComparisonSettings, compare
from marketsimulator.results.comparison import Comparison
from marketsimulator.results.report import result_file_writers
from marketsimulator.results.run_record import LIVE_RUN_TITLE
from marketsimulator.settings import BacktestSettings
from sizing.strategies import STRATEGY_NAMES, name_with_fraction
from tests.marketsimulator.runs import BARS, settings_of
from tests.support.commands import overridden, run_command
from tests.support.messages import check_message, refused

SPAN = [
    *(*BARS, "start=2024-03-04", "forecaster=ewma", "forecaster.calibrated=false"),
    "symbols=[SYA,SYB,SYXUSD]",
]


@pytest.fixture(scope="module")
def settings() -> BacktestSettings:
    return settings_of(*SPAN)


@pytest.fixture(scope="module")
def found(settings: BacktestSettings) -> Comparison:
    return compare(settings, STRATEGY_NAMES)


def test_comparing_an_oracle_run_adds_no_trial(settings: BacktestSettings, tmp_path: Path) -> None:
    ledger = str(tmp_path / "trials.sqlite")
    mine = replace(settings, trials=ledger)
    alone = compare(mine, ["kelly_50", "equal_weight"])
    kinds = {"forecaster.kind": ["ewma", "oracle"]}
    beside = compare(mine, ["kelly_50", "equal_weight"], kinds)
    assert set(alone.table["trials"]) == set(beside.table["trials"]) == {2}
    ours = beside.table[beside.table["run"] == "kelly_50 forecaster.kind=ewma"]
    theirs = alone.table[alone.table["run"] == "kelly_50"]
    assert ours["deflated_sharpe"].tolist() == theirs["deflated_sharpe"].tolist()
    assert "reads the future" in beside.verdict.claim


@pytest.mark.first_example
@pytest.mark.parametrize("strategy", ["risk_parity", "premium_50"])
def test_comparison_row_equals_the_strategys_backtest(
    settings: BacktestSettings, found: Comparison, strategy: str
) -> None:
    alone = run_backtest(with_changes(settings, {"sizing.strategy": strategy}))
    k = found.names.index(strategy)
    _, equity = alone.main_run.equity_curve()
    np.testing.assert_array_equal(found.records[k].equity, equity)
    assert found.table["total_return"][k] == alone.run_figures(alone.main_run)["total_return"]


def test_comparison_page_shows_verdict_and_returns(found: Comparison) -> None:
    page = found.render_page(Path())
    assert "No result: the market is synthetic; " in page
    assert "Only 5 days" in page
    returns = dict(zip(found.table["run"], found.table["total_return"], strict=True))
    for name in STRATEGY_NAMES:
        row = page[page.index(f">{name}</th>") :]
        assert format_percent(returns[name], sign=True) in row[: row.index("</tr>")]


def test_each_value_of_varied_setting_gives_one_run(settings: BacktestSettings) -> None:
    two = compare(settings, ["vol_target"], {"sizing.target_volatility": [0.05, 0.2]})
    assert two.names == (
        "vol_target sizing.target_volatility=0.05",
        "vol_target sizing.target_volatility=0.2",
    )
    calm, wild = two.table["max_leverage"]
    assert wild > 2 * calm


def test_new_runs_are_compared_with_earlier_ones(
    settings: BacktestSettings, tmp_path: Path
) -> None:
    before = run_backtest(with_changes(settings, {"sizing.strategy": "equal_weight"}))
    write_files_atomically(result_file_writers(before, before.summary()), tmp_path / "before")
    now = {
        "sizing.strategy": ["kelly_50", "equal_weight"],
        "forecaster.kind": ["ewma", "historical"],
    }
    found = compare(settings, [], now, [tmp_path / "before"])
    assert found.names[:2] == ("before", "kelly_50 forecaster.kind=ewma")
    again = found.names.index("equal_weight forecaster.kind=ewma")
    assert found.records[again].equity.tolist() == found.records[0].equity.tolist()
    strategies = ["equal_weight", *2 * ["kelly_50"], *2 * ["equal_weight"]]
    assert list(found.run_set.varied_settings["sizing.strategy"]) == strategies
    assert found.run_set.total_returns[again] == found.run_set.total_returns[0]
    assert (found.table["trials"] == 5).all()
    live = replace(before, title=LIVE_RUN_TITLE)
    write_files_atomically(result_file_writers(live, live.summary()), tmp_path / "live")
    beside = compare(settings, [], now, [tmp_path / "live"])
    assert (beside.table["trials"] == 4).all(), "a live account is none"


def command(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    every = overridden(SPAN, words)
    return run_command(["-m", "marketsimulator.compare", *every], cwd=cwd)


def test_comparison_rows_have_distinct_names(settings: BacktestSettings, tmp_path: Path) -> None:
    before = run_backtest(settings)
    write_files_atomically(result_file_writers(before, before.summary()), tmp_path / "kelly_50")
    near = {"capital": [100_000.01, 100_000.02]}
    found = compare(settings, ["kelly_50"], near, [tmp_path / "kelly_50"])
    assert found.names[0] == "kelly_50"
    assert found.names[1:] == ("kelly_50 capital=100000.01", "kelly_50 capital=100000.02")
    beside = compare(settings, ["kelly_50"], {}, [tmp_path / "kelly_50"])
    assert beside.names == (f"{tmp_path.name}/kelly_50", "kelly_50")
    assert beside.run_set.total_returns[0] == beside.run_set.total_returns[1]


TWO_RULES = """
import numpy as np

def half(s):
    return np.where(s.universe, 0.5 / len(s.mu), s.held_weight)

def still(s):
    return s.held_weight
"""


@pytest.mark.slow
def test_comparison_of_custom_strategies_never_overwrites_a_run(tmp_path: Path) -> None:
    (tmp_path / "rules.py").write_text(TWO_RULES)
    done = command("strategies=[rules.half,rules.still,kelly_50]", "output=out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out" / "comparison.json").read_text())["runs"]
    assert {row["run"] for row in rows} == {"rules.half", "rules.still", "kelly_50"}
    run = run_command(["-m", "marketsimulator.backtest", *SPAN, "output=run"], cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    for words, fact in (
        (("run", "strategies=[kelly_25]", "output=run", "overwrite=true"), "run"),
        (("run", "runs=[run]", "strategies=[kelly_25]"), "runs"),
    ):
        done = command(*words, cwd=tmp_path)
        assert done.returncode == 2
        check_message(done.stderr.splitlines()[-1], fact)
    assert (tmp_path / "run" / "equity.parquet").exists()


def varied(text: str) -> dict[str, Any]:
    """The varied settings of a command."""
    words = ["strategies=[kelly_50]", f"vary={text}"]
    found = ComparisonSettings.from_config(compose_config("compare", words)).options.vary
    assert found is not None
    return found


def test_varied_target_selects_custom_and_builtin_forecasters() -> None:
    names = "[examples.drift.Drift, ewma]"
    assert varied(f"{{forecaster._target_: {names}, forecaster.calibrated: [false]}}") == {
        "forecaster.calibrated": [False],
        "forecaster.kind": ["examples.drift.Drift", "ewma"],
    }
    ForecasterSettings(kind="examples.drift.Drift").check()


def test_varied_target_from_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "_allowed_imports", set())
    monkeypatch.setenv("FORECASTER", "elsewhere.Forecaster")
    with refused(InputError, "forecaster._target_", "elsewhere.Forecaster"):
        varied("{forecaster._target_: ['${oc.env:FORECASTER}', ewma]}")
    with refused(InputError, "vary.forecaster._target_", "vary.forecaster.kind"):
        varied("{forecaster._target_: [examples.drift.Drift], forecaster.kind: [ewma]}")


def test_varied_target_without_values_is_refused_as_typed() -> None:
    with refused(InputError, "vary.forecaster._target_", "[]"):
        compare(BacktestSettings(), ["kelly_50"], varied("{forecaster._target_: []}"))


@pytest.mark.parametrize(
    ("strategies", "vary", "facts"),
    [
        ([], {}, ("strategies",)),
        (["kelly_50"], {}, ("got 1",)),
        (["kelly_50"], {"sizing.strategy": ["kelly_25"]}, ("vary.sizing.strategy", "strategies")),
        ([], {"data.information_coefficient": [0.0, 0.3]}, ("vary.data.information_coefficient",)),
        (
            [],
            {"limits.symbol_cap": [0.1], "limits": [{"symbol_cap": 0.3}]},
            ("vary.limits.symbol_cap", "vary.limits"),
        ),
        (["kelly_50"], {"sizing.fraction": [0.5, None]}, ("vary", "kelly_50")),
        (["kelly_10", "kelly_50"], {"sizing.fraction": [0.3]}, ("vary",)),
        ([], {"sizing.band": 3}, ("vary.sizing.band", "3")),
        ([], {"limits.typo": [1]}, ("limits.typo",)),
    ],
)
def test_invalid_variation_is_refused_before_any_run(
    settings: BacktestSettings, strategies: list[str], vary: Any, facts: tuple[str, ...]
) -> None:
    with refused(InputError, *facts) as caught:
        compare(settings, strategies, vary)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "fraction", "label"),
    [
        ("kelly_50", None, "kelly_50"),
        ("kelly_50", 0.5, "kelly_50"),
        ("kelly_50", 0.3, "kelly_30"),
        ("Kelly_50pct", 0.125, "kelly_12.5pct"),
        ("kelly_50_x4", 0.25, "kelly_25_x4"),
        ("premium_50", 0.2, "premium_20"),
        ("equal_weight", None, "equal_weight"),
        ("own.rule", None, "own.rule"),
    ],
)
def test_strategy_label_shows_the_fraction_in_use(
    name: str, fraction: float | None, label: str
) -> None:
    assert name_with_fraction(name, fraction) == label
