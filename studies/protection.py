"""Measure what protective orders cost and save on real bars, for docs/STUDIES.md.

    python studies/protection.py hourly STRATEGY FOLDER FOLDER
    python studies/protection.py daily STRATEGY FOLDER

Each folder has bars. Prints return, Sharpe ratio, largest drawdown, turnover, stops filled with
their traded value, and the return beyond the same strategy without protection with its 90 %
interval. Forecasts are those of calibrated EWMA.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace

from execution.decision.protection import ProtectionKind, ProtectionSettings
from execution.orders.orders import is_protective_id
from foundation.arrays import Array
from foundation.compose import compose_config
from foundation.formatting import format_percent
from marketsimulator.results.metrics import (
    annual_turnover,
    daily_returns,
    measure_performance,
    sample_daily_equity,
)
from marketsimulator.results.significance import measure_outperformance
from marketsimulator.run_result import Run, is_trade
from marketsimulator.runs.simulate import simulate_trading
from marketsimulator.settings import BacktestSettings
from trainingdata.market import Market

DISTANCES = ("5%", "3sd", "5sd")
PLAIN = ("forecaster=ewma", "trials=null")
PERIODS = {
    "hourly": ("start=2023-10-01", "end=2024-10-01"),
    "daily": ("timeframe=1d", "data.adjustment=all", "start=2017-04-03"),
}
HEADS = "protect | return | Sharpe | drawdown | turnover | stops | beyond none"


def variants() -> Iterator[tuple[ProtectionKind, str]]:
    """Yield kind and distance of each variant, the one without protection first."""
    yield "none", "5%"
    for distance in DISTANCES:
        yield "stop", distance
        yield "trailing", distance


def daily_returns_of(run: Run, market: Market, capital: float) -> Array:
    instants, equity = run.equity_curve()
    crypto = bool(market.bars.crypto.any())
    return daily_returns(
        sample_daily_equity(instants, equity, capital=capital, has_crypto=crypto)[0]
    )


def row_of(run: Run, plain: Run, market: Market, capital: float) -> str:
    """Return the figures of a run as the cells of a table row.

    plain: the same strategy without protection.
    """
    instants, equity = run.equity_curve()
    crypto = bool(market.bars.crypto.any())
    figures = measure_performance(instants, equity, capital=capital, has_crypto=crypto)
    trades = [fill for fill in run.fills if is_trade(fill)]
    turnover = annual_turnover(sum(abs(float(f.qty)) * f.price for f in trades), equity, figures)
    stops = [fill for fill in trades if is_protective_id(fill.client_order_id)]
    traded = sum(abs(float(fill.qty)) * fill.price for fill in stops)
    ahead = measure_outperformance(
        daily_returns_of(run, market, capital), daily_returns_of(plain, market, capital), seed=0
    )
    assert ahead is not None
    interval = ahead.interval or (0.0, 0.0)
    span = f"{format_percent(interval[0], sign=True)}…{format_percent(interval[1], sign=True)}"
    return " | ".join(
        (
            format_percent(figures.total_return, sign=True),
            f"{figures.sharpe or 0:.2f}",
            format_percent(figures.max_drawdown),
            f"{turnover or 0:.0f} ×",
            f"{len(stops)}, {traded / capital:.1f} × capital",
            f"{format_percent(ahead.lead, sign=True)} ({span})" if run is not plain else "",
        )
    )


def measure(name: str, strategy: str, *words: str) -> None:
    """Print the table of a data set and a strategy."""
    words = (*PLAIN, *PERIODS[name], f"sizing.strategy={strategy}", *words)
    base = BacktestSettings.from_config(compose_config("backtest", list(words)))
    market = base.load_market()
    print(f"{name}, {strategy}: {market.run_bars.times[0]} to {market.bars.last_instant}")
    print(HEADS, flush=True)
    trader = base.build_trader(base.forecaster.build(market.bars.symbols)).with_beliefs(market)
    plain: Run | None = None
    for kind, distance in variants():
        begun = time.monotonic()
        protect = ProtectionSettings(kind=kind, distance=distance)
        run = simulate_trading(replace(base, protect=protect), market, strategy, trader)
        plain = plain or run
        label = kind if kind == "none" else f"{kind} {distance}"
        cells = row_of(run, plain, market, base.capital)
        print(f"{label} | {cells} | {time.monotonic() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    chosen, sized_by, *folders = sys.argv[1:]
    measure(chosen, sized_by, f"data.dir=[{','.join(folders)}]")
