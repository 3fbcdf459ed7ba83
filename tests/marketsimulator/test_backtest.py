from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from docs.promises import PROMISES_PATH
from forecasting.baseline import RandomWalk
from foundation.errors import InputError
from foundation.files import write_files_atomically
from marketsimulator import backtest
from marketsimulator.backtest import run_backtest
from marketsimulator.explain import explain
from marketsimulator.results.exports import transaction_frame
from marketsimulator.results.report import result_file_writers
from marketsimulator.results.run_folder import RunFolder
from marketsimulator.results.run_record import read_run_record
from marketsimulator.results.summary import BacktestResults
from marketsimulator.results.trials import TRIALS_OFF_NOTE, check_ledger
from marketsimulator.results.verdict import backtest_verdict
from marketsimulator.settings import BacktestSettings
from tests.marketsimulator.accountant import Records, audit
from tests.marketsimulator.runs import settings_of
from tests.support.messages import refused
from trainingdata.bars import CLOSE, Bars, build_panel
from trainingdata.instruments import instrument
from trainingdata.market import Market
from trainingdata.timeframe import HOURLY

TABLES = ("orders", "equity", "fills", "bookings", "decisions")
EXPORTS = ("returns.csv", "positions.csv", "transactions.csv")
FILES = {
    *(f"{name}.parquet" for name in TABLES),
    *EXPORTS,
    *("config.yaml", "summary.json", "report.html"),
}
SPAN = ["start=2024-02-20", "data.start=2024-01-02", "data.end=2024-03-08"]
SPAN += ["forecaster.calibrated=false", "trials=null", "symbols=[SYA,SYB,SYC,SYXUSD]"]
SPAN += ["forecaster=historical"]


def settings(*overrides: str) -> BacktestSettings:
    return settings_of(*SPAN, *overrides)


@pytest.fixture(scope="module")
def results() -> BacktestResults:
    return run_backtest(settings())


def on(bars: Bars, *overrides: str, monkeypatch: pytest.MonkeyPatch) -> BacktestResults:
    """A run on given bars."""
    monkeypatch.setattr(BacktestSettings, "load_bars", lambda self: bars)
    return run_backtest(settings(*overrides))


@pytest.fixture(scope="module")
def written(results: BacktestResults, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "made" / "here"
    write_files_atomically(result_file_writers(results, results.summary()), folder)
    return folder


def test_demonstration_run_contains_shorts_and_rebalancing(results: BacktestResults) -> None:
    fills = results.main_run.fill_frame()
    held = fills.groupby("symbol")["qty"].cumsum()
    assert (fills["qty"] < 0).sum() > 10
    assert (held < 0).sum() > 10
    assert fills.groupby("symbol").size().max() > 5


def test_independent_audit_agrees_with_the_backtest(results: BacktestResults) -> None:
    records = Records.of(asdict(results.settings), results.market.bars, results.main_run)
    assert str(audit(records)) == "0 differences"


def test_equity_covers_every_bar_and_decisions_are_unique(results: BacktestResults) -> None:
    """A symbol without a bar is valued at its last close, and all symbols share one clock."""
    equity = results.main_run.equity()
    decisions = results.main_run.decision_frame()
    instants = results.market.bars.times
    first = np.datetime64("2024-02-20T05:00", "ns")
    np.testing.assert_array_equal(
        equity["at"].dt.tz_localize(None).to_numpy("datetime64[ns]"), instants[instants >= first]
    )
    assert pd.Timestamp("2024-02-20T21:00Z") in set(equity["at"])
    stocks = decisions[~decisions["symbol"].str.endswith("USD")]
    local = stocks["at"].dt.tz_convert("America/New_York").dt.strftime("%H:%M")
    assert set(local) == {"10:30", "11:30", "12:30", "13:30", "14:30", "15:30"}
    assert not decisions.duplicated(["at", "symbol"]).any()


@pytest.mark.slow
def test_the_same_settings_give_the_same_run(results: BacktestResults) -> None:
    """The seed is part of the settings."""
    again = run_backtest(settings())
    pd.testing.assert_frame_equal(again.main_run.equity(), results.main_run.equity())
    pd.testing.assert_frame_equal(
        again.main_run.decision_frame(), results.main_run.decision_frame()
    )


@pytest.mark.parametrize("words", [(), ["forecaster=chronos2", "start=2024-02-28"]])
def test_later_bars_change_no_earlier_decision_or_fill(
    words: list[str],
    results: BacktestResults,
    scrambled_after: Callable[[Bars, np.datetime64], Bars],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No decision sees what comes after it, also by a neural forecast."""
    results = run_backtest(settings(*words)) if words else results
    cut = pd.Timestamp("2024-02-29T18:30Z")
    altered = scrambled_after(results.market.bars, np.datetime64("2024-02-29T18:30", "ns"))
    other = on(altered, *words, monkeypatch=monkeypatch)
    for frame in ("decision_frame", "fill_frame"):
        a, b = (getattr(r.main_run, frame)() for r in (results, other))
        before = (
            (lambda f: f[f["at"] <= cut])
            if frame == "decision_frame"
            else (lambda f: f[f["at"] < cut])
        )
        pd.testing.assert_frame_equal(before(a), before(b))
    assert not results.main_run.decision_frame().equals(other.main_run.decision_frame())


def test_truncated_run_equals_longer_run_up_to_cutoff(results: BacktestResults) -> None:
    short = run_backtest(settings("end=2024-02-29T18:30Z"))
    cut = pd.Timestamp("2024-02-29T18:30Z")
    long = results.main_run.decision_frame()
    brief = short.main_run.decision_frame()
    pd.testing.assert_frame_equal(long[long["at"] <= cut], brief)
    rows = results.main_run.equity()
    fewer = short.main_run.equity()
    pd.testing.assert_frame_equal(rows[rows["at"] < cut], fewer[fewer["at"] < cut])


def test_results_differ_by_forecaster_and_show_baselines(results: BacktestResults) -> None:
    """A result that does not depend on the forecast is reported as such."""
    summary = results.summary()
    walk, hold = (summary["comparisons"][name] for name in ("random_walk", "buy_and_hold"))
    assert len({each["total_return"] for each in (summary, walk, hold)}) == 3
    assert 0 < walk["trades"] < summary["trades"]
    assert 0 < summary["premium_share"] < walk["premium_share"] == 1.0
    assert hold["premium_share"] is None
    remarks = " ".join(summary["remarks"])
    # The verdict states it once.
    assert re.search(
        r"\d+% of the mean position comes from the assumed risk premium, \d+% from the forecast\.",
        backtest_verdict(summary).evidence,
    )
    assert "mean position rests" not in remarks


class Corrected(RandomWalk):
    """A random walk that its author has calibrated, as its name states."""

    @property
    def name(self) -> str:
        return "corrected, calibrated"


@pytest.mark.slow
@pytest.mark.first_example
@pytest.mark.parametrize(
    ("forecaster", "calibrated", "baseline_calibrated"),
    [
        (["forecaster=mix"], "true", "true"),
        (["forecaster=mix"], "false", "false"),
        ([f"forecaster._target_={__name__}.Corrected"], "false", "true"),
    ],
)
def test_baseline_is_calibrated_like_the_forecast(
    forecaster: list[str], calibrated: str, baseline_calibrated: str
) -> None:
    """The lead over the baseline is the gain of the forecast, not of its calibration."""
    words = ["start=2024-02-26", "forecaster.calibration.window=500"]
    run = run_backtest(settings(*words, *forecaster, f"forecaster.calibrated={calibrated}"))
    walk = [*words, "forecaster=ewma", f"forecaster.calibrated={baseline_calibrated}"]
    alone = run_backtest(settings(*walk))
    figures = run.summary()["comparisons"]["random_walk"]
    assert figures == {key: alone.summary()[key] for key in figures}
    baselines = {each.name: each for each in run.benchmark_runs}
    pd.testing.assert_frame_equal(
        baselines["random_walk"].equity(), alone.main_run.equity(), check_exact=True
    )


def test_every_fill_traces_to_order_and_decision(results: BacktestResults) -> None:
    orders = {o.client_order_id: (d.at, o) for d in results.main_run.decisions for o in d.orders}
    fills = [fill for fill in results.main_run.fills if fill.price > 0]
    for fill in fills:
        at, order = orders[fill.client_order_id]
        assert fill.at == at
        assert fill.symbol == order.symbol
        assert abs(fill.qty) <= order.qty
        assert fill.qty * order.signed_qty > 0
        assert str(order.reason)
    identities = [f.client_order_id for f in fills]
    assert len(set(identities)) == len(identities)


def test_leverage_is_cut_overnight_and_interest_charged() -> None:
    """An oracle borrows as much as allowed: more than twice equity by day, less overnight."""
    run = run_backtest(settings("forecaster=oracle", "symbols=[SYA,SYB,SYC,SYD,SYE]")).main_run
    equity = run.equity().iloc[:-7]  # the oracle has no forecast for the last bars
    gross = equity["gross_stock"] / equity["equity"]
    evening = equity["at"].dt.tz_convert("America/New_York").dt.hour == 16
    assert gross.max() > 2.5
    assert gross[evening].max() < 2.15
    assert equity["interest"].sum() > 0
    assert (equity["interest"][~evening] == 0).all()


def test_oracle_run_shorts_falling_market_and_is_labelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A negative forecast leads to short orders, and an oracle's profit is labelled as no
    result.
    """
    grid = HOURLY.stock_clock
    some = (grid.starts > np.datetime64("2024-01-02", "ns")) & (
        grid.ends < np.datetime64("2024-03-09", "ns")
    )
    rng = np.random.default_rng(1)
    tables = []
    for symbol in ("AAA", "BBB"):
        close = 500 * np.exp(np.cumsum(rng.normal(-0.003, 0.002, some.sum())))
        values = np.stack(
            [close, close * 1.01, close * 0.99, close, np.full(len(close), 1e6)], axis=1
        )
        values[1:, 0] = close[:-1]
        tables.append((instrument(symbol), grid.ends[some], values))
    run = on(build_panel(tables, "a falling market"), "forecaster=oracle", monkeypatch=monkeypatch)
    fills = run.main_run.fill_frame()
    held = fills.groupby("symbol")["qty"].cumsum()
    assert (held < 0).mean() > 0.8
    summary = run.summary()
    assert summary["total_return"] > 0.1
    assert summary["comparisons"]["buy_and_hold"]["total_return"] < -0.1
    write_files_atomically(result_file_writers(run, summary), tmp_path)
    assert "oracle" in summary["forecaster"]
    assert "reads the future" in " ".join(summary["remarks"])
    assert "oracle" in (tmp_path / "report.html").read_text()
    assert "oracle" in (tmp_path / "config.yaml").read_text()
    for name in ("equity", "fills", "decisions"):
        import pyarrow.parquet as pq

        assert b"oracle" in pq.read_schema(tmp_path / f"{name}.parquet").metadata[b"forecaster"]


def test_output_files_match_their_documented_format(
    results: BacktestResults, written: Path
) -> None:
    assert {p.name for p in written.iterdir()} == FILES
    promised = yaml.safe_load(PROMISES_PATH.read_text())
    run = results.main_run
    made = run.equity(), run.fill_frame(), run.order_frame(), run.booking_frame()
    for name, frame in zip(("equity", "fills", "orders", "bookings"), made, strict=True):
        pd.testing.assert_frame_equal(pd.read_parquet(written / f"{name}.parquet"), frame)
    for name, columns in promised["columns"].items():
        frame = pd.read_parquet(written / name)
        assert list(frame.columns) == columns, name
        assert str(frame["at"].dtype).endswith("UTC]")
        assert frame["at"].is_monotonic_increasing
    summary = json.loads((written / "summary.json").read_text())
    assert set(promised["entries"]["summary.json"]) <= set(summary)
    assert summary["costs"] == pytest.approx(sum(summary["costs_by_kind"].values()))
    equity = pd.read_parquet(written / "equity.parquet")
    assert summary["total_return"] == pytest.approx(equity["equity"].iloc[-1] / 100_000 - 1)
    assert "synthetic" in summary["data"]
    page = (written / "report.html").read_text()
    assert "synthetic market" in page
    assert 'src="http' not in page
    assert "<link" not in page.split("</style>")[0]


def test_folder_mixing_two_runs_is_refused(
    results: BacktestResults, written: Path, tmp_path: Path
) -> None:
    other = run_backtest(settings("start=2024-03-07", "forecaster=ewma"))
    write_files_atomically(result_file_writers(other, other.summary()), tmp_path / "other")
    for folder in (written, tmp_path / "other"):
        assert read_run_record(folder).summary["forecaster"]
    for name in sorted(FILES):
        mixed = tmp_path / "mixed"
        shutil.copytree(written, mixed)
        shutil.copy(tmp_path / "other" / name, mixed / name)
        for read in (read_run_record, lambda run: explain(run, symbol="SYA"), RunFolder):
            with refused(InputError, "RUN"):
                read(mixed)
        shutil.rmtree(mixed)


def test_days_setting_counts_back_from_last_common_bar() -> None:
    run = settings_of("days=5", "data.start=2024-01-02", "data.end=2024-03-08")
    first, last = run.run_period(run.load_bars())
    assert last == np.datetime64("2024-03-08T21:00", "ns")
    assert first == np.datetime64("2024-03-04T05:00", "ns")


def test_run_without_a_hundred_bars_is_refused() -> None:
    with refused(InputError, "100"):
        run_backtest(settings("start=2024-01-02", "end=2024-01-04"))


def test_log_contains_the_phrases_operators_search_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger=backtest.log.name)
    run_backtest(settings("start=2024-03-07"))
    for phrase in (
        "Enhanced Kelly sizing with 4.0x leverage",
        "Enhanced Kelly sizing with 2.0x leverage",
        "Enhanced Kelly sizing with no leverage (crypto)",
        "exposure:",
        "PnL:",
    ):
        assert phrase in caplog.text


def test_broker_increments_apply_to_orders_fills_and_sweeps() -> None:
    run = run_backtest(
        settings(
            "increments=broker", "forecaster=oracle", "start=2024-03-06", "symbols=[SYA,SYXUSD]"
        )
    )
    coins = [
        o.qty
        for d in run.main_run.decisions
        for o in d.orders
        if o.symbol == "SYXUSD" and o.side == "buy"
    ]
    assert any(qty % Decimal("0.001") for qty in coins)
    assert all(qty % Decimal("1e-9") == 0 for qty in coins)
    assert all(
        o.qty % 1 == 0 for d in run.main_run.decisions for o in d.orders if o.symbol == "SYA"
    )


def test_run_is_recorded_only_in_its_named_ledger(results: BacktestResults, tmp_path: Path) -> None:
    words = ["start=2024-03-07", "forecaster=ewma"]
    ledger = tmp_path / "trials.sqlite"
    named = run_backtest(settings(*words, f"trials={ledger}"))
    other = run_backtest(settings(*words, f"trials={ledger}", "sizing.fraction=0.2"))
    assert [each.summary()["trials"] for each in (named, other)] == [1, 2]
    assert TRIALS_OFF_NOTE not in other.summary()["remarks"]
    assert BacktestSettings().trials is None
    summary = results.summary()
    assert results.trial_count is summary["trials"] is summary["deflated_sharpe"] is None
    assert [text for text in summary["remarks"] if "ledger" in text] == [TRIALS_OFF_NOTE]


@pytest.mark.parametrize("what", ["a folder", "no database", "no permission"])
def test_unusable_ledger_is_refused_before_the_run(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = tmp_path / "trials.sqlite"
    if what == "a folder":
        ledger.mkdir()
    elif what == "no database":
        ledger.write_text("my notes " * 100)
    else:
        check_ledger(ledger)
        # A user whom permissions bind meets the same answer from SQLite.
        connect = sqlite3.connect
        monkeypatch.setattr(
            sqlite3, "connect", lambda path, **more: connect(f"file:{path}?mode=ro", uri=True)
        )
    monkeypatch.setattr(BacktestSettings, "load_market", lambda _: pytest.fail("it ran"))
    with refused(InputError, "trials", "trials.sqlite"):
        run_backtest(settings("start=2024-03-07", "forecaster=ewma", f"trials={ledger}"))


def test_ledger_failing_during_a_run_is_reported(tmp_path: Path) -> None:
    ledger = tmp_path / "trials.sqlite"

    def broken(_: Bars) -> None:
        ledger.write_text("my notes " * 100)

    words = ["start=2024-03-07", "forecaster=ewma", f"trials={ledger}"]
    results = run_backtest(settings(*words), show_market=broken)
    summary = results.summary()
    assert summary["trials"] is summary["deflated_sharpe"] is None
    (said,) = [text for text in summary["remarks"] if "ledger" in text]
    assert said.startswith("No trial ledger (trials: ")
    assert str(ledger) in said
    write_files_atomically(result_file_writers(results, summary), tmp_path / "out")
    assert "No trial ledger (trials: " in (tmp_path / "out" / "report.html").read_text()


def test_raw_prices_with_splits_earn_like_adjusted_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a 10-for-1 split in the middle, weights stay the same, shares are ten times as many, and
    the model sees no jump.
    """
    adjusted = settings("symbols=[SYA,SYB]", "limits.symbol_cap=0.5").load_bars()
    s = adjusted.symbols.index("SYA")
    day = np.datetime64("2024-02-28T14:30", "ns")
    values = adjusted.values.copy()
    values[s, adjusted.times <= day, :4] *= 10
    values[s, adjusted.times <= day, 4] /= 10
    raw = Bars(adjusted.instruments, adjusted.times, values, adjusted.mask, adjusted.source)
    actions = tmp_path / "actions.csv"
    rows = ["SYA,2024-02-28,split,10", "NVDA,2024-06-10,split,10", "AAPL,2024-02-09,dividend,1"]
    actions.write_text("\n".join(["symbol,date,kind,value", *rows, ""]))
    words = ["symbols=[SYA,SYB]", "limits.symbol_cap=0.5", "capital=1e8", "start=2024-02-26"]
    a = on(adjusted, *words, monkeypatch=monkeypatch)
    b = on(raw, *words, f"data.actions={actions}", "data.adjustment=raw", monkeypatch=monkeypatch)
    assert b.summary()["prices"] == "raw"
    assert a.summary()["total_return"] == pytest.approx(b.summary()["total_return"], abs=2e-4)
    assert len(a.main_run.fills) == pytest.approx(len(b.main_run.fills), abs=3)
    assert any(f.price == 0 for f in b.main_run.fills)
    _assert_transactions_explain_positions(b)
    unused = "data.actions: rows ignored, symbols not in this run: AAPL, NVDA."
    assert [b.summary()["warnings"].count(unused), a.summary()["warnings"].count(unused)] == [1, 0]


def _assert_transactions_explain_positions(results: BacktestResults) -> None:
    """Amounts sum to the position at every instant; prices are the market's, so that trades matched
    in any order book no false profit.
    """
    bars = results.market.bars
    for symbol, own in transaction_frame(results).groupby("symbol"):
        fills = [f for f in results.main_run.fills if f.symbol == symbol]
        times, values = bars.bars_of_symbol(bars.symbols.index(str(symbol)))
        for at, row in own.iterrows():
            until = at.to_datetime64()
            held = sum(float(f.qty) for f in fills if f.at <= until)
            assert own["amount"][:at].sum() == pytest.approx(held)
            close = values[np.searchsorted(times, until, side="right") - 1, CLOSE]
            # New shares enter at a tenth of the last close.
            assert min(abs(row["price"] / (close / part) - 1) for part in (1, 10)) < 0.05
        paid = sum(float(f.qty) * f.price for f in fills)
        assert (own["amount"] * own["price"]).sum() == pytest.approx(paid)


def test_a_later_split_changes_no_earlier_decision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decisions before a split are equal to the last digit whether the history includes it or
    not.
    """
    words = (
        "symbols=[SYA,SYB,SYXUSD]",
        "limits.symbol_cap=1.0",
        "data.adjustment=raw",
        "start=2024-02-22",
    )
    market = settings(*words[:2]).load_bars()
    s = market.symbols.index("SYA")
    opens = np.datetime64("2024-02-28T14:30", "ns")
    values = market.values.copy()
    values[s, market.times <= opens, :4] *= 3
    values[s, market.times <= opens, 4] /= 3
    raw = Bars(market.instruments, market.times, values, market.mask, market.source)
    actions = tmp_path / "actions.csv"
    actions.write_text("symbol,date,kind,value\nSYA,2024-02-28,split,3\n")
    words = (*words, f"data.actions={actions}")
    whole = on(raw, *words, monkeypatch=monkeypatch)
    short = on(raw.slice_until(opens), *words, "end=2024-02-27", monkeypatch=monkeypatch)
    before = [d for d in whole.main_run.decisions if d.at <= short.main_run.decisions[-1].at]
    assert before == short.main_run.decisions
    assert sum(len(d.orders) for d in before) > 10
    assert any(f.price == 0 for f in whole.main_run.fills), "the split has moved a position"
    live = whole.settings.build_trader(whole.settings.forecaster.build(raw.symbols))
    for decision in whole.main_run.decisions[-3:] + before[-3:]:
        known = whole.settings.data.build_market(raw.slice_until(decision.at)).visible_bars()
        now = Market(known, len(known.times) - 1)
        belief = live.build_beliefs(now).at_instant(decision.at)
        assert belief is not None
        mine = {c.symbol: (c.mu, c.sigma) for c in decision.choices}
        for symbol, (mu, sigma) in mine.items():
            k = raw.symbols.index(symbol)
            assert (mu, sigma) == (belief.mu[0, 0, k], belief.sigma[0, 0, k])
