"""Cost of a cycle of the live loop without its waiting: one decision from available bars."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import numpy as np
import pytest

from execution.live.settings import LiveSettings
from execution.orders.account_snapshot import AccountSnapshot
from foundation.compose import compose_config
from trainingdata.bars import Bars, build_panel, last_closes_by_symbol
from trainingdata.instants import history_start
from trainingdata.synthetic import SyntheticMarket
from trainingdata.timeframe import HOURLY

pytestmark = pytest.mark.bench
STOCKS = tuple(f"SYS{letter}" for letter in "ABCDEFGHIJKLMN")
COINS = tuple(f"SYC{letter}USD" for letter in "ACDEFG")
HOURS = 7 * 24


def known_bars(bars: Bars, now: np.datetime64, days: int) -> Bars:
    """Return the bars that a live run knows at an instant."""
    tables = []
    for s, item in enumerate(bars.instruments):
        times, values = bars.bars_of_symbol(s)
        kept = (HOURLY.clock(item.kind).starts_by_end(times) >= history_start(now, days)) & (
            times <= now
        )
        tables.append((item, times[kept], values[kept]))
    return build_panel(tables, bars.source)


def test_time_of_live_cycle_without_network_requests(tmp_path: Path) -> None:
    """Measure a week's cycles on synthetic bars of 20 symbols, with calibrated Chronos-2."""
    bars = SyntheticMarket(
        symbols=(*STOCKS, *COINS), start="2022-06-01", end="2024-02-20"
    ).generate_bars()
    words = [f"forecaster.cache={tmp_path}", f"symbols=[{','.join(bars.symbols)}]"]
    settings = LiveSettings.from_config(compose_config("live", ["forecaster=chronos2", *words]))
    trader = settings.build_trader(settings.forecaster.build(bars.symbols))
    taken = []
    for now in bars.times[-HOURS:]:
        known = known_bars(bars, now, settings.effective_history_days)
        account = AccountSnapshot(
            100_000.0, {}, last_closes_by_symbol(known), now, max_leverage=4.0
        )
        began = time.perf_counter()
        trader.decide(settings.data.build_market(known).visible_bars(), account)
        taken.append(time.perf_counter() - began)
    first, *others = taken
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"\n{len(bars.symbols)} symbols (synthetic), {len(taken)} passes: the first, with the"
        f" history's forecasts, {first:.1f} s; then {np.median(others):.3f} s, at most"
        f" {max(others):.2f} s; {most:.0f} MiB"
    )
