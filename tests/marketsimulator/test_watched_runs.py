"""The watch in simulations: at every bar that there is, and without a trace until it acts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from foundation.arrays import Array, Instants
from marketsimulator.run_result import Run
from marketsimulator.runs.simulate import simulate_stepwise
from tests.support.eager_runs import believing
from tests.support.finer_bars import HALF, with_origins
from trainingdata.bars import CLOSE, LOW, build_panel
from trainingdata.source import build_finer_panel

FALL = np.datetime64("2024-02-20T16:30", "ns")  # the end of an hour, in whose last half all fall
DAY = np.timedelta64(23, "h")


def fallen(times: Instants, values: Array) -> Array:
    """Prices a twentieth lower within an hour's last half, and for a day after it."""
    values = values.copy()
    values[times == FALL, LOW : CLOSE + 1] *= 0.95
    values[(times > FALL) & (times <= FALL + DAY), : CLOSE + 1] *= 0.95
    return values


def watched_run(*limits: str, falls: bool = False) -> Run:
    """A run on hours, filled on their halves."""
    settings, market, trader = believing("symbols=[SYA,SYB,SYC]", *limits)
    hours, halves = [], []
    for s, item in enumerate(market.bars.instruments):
        times, values = market.bars.bars_of_symbol(s)
        starts = market.bars.clock(item.kind).starts_by_end(times)
        first = HALF.clock(item.kind).ends_by_start(starts)
        ends = np.concatenate([first[first < times], times])
        parts = np.concatenate([values[first < times], values])
        order = np.argsort(ends)
        ends, parts = ends[order], parts[order]
        if falls:
            values, parts = fallen(times, values), fallen(ends, parts)
        hours.append((item, times, values))
        halves.append((item, ends, parts))
    market = market.with_bars(with_origins(build_panel(hours, "hours")))
    finer = with_origins(build_panel(halves, "finer", HALF))
    market = replace(market, finer_bars=build_finer_panel(finer, market.bars, market.start_row))
    return simulate_stepwise(settings, market, "x", trader, settings.build_broker(market))


def test_watch_that_never_acts_changes_nothing() -> None:
    one, other = watched_run(), watched_run("watch.daily_loss=1", "watch.margin=10")
    assert other.fills == one.fills
    assert other.bookings == one.bookings
    assert other.equity_rows == one.equity_rows
    assert len(one.fills) > 50


def test_watch_acts_between_decisions_on_finer_bars() -> None:
    run = watched_run("watch.drawdown=0.08", "watch.action=flatten", falls=True)
    sold = [fill for fill in run.fills if "-8-" in fill.client_order_id]
    assert sold
    decided = {row.at for row in run.equity_rows}
    assert {fill.at for fill in sold} - decided, "at a bar that no decision has"
    last = max(fill.at for fill in sold)
    assert all(fill.at <= last for fill in run.fills), "nothing is opened again"
