"""A replay with protective orders on the practice server equals the backtest to the cent."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from execution.orders.orders import is_protective_id, is_protective_order
from foundation.compose import compose_config
from marketsimulator.live_replay import run_replay
from marketsimulator.run_result import Run
from marketsimulator.runs.simulate import simulate_trading
from marketsimulator.settings import BacktestSettings
from tests.e2e.practice import KEYS, ROOT, SPAN, Live, Practice, Start
from tests.support.protection import split
from tests.support.replays import FILES, Reports, nothing
from trainingdata.bars import Bars

SYMBOLS = "symbols=[SYA,SYB,SYC,SYXUSD]"
DAYS = ("data.start=2023-06-01", "data.end=2024-07-31")
HOURS = ("start=2024-02-20T14:00Z", "end=2024-02-22T21:00Z")
EVENLY = ("forecaster=ewma", "sizing.strategy=equal_weight", "sizing.band=0.002")
SPANS = {
    "1h": HOURS,
    "15m": ("start=2024-02-20T19:00Z", "end=2024-02-21T16:00Z"),
    "1d": (*DAYS, "start=2024-03-07", "end=2024-03-27"),
    "1d fill=close": (*DAYS, "start=2024-06-27", "end=2024-07-12"),
}


def expected_run(here: Practice, *words: str) -> Run:
    """The backtest of what the server plays."""
    market = here.venue.market
    alone = BacktestSettings.from_config(compose_config("backtest", [*SPAN, *words]))
    trader = alone.build_trader(alone.forecaster.build(market.bars.symbols))
    return simulate_trading(alone, market, "alone", trader.with_beliefs(market))


def assert_replay_equals_backtest(
    practice: Start,
    folder: Path,
    *words: str,
    bars: Callable[[Bars], Bars] = lambda bars: bars,
    ratio: int = 1,
    halted: bool = False,
) -> Run:
    """Orders with their reasons, fills and equity are those of the backtest, which is returned.

    ratio: new shares per old one of a split, by which the journal may have adjusted an order.
    halted: whether the watch has acted, so that openings are not sent.
    """
    here = practice(*words, "increments=original", bars=bars)
    expected = expected_run(here, *words)
    parts = Live.at(here, *words, folder=str(folder / "live"))
    told = run_replay(
        *(parts.settings, KEYS, parts.feed, parts.trader, folder / "out"),
        overwrite=False,
        reporter=Reports(nothing),
    )
    summary = json.loads(told)
    assert (summary["not_sent"] > 0, len(summary["halted"])) == (halted, halted)
    broker = here.venue.broker
    # A stop waits for an open since the close, an auction order only since the evening.
    ours, theirs = (
        sorted(fills, key=lambda fill: (fill.at, fill.client_order_id, fill.price == 0))
        for fills in (expected.fills, broker.fills)
    )
    assert ours == theirs
    assert broker.equity_row().equity == pytest.approx(expected.equity_rows[-1].equity, abs=1e-6)
    frames = {name: pd.read_parquet(folder / "out" / f"{name}.parquet") for name in FILES}
    sent = expected.order_frame().sort_values("client_order_id").reset_index(drop=True)
    listed = frames["orders"].sort_values("client_order_id").reset_index(drop=True)
    sent["qty"] = sent["qty"].where(ratio * sent["qty"] != listed["qty"], listed["qty"])
    pd.testing.assert_frame_equal(sent, listed)
    assert frames["equity"]["equity"].iloc[-1] == pytest.approx(
        expected.equity_rows[-1].equity, abs=0.005
    )
    return expected


@pytest.mark.parametrize(
    ("timeframe", "kind", "distance", "more"),
    [
        ("1h", "stop", "0.5%", ("end=2024-02-21T21:00Z",)),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in (
                *(("1h", "stop_limit", "0.8%", ()), ("1h", "trailing", "1%", ())),
                *(("1h", "stop", "0.5sd", ()), ("1h", "trailing", "0.5sd", EVENLY)),
                ("1h", "trailing", "1%", ("watch.drawdown=1",)),
                *(("15m", "stop", "0.1%", ()), ("15m", "trailing", "0.3%", ())),
                *(("1d", "stop", "0.6%", ()), ("1d", "stop_limit", "0.3sd", ())),
                *(("1d", "trailing", "2%", ()), ("1d fill=close", "stop", "0.6%", ())),
                ("1d fill=close", "trailing", "2%", ()),
            )
        ),
    ],
)
def test_replay_with_protection_equals_the_backtest(
    practice: Start, tmp_path: Path, timeframe: str, kind: str, distance: str, more: tuple[str, ...]
) -> None:
    run = assert_replay_equals_backtest(
        practice,
        tmp_path,
        *(SYMBOLS, *f"timeframe={timeframe}".split(), *SPANS[timeframe], *more),
        *("limits.symbol_cap=0.4", f"protect.kind={kind}", f"protect.distance={distance}"),
    )
    sent = [order for _, order in run.protective_orders]
    assert sum(map(is_protective_order, sent)) > 10
    stopped = {f.symbol for f in run.fills if is_protective_id(f.client_order_id)}
    assert stopped


WEEK = ("start=2024-02-20T14:00Z", "end=2024-02-26T21:00Z")
STOCKS = "symbols=[SYA,SYB]"
REDUCING = ("watch.drawdown=0.001", "watch.action=reduce", "watch.reduce_to=0.4")


@pytest.mark.parametrize(
    ("words", "acts"),
    [
        ((STOCKS, *EVENLY, *REDUCING, "protect.distance=1%"), True),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in (
                ((SYMBOLS, "watch.drawdown=0.5", "protect.distance=1%"), False),
                ((SYMBOLS, *EVENLY, "watch.daily_loss=0.5", "protect.distance=0.5sd"), False),
            )
        ),
    ],
)
def test_watched_week_with_stops_equals_the_backtest(
    practice: Start, tmp_path: Path, words: tuple[str, ...], acts: bool
) -> None:
    limits = ("limits.symbol_cap=0.4", "protect.kind=stop")
    run = assert_replay_equals_backtest(practice, tmp_path, *WEEK, *words, *limits, halted=acts)
    assert any(is_protective_id(fill.client_order_id) for fill in run.fills)
    assert any("-8-" in fill.client_order_id for fill in run.fills) == acts


FIRST_BAR = "2024-02-21T15:30"  # of the day of the split


@pytest.mark.parametrize("fall", [FIRST_BAR, "2024-02-21T17:30"])
def test_replay_over_a_split_equals_the_backtest(
    practice: Start, tmp_path: Path, fall: str
) -> None:
    path = tmp_path / "actions.csv"
    path.write_text("symbol,date,kind,value\nSYA,2024-02-21,split,4\nSYB,2024-02-21,dividend,0.5\n")
    run = assert_replay_equals_backtest(
        practice,
        tmp_path,
        *(STOCKS, *EVENLY, f"data.actions={path}", "data.adjustment=raw"),
        *(*HOURS, "end=2024-02-21T21:00Z", "protect.kind=stop", "protect.distance=5%"),
        bars=partial(split, fall=fall),
        ratio=4,
    )
    [sale] = [f for f in run.fills if is_protective_id(f.client_order_id)]
    [stop] = [o for _, o in run.protective_orders if o.client_order_id == sale.client_order_id]
    assert (-sale.qty == 4 * stop.qty) == (fall == FIRST_BAR)


REAL = ROOT.parent / "shared" / "data"
REAL_BARS = {
    "1h": (
        f"data.dir=[{REAL}/hourly_stock,{REAL}/hourly_crypto]",
        *("symbols=[NVDA,AAPL,SPY,BTCUSD,ETHUSD]", "timeframe=1h"),
        *("start=2024-08-01T14:00Z", "end=2024-08-07T21:00Z"),  # over 2024-08-05
    ),
    "1d": (
        *(f"data.dir=[{REAL}/daily]", "data.adjustment=all", "symbols=[AMD,AMZN,AXP,BAC,BMY]"),
        *("timeframe=1d", "start=2020-02-18", "end=2020-04-17"),
    ),
}


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="no real bars")
@pytest.mark.parametrize("kind", ["stop", "trailing"])
@pytest.mark.parametrize("timeframe", ["1h", "1d"])
def test_replay_of_real_bars_equals_the_backtest(
    practice: Start, tmp_path: Path, timeframe: str, kind: str
) -> None:
    words = (
        *REAL_BARS[timeframe],
        "data.start=2016-01-01",
        "data.end=2025-06-30",
        "forecaster=ewma",
    )
    more = ("sizing.holding=plan", "limits.symbol_cap=0.5", f"protect.kind={kind}")
    run = assert_replay_equals_backtest(practice, tmp_path, *words, *more)
    assert any(is_protective_id(fill.client_order_id) for fill in run.fills)
