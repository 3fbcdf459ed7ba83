r"""Backtests of option spreads with the autoscaler in the loop.

    python -m option_spreads.backtest [years=3] [seed=0] \
        [strategies=[PUT,IRON_CONDOR]] [output=DIR] [key=value …]
    python -m option_spreads.backtest bars.dir=[DIR] bars.symbol=SPY bars.vix=VIX.parquet

All strategies share one account that starts with STARTING_CAPITAL, as in live trading. The command
writes performance figures, a page, and a file of trades that `option_spreads.monte_carlo` can read.
The index is simulated by a model, unless `bars.dir` is set. In both cases a model based on the
volatility index prices the options: profits come from model prices, not from real fills.
"""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("option_spreads.backtest")

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from forecasting.forecast import Progress
from foundation.cli import Result
from foundation.tables import format_json
from option_spreads.autoscaler.rules import parse_strategies
from option_spreads.simulation.path import IndexPaths
from option_spreads.simulation.selling import (
    SpreadAccountResult,
    list_candidate_trades,
    simulate_spread_account,
)
from option_spreads.simulation.settings import SpreadSettings
from option_spreads.simulation.spread_page import render_spread_page
from option_spreads.simulation.spread_report import (
    compute_account_figures,
    compute_cost_figures,
    compute_trade_figures,
    format_trades_csv,
    render_report,
)

log = logging.getLogger(__name__)

MODEL_PRICES_NOTE = (
    "Options are priced by a model based on the volatility index: profits come from"
    " model prices, not from real fills."
)
SIMULATED_INDEX_NOTE = (
    " On the simulated index a seller earns the configured premium (index.volatility_premium),"
    " less costs (docs/STUDIES.md)."
)


def backtest_account(settings: SpreadSettings, days: IndexPaths) -> SpreadAccountResult:
    """Simulate the account over these sessions, with the spreads that its strategies propose."""
    names = parse_strategies(settings.strategies)
    rules = [replace(settings.rules, strategy=name) for name in names]
    offers = list_candidate_trades(days, rules, settings.costs, settings.pricing_smile)
    return simulate_spread_account(offers, settings, settings.max_position)


def summarize_backtest(
    settings: SpreadSettings, days: IndexPaths, account: SpreadAccountResult
) -> dict[str, Any]:
    """Return the content of spreads.json: figures of the account, and of each strategy in it."""
    costs = settings.costs
    parts = {}
    for name in parse_strategies(settings.strategies):
        part = [trade for trade in account.trades if trade.spread.strategy == name]
        parts[name] = {**compute_trade_figures(part), "costs": compute_cost_figures(part, costs)}
    return {
        "index": days.source,
        "seed": settings.seed,
        "note": MODEL_PRICES_NOTE
        if settings.bars.dir
        else MODEL_PRICES_NOTE + SIMULATED_INDEX_NOTE,
        "first": str(days.dates[0]),
        "last": str(days.dates[-1]),
        "days": len(days.dates),
        "account": {
            **compute_account_figures(account, days),
            "costs": compute_cost_figures(account.trades, costs),
            "by_strategy": parts,
        },
    }


def run(settings: SpreadSettings, progress: Progress) -> Result:
    """Run a backtest of selling spreads; return its report and the files to write."""
    del progress  # there are no steps to count
    days = settings.load_index_paths()
    account = backtest_account(settings, days)
    summary = summarize_backtest(settings, days, account)
    texts = {
        "spreads.json": format_json(summary),
        "trades.csv": format_trades_csv(account.trades, days),
        "spreads.html": render_spread_page(summary, account, days),
    }
    files = {
        name: partial(Path.write_text, data=text, encoding="utf-8") for name, text in texts.items()
    }
    return Result(list(render_report(summary)), file_writers=files)
