"""Compare strategies with and without `guards.tiers` on real bars.

    python -m studies.drawdown_tiers HOURLY_STOCKS HOURLY_CRYPTO DAILY_STOCKS

Forecasts are the `ewma` baseline's, so weights follow the premium alone. Prints growth and Sharpe
ratio a year, maximum drawdown, turnover, costs, and the difference in mean daily log return with
its interval from a block bootstrap of days.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from execution.decision.tiers import DrawdownTiers
from foundation.compose import compose_config
from marketsimulator.results.metrics import daily_returns, largest_drawdown, sample_daily_equity
from marketsimulator.results.significance import measure_outperformance
from marketsimulator.runs.outcome import VariantOutcome, simulate_variants
from marketsimulator.settings import BacktestSettings
from trainingdata.market import Market

TIERS = {0.05: 0.75, 0.10: 0.5}
STRATEGIES = ("kelly_50", "kelly_50_x4")
WORDS = ("forecaster=ewma", "trials=null")
HOURLY = ("start=2023-10-02", "end=2024-10-31")
DAILY = ("timeframe=1d", "start=2018-06-01", "end=2023-12-29")


def main() -> None:
    """Print a row for each data set and strategy, without and with tiers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name in ("hourly_stocks", "hourly_crypto", "daily_stocks"):
        parser.add_argument(name)
    folders = parser.parse_args()
    both = f"data.dir=[{folders.hourly_stocks},{folders.hourly_crypto}]"
    _compare("hourly", (*WORDS, *HOURLY, both))
    _compare("daily", (*WORDS, *DAILY, f"data.dir=[{folders.daily_stocks}]"))


def _compare(name: str, words: tuple[str, ...]) -> None:
    base = BacktestSettings.from_config(compose_config("backtest", list(words)))
    market = base.load_market()
    trader = base.build_trader(base.forecaster.build(market.bars.symbols))
    beliefs = trader.build_beliefs(market)
    variants = [
        replace(base, sizing=replace(base.sizing, strategy=strategy), guards=guards)
        for strategy in STRATEGIES
        for guards in (DrawdownTiers(), DrawdownTiers(TIERS))
    ]
    outcomes = simulate_variants(variants, market, beliefs)
    for k, strategy in enumerate(STRATEGIES):
        _print_pair(f"{name} {strategy}", market, base.capital, outcomes[2 * k : 2 * k + 2])


def _print_pair(
    name: str, market: Market, capital: float, outcomes: Sequence[VariantOutcome]
) -> None:
    instants, crypto = market.run_bars.times, bool(market.bars.crypto.any())
    returns = []
    for label, outcome in zip(("off", "tiers"), outcomes, strict=True):
        daily, per_year = sample_daily_equity(
            instants, outcome.equity, capital=capital, has_crypto=crypto
        )
        gained = daily_returns(daily)
        returns.append(gained)
        growth = float(np.log1p(gained).mean()) * per_year
        sharpe = float(gained.mean() / gained.std()) * per_year**0.5
        traded = outcome.totals.notional / float(outcome.equity.mean())
        sys.stdout.write(
            f"{name} {label}: growth {growth:+.3f}, Sharpe {sharpe:.2f},"
            f" max drawdown {largest_drawdown(outcome.equity):.1%},"
            f" turnover {traded / (len(gained) / per_year):.1f} a year,"
            f" costs {outcome.totals.costs:,.0f} USD,"
            f" end {outcome.equity[-1]:,.0f} USD\n"
        )
    ahead = measure_outperformance(returns[1], returns[0], seed=0)
    sys.stdout.write(f"{name} difference: {ahead}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
