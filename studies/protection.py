"""Measure what protective orders cost and save on real bars, for docs/STUDIES.md.

    python studies/protection.py HOURLY_STOCKS HOURLY_CRYPTO DAILY_STOCKS

Each argument is a folder of bars. Prints a table of each data set: return, Sharpe ratio, largest
drawdown, turnover, stops filled, their spread and slippage, and the return beyond the same strategy
without protection with its 90 % interval. Forecasts are those of calibrated EWMA.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace

from execution.decision.beliefs import BeliefTable
from execution.decision.trader import Trader
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

STRATEGIES = ("kelly_50", "kelly_50_x4")
DISTANCES = ("5%", "3sd", "5sd")
PLAIN = ("forecaster=ewma", "trials=null")
HOURLY_PERIOD = ("start=2023-10-01", "end=2024-10-01")
DAILY_PERIOD = ("timeframe=1d", "data.adjustment=all", "start=2017-04-03")
HEADS = "strategy | protect | return | Sharpe | drawdown | turnover | stops | their costs | beyond"


def variants() -> Iterator[tuple[str, str]]:
    """Yield kind and distance of each variant, the one without protection first."""
    yield "none", "5%"
    yield from ((kind, distance) for kind in ("stop", "trailing") for distance in DISTANCES)


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
    turnover = annual_turnover(sum(abs(float(f.qty)) * f.price for f in trades), instants, equity)
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


def measure(name: str, *words: str) -> None:
    """Print the table of a data set."""
    base = BacktestSettings.from_config(compose_config("backtest", [*PLAIN, *words]))
    market = base.load_market()
    print(f"\n{name}: {market.run_bars.times[0]} to {market.bars.last_instant}")
    print(HEADS)
    beliefs: BeliefTable | None = None
    for strategy in STRATEGIES:
        plain: Run | None = None
        for kind, distance in variants():
            chosen = [f"sizing.strategy={strategy}", f"protect.kind={kind}"]
            settings = BacktestSettings.from_config(
                compose_config(
                    "backtest", [*PLAIN, *words, *chosen, f"protect.distance={distance}"]
                )
            )
            trader: Trader = settings.build_trader(settings.forecaster.build(market.bars.symbols))
            if beliefs is None:
                beliefs = trader.build_beliefs(market)
            begun = time.monotonic()
            run = simulate_trading(
                settings, market, strategy, replace(trader, belief_table=beliefs)
            )
            plain = plain or run
            label = kind if kind == "none" else f"{kind} {distance}"
            cells = row_of(run, plain, market, settings.capital)
            print(f"{strategy} | {label} | {cells} | {time.monotonic() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    stocks, crypto, daily = sys.argv[1:]
    measure("hourly", f"data.dir=[{stocks},{crypto}]", *HOURLY_PERIOD)
    measure("daily", f"data.dir=[{daily}]", *DAILY_PERIOD)
