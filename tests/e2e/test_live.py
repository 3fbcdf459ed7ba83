"""Bars, account, decisions and orders over the wire: what the live entry point composes."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import requests
from practice import KEYS, OPENING, ROOT, SPAN, Start, broker, trading

from execution.cycle import Rules, run_cycle
from execution.settings import LiveSettings
from marketsimulator.backtest import simulate
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import read_bars
from trainingdata.composition import composed
from trainingdata.market_data import BarFeed, MarketData


def test_a_clock_that_is_wrong_decides_nothing_from_old_bars(practice: Start) -> None:
    here = practice("symbols=[SYA,SYB]")
    here.advance(OPENING)
    live = LiveSettings.of(composed("live", [*SPAN[3:], "symbols=[SYA,SYB]", f"broker.url_override={here.url}"]))
    bars, _ = here.venue.settings.panel()
    trader = live.trader(live.forecaster.build(bars.symbols)).over(bars, here.venue.now)
    here.fail(kind="skew", seconds=3000, count=1)
    done = run_cycle(broker(here), BarFeed(MarketData(live.broker, KEYS, "iex"), live.symbols, 400), trader, live, send=True)
    assert done.decision is None
    assert here.venue.tickets == {}


def test_the_same_decisions_over_the_wire_end_with_the_backtests_fills_and_equity(practice: Start) -> None:
    """The backtest is the live system: four days, every instant, bars, account and orders through `alpaca-py`."""
    words = ("symbols=[SYA,SYB,SYC,SYXUSD]", "limits.symbol_cap=0.4")
    here = practice(*words, "increments=original")
    settings = here.venue.settings
    bars, first = settings.panel()
    oracle = settings.forecaster.build(bars.symbols)
    alone = BacktestSettings.of(composed("backtest", [*SPAN, "start=2024-02-20", "end=2024-02-23", *words]))
    expected = simulate(alone, bars, first, "alone", alone.trader(oracle).over(bars, bars.times[first]))
    live = LiveSettings.of(composed("live", [*SPAN[3:], *words, f"broker.url_override={here.url}", "history_days=400"]))
    feed = BarFeed(MarketData(live.broker, KEYS, "iex"), live.symbols, live.history_days)
    trader, decisions = live.trader(oracle).over(bars, bars.times[first]), []
    while True:
        cycle = run_cycle(broker(here), feed, trader, live, send=True)
        decisions += [cycle.decision] if cycle.decision is not None else []
        if here.venue.over:
            break
        here.advance()
    assert len(expected.fills) > 100
    assert [d.orders for d in decisions] == [d.orders for d in expected.decisions]
    traded = [(f.client_order_id, f.symbol, f.qty, f.price, f.fee, f.at) for f in expected.fills]
    assert [(f.client_order_id, f.symbol, f.qty, f.price, f.fee, f.at) for f in here.venue.broker.fills] == traded
    assert here.venue.broker.row().equity == expected.rows[-1].equity
    assert float(trading(here).get_account().equity) == pytest.approx(expected.rows[-1].equity, abs=0.005)


def test_what_the_venue_does_not_allow_is_not_asked_of_it(practice: Start, caplog: pytest.LogCaptureFixture) -> None:
    """Flags are read before sizing, once a day: nothing is sold short that cannot be borrowed, nothing halted is touched."""
    words = ("symbols=[SYA,SYB,SYC]",)
    here = practice(*words)
    here.advance(OPENING)
    flags = f"{here.url}/control/assets"
    requests.post(flags, json={"symbol": "SYA", "shortable": False}, timeout=10)
    requests.post(flags, json={"symbol": "SYB", "tradable": False}, timeout=10)
    live = LiveSettings.of(composed("live", [*SPAN[3:], *words, f"broker.url_override={here.url}"]))
    bars, _ = here.venue.settings.panel()
    trader = live.trader(live.forecaster.build(bars.symbols)).over(bars, here.venue.now)
    mine, rules = broker(here), Rules(broker(here))
    feed, sold = BarFeed(MarketData(live.broker, KEYS, "iex"), live.symbols, 400), set()
    for _ in range(20):
        done = run_cycle(mine, feed, trader, live, send=True, rules=rules)
        if done.decision is not None:
            assert "SYB" not in {c.symbol for c in done.decision.choices}
            assert all(c.target >= 0 for c in done.decision.choices if c.symbol == "SYA")
            sold |= {o.symbol for o in done.decision.orders if o.side == "sell"}
        assert done.account.positions.get("SYA", Decimal(0)) >= 0
        here.advance()
    assert "SYC" in sold
    assert "rejected" not in caplog.text


def test_history_is_downloaded_into_files_that_a_backtest_reads(practice: Start, tmp_path: Path) -> None:
    here = practice()
    here.advance("2024-02-22T20:30:00Z")
    command = [sys.executable, "-m", "trainingdata.download", "--symbols", "SYA", "SYX/USD", "--start", "2024-01-10"]
    keys = {"APCA_API_KEY_ID": KEYS.key, "APCA_API_SECRET_KEY": KEYS.secret, "PATH": "", "HOME": str(tmp_path)}
    words = [*command, "--output", "bars", f"broker.url_override={here.url}"]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*words, *more], cwd=tmp_path, env=keys, capture_output=True, text=True, check=False)

    done = run()
    assert done.returncode == 0, done.stderr
    read = read_bars([tmp_path / "bars"], None)
    since, until = np.datetime64("2024-01-10T05:00", "ns"), here.venue.now
    for s, symbol in enumerate(read.symbols):
        times, values = here.venue.bars.own(here.venue.bars.symbols.index(symbol))
        part = (times > since) & (times <= until)
        np.testing.assert_array_equal(read.own(s)[0], times[part])
        np.testing.assert_array_equal(read.own(s)[1], values[part])
    here.fail(kind="status", status=403, path="/v2/stocks/bars")
    refused = run("data.feed=sip")
    assert refused.returncode == 2
    assert "keys without a paid plan read data.feed=iex" in refused.stderr.splitlines()[-1]
    for wrong in ("--start=tomorrow", "--start=2999-01-01", "oops"):
        assert run(wrong).returncode == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["mode=live"], "mode: live is none of dry, paper, replay"),
        (["mode=paper", "broker.paper=false", "symbols=[SYA]"], "orders with real money wait"),
        (["mode=paper"], "symbols: a venue has too many"),
        (["mode=replay", "symbols=[SYA]"], "a replay needs a practice server"),
        (["mode=paper", "symbols=[SYA]", "broker.url_override=http://127.0.0.1:9", "broker.attempts=1"], "no answer"),
        (["cycles=0"], "cycles: 0 is no number above 0"),
        (["clock=sun"], "clock: sun is none of broker, system"),
    ],
)
def test_a_live_run_that_cannot_be_says_so_in_a_line(words: list[str], says: str, tmp_path: Path) -> None:
    keys = {"APCA_API_KEY_ID": KEYS.key, "APCA_API_SECRET_KEY": KEYS.secret, "PATH": "", "HOME": str(tmp_path)}
    command = [sys.executable, str(ROOT / "trade_stock_e2e.py"), *words]
    done = subprocess.run(command, cwd=tmp_path, env=keys, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert says in done.stderr.splitlines()[-1]
    assert KEYS.secret not in done.stderr


def test_a_replay_by_command_leaves_the_files_of_a_run(practice: Start, tmp_path: Path) -> None:
    here = practice("symbols=[SYA,SYXUSD]", "end=2024-02-20")
    keys = {"APCA_API_KEY_ID": KEYS.key, "APCA_API_SECRET_KEY": KEYS.secret, "PATH": "", "HOME": str(tmp_path)}
    words = ["mode=replay", "symbols=[SYA,SYXUSD]", f"broker.url_override={here.url}", "output=out", "forecaster=ewma"]
    command = [
        sys.executable,
        str(ROOT / "trade_stock_e2e.py"),
        *words,
        "forecaster.calibrated=false",
        "sizing.strategy=equal_weight",
    ]
    done = subprocess.run(command, cwd=tmp_path, env=keys, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    assert here.venue.over
    fills, orders = (pd.read_parquet(tmp_path / "out" / f"{name}.parquet") for name in ("fills", "orders"))
    assert set(fills["client_order_id"]) == set(orders["client_order_id"]) == set(here.venue.tickets)
    equity = pd.read_parquet(tmp_path / "out" / "equity.parquet")
    assert equity["equity"].iloc[-1] == pytest.approx(here.venue.broker.row().equity, abs=0.005)
    assert "equal_weight sizing" in next((tmp_path / "logs").iterdir()).read_text()
