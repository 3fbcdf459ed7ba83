r"""Backtests of option spreads with the autoscaler in the loop.

    python -m option_spreads.backtest [years=3] [seed=0] \
        [strategies=[PUT,IRON_CONDOR]] [output=DIR] [key=value …]
    python -m option_spreads.backtest bars.dir=[DIR] bars.symbol=SPY bars.vix=VIX.parquet

All strategies share one account, which begins with STARTING_CAPITAL, as the live seller's do.
Figures and a file of trades that a Monte Carlo can read are written. The index is a model unless
bars are named; either way the options are priced by a model on the volatility index, so the profits
are that model's, not fills.
"""

from __future__ import annotations

from foundation.cli import start

if __name__ == "__main__":
    start("option_spreads.backtest")

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from forecasting.forecast import Progress
from foundation.cli import Result
from foundation.errors import DataError, InputError
from foundation.figures import counted
from foundation.settings import setting, settings_class
from foundation.tables import json_text
from option_spreads.autoscaler.rules import AutoscalingSettings, strategies_of
from option_spreads.selling.rules import TRADING_DAYS, SpreadCosts, SpreadRules
from option_spreads.simulation.path import IndexDays, IndexModel, index_days
from option_spreads.simulation.pricing import Smile
from option_spreads.simulation.selling import (
    MAX_POSITION,
    SpreadAccount,
    offered_spreads,
    spread_account,
)
from option_spreads.simulation.spread_report import (
    account_figures,
    cost_figures,
    report_parts,
    trade_figures,
    trade_table,
)
from trainingdata.bars import Bars
from trainingdata.instants import check_zone, instant
from trainingdata.sessions import calendar
from trainingdata.source import DataSettings
from trainingdata.timeframe import HOURLY
from trainingdata.volatility_index import volatility_index

log = logging.getLogger(__name__)

NOTE = "Options are priced by a model on the volatility index: these are its profits, not fills."
SIMULATED_NOTE = (
    " What a seller earns on the simulated index is the premium that is put in (index.premium),"
    " less costs (docs/STUDIES.md)."
)


@settings_class("bars")
class BarsSettings:
    """An index from hourly bars."""

    dir: tuple[str, ...] = setting((), "folders of hourly bars; none means the model")
    zone: str | None = setting(None, "of stamps without one, as America/New_York; none: refused")
    symbol: str = setting("SPY", "whose bars they are")
    scale: float = setting(10.0, "of its prices; 10 reads SPY as the S&P 500", gt=0, lt=1e6)
    vix: str | None = setting(None, "a daily file of the volatility index")

    def __post_init__(self) -> None:
        check_zone(self.zone, "bars.zone")
        if self.vix is not None and not self.dir:
            raise InputError(
                "bars.vix: it goes with bars, and none are named; name their folder, too,"
                " bars.dir=[DIR]"
            )
        if self.dir and self.vix is None:
            raise InputError(
                "bars.vix: an index from bars needs a file of its volatility index,"
                " bars.vix=VIX.parquet"
            )

    def read(self) -> Bars:
        """The bars that others confirm; a session that lacks one is not traded."""
        data = DataSettings(self.dir, self.zone, accept_jumps=True)
        try:
            bars = data.bars([self.symbol], None, None, HOURLY)
        except DataError as error:
            said = str(error).replace("data.dir:", "bars.dir:", 1)
            raise DataError(said.replace("data.zone", "bars.zone")) from error
        for doubt in bars.doubts:
            log.warning("%s", doubt)
        return bars


@settings_class()
class SpreadSettings(AutoscalingSettings):
    """Settings of configs/spreads.yaml."""

    strategies: tuple[str, ...] = setting(
        ("CALL", "PUT", "IRON_CONDOR", "OTM_SINGLE_SIDED"), "sold from one account, none twice"
    )
    years: int = setting(1, "of 252 sessions; bars are traded as far as they go", ge=1, le=100)
    max_position: float = setting(
        MAX_POSITION,
        "collateral of all open spreads, multiples of the balance, as "
        "`guards.max_position` live; beyond 1 the balance is the bound",
        ge=0.01,
        le=10,
    )
    start: str = setting("2024-01-02", "first date of a simulated index")
    seed: int = setting(0, "of the simulated index", ge=0, lt=2**63)
    output: str = setting("outputs/spreads", "folder for the results")
    bars: BarsSettings = setting(BarsSettings(), "an index from files, instead of the model")
    index: IndexModel = setting(IndexModel(), "the model")
    rules: SpreadRules = setting(SpreadRules(), "what is sold, and when it is bought back")
    costs: SpreadCosts = setting(SpreadCosts(), "of an order, by leg")
    smile: Smile = setting(
        Smile(), "implied volatility by strike; a simulated index takes level and session alone"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        strategies_of(self.strategies)
        instant(self.start, name="start")
        self.rules.refuse_late_entries()

    @property
    def quoted(self) -> Smile:
        """What options are priced with: the smile on bars, its level alone on the model.

        Moves of the model are normal: wings would pay the seller for falls that never come.
        """
        return self.smile if self.bars.dir else self.smile.flat

    def days(self) -> IndexDays:
        """The sessions that are traded."""
        if self.bars.dir and self.bars.vix is not None:
            bars = self.bars.read()
            vix = volatility_index(self.bars.vix)
            return index_days(bars, bars.symbols[0], vix, self.bars.scale)
        sessions = calendar().dates
        count = self.years * TRADING_DAYS
        dates = sessions[sessions >= np.datetime64(self.start, "D")][:count]
        if len(dates) < count:
            raise InputError(
                f"start, years: the calendar ends before {counted(self.years, 'year')} from"
                f" {self.start} passed"
            )
        return self.index.days(dates, self.seed, self.smile)


def run_account(settings: SpreadSettings, days: IndexDays) -> SpreadAccount:
    """What an account did that was offered whatever the strategies sell on these sessions."""
    names = strategies_of(settings.strategies)
    rules = [replace(settings.rules, strategy=name) for name in names]
    offers = offered_spreads(days, rules, settings.costs, settings.quoted)
    return spread_account(offers, settings, settings.max_position)


def run_summary(
    settings: SpreadSettings, days: IndexDays, account: SpreadAccount
) -> dict[str, Any]:
    """The content of spreads.json: of the account, and of each strategy within it."""
    costs = settings.costs
    parts = {}
    for name in strategies_of(settings.strategies):
        part = [trade for trade in account.trades if trade.spread.strategy == name]
        parts[name] = {**trade_figures(part), "costs": cost_figures(part, costs)}
    return {
        "index": days.source,
        "seed": settings.seed,
        "note": NOTE if settings.bars.dir else NOTE + SIMULATED_NOTE,
        "first": str(days.dates[0]),
        "last": str(days.dates[-1]),
        "days": len(days.dates),
        "account": {
            **account_figures(account, days),
            "costs": cost_figures(account.trades, costs),
            "by_strategy": parts,
        },
    }


def run(settings: SpreadSettings, progress: Progress) -> Result:
    """What selling came to, in a table and files."""
    del progress  # nothing is counted: its bar only moves
    days = settings.days()
    account = run_account(settings, days)
    summary = run_summary(settings, days, account)
    texts = {"spreads.json": json_text(summary), "trades.csv": trade_table(account.trades, days)}
    files = {
        name: partial(Path.write_text, data=text, encoding="utf-8") for name, text in texts.items()
    }
    return Result(list(report_parts(summary)), files=files)
