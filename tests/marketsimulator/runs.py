"""What tests of runs begin from: settings of a command's words, and traders of them."""

from __future__ import annotations

from dataclasses import replace

from execution.trader import Trader
from foundation.compose import composed_config
from marketsimulator.settings import BacktestSettings
from tests.marketsimulator.by_hand import eager, wild
from trainingdata.market import Market

# Ten weeks of the synthetic market, and a run over the last four of them.
BARS = ("data.start=2024-01-02", "data.end=2024-03-08", "trials=null")
SPAN = ("start=2024-02-12", *BARS)


def settings_of(*words: str) -> BacktestSettings:
    return BacktestSettings.of(composed_config("backtest", list(words)))


def trader_of(settings: BacktestSettings, market: Market) -> Trader:
    return settings.trader(settings.forecaster.build(market.bars.symbols))


def eager_trader(
    settings: BacktestSettings, switch: str = "2024-02-17", seed: int = 1
) -> tuple[Market, Trader]:
    """The settings' market made rough, and their trader made eager to trade."""
    market = settings.market()
    market = market.on(wild(market.bars))
    trader = trader_of(settings, market)
    return market, replace(trader, table=eager(trader.belief_table(market), switch, seed=seed))
