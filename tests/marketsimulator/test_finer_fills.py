"""Orders that meet finer bars than those that are decided on."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecasting.settings import BatchSettings, EvaluationSettings
from foundation.compose import compose_config
from foundation.errors import DataError, InputError
from foundation.settings import settings_from_config as settings_as
from marketsimulator.account.broker import SimulatedBroker
from marketsimulator.account.terms import FillTerms
from marketsimulator.audit import parse_arguments as read_audit
from marketsimulator.backtest import run_backtest
from marketsimulator.results.report import result_file_writers
from marketsimulator.results.trial_identity import data_hash
from marketsimulator.runs.outcome import simulate_variants
from marketsimulator.runs.simulate import simulate_stepwise
from marketsimulator.settings import BacktestSettings
from tests.marketsimulator.accounts import account_on, order, orders, stock_ends
from tests.marketsimulator.runs import settings_of, trader_of
from tests.support.eager_runs import believing
from tests.support.finer_bars import HALF, with_origins
from tests.support.messages import refused
from trainingdata.bars import OHLCV_FIELDS, Bars, build_panel
from trainingdata.instruments import AssetClass, instrument
from trainingdata.market import Market
from trainingdata.resampling import aggregate_bars
from trainingdata.source import build_finer_panel
from trainingdata.timeframe import HOURLY, ONE_MINUTE, Timeframe

ITEM = instrument("AAA")
FEW = FillTerms(volume_share=0.5)


def walks(seed: int, hours: int, timeframe: Timeframe = HALF) -> tuple[Bars, Bars]:
    """Hours of a stock from a Monday on, and the finer bars that they are put together of."""
    rng = np.random.default_rng(seed)
    ends = stock_ends("2024-10-07", hours)
    starts = HOURLY.stock_clock.starts_by_end(ends)
    clock = timeframe.stock_clock
    finer = clock.ends[(clock.ends > starts[0]) & (clock.ends <= ends[-1])]
    k = np.searchsorted(ends, finer)
    # A trade may be missing from any part but the first.
    first = np.append(True, np.diff(k) > 0)
    kept = first | (rng.random(len(k)) < 0.8)
    finer, k = finer[kept], k[kept]
    closes = 100 + np.cumsum(rng.normal(0, 1, len(k))).round(1)
    opens = np.append(100.0, closes[:-1]) + rng.normal(0, 0.3, len(k)).round(1)
    inner = np.column_stack([opens, closes])
    highs = inner.max(axis=1) + abs(rng.normal(0, 0.5, len(k))).round(1)
    lows = inner.min(axis=1) - abs(rng.normal(0, 0.5, len(k))).round(1)
    values = np.column_stack([opens, highs, lows, closes, rng.integers(0, 60, len(k))])
    parts = with_origins(build_panel([(ITEM, finer, values)], "finer", timeframe))
    return build_panel([(ITEM, ends, aggregate_bars(starts[k], values)[1])], "hours"), parts


def told(broker: SimulatedBroker) -> list[tuple[Any, ...]]:
    return [(f.at, f.client_order_id, f.qty, f.price, f.fee) for f in broker.fills]


@settings(max_examples=15)
@given(st.data(), st.integers(0, 10**6))
def test_finer_fills_match_an_account_on_finer_bars(data: st.DataObject, seed: int) -> None:
    """Orders are decided on hours and filled on half-hours, like an account on half-hours with the
    same orders. Remainders of market orders are cancelled after the hour.
    """
    hours, parts = walks(seed, 9)
    finer = build_finer_panel(parts, hours, 0)
    broker = account_on(Market(hours, finer_bars=finer), fills=FEW)
    carry = FillTerms(volume_share=0.5, remainder="carry")
    rows = np.searchsorted(finer.times, hours.times)
    other = account_on(Market(finer, int(rows[0])), fills=carry)
    anything = orders(("market",))
    sent = {
        data.draw(st.integers(0, 6)): replace(data.draw(anything), client_order_id=f"o{k}")
        for k in range(2)
    }
    for t in range(9):
        if t:
            broker.advance(t)
            for row in range(rows[t - 1] + 1, rows[t] + 1):
                other.advance(row)
            other.cancel([o.client_order_id for o in sent.values() if o.type == "market"])
        if t in sent:
            broker.submit([sent[t]])
            other.submit([sent[t]])
        assert broker.account() == other.account()
        broker.open_bars()
        other.open_bars()
        assert broker.equity_row()[:5] == other.equity_row()[:5]
    assert told(broker) == told(other)


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("finer", "words"), [(HALF, "capital=1500"), (ONE_MINUTE, "limits.intraday_leverage=0.5")]
)
def test_finer_bars_equal_to_coarse_change_no_fill(finer: Timeframe, words: str) -> None:
    """Runs agree to the bit with impact, missing bars, margin calls and crypto. If volume limits an
    order, its remainder waits for finer bars. It reserves buying power that the next order has in a
    backtest on one bar.
    """
    settings, market, trader = believing(*words.split())
    tables = []
    for s, item in enumerate(market.bars.instruments):
        times, values = market.bars.bars_of_symbol(s)
        starts = market.bars.clock(item.kind).starts_by_end(times)
        tables.append((item, finer.clock(item.kind).ends_by_start(starts), values))
    parts = build_finer_panel(
        with_origins(build_panel(tables, "finer", finer)), market.bars, market.start_row
    )
    one, other = (
        simulate_stepwise(settings, each, "x", trader, settings.build_broker(each))
        for each in (market, replace(market, finer_bars=parts))
    )
    assert other.fills == one.fills
    assert other.bookings == one.bookings
    assert other.equity_rows == one.equity_rows
    assert other.margin_event_counts == one.margin_event_counts
    assert len(one.fills) > 100


def test_finer_bars_decide_which_exit_order_fills_first() -> None:
    """The hour from 10:30 trades at 112 and 88. The hourly bar does not give the order, so the stop
    counts as first; the half-hours show that 112 came first.
    """
    ends = stock_ends("2024-10-07", 3)
    hours = [(100, 100, 100, 100, 1e6), (100, 101, 99, 100, 1e6), (100, 112, 88, 90, 1e6)]
    bars = build_panel([(ITEM, ends, np.array(hours, dtype=float))], "hours")
    rows = [(100, 101, 99, 100, 5e5), (100, 101, 99, 100, 5e5)]
    rows += [(100, 112, 99, 105, 5e5), (105, 106, 88, 90, 5e5)]
    after = HALF.stock_clock.ends[HALF.stock_clock.ends > ends[0]][:4]
    parts = with_origins(build_panel([(ITEM, after, np.array(rows, dtype=float))], "finer", HALF))
    for finer, met in (
        (None, ("stop", 90.0)),
        (build_finer_panel(parts, bars, 0), ("limit", 110.0)),
    ):
        broker = account_on(Market(bars, finer_bars=finer))
        broker.submit([order("buy", 10)])
        broker.advance(1)
        broker.submit(
            [
                order("sell", 10, "stop", "stop", stop_price=90.0, reduces=True),
                order("sell", 10, "limit", "limit", limit_price=110.0, reduces=True),
            ]
        )
        broker.advance(2)
        assert [(f.client_order_id, f.price) for f in broker.fills[1:]] == [met]
        assert broker.fills[1].booked_at == ends[2]


def test_finer_bars_may_be_narrower_or_slightly_rounded() -> None:
    hours, parts = walks(1, 9)
    narrow = parts.values.copy()
    narrow[..., 1], narrow[..., 2] = (
        narrow[..., [0, 3]].max(axis=2),
        narrow[..., [0, 3]].min(axis=2),
    )
    for factor in (1.0, 1.0009, 0.9991):
        build_finer_panel(replace(parts, values=narrow * factor), hours, 0)
    for factor in (1.0015, 0.9985):
        with refused(DataError, "AAA"):
            build_finer_panel(replace(parts, values=narrow * factor), hours, 0)


# Files


def write(folder: Path, timeframe: Timeframe) -> Path:
    """Files of a stock and a coin, of thirty days of half-hours put together to a timeframe."""
    folder.mkdir(parents=True, exist_ok=True)
    begin = np.datetime64("2024-10-01", "ns")
    for number, symbol in enumerate(("AAA", "BTCUSD")):
        rng = np.random.default_rng([0, number])
        kind = instrument(symbol).kind
        starts = np.arange(begin, begin + np.timedelta64(30, "D"), np.timedelta64(30, "m"))
        starts = starts[~np.isnat(HALF.clock(kind).ends_by_start(starts))]
        closes = 100 * np.exp(np.cumsum(rng.normal(0, 0.003, len(starts))))
        opens = np.append(100.0, closes[:-1])
        inner = np.column_stack([opens, closes])
        highs, lows = inner.max(axis=1) * 1.001, inner.min(axis=1) * 0.999
        volumes = rng.integers(500, 9000, len(starts))
        values = np.column_stack([opens, highs, lows, closes, volumes])
        clock = timeframe.clock(kind)
        whole = clock.starts_by_end(
            clock.ends_by_number(clock.count_ended_bars(starts) + 1, starts)
        )
        stamps = np.unique(whole)
        frame = pd.DataFrame(aggregate_bars(whole, values)[1], columns=list(OHLCV_FIELDS))
        frame.insert(0, "timestamp", pd.DatetimeIndex(stamps).tz_localize("UTC"))
        frame.to_csv(folder / f"{symbol}.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Files of hours, and of the half-hours that they are made of."""
    folder = tmp_path_factory.mktemp("bars")
    return write(folder / "hours", HOURLY), write(folder / "finer", HALF)


WORDS = ("start=2024-10-21", "end=2024-10-24", "forecaster=ewma", "trials=null")
CALM = ("forecaster.calibrated=false", "sizing.strategy=equal_weight", "sizing.band=0.02")


def finer_settings(files: tuple[Path, Path], *words: str) -> BacktestSettings:
    hours, finer = files
    return settings_of(f"data.dir={hours}", f"data.execution_bars={finer}", *WORDS, *words)


@pytest.mark.slow
def test_report_with_finer_fills_also_shows_coarse_results(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    settings = finer_settings(files, *CALM, "capital=3e6")
    results = run_backtest(settings)
    plain = run_backtest(replace(settings, data=replace(settings.data, execution_bars=())))
    summary = results.summary()
    met, decided = summary["fills"].items()
    assert (met[0], decided[0]) == ("30-minute bars", "hours")
    assert met[1]["equity"] == results.main_run.equity_rows[-1].equity
    assert decided[1]["equity"] == plain.main_run.equity_rows[-1].equity != met[1]["equity"]
    assert decided[1]["trades"] == plain.summary()["trades"]
    assert "fills" not in plain.summary()
    assert data_hash(results.market) != data_hash(plain.market)
    # Decisions see the same bars, at the same instants, marked at the same closes.
    assert [d.at for d in results.main_run.decisions] == [d.at for d in plain.main_run.decisions]
    for one, other in zip(results.main_run.decisions, plain.main_run.decisions, strict=True):
        assert [c.price for c in one.choices] == [c.price for c in other.choices]
    assert any(f.price > 0 and f.at != f.booked_at for f in results.main_run.fills), (
        "between decisions"
    )
    writers = result_file_writers(results, summary)
    writers["report.html"](tmp_path / "report.html")
    writers["config.yaml"](tmp_path / "config.yaml")
    assert "By fill bars" in (tmp_path / "report.html").read_text()
    assert str(files[1]) in (tmp_path / "config.yaml").read_text()
    assert asdict(settings)["data"]["execution_bars"] == (str(files[1]),)


def test_later_finer_bars_change_no_earlier_decision(files: tuple[Path, Path]) -> None:
    settings = finer_settings(files, *CALM)
    market = settings.load_market()
    trader = trader_of(settings, market).with_beliefs(market)
    cut = market.bars.times[market.start_row + 40]
    assert market.finer_bars is not None
    values = market.finer_bars.values.copy()
    values[:, market.finer_bars.times > cut, :4] *= 1.07
    other = replace(market, finer_bars=replace(market.finer_bars, values=values))
    runs = [
        simulate_stepwise(settings, each, "x", trader, settings.build_broker(each)).slice_until(cut)
        for each in (market, other)
    ]
    assert repr(runs[0].decisions) == repr(runs[1].decisions)
    early = [[f for f in run.fills if f.booked_at < cut] for run in runs]
    assert early[0] == early[1] != []
    # A comparison takes the setting: its variants fill on the same finer bars.
    assert trader.belief_table is not None
    (outcome,) = simulate_variants([settings], market, trader.belief_table)
    whole = simulate_stepwise(settings, market, "x", trader, settings.build_broker(market))
    assert outcome.equity.tolist() == [row.equity for row in whole.equity_rows]


def change(symbol: str, column: str, factor: float) -> Any:
    def make(folder: Path) -> None:
        frame = pd.read_csv(folder / f"{symbol}.csv")
        frame.loc[700, column] *= factor
        wide = frame[["open", "high", "low", "close"]]
        frame["high"], frame["low"] = wide.max(axis=1), wide.min(axis=1)
        frame.to_csv(folder / f"{symbol}.csv", index=False)

    return make


def without_a_day(folder: Path) -> None:
    frame = pd.read_csv(folder / "BTCUSD.csv")
    frame = frame[~frame["timestamp"].str.startswith("2024-10-22")]
    frame.to_csv(folder / "BTCUSD.csv", index=False)


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("spoil", "facts"),
    [
        (lambda folder: (folder / "AAA.csv").unlink(), ("AAA", "AAA.parquet")),
        (without_a_day, ("BTCUSD", "30-minute", "2024-10-22T00:00Z")),
        (change("BTCUSD", "open", 1.01), ("2024-10-15T14:00Z",)),
        (lambda folder: write(folder, HOURLY), ("60-minute",)),
        (change("BTCUSD", "close", -1.0), ("row 701", "low", "prices", "0")),
    ],
)
def test_mismatched_finer_files_are_refused_in_one_line(
    files: tuple[Path, Path], tmp_path: Path, spoil: Any, facts: tuple[str, ...]
) -> None:
    spoil(finer := shutil.copytree(files[1], tmp_path / "finer"))
    with refused(DataError, *facts) as caught:
        finer_settings((files[0], finer)).load_market()
    assert str(caught.value).startswith("data.execution_bars: ")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_commands_that_cannot_use_execution_bars_refuse_them(files: tuple[Path, Path]) -> None:
    with refused(InputError, "data.execution_bars"):
        settings_of("data.execution_bars=x").load_market()
    with refused(DataError, "data.execution_bars"):
        finer_settings((files[0], Path("nowhere"))).load_market()
    with refused(InputError, "data.execution_bars"):
        read_audit(["look_ahead", "data.dir=x", "data.execution_bars=y"])
    for kind in (EvaluationSettings, BatchSettings):
        name = "evaluate" if kind is EvaluationSettings else "batch"
        with refused(InputError, "data.execution_bars"):
            settings_as(kind, compose_config(name, ["data.dir=x", "data.execution_bars=y"]))


def test_daily_order_fills_in_its_sessions_first_hour(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    settings = finer_settings((write(tmp_path, Timeframe("1d")), files[0]), "symbols=AAA")
    market = settings.load_market()
    broker = settings.build_broker(market)
    broker.submit([order("buy", 10, tif="opg")])
    broker.advance(market.start_row + 1)
    (fill,) = broker.fills
    assert (
        fill.at
        == market.bars.clock(AssetClass.STOCK).starts_by_end(market.bars.times)[
            market.start_row + 1
        ]
    )
    assert fill.qty == Decimal(10)
