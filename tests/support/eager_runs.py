"""A run of a trader that is eager to trade in a wild market."""

from __future__ import annotations

from execution.decision.trader import Trader
from marketsimulator.settings import BacktestSettings
from tests.marketsimulator.runs import eager_trader, settings_of
from trainingdata.market import Market

WORDS = (
    *("start=2024-02-16", "data.start=2024-01-02", "data.end=2024-02-24", "trials=null"),
    *("forecaster=ewma", "forecaster.calibrated=false"),
    *("symbols=[SYA,SYB,SYC,SYXUSD,SYYUSD]", "costs.stock_impact=1.0", "costs.crypto_impact=1.0"),
    *("limits.symbol_cap=1.2", "limits.overnight_leverage=3.5", "margin.borrow_rate=0.02"),
)


def believing(*words: str, seed: int = 5) -> tuple[BacktestSettings, Market, Trader]:
    """Settings, a wild market, and a trader that is eager to trade."""
    settings = settings_of(*WORDS, *words)
    return settings, *eager_trader(settings, seed=seed)
