"""The simulator beside the peers. A peer runs where its interpreter is named: VECTORBT_PYTHON,
NAUTILUS_PYTHON and CVXPORTFOLIO_PYTHON, each a virtual environment of its own, and PEER_BENCH, the
folder of their scripts and common input."""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from execution.beliefs import BeliefTable
from execution.trader import Trader
from forecasting.baseline import RandomWalk
from foundation.compose import composed_config
from foundation.configuration import with_changes
from marketsimulator import replay
from marketsimulator.runs.simulate import simulate_trading
from marketsimulator.runs.variants import outcomes
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import Bars, panel
from trainingdata.instruments import instrument
from trainingdata.sessions import stock_grid

Seconds = Callable[..., float]
pytestmark = pytest.mark.bench
ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = Path(os.environ.get("PEER_BENCH", ROOT.parent / "shared" / "bench"))


def peer(name: str, script: str, *words: str) -> list[dict[str, float]]:
    """What a peer's script prints, in this same run; nothing where its interpreter is not named."""
    python = os.environ.get(f"{name}_PYTHON")
    if python is None:
        return []
    done = subprocess.run(
        [python, script, *words], cwd=FOLDER, capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def common() -> ModuleType:
    spec = importlib.util.spec_from_file_location("common", FOLDER / "common.py")
    if spec is None or spec.loader is None or not (FOLDER / "common.py").exists():
        pytest.skip("no common input beside this checkout")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def market(symbols: int, rows: int, first: str = "2024-01-02") -> Bars:
    """Synthetic stocks on the regular New York grid."""
    grid = stock_grid()
    begin = int(np.searchsorted(grid.ends, np.datetime64(first, "ns")))
    times = grid.ends[begin : begin + rows]
    rng = np.random.default_rng(7)
    move = rng.normal(0, 0.004, rows)[:, None] * rng.uniform(0.5, 1.5, symbols) + rng.normal(
        0, 0.006, (rows, symbols)
    )
    close = 100 * np.exp(np.cumsum(move, axis=0))
    start = np.vstack([np.full(symbols, 100.0), close[:-1]]) * np.exp(
        rng.normal(0, 0.0005, (rows, symbols))
    )
    high = np.maximum(start, close) * 1.002
    low = np.minimum(start, close) * 0.998
    values = np.stack([start, high, low, close, np.full(close.shape, 3e6)], axis=2)
    names = [f"S{a}{b}{c}" for a in "ABCDEFGHIJ" for b in "ABCDEFGHIJ" for c in "ABCDEFGHIJ"][
        :symbols
    ]
    return panel(
        [(instrument(name), times, values[:, s]) for s, name in enumerate(names)], "synthetic bars"
    )


def believed(bars: Bars, settings: BacktestSettings) -> tuple[Trader, BeliefTable]:
    """A trader on a random walk whose expected returns are noise large enough to trade on at
    every bar.
    """
    trader = settings.trader(RandomWalk())
    table = trader.belief_table(bars, bars.times[0])
    noise = np.random.default_rng(1).normal(0, 0.5, table.mu.shape) * np.where(
        table.sigma > 0, table.sigma, 0.0
    )
    table = replace(table, mu=np.where(table.deciding[:, None], noise, table.mu))
    return replace(trader, table=table), table


@pytest.fixture(scope="module")
def settings() -> BacktestSettings:
    """Decisions that look as far as the next one, as the peers do."""
    return BacktestSettings.of(
        composed_config("backtest", ["capital=1000000", "trials=null", "sizing.holding=next"])
    )


def test_replay_of_weights(seconds: Seconds) -> None:
    peers = peer("VECTORBT", "b_vectorbt.py")
    for k, (s, t) in enumerate(((10, 1764), (100, 1764))):
        o, h, lo, c, v, w = common().make(s, t)
        bars = {"open": o, "high": h, "low": lo, "close": c, "volume": v}

        def run(weights: pd.DataFrame, bars: dict[str, pd.DataFrame] = bars) -> tuple[float, int]:
            """The last equity and the number of records, as the peer is asked for them."""
            done = replay(weights, bars, capital=1e6, fee_bps=1.0, slippage_bps=1.0)
            return float(done.equity.iloc[-1]), len(done.tape)

        def framed(weights: pd.DataFrame, bars: dict[str, pd.DataFrame] = bars) -> pd.DataFrame:
            return replay(weights, bars, capital=1e6, fee_bps=1.0, slippage_bps=1.0).fills

        threefold = 3 * w
        plain = seconds(lambda w=w: run(w), runs=31)
        levered = seconds(lambda w=threefold: run(w), runs=31)
        table = seconds(lambda w=w: framed(w), runs=31)
        final, fills = run(w)
        text = (
            f"\n{s} x {t}, {fills:,} fills: {s * t / plain / 1e6:.1f} M symbol-bars/s, three times"
            " the weights"
        )
        text += (
            f" (margin, cut, interest) {s * t / levered / 1e6:.1f} M, with the frame of fills"
            f" {s * t / table / 1e6:.1f} M"
        )
        if peers:
            theirs = peers[k]["median_s"]
            text += (
                f"; vectorbt {s * t / theirs / 1e6:.2f} M: {theirs / plain:.1f} x,"
                f" {theirs / levered:.1f} x, "
            )
            text += (
                f"{theirs / table:.1f} x (equity ends at {final:,.0f}, vectorbt's at"
                f" {peers[k]['final']:,.0f}: it fills at"
            )
            text += " the close)"
        print(text)


def test_the_first_replay_of_a_process(seconds: Seconds) -> None:
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); from common import make; o, h, l, c, v,"
        " w = make(10, 1764);"
        "began = time.perf_counter(); from marketsimulator import replay;"
        "replay(w, dict(open=o, close=c)); print(time.perf_counter() - began)"
    )
    common()
    taken = [
        float(
            subprocess.run(
                [sys.executable, "-c", code, str(FOLDER)], cwd=ROOT, capture_output=True, text=True
            ).stdout
        )
        for _ in range(3)
    ]
    print(
        f"\nimport and first replay, compilation kept: {sorted(taken)[1]:.2f} s (pandas already"
        " loaded)"
    )


def test_the_whole_decision_a_bar(seconds: Seconds, settings: BacktestSettings) -> None:
    bars = market(10, 1764)
    trader, table = believed(bars, settings)
    fills = len(simulate_trading(settings, bars, 0, "noise", trader).fills)
    stepped = seconds(lambda: simulate_trading(settings, bars, 0, "noise", trader))
    looped = seconds(lambda: outcomes([settings], bars, table, 0, workers=1))
    run = simulate_trading(settings, bars, 0, "noise", trader)
    (found,) = outcomes([settings], bars, table, 0)
    apart = float(np.abs(found.equity - [row.equity for row in run.rows]).max())
    cells = 10 * 1764
    print(
        f"\n10 x 1764, {fills:,} fills: stepped broker with every decision kept"
        f" {cells / stepped / 1e3:.1f} k symbol-bars/s"
    )
    print(
        f"compiled loop of a sweep {cells / looped / 1e3:.0f} k; largest difference of the two"
        f" accounts {apart:.4f} USD"
    )
    plan = with_changes(settings, {"sizing.holding": "plan"})
    planner, _ = believed(bars, plan)
    planned = seconds(lambda: simulate_trading(plan, bars, 0, "noise", planner))
    print(
        "the same over a plan of three blocks, every one of them noise:"
        f" {cells / planned / 1e3:.1f} k"
    )
    for name, script, words in (
        ("NAUTILUS", "b_nautilus.py", ("trade",)),
        ("CVXPORTFOLIO", "b_cvx.py", ()),
    ):
        found_peer = peer(name, script, *words)
        if found_peer:
            last = found_peer[-1]
            rate = last["bars_per_s_med"]
            ratios = (
                f"stepped {cells / stepped / rate:.1f} x, compiled {cells / looped / rate:.0f} x"
            )
            print(f"{last['name']}: {rate / 1e3:.2f} k; {ratios}")


def test_a_thousand_variants(settings: BacktestSettings) -> None:
    bars = market(20, 1764)
    close, start = (pd.DataFrame(bars.values[:, :, k].T, bars.times, bars.symbols) for k in (3, 0))
    rng = np.random.default_rng(2)
    weights = [
        pd.DataFrame(rng.normal(0, 0.15, close.shape), close.index, close.columns)
        for _ in range(10)
    ]
    replay(weights[0], {"open": start, "close": close})
    began = time.perf_counter()
    for k in range(1000):
        replay(weights[k % 10], {"open": start, "close": close}, capital=1e6)
    print(
        "\n1,000 weight replays, 20 symbols x 1,764 bars, one core:"
        f" {time.perf_counter() - began:.1f} s"
    )
    _, table = believed(bars, settings)
    variants = [with_changes(settings, {"sizing.fraction": 0.001 * (k + 1)}) for k in range(1000)]
    outcomes(variants[:1], bars, table, 0)
    began = time.perf_counter()
    outcomes(variants, bars, table, 0)
    print(
        f"1,000 variants with the sizing program at every bar, {os.cpu_count()} cores:"
        f" {time.perf_counter() - began:.1f} s"
    )


def test_a_wide_and_long_replay() -> None:
    code = (
        "import resource, time, numpy as np, pandas as pd; from marketsimulator import replay;"
        "rng = np.random.default_rng(0); days = pd.bdate_range('2019-01-02', periods=1260,"
        " tz='UTC');"
        "index = pd.DatetimeIndex([d + pd.Timedelta(hours=14 + h, minutes=30) for d in days for h"
        " in range(7)]);"
        "close = pd.DataFrame(100 * np.exp(np.cumsum(rng.normal(0, 0.005, (len(index), 500)),"
        " axis=0)), index,"
        " [f'S{k:03d}' for k in range(500)]);"
        "w = pd.DataFrame(rng.normal(0, 0.01, close.shape), index, close.columns);"
        "began = time.perf_counter(); done = replay(w, dict(open=close, close=close), capital=1e7);"
        "print(time.perf_counter() - began, len(done.fills),"
        " resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    print(
        f"\n500 x 8,820: {float(out[0]):.2f} s, {int(out[1]):,} fills, peak {float(out[2]):.2f} GiB"
    )


def test_a_wide_and_long_account(settings: BacktestSettings) -> None:
    """Beliefs, sizing and settlement of 500 stocks over five years."""
    bars = market(500, 8820, "2019-01-02")
    began = time.perf_counter()
    _, table = believed(bars, settings)
    prepared = time.perf_counter() - began
    began = time.perf_counter()
    outcomes([settings], bars, table, 0, workers=1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"\n500 x 8,820: beliefs {prepared:.0f} s, one variant {time.perf_counter() - began:.0f} s,"
        f" peak {peak:.2f} GiB"
    )
