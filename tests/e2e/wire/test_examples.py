"""What examples/ shows a reader runs as written there, and does what it says."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from event_contracts.trading.sampler import read_estimates
from examples.best_two import best_two
from examples.drift import Drift
from forecasting.chronos2.checkpoint import BUNDLED_CHECKPOINT, WEIGHTS_FILE
from tests.support.commands import run_command
from tests.support.examples import EXAMPLES, commands_in, example_text

FILES = (
    "make_bars.py",
    "download_daily.py",
    "drift.py",
    "trained_forecaster.py",
    "timesfm_forecaster.py",
    "best_two.py",
    "moving_average.py",
    "momentum_rank.py",
    "rsi_reversal.py",
    "classifier.py",
    "breakout_signal.py",
    "quiet_trend.py",
    "fees/flat.yaml",
    "write_forecasts.py",
    "finetune.py",
    "make_trades.py",
    "spread_contracts.py",
    "temperature_estimates.py",
    "receive_alerts.py",
    "backtest.ipynb",
    "forecast_to_report.ipynb",
)
SHORT = (  # of at most 60 lines
    *("trained_forecaster.py", "timesfm_forecaster.py", "quiet_trend.py", "spread_contracts.py"),
    *("temperature_estimates.py", "receive_alerts.py", "forecast_to_report.ipynb"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with the examples and the bars that they read."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(EXAMPLES, folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    run(folder, commands_in(example_text("make_bars.py"))[0])
    return folder


WARNINGS = ("is requested, but", "check P/L_$", "WARNING", "Warning")


def run(folder: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    """A command of the examples, run in a folder as a process of its own."""
    state = {"XDG_STATE_HOME": str(folder / "state"), "COLUMNS": "200"}
    state |= {f"JUPYTER_{kind}_DIR": str(folder / kind) for kind in ("CONFIG", "DATA", "RUNTIME")}
    environment = {**os.environ, **state, "IPYTHONDIR": str(folder / "ipython")}
    program = Path(words[0]).name
    if program == "python":
        done = run_command(words[1:], cwd=folder, env=environment)
        assert not [word for word in WARNINGS if word in done.stdout + done.stderr]
    else:
        beside = str(Path(sys.executable).with_name(program))
        done = subprocess.run(
            [beside, *words[1:]],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def results(folder: Path) -> Callable[[str], Path]:
    """Runs a file's commands and answers with the folder that the last one wrote."""

    def run_all(name: str) -> Path:
        commands = commands_in(example_text(name))
        for words in commands:
            if "examples/make_bars.py" not in words:
                run(folder, words)
        written = commands[-1][-1].rpartition("output=")[2]
        return folder / "outputs" / Path(written).name

    return run_all


def test_example_index_lists_every_file_and_command() -> None:
    index = (EXAMPLES / "README.md").read_text()
    there = {
        str(path.relative_to(EXAMPLES))
        for path in EXAMPLES.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name != "README.md"
    }
    assert there == set(FILES)
    assert re.findall(r"^\| \[.+\]\((.+)\) \|", index, re.MULTILINE) == list(FILES)
    assert commands_in(index) == [
        words for name in FILES for words in commands_in(example_text(name))
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "forecaster"),
    [
        ("make_bars.py", "ewma, calibrated"),
        ("drift.py", "drift"),
        ("write_forecasts.py", "forecasts of example-forecasts.parquet"),
    ],
)
def test_examples_run_with_custom_bars_or_forecasts(
    results: Callable[[str], Path], name: str, forecaster: str
) -> None:
    assert len(inspect.getsource(Drift).splitlines()) <= 30
    output = results(name)
    summary = json.loads((output / "summary.json").read_text())
    assert summary["forecaster"] == forecaster
    assert {"ACME", "ZINC"} <= set(summary["symbols"])
    assert len(pd.read_parquet(output / "fills.parquet")) > 10
    assert (output / "report.html").stat().st_size > 10_000


@pytest.mark.slow
def test_trained_forecaster_is_scored_against_calibrated_ewma(
    results: Callable[[str], Path],
) -> None:
    """On random walks there is nothing to learn."""
    scores = json.loads((results("trained_forecaster.py") / "evaluation.json").read_text())
    assert scores["forecaster"] == "ridge, calibrated"
    for kind in ("stock", "crypto"):
        assert scores["groups"][kind]["all"]["skill"]["ewma, calibrated"]["beyond"] == 0


@pytest.mark.slow
def test_custom_strategy_holds_the_best_two_symbols(results: Callable[[str], Path]) -> None:
    assert len(inspect.getsource(best_two).splitlines()) <= 20
    output = results("best_two.py")
    orders = pd.read_parquet(output / "orders.parquet")
    assert orders["client_order_id"].str.startswith("examples.best_two.best_two-").all()
    decisions = pd.read_parquet(output / "decisions.parquet")
    decided = decisions.assign(bought=(decisions["qty"] > 0) & (decisions["held"] == 0))
    assert decided["bought"].sum() >= 3
    assert decided["kelly"][decided["bought"]].to_numpy() == pytest.approx(0.2)
    assert (decided["mu"][decided["bought"]] > 0).all()
    assert (decisions["kelly"] > 0).groupby(decisions["at"]).sum().max() <= 2


ON_PRICES = [
    "moving_average.py",
    "momentum_rank.py",
    "rsi_reversal.py",
    "classifier.py",
    "breakout_signal.py",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_PRICES)
def test_price_strategies_trade_the_example_bars(results: Callable[[str], Path], name: str) -> None:
    assert len(pd.read_parquet(results(name) / "fills.parquet")) > 10


def _is_custom(words: list[str]) -> bool:
    return any("_target_=examples." in word for word in words)


CUSTOM = [name for name in FILES if any(map(_is_custom, commands_in(example_text(name))))]


def test_audited_examples_include_all_strategies_and_forecasters() -> None:
    assert {*ON_PRICES, "drift.py", "best_two.py", "timesfm_forecaster.py"} < {*CUSTOM}


@pytest.mark.slow
@pytest.mark.parametrize("name", CUSTOM)
def test_no_example_looks_ahead(folder: Path, name: str) -> None:
    *before, words = commands_in(example_text(name))
    for each in before:
        run(folder, each)
    settings = [word for word in words[3:] if not word.startswith(("output=", "baselines="))]
    done = run(folder, [words[0], "-m", "marketsimulator.audit", "look_ahead", *settings])
    assert "no decision or fill changed" in done.stdout


@pytest.mark.slow
def test_custom_fee_table_is_charged_on_fills(results: Callable[[str], Path]) -> None:
    fills = pd.read_parquet(results("fees/flat.yaml") / "fills.parquet")
    coin = fills["symbol"] == "TOYUSD"
    bought = fills["qty"] > 0
    value = fills["qty"].abs() * fills["price"]
    stocks = fills[~coin]
    sales = np.where(bought, 0.0, 8e-6)[~coin]
    assert (sales > 0).sum() > 3
    assert stocks["fee"].to_numpy() == pytest.approx((5e-4 + sales) * value[~coin], abs=2e-6)


@pytest.mark.slow
def test_finetuning_example_trades_with_a_checkpoint_it_trained(
    folder: Path, results: Callable[[str], Path]
) -> None:
    assert len(example_text("finetune.py").splitlines()) <= 80
    output = results("finetune.py")
    summary = json.loads((output / "summary.json").read_text())
    assert summary["forecaster"] == "chronos2 (model), calibrated"
    tuned = folder / "outputs" / "example-finetuned" / "model" / WEIGHTS_FILE
    assert tuned.read_bytes() != (BUNDLED_CHECKPOINT / WEIGHTS_FILE).read_bytes()


@pytest.mark.slow
def test_monte_carlo_resamples_the_example_trades(
    folder: Path, results: Callable[[str], Path]
) -> None:
    figures = json.loads((results("make_trades.py") / "monte_carlo.json").read_text())
    trades = pd.read_csv(folder / "outputs/example-trades.csv")
    assert figures["trades"]["n"] == len(trades) == 120
    assert 0.6 < (trades["P/L_$"] > 0).mean() < 0.8


@pytest.mark.parametrize("name", SHORT)
def test_short_examples_have_at_most_60_lines(name: str) -> None:
    assert len(example_text(name).splitlines()) <= 60


def test_example_pictures_are_at_most_40_kilobytes() -> None:
    shown = re.findall(r"!\[[^]]+\]\(([^)]+)\)", (EXAMPLES / "README.md").read_text())
    assert len(shown) >= 3
    assert max((EXAMPLES / name).stat().st_size for name in shown) <= 40_000


@pytest.mark.slow
def test_timesfm_example_trades_on_calibrated_forecasts(results: Callable[[str], Path]) -> None:
    output = results("timesfm_forecaster.py")
    summary = json.loads((output / "summary.json").read_text())
    assert summary["forecaster"] == "timesfm, calibrated"
    assert len(pd.read_parquet(output / "fills.parquet")) > 10
    # The model is untrained: no position comes from the forecast.
    decisions = pd.read_parquet(output / "decisions.parquet")
    assert decisions["mu"].abs().max() < 1e-3


@pytest.mark.slow
def test_custom_ranking_function_selects_the_universe(results: Callable[[str], Path]) -> None:
    output = results("quiet_trend.py")
    decisions = pd.read_parquet(output / "decisions.parquet")
    assert 1 <= (decisions["target"] > 0).groupby(decisions["at"]).sum().max() <= 2
    assert len(set(decisions["symbol"][decisions["target"] > 0])) > 2


@pytest.mark.slow
def test_spread_contracts_grow_with_balance_and_profit(folder: Path) -> None:
    for words in commands_in(example_text("spread_contracts.py")):
        done = run(folder, words)
    rows = re.findall(r"^(?:PUT|IRON|OTM).+?\$\d+ +(.+)$", done.stdout, re.MULTILINE)
    sizes = np.array([row.split() for row in rows], dtype=int).reshape(2, 3, 5)
    assert (sizes[:, :, 0] == 0).all(), "below half of the starting capital nothing is sold"
    assert (np.diff(sizes, axis=2) >= 0).all()
    assert (sizes[1] >= sizes[0]).all()
    assert sizes[1].max() == 10


def test_temperature_example_buys_only_contracts_with_an_edge(
    folder: Path, results: Callable[[str], Path]
) -> None:
    found = read_estimates(results("temperature_estimates.py"))
    assert sum(chance for chance, _ in found.values()) == pytest.approx(1.0, abs=1e-3)
    done = run(folder, commands_in(example_text("temperature_estimates.py"))[0])
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    assert len(rows) == 5
    for _, chance, ask, contracts in rows:
        worth = float(chance) - float(ask) > 0.07 * float(ask) * (1 - float(ask))
        assert (int(contracts) > 0) == worth


def test_example_alert_receiver_prints_the_alert(folder: Path) -> None:
    done = run(folder, commands_in(example_text("receive_alerts.py"))[0])
    assert done.stdout == "quarantine: no price for SYC (3 held): valued at its last mark\n"


@pytest.mark.parametrize("name", ["backtest.ipynb", "forecast_to_report.ipynb"])
def test_notebooks_are_stored_without_outputs(name: str) -> None:
    stored = json.loads((EXAMPLES / name).read_text())
    code = [cell for cell in stored["cells"] if cell["cell_type"] == "code"]
    assert [(cell["outputs"], cell["execution_count"]) for cell in code] == [([], None)] * len(code)


@pytest.mark.slow
def test_report_notebook_plots_forecasts_and_writes_report(
    folder: Path, results: Callable[[str], Path]
) -> None:
    executed = json.loads(results("forecast_to_report.ipynb").read_text())
    outputs = [out for cell in executed["cells"] for out in cell.get("outputs", ())]
    assert any("image/png" in out.get("data", {}) for out in outputs)
    assert (folder / "outputs" / "example-report" / "report.html").stat().st_size > 10_000


@pytest.mark.slow
def test_backtest_notebook_shows_table_chart_and_order_reason(
    results: Callable[[str], Path],
) -> None:
    executed = json.loads(results("backtest.ipynb").read_text())
    outputs = [
        out["data"]
        for cell in executed["cells"]
        for out in cell.get("outputs", ())
        if "data" in out
    ]
    table, picture, reason = outputs
    rows = "".join(table["text/plain"]).splitlines()[1:]
    assert [row.split()[0] for row in rows] == ["mix", "random_walk", "buy_and_hold"]
    assert len(picture["image/png"]) > 10_000
    assert "kelly_50-20240328T193000Z" in "".join(reason["text/plain"])
