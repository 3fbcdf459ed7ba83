"""Runs of a user's own strategy: earlier results are kept, and forecasts are optional."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from execution.decision.decision import Decision
from execution.decision.sizing import SizingSettings
from execution.decision.trader import Trader
from execution.orders.account_snapshot import AccountSnapshot
from forecasting.settings import BatchSettings, EvaluationSettings, ForecasterSettings
from foundation.errors import InputError
from foundation.files import write_files_atomically
from marketsimulator.backtest import check_earlier_run, run_backtest
from marketsimulator.results.remarks import short_lookback_remarks
from marketsimulator.results.report import result_file_writers, terminal_parts
from marketsimulator.results.run_record import read_run_record
from marketsimulator.results.summary import BUY_AND_HOLD, BacktestResults
from marketsimulator.runs.simulate import simulate_trading
from tests.marketsimulator.runs import settings_of
from tests.support.eager_runs import believing
from tests.support.messages import refused
from trainingdata.bars import Bars

WORDS = (
    *("start=2024-02-20", "end=2024-03-08", "data.start=2024-01-02", "data.end=2024-03-08"),
    *("symbols=[SYA,SYB]", "forecaster=none", "sizing.strategy=equal_weight"),
)


@pytest.fixture(scope="module")
def plain() -> BacktestResults:
    """A run without forecasts."""
    return run_backtest(settings_of(*WORDS))


@pytest.fixture(scope="module")
def folder(plain: BacktestResults, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    write_files_atomically(result_file_writers(plain, plain.summary()), folder)
    return folder


def test_run_without_forecasts_has_no_forecast_baseline(plain: BacktestResults) -> None:
    summary = plain.summary()
    assert list(summary["comparisons"]) == [BUY_AND_HOLD]
    assert plain.main_run.decision_frame()["mu"].isna().all()
    assert "forecast" not in " ".join(map(str, plain.main_run.order_frame()["reason"]))
    parts, sentences = terminal_parts(summary, 1.0)
    assert "forecast" not in " ".join([str(parts[0]), *sentences])


def test_page_without_forecasts_omits_their_sections(folder: Path) -> None:
    page = (folder / "report.html").read_text().partition("every setting")[0]
    for words in ("Forecasts and outcomes", "<h2>Calibration", "no-forecast baseline", " on none"):
        assert words not in page


@pytest.mark.parametrize("kind", [BatchSettings, EvaluationSettings])
def test_commands_on_forecasts_refuse_forecaster_none(
    kind: type[BatchSettings] | type[EvaluationSettings],
) -> None:
    with refused(InputError, "forecaster", "none"):
        kind(forecaster=ForecasterSettings(kind="none"))


def test_page_states_start_capital_and_zoom(plain: BacktestResults, folder: Path) -> None:
    page = (folder / "report.html").read_text()
    final = plain.main_run.equity_rows[-1].equity
    stated = f"Start capital $100,000.00, final equity ${final:,.2f}."
    assert stated in page.partition("<h3>Benchmarks</h3>")[0]
    assert stated in terminal_parts(plain.summary(), 1.0)[1]
    assert "drag to zoom in, double-click to zoom out" in " ".join(page.split())


def test_only_a_repetition_replaces_an_earlier_run(folder: Path, tmp_path: Path) -> None:
    check_earlier_run(settings_of(*WORDS), folder)
    check_earlier_run(settings_of(*WORDS, "output=elsewhere"), folder)
    check_earlier_run(settings_of(*WORDS), tmp_path)
    other = settings_of(*WORDS, "limits.symbol_cap=0.2")
    with refused(InputError, "output", "limits.symbol_cap", "0.2", "overwrite=true"):
        check_earlier_run(other, folder)
    modified = shutil.copytree(folder, tmp_path / "modified")
    (modified / "config.yaml").write_text("capital: 1")
    with refused(InputError, "output", "config.yaml", "overwrite=true"):
        check_earlier_run(settings_of(*WORDS), modified)


def test_arguments_beyond_lookback_give_a_remark() -> None:
    arguments: dict[str, Any] = {"slow": 800, "fast": 20, "budget": 50_000, "risk": 900.0}
    [remark] = short_lookback_remarks(SizingSettings(strategy="own.rule", arguments=arguments))
    assert "sizing.arguments.slow=800" in remark
    assert "sizing.lookback=500" in remark
    longer = SizingSettings(strategy="own.rule", arguments=arguments, lookback=800)
    assert short_lookback_remarks(longer) == []


class LimitTrader(Trader):
    """A trader that sends limit orders."""

    def decide(self, bars: Bars, account: AccountSnapshot) -> Decision | None:
        decision = super().decide(bars, account)
        if decision is None:
            return None
        orders = tuple(
            replace(order, type="limit", limit_price=round(account.prices[order.symbol], 2))
            for order in decision.orders
        )
        return replace(decision, orders=orders)


def test_trader_with_limit_orders_runs_stepwise() -> None:
    settings, market, trader = believing("sizing.strategy=equal_weight")
    limited = LimitTrader(**{name: getattr(trader, name) for name in trader.__dataclass_fields__})
    run = simulate_trading(settings, market, "x", limited)
    assert set(run.order_frame()["type"]) == {"limit"}
    assert run.fills


def test_comparison_reads_the_reports_trials(plain: BacktestResults, folder: Path) -> None:
    record = read_run_record(folder)
    assert record.summary["trials"] == plain.trial_count
    assert record.summary["capital"] == plain.settings.capital
